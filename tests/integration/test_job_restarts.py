"""
Jobs that continue after a restart of the daemon, with real daemons and Debian's
docker-registry.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue

from tests.integration.peers import PASSWORD, USER, DockerRegistry
from tests.integration.places import free_port
from tests.integration.programs import XFERCTL, Xferd, environment
from tests.integration.slow_proxy import SlowProxy
from tests.integration.test_daemon import DaemonCase, reactor
from xferd.ctl import api as http
from xferd.ctl.address import Address
from xferd.ctl.client import ENDED, Daemon
from xferd.registry.push.chunked_upload import PROBE
from xferd.testing.images import SampleImage, image_of, sample_image, write_layout
from xferd.testing.layers import LayerBuilder
from xferd.testing.registry import Registry

PULLS, PUSHES, COPIES = 20, 5, 3

MIB = 1024 * 1024

SIZE = 2 * MIB
"""Bytes of each image's only layer."""

RATE = 300_000.0
"""Bytes per second of each stream."""

SPARE = 256 * 1024 + 128 * 1024 + 32 * 1024
"""Bytes that a stream may move twice: a chunk, and the receive buffer of a socket.  Added to it are the
manifest, the config, the tar's heads and the heads of requests."""

FILES = 15_000
"""Files of the image in the archive, which take some time to unpack."""

PIECE = 4 * 1024 * 1024
"""Bytes of a piece of the archive."""

_ROOT = "docker/registry/v2"


class RestartCase(DaemonCase):
    """
    A daemon without patience, and a slow registry.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Slow the registry down.
        """
        await super().setUp()
        self.registry = Registry(reactor, rate=200_000)
        await self.registry.listen(reactor)
        self.addCleanup(self.registry.stop)

    async def start(self, *options: str) -> Xferd:
        """
        Start a daemon that interrupts jobs half a second after SIGTERM.
        """
        config = self.place / "xferd.toml"
        config.write_text("grace = 0.5")
        return await super().start("--config", str(config), *options)


class EachSignal:
    """
    A test for each way in which a daemon ends.
    """

    async def interrupted(self, signal: str) -> None:
        """
        Interrupt some work by a signal to the daemon, and check how it continues.
        """
        raise NotImplementedError

    async def test_stopped(self) -> None:
        """
        After SIGTERM.
        """
        await self.interrupted("TERM")

    async def test_killed(self) -> None:
        """
        After C{kill -9}.
        """
        await self.interrupted("KILL")


class DetachedTests(EachSignal, RestartCase):
    """
    A detached pull in mid-work.
    """

    async def interrupted(self, signal: str) -> None:
        """
        The pull ends done under its ID, and each byte is sent once but for those that the
        sockets had.
        """
        image, reference = self.add(1, 1_000_000)
        job_id = (await self.daemon.ctl("pull", "--detach", reference)).strip()
        await self.fetched(job_id, 300_000)
        await self.daemon.stop(signal)
        await self.start()
        job = await self.state(job_id, "done", "failed")
        self.assertEqual((job["state"], job["restart"]), ("done", "always"))
        size = sum(layer.blob.descriptor.size for layer in image.layers)
        self.assertLess(self.registry.bytes_sent, size + 256 * 1024 + 300_000)
        self.assertEqual([each["reference"] for each in await self.api("GET", "images")], [reference])


class CredentialsTests(RestartCase):
    """
    A detached pull with the user's own credentials.
    """

    async def begin(self) -> tuple[str, str, Path]:
        """
        Begin a pull, and wait until it moves.

        @return: the registry, the job's ID, and the file with its credentials.
        """
        server = DockerRegistry(reactor, str(self.place / "private"), htpasswd=True)
        await server.start()
        self.addCleanup(_stop, server)
        image = sample_image(1, 1_000_000, compression="tar")
        fill(self.place / "private", "app", image)
        proxy = SlowProxy(server.host, RATE)
        self.addCleanup(proxy.stop)
        entry = {proxy.address: {"username": USER, "password": PASSWORD}}
        auth = urlsafe_b64encode(json.dumps(entry).encode())
        job_id = await self.begin_with(f"{proxy.address}/app:1", auth.decode())
        await self.fetched(job_id, 300_000)
        (kept,) = Path("/dev/shm").glob(f"xferd-*/{job_id}")
        self.addCleanup(shutil.rmtree, kept.parent)
        return proxy.address, job_id, kept

    async def test_killed(self) -> None:
        """
        It continues after C{kill -9} without its user.  Its credentials are in memory, for this
        user alone, until it ends.
        """
        _, job_id, kept = await self.begin()
        self.assertEqual((kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777), (0o600, 0o700))
        await self.daemon.stop("KILL")
        for file in (self.place / "x").rglob("*"):
            if file.is_file():
                self.assertNotIn(PASSWORD.encode(), file.read_bytes(), file)
        await self.start()
        job = await self.state(job_id, "done", "failed")
        self.assertEqual((job["state"], job["error"]), ("done", None))
        self.assertFalse(kept.exists())

    async def test_login(self) -> None:
        """
        Without the file, as after a reboot, it waits with that reason until its user logs in.
        """
        host, job_id, kept = await self.begin()
        await self.daemon.stop("KILL")
        kept.unlink()
        await self.start()
        job = await self.state(job_id, "queued", "done", "failed")
        self.assertEqual(job["state"], "queued")
        self.assertIn(f"waits for the credentials for {host}", job["why"])
        self.assertIn(f"xferctl login {host}", job["why"])
        errors, status = await self.login(host)
        self.assertEqual((errors, status), ("", 0))
        job = await self.state(job_id, "done", "failed")
        self.assertEqual((job["state"], job["error"]), ("done", None))
        self.assertFalse(kept.exists())

    async def login(self, host: str) -> tuple[str, int]:
        """
        Run C{xferctl login} with the password.

        @return: its errors, and its exit status.
        """
        password = self.place / "password"
        password.write_text(PASSWORD)
        options = ["--host", self.daemon.url, "login", host, "--username", USER, "--password-stdin"]
        _, errors, status = await getProcessOutputAndValue(
            "/bin/sh",
            ["-c", f'exec "$@" < {password}', "sh", *XFERCTL, *options, "--auth-file", f"{password}.json"],
            environment(),
            None,
            reactor,
        )
        return errors.decode(), status

    async def begin_with(self, reference: str, auth: str) -> str:
        """
        Begin a pull with credentials that continues by itself.
        """
        client = http.API([Address.parse(self.daemon.url)], client="me")
        request = {"kind": "pull", "reference": reference, "restart": "always"}
        headers = {"X-Registry-Config": auth}
        job = await deferToThread(client.request_object, "POST", "/jobs", request, headers)
        return str(job["id"])


class ManyTests(EachSignal, DaemonCase):
    """
    Twenty pulls, five pushes, three copies and an import in mid-work, and two xferctl that wait.

    Half of the uploads go to docker-registry, which drops a session whose last request broke off: they
    begin again.  The others go to a registry that keeps it.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Fill a registry, and put slow proxies before it and two others.
        """
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place)
        self.archive = self.make_archive()
        self.images = {f"app{n}": sample_image(1, SIZE, n, compression="tar") for n in range(PULLS + COPIES)}
        self.pushed = {f"pushed{n}": sample_image(1, SIZE, -1 - n, compression="tar") for n in range(PUSHES)}
        names = list(self.images)
        self.pulled, self.copied = names[:PULLS], names[PULLS:]
        source, target = (DockerRegistry(reactor, str(self.place / name)) for name in ("source", "target"))
        for registry in (source, target):
            await registry.start()
            self.addCleanup(_stop, registry)
        keeping = Registry(reactor)
        await keeping.listen(reactor)
        self.addCleanup(keeping.stop)
        for name, image in {**self.images, **self.pushed}.items():
            fill(self.place / "source", name, image)
        self.source = SlowProxy(source.host, RATE)
        self.fast = source.host
        self.targets = [SlowProxy(registry.host, RATE) for registry in (keeping, target)]
        for proxy in (self.source, *self.targets):
            self.addCleanup(proxy.stop)
        self.goals = {name: self.targets[n % 2] for n, name in enumerate((*self.pushed, *self.copied))}

    async def start(self, *options: str) -> Xferd:
        """
        Start a daemon that interrupts jobs half a second after SIGTERM.
        """
        config = self.place / "xferd.toml"
        config.write_text("grace = 0.5\n[limits]\ndownloads = 40\nuploads = 20\nranges = 1\n")
        return await super().start("--config", str(config), *options)

    async def begin(self, kind: str, reference: str | None, **more: Any) -> str:
        """
        Begin a job that continues by itself.
        """
        request = {"kind": kind, "reference": reference, "restart": "always", **more}
        return str((await self.api("POST", "jobs", request))["id"])

    async def begin_all(self) -> list[str]:
        """
        Begin all jobs but the import.
        """
        goal = {name: f"{proxy.address}/{name}:1" for name, proxy in self.goals.items()}
        source = self.source.address
        return [
            *[await self.begin("pull", f"{source}/{name}:1") for name in self.pulled],
            *[await self.begin("push", f"{self.fast}/{name}:1", target=goal[name]) for name in self.pushed],
            *[await self.begin("copy", f"{source}/{name}:1", target=goal[name]) for name in self.copied],
        ]

    def make_archive(self) -> bytes:
        """
        Make an archive with an image of many files.
        """
        layer = LayerBuilder("tar", tar_format=tarfile.USTAR_FORMAT)
        for n in range(FILES):
            layer.file(f"f{n}", b"x", mtime=1)
        layout, archive = self.place / "layout", self.place / "archive"
        write_layout(str(layout), {"localhost/imported:1": image_of([layer.finish()])})
        with tarfile.open(archive, "w") as tar:
            tar.add(layout, ".")
        return archive.read_bytes()

    async def begin_import(self) -> str:
        """
        Begin an import, and send all of its archive but the last bytes.
        """
        job_id = await self.begin("import", None)
        await deferToThread(self.send, job_id, 0, len(self.archive) - 1024)
        return job_id

    def send(self, job_id: str, start: int, end: int) -> None:
        """
        Send a part of the archive.
        """
        client = Daemon([Address.parse(self.daemon.url)], client="me")
        for offset in range(start, end, PIECE):
            client.send_piece(job_id, offset, self.archive[offset : min(offset + PIECE, end)])
        if end == len(self.archive):
            client.end_content(job_id, end)

    def in_mid_work(self) -> bool:
        """
        Whether all streams have stopped at half of their bytes.
        """
        least = SIZE // 2
        return all(self.source.received[name] >= least for name in self.images) and all(
            proxy.sent[name] >= least for name, proxy in self.goals.items()
        )

    async def interrupted(self, signal: str) -> None:
        """
        All jobs end done without any client, and nearly every byte is moved once.
        """
        await self.start()
        for job_id in [await self.begin("pull", f"{self.fast}/{name}:1") for name in self.pushed]:
            await self.state(job_id, "done")
        importing = await self.begin_import()
        for proxy in (self.source, *self.targets):
            proxy.hold(SIZE // 2)
        ids = await self.begin_all()
        last, first = self.copied[-1], self.pulled[0]
        other = f"{self.goals[last].address}/{last}:2"
        waiting = [
            Deferred.fromCoroutine(self.daemon.try_ctl(*command))
            for command in (
                ("pull", f"{self.source.address}/{first}:1"),
                ("copy", f"{self.source.address}/{last}:1", other),
            )
        ]
        await self.until(self.in_mid_work)
        await deferToThread(self.send, importing, len(self.archive) - 1024, len(self.archive))
        ids.append(importing)
        jobs = {job["id"]: job["state"] for job in await self.api("GET", "jobs?limit=100")}
        self.assertEqual([jobs[job_id] for job_id in ids], ["running"] * (PULLS + PUSHES + COPIES + 1))
        self.assertEqual(len(jobs), PUSHES + len(ids) + len(waiting))
        await self.daemon.stop(signal)
        for proxy in (self.source, *self.targets):
            proxy.release()
        await self.start()
        await self.until(self.all_ended)
        for job_id in ids:
            job = await self.api("GET", f"jobs/{job_id}")
            self.assertEqual((job["state"], job["error"]), ("done", None), job)
        for each in waiting:
            output, errors, status = await each
            self.assertEqual((errors, status), ("", 0), output)
        for name in self.images:
            self.assertLess(self.source.received[name], SIZE + SPARE, name)
        for name, proxy in self.goals.items():
            whole = SIZE + SPARE if proxy is self.targets[0] else 2 * SIZE
            self.assertLess(proxy.sent[name], whole, name)
        self.assertEqual(len(await self.api("GET", "images")), PULLS + PUSHES + 1)

    async def all_ended(self) -> bool:
        """
        Whether no job is unfinished.
        """
        jobs = await self.api("GET", "jobs?limit=100")
        return all(job["state"] in ENDED for job in jobs)

    async def until(self, check: Callable[[], Any]) -> Any:
        """
        Poll for longer than other tests: the jobs need seconds at their slow registries.
        """
        deadline = reactor.seconds() + 60
        while not (found := await maybe_awaited(check())):
            self.assertLess(reactor.seconds(), deadline, await self.api("GET", "jobs?limit=100"))
            await deferLater(reactor, 0.05)
        return found


class DrainingProxyTests(DaemonCase):
    """
    A push through a proxy that continues to send what it and the kernel had received of a
    daemon that was killed, while the next daemon continues the upload.
    """

    patience = 60.0

    async def check(self, target: str, repository: str, size: int) -> None:
        """
        Kill the daemon in the middle of a push: at most one chunk is sent twice.

        @param target: the registry, which keeps what it has of a broken request.
        """
        image, reference = self.add(1, size, compression="tar")
        await self.daemon.ctl("pull", reference)
        proxy = SlowProxy(target, 40_000_000.0)
        self.addCleanup(proxy.stop)
        proxy.hold(size // 2)
        goal = f"{proxy.address}/{repository}:1"
        request = {"kind": "push", "reference": reference, "target": goal, "restart": "always"}
        job_id = (await self.api("POST", "jobs", request))["id"]
        await self.until(lambda: proxy.sent[repository] >= size // 2)
        await self.daemon.stop("KILL")
        await self.start()
        proxy.drain(1_000_000.0)
        job = await self.state(job_id, "done", "failed")
        self.assertEqual((job["state"], job["error"]), ("done", None))
        (layer,) = image.layers
        self.assertLess(proxy.sent[repository], layer.blob.descriptor.size + PROBE + 32 * 1024)

    async def test_chunks(self) -> None:
        """
        Within a chunk of a large layer.
        """
        registry = Registry(reactor)
        await registry.listen(reactor)
        self.addCleanup(registry.stop)
        await self.check(registry.host, "pushed", 20 * MIB)

    async def test_one_request(self) -> None:
        """
        Within the only request of a small one, which may arrive as a whole.
        """
        registry = Registry(reactor)
        await registry.listen(reactor)
        self.addCleanup(registry.stop)
        await self.check(registry.host, "pushed", 2 * MIB)

    async def test_own_registry(self) -> None:
        """
        At another daemon's registry, within a chunk.
        """
        port = free_port()
        other = Xferd(reactor, str(self.place / "other"), "--registry", f"tcp:{port}:interface=127.0.0.1")
        await other.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(other.stop()))
        await self.check(f"127.0.0.1:{port}", "local/pushed", 20 * MIB)


async def maybe_awaited(found: Any) -> Any:
    """
    A value, or the result of a coroutine.
    """
    return await found if hasattr(found, "__await__") else found


def _stop(registry: DockerRegistry) -> Deferred[None]:
    return Deferred.fromCoroutine(registry.stop())


def fill(directory: Path, name: str, image: SampleImage) -> None:
    """
    Write an image into the storage of a docker-registry.
    """
    storage = directory / "storage"

    def write(path: str, data: bytes) -> None:
        file = storage / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    contents = [(blob.digest, blob.read()) for blob in image.blobs]
    for digest, data in (*contents, (image.digest, image.document.data)):
        write(f"{_ROOT}/blobs/sha256/{digest.hex[:2]}/{digest.hex}/data", data)
        write(f"{_ROOT}/repositories/{name}/_layers/sha256/{digest.hex}/link", str(digest).encode())
    for path in (f"revisions/sha256/{image.digest.hex}", "tags/1/current"):
        write(f"{_ROOT}/repositories/{name}/_manifests/{path}/link", str(image.digest).encode())
