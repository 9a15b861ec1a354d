"""
The daemon: twistd, xferctl and a registry on real sockets, with clients that
disconnect, signals and errors.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, cast

from attrs import evolve
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer
from zstandard import ZstdCompressor

from tests.integration.places import free_port
from tests.integration.programs import TWISTD, Xferd, environment
from xferd.interfaces.reactor import IReactor
from xferd.testing.faults import Flip, Stall
from xferd.testing.images import SampleImage, image_of, sample_image
from xferd.testing.layers import Blob, LayerBuilder, pack
from xferd.testing.registry import Registry

reactor = cast(IReactor, installed)

PATIENCE = 60.0
"""Seconds after which a test that waits fails."""


@implementer(IAgentEndpointFactory)
class _Socket:
    """
    Connects every URL to one unix socket.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def endpointForURI(self, _: object) -> UNIXClientEndpoint:
        """
        The endpoint of the socket.
        """
        return UNIXClientEndpoint(reactor, self._path)


class API:
    """
    The daemon's HTTP API, over its unix socket.
    """

    def __init__(self, daemon: Xferd) -> None:
        pool = HTTPConnectionPool(reactor, persistent=False)
        self.agent = Agent.usingEndpointFactory(reactor, _Socket(daemon.socket), pool)

    async def __call__(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, client: str = ""
    ) -> Any:
        """
        Send a request for a path under C{/api/v1}.

        @param client: the name of its client.
        """
        producer = None
        if body is not None:
            producer = FileBodyProducer(BytesIO(json.dumps(body).encode()))
        response = await self.agent.request(
            method.encode(),
            f"http://localhost/api/v1/{path}".encode(),
            Headers(
                {"Content-Type": ["application/json"], **({"X-Xferd-Client": [client]} if client else {})}
            ),
            producer,
        )
        return json.loads(await readBody(response))

    async def pull(self, reference: str, *, client: str = "") -> str:
        """
        Start a pull.

        @return: the job's id.
        """
        job = await self("POST", "jobs", {"kind": "pull", "reference": reference}, client=client)
        return str(job["id"])


class DaemonCase(TestCase):
    """
    Tests with a daemon and a registry.

    @cvar patience: seconds after which a test that waits fails.
    """

    patience = PATIENCE

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start both.
        """
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place)
        self.registry = Registry(reactor)
        await self.registry.listen(reactor)
        self.addCleanup(self.registry.stop)
        await self.start()

    async def start(self, *options: str) -> Xferd:
        """
        Start a daemon on the same data.
        """
        self.daemon = daemon = Xferd(reactor, str(self.place / "x"), *options)
        await daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))
        self.api = API(daemon)
        return daemon

    def add(self, layers: int = 2, size: int = 200_000, **how: Any) -> tuple[SampleImage, str]:
        """
        Add an image to the registry.

        @return: the image and its reference.
        """
        image = sample_image(layers, size, **how)
        self.registry.add(image, "team/app", "1")
        return image, f"{self.registry.host}/team/app:1"

    async def until(self, check: Callable[[], Any]) -> Any:
        """
        Poll until a condition is true.
        """
        deadline = reactor.seconds() + self.patience
        while True:
            found = check()
            if isinstance(found, Deferred) or hasattr(found, "__await__"):
                found = await found
            if found:
                return found
            self.assertLess(reactor.seconds(), deadline, "it did not happen in time")
            await deferLater(reactor, 0.02)

    async def state(self, job_id: str, *states: str) -> Mapping[str, Any]:
        """
        Wait until a job is in one of some states.
        """

        async def look() -> Any:
            job = await self.api("GET", f"jobs/{job_id}")
            return job if job["state"] in states else None

        return cast("Mapping[str, Any]", await self.until(look))

    async def fetched(self, job_id: str, size: int) -> None:
        """
        Wait until a number of bytes of a job's first layer is downloaded.
        """

        async def look() -> bool:
            layers = (await self.api("GET", f"jobs/{job_id}"))["layers"]
            return bool(layers) and layers[0]["bytes_done"] >= size

        await self.until(look)


class SharingTests(DaemonCase):
    """
    Fifty clients and one image.
    """

    async def test_forty_nine_leave(self) -> None:
        """
        Forty-nine of fifty clients disconnect: the pull completes for the last
        one, and each blob is requested once.
        """
        image, reference = self.add()
        blob = image.layers[0].blob.digest
        self.registry.faults.plant(Stall(50_000), str(blob))
        jobs = [await self.api.pull(reference) for _ in range(50)]
        await self.fetched(jobs[-1], 50_000)
        for job_id in jobs[:-1]:
            await self.api("DELETE", f"jobs/{job_id}")
        self.registry.resume()
        await self.state(jobs[-1], "done")
        for layer in image.layers:
            self.assertEqual(self.registry.count("GET", layer.blob.digest), 1)
        states = [job["state"] for job in await self.api("GET", "jobs?limit=100")]
        self.assertEqual(sorted(states), ["cancelled"] * 49 + ["done"])

    async def test_all_leave(self) -> None:
        """
        All clients disconnect: the connection is closed, the slot is free, and
        a later pull resumes at the same byte.
        """
        image, reference = self.add(1)
        blob = image.layers[0].blob.digest
        self.registry.faults.plant(Stall(50_000), str(blob))
        jobs = [await self.api.pull(reference) for _ in range(5)]
        await self.fetched(jobs[0], 50_000)
        for job_id in jobs:
            await self.api("DELETE", f"jobs/{job_id}")
        await self.until(lambda: self.registry.exchanges("GET", blob)[0].state == "broken")
        slots = (await self.api("GET", "status"))["slots"]["download"]
        self.assertEqual((slots["in_use"], slots["queued"]), (0, 0))
        await self.daemon.ctl("pull", reference)
        first, second = self.registry.exchanges("GET", blob)
        self.assertEqual((first.range, second.range), (None, "bytes=50000-"))


class LifeTests(DaemonCase):
    """
    Signals.
    """

    async def test_killed(self) -> None:
        """
        After C{kill -9} during a pull, the next daemon continues the job when its client
        asks for it, and fetches only the missing bytes.
        """
        image, reference = self.add(2)
        blob = image.layers[0].blob.digest
        self.registry.faults.plant(Stall(100_000), str(blob))
        job_id = await self.api.pull(reference)
        await self.fetched(job_id, 100_000)
        await self.daemon.stop("KILL")
        await self.start()
        job = await self.state(job_id, "done", "failed")
        self.assertEqual((job["state"], job["error"]), ("done", None))
        again = self.registry.exchanges("GET", blob)[1]
        self.assertEqual(again.range, "bytes=100000-")
        (named,) = await self.api("GET", "images")
        self.assertEqual(named["digest"], str(image.digest))

    async def test_stopped(self) -> None:
        """
        C{SIGTERM} during a pull that makes no progress ends the daemon at once.  The client
        waits for the next one, which fetches only the missing bytes.
        """
        image, reference = self.add(1)
        blob = image.layers[0].blob.digest
        self.registry.faults.plant(Stall(100_000), str(blob))
        client = Deferred.fromCoroutine(self.daemon.try_ctl("pull", reference))
        await self.until(lambda: self.registry.exchanges("GET", blob))
        (job,) = await self.api("GET", "jobs")
        await self.fetched(job["id"], 100_000)
        before = reactor.seconds()
        await self.daemon.stop()
        # Rates are those of the last 5 s; the grace is 10 s.
        self.assertLess(reactor.seconds() - before, 7.5)
        self.assertNotIn("Traceback", self.daemon.output)
        await self.start()
        output, errors, code = await client
        self.assertEqual(code, 0, errors)
        self.assertIn("waiting up to 60 s for its restart", output)
        self.assertEqual(self.registry.exchanges("GET", blob)[1].range, "bytes=100000-")

    async def test_nothing_is_left(self) -> None:
        """
        A daemon that ends leaves no worker process, no socket and no lock.
        """
        _, reference = self.add(1)
        await self.daemon.ctl("pull", reference)
        pid = self.daemon.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self.assertTrue(children)
        await self.daemon.stop()
        self.assertEqual([c for c in children if os.path.exists(f"/proc/{c}")], [])
        self.assertFalse(os.path.exists(self.daemon.socket))
        await self.start()


class RefusedTests(DaemonCase):
    """
    The API, xferctl and the journal report errors with the same text.
    """

    async def refused(self, reference: str, code: str, *options: str) -> str:
        """
        Pull an image that fails.

        @return: the message of xferctl.
        """
        _, errors, status = await self.daemon.try_ctl("pull", reference, *options)
        self.assertEqual(status, 2 if code == "NAME_INVALID" else 1, errors)
        self.assertIn(f"({code})", errors)
        self.assertEqual(await self.api("GET", "images"), [])
        staging = Path(self.daemon.data, "staging")
        await self.until(lambda: not list(staging.iterdir()))
        return errors.splitlines()[-1]

    async def test_missing(self) -> None:
        """
        The error names a missing image.
        """
        reference = f"{self.registry.host}/no/such:thing"
        self.assertIn(reference, await self.refused(reference, "MANIFEST_UNKNOWN"))

    async def test_bad_reference(self) -> None:
        """
        An invalid reference is refused before any request is sent.
        """
        said = await self.refused("No Such", "NAME_INVALID")
        self.assertIn("'No Such' is not an image reference", said)
        self.assertEqual(self.registry.log, [])

    async def test_wrong_bytes(self) -> None:
        """
        A blob with a wrong digest is detected.
        """
        image, reference = self.add(1)
        self.registry.faults.plant(Flip(100), str(image.layers[0].blob.digest), times=None)
        self.assertIn(str(image.layers[0].blob.digest), await self.refused(reference, "DIGEST_MISMATCH"))

    async def test_hostile_layers(self) -> None:
        """
        A layer with a path outside its tree, a truncated one, and a
        decompression bomb are refused with one sentence, and leave no file.
        """
        escaping = LayerBuilder().hardlink("escaped", "../../../x").finish()
        tar = LayerBuilder("tar").file("file", b"x" * 100_000).finish().blob.read()
        bomb = ZstdCompressor().compress(bytes(200_000_000))
        for name, layer, why in (
            ("escaping", escaping, "no file of this layer"),
            ("cut", pack(tar[:50_000]), "ends"),
            ("bomb", pack(b"bomb", "tar"), ""),
        ):
            if name == "bomb":
                layer = evolve(layer, blob=Blob.of(layer.blob.descriptor.media_type, bomb))
            self.registry.add(image_of([layer]), name)
            said = await self.refused(f"{self.registry.host}/{name}", "LAYER_INVALID")
            self.assertIn(why, said)
        self.assertFalse(list(self.place.rglob("escaped")))

    async def test_platform(self) -> None:
        """
        An image without the requested platform is refused.
        """
        _, reference = self.add(1)
        said = await self.refused(reference, "PLATFORM_UNKNOWN", "--platform", "linux/s390x")
        self.assertIn("linux/amd64", said)

    async def test_goes_on(self) -> None:
        """
        After all these errors, the daemon pulls a correct image.
        """
        await self.test_missing()
        _, reference = self.add(1)
        await self.daemon.ctl("pull", reference)


class StartTests(TestCase):
    """
    A daemon that cannot start prints the reason in one line, and exits with
    status 1, or 2 for wrong options.
    """

    def setUp(self) -> None:
        """
        Make a scratch directory.
        """
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place)

    async def said(self, *options: str, status: int = 1) -> str:
        """
        Try to start a daemon.

        @param status: the status with which it exits.

        @return: its last line.
        """
        program, *arguments = TWISTD
        defaults = [f"--data-dir={self.place}/data", f"--socket={self.place}/s"]
        if not any(option.startswith("--listen") for option in options):
            defaults.append("--listen=tcp:0:interface=127.0.0.1")
        output, errors, code = await getProcessOutputAndValue(
            program,
            [*arguments, "-n", "--pidfile=", "xferd", *defaults, *options],
            environment(),
            str(self.place),
            reactor,
        )
        said: str = (output + errors).decode()
        self.assertEqual(code, status, said)
        self.assertNotIn("Traceback", said)
        # Without the time and the name of the logger.
        return said.splitlines()[-1].split("#error] ")[-1]

    async def test_port_in_use(self) -> None:
        """
        A port that is in use.
        """
        registry = Registry(reactor)
        await registry.listen(reactor)
        self.addCleanup(registry.stop)
        port = registry.host.rpartition(":")[2]
        said = await self.said(f"--listen=tcp:{port}:interface=127.0.0.1")
        self.assertIn(f"cannot listen on 127.0.0.1:{port}: Address already in use; --listen", said)
        option = f"--registry=tcp:{port}:interface=127.0.0.1"
        said = await self.said("--listen=tcp:0:interface=127.0.0.1", option)
        self.assertIn("Address already in use; --registry selects another address", said)

    async def test_one_port_twice(self) -> None:
        """
        The same endpoint for two purposes.
        """
        endpoint = f"tcp:{free_port()}:interface=127.0.0.1"
        said = await self.said(f"--listen={endpoint}", f"--registry={endpoint}")
        self.assertIn("Address already in use; --listen selects another address", said)

    async def test_socket_in_use(self) -> None:
        """
        A unix socket that another daemon uses.
        """
        first = Xferd(reactor, str(self.place / "first"))
        await first.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(first.stop()))
        for option in ("--socket", "--listen"):
            said = await self.said(f"{option}={'unix:' if option == '--listen' else ''}{first.socket}")
            self.assertEqual(
                said,
                f"xferd: cannot listen on {first.socket}: another xferd (process {first.pid}) listens there; "
                f"{option} selects another address",
            )

    async def test_second_daemon(self) -> None:
        """
        A data directory that another daemon uses.
        """
        first = Xferd(reactor, str(self.place / "first"))
        await first.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(first.stop()))
        self.assertEqual(
            await self.said(f"--data-dir={first.data}"),
            f"xferd: another xferd (process {first.pid}) uses {first.data}; "
            "stop it, or choose another data directory",
        )

    async def test_directory(self) -> None:
        """
        A data directory that cannot be created.
        """
        self.assertIn("/proc/nothing", await self.said("--data-dir=/proc/nothing"))

    async def test_directory_of_others(self) -> None:
        """
        A data directory that other users can write to is refused; if the
        settings permit it, the daemon fails only at the next step.
        """
        data = self.place / "data"
        data.mkdir()
        data.chmod(0o777)
        self.assertEqual(
            await self.said(),
            f"xferd: all users can write to the data directory {data}, whose mode is 777: "
            "chmod o-w it, choose another, or set trust_data_dir = true in [store]",
        )
        self.assertEqual(list(data.iterdir()), [])
        (self.place / "x.toml").write_text("[store]\ntrust_data_dir = true")
        (self.place / "s").write_text("no socket")
        said = await self.said(f"--config={self.place}/x.toml")
        self.assertIn("something that is no socket has that name", said)
        self.assertTrue((data / "version").exists())

    async def test_options(self) -> None:
        """
        Invalid options and settings.
        """
        self.assertIn("--nope", await self.said("--nope", status=2))
        (self.place / "x.toml").write_text("lisen = []")
        self.assertIn("did you mean 'listen'?", await self.said(f"--config={self.place}/x.toml"))
        self.assertIn("is not an endpoint", await self.said("--listen=nothing:1:interface=localhost"))
        self.assertIn("set token_file", await self.said("--listen=tcp:0"))
