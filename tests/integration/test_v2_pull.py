"""
A daemon as a mirror, with a registry that has faults, and with Debian's.

The module is long because the same mirror meets faults, old and new registries, and token servers.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from socket import AF_INET, SOCK_DGRAM, socket
from tempfile import mkdtemp
from typing import cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.integration.http_client import Answer, Client
from tests.integration.peers import (
    PASSWORD,
    USER,
    DockerRegistry,
    PeerFailed,
    Registry3,
    push,
    require,
    run,
)
from tests.integration.places import free_port
from tests.integration.programs import Xferd
from tests.integration.signed_tokens import SigningTokenServer
from tests.store.small_disk import SmallDisk
from xferd.interfaces.reactor import IReactor
from xferd.names import Digest
from xferd.testing.faults import Flip, Stall, not_found, too_many_requests, unauthorized, unavailable
from xferd.testing.images import SampleImage, sample_image
from xferd.testing.registry import Registry

reactor = cast(IReactor, installed)

SIZE = 3_000_000

RATE = 2_000_000.0
"""Bytes a second at which blobs arrive, where a test needs time."""

CHUNK = 512 * 1024
"""Bytes that may be in buffers when a program is killed."""


def own_address() -> str:
    """
    An address of this machine besides those of loopback.
    """
    with socket(AF_INET, SOCK_DGRAM) as found:
        try:
            # No packet is sent.
            found.connect(("192.0.2.1", 9))
        except OSError:
            raise SkipTest("the machine has no other address") from None
        return str(found.getsockname()[0])


class MirrorCase(TestCase):
    """
    A daemon that mirrors one registry, as a process of its own.
    """

    settings = ""
    interface = "127.0.0.1"
    port = 0
    certs = ""

    async def start(self, upstream: str) -> None:
        """
        Start the daemon.
        """
        self.place = self.home = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, self.place)
        self.port = self.port or free_port()
        self.upstream = upstream
        own = f'[registry.upstreams."{upstream}"]\nalias = "up"\n{self.settings}'
        certs = f'certs_dirs = ["{self.certs}"]\n' if self.certs else ""
        config = certs + f'[registry]\ndefault = "{upstream}"\n{own}'
        Path(self.place, "xferd.toml").write_text(config)
        self.daemon = await self.run_daemon()
        self.client = Client(reactor, f"http://127.0.0.1:{self.port}")

    async def run_daemon(self) -> Xferd:
        """
        Run a daemon over the same data.
        """
        options = ("--config", str(Path(self.place, "xferd.toml")))
        listen = f"tcp:{self.port}:interface={self.interface}"
        daemon = Xferd(reactor, self.home, *options, "--registry", listen)
        self.addCleanup(daemon.stop)
        await daemon.start()
        return daemon

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """
        Make a request to the daemon.
        """
        return await self.client.get(path, method, **headers)


class FaultyCase(MirrorCase):
    """
    A mirror of a registry that has an image, C{app:1}, and faults.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start both.
        """
        self.registry = Registry(reactor)
        await self.registry.listen(reactor)
        self.addCleanup(self.registry.stop)
        self.image = self.add("1")
        self.blob = self.image.layers[0].blob
        self.data = self.blob.read()
        self.path = f"/v2/app/blobs/{self.blob.digest}"
        await self.start(self.registry.host)

    def add(self, tag: str, size: int = SIZE) -> SampleImage:
        """
        Add an image.
        """
        image = sample_image(1, size, tag)
        self.registry.add(image, "app", tag)
        return image

    async def fill(self) -> None:
        """
        Have the image in the store.
        """
        await self.get("/v2/app/manifests/1")
        for blob in self.image.blobs:
            self.assertEqual((await self.get(f"/v2/app/blobs/{blob.digest}")).status, 200)

    async def restart_registry(self, seconds: float) -> None:
        """
        Kill the registry, and start it again later.
        """
        port = int(self.registry.host.rpartition(":")[2])
        await self.registry.stop()
        await deferLater(reactor, seconds)
        await self.registry.listen(reactor, port)


class PullTests(FaultyCase):
    """
    Pulls while all works.
    """

    async def test_paths(self) -> None:
        """
        Every form of the path finds the image.
        """
        up = self.upstream
        for name in ("/v2/app", f"/v2/{up}/app", "/v2/up/app", "/up/v2/app"):
            answer = await self.get(f"{name}/manifests/1")
            self.assertEqual((answer.status, answer.body), (200, self.image.manifest.data), name)
        for path in (f"/v2/app/manifests/1?ns={up}", f"/v2/{up}/app/manifests/1?ns={up}"):
            answer = await self.get(path)
            self.assertEqual((answer.status, answer.headers["oci-namespace"]), (200, up))
        for path in (
            "/v2/app/manifests/1?ns=quay.io",
            "/v2/quay.io/app/manifests/1",
            "/quay/v2/app/manifests/1",
        ):
            self.assertEqual((await self.get(path)).status, 404, path)
        self.assertEqual(self.registry.count("GET", "1"), 1)

    async def test_shared(self) -> None:
        """
        Eight clients at once cost one GET, though the first one is killed at half.
        """
        self.registry.rate = RATE
        await self.get("/v2/app/manifests/1")
        downloads = await gather([self.client.open(self.path) for _ in range(8)])
        await downloads[0].has(len(self.data) // 2)
        downloads[0].leave()
        answers = await gather([each.ended for each in downloads[1:]])
        for answer in answers:
            self.assertEqual((answer.status, answer.whole), (200, True))
            self.assertEqual(answer.body, self.data)
        self.assertEqual(self.registry.count("GET", self.blob.digest), 1)
        self.assertLessEqual(self.registry.bytes_sent, len(self.data))

    async def test_stopped_reader(self) -> None:
        """
        A client that stops reading slows neither another one nor the download, of which it
        gets the rest later.
        """
        image = self.add("large", 30_000_000)
        blob = image.layers[0].blob
        data = blob.read()
        path = f"/v2/app/blobs/{blob.digest}"
        await self.get("/v2/app/manifests/large")
        stopped = await self.client.open(path)
        await stopped.has(1)
        stopped.pause()
        answer = await self.get(path)
        self.assertEqual((answer.status, answer.whole, answer.body == data), (200, True, True))
        self.assertEqual(self.registry.count("GET", blob.digest), 1)
        self.assertFalse(stopped.ended.called)
        # More than the buffers on its way are still to come.
        self.assertLess(len(stopped.data), len(data) // 2)
        await self.registry.stop()
        stopped.resume()
        rest = await stopped.ended
        self.assertEqual((rest.status, rest.whole, rest.body == data), (200, True, True))

    async def test_alone_and_gone(self) -> None:
        """
        A download goes on when its only client has left.
        """
        self.registry.rate = RATE
        await self.get("/v2/app/manifests/1")
        download = await self.client.open(self.path)
        await download.has(1)
        download.leave()
        await download.ended
        answer = await self.get(self.path)
        self.assertEqual(answer.body, self.data)
        self.assertEqual(self.registry.count("GET", self.blob.digest), 1)

    async def test_ranges(self) -> None:
        """
        Ranges are right on a miss, on a hit, and beyond the end.
        """
        size = len(self.data)
        self.registry.rate = RATE
        await self.get("/v2/app/manifests/1")
        for _ in range(2):
            for text, start, stop in (
                ("0-99", 0, 100),
                (f"{size // 2}-{size // 2 + 9}", size // 2, size // 2 + 10),
                (f"{size - 10}-", size - 10, size),
                ("-500", size - 500, size),
                (f"{size - 10}-{size + 10}", size - 10, size),
            ):
                answer = await self.get(self.path, Range=f"bytes={text}")
                self.assertEqual((answer.status, answer.body), (206, self.data[start:stop]), text)
                self.assertEqual(answer.headers["content-range"], f"bytes {start}-{stop - 1}/{size}")
            for text in (f"{size}-", "500-0"):
                answer = await self.get(self.path, Range=f"bytes={text}")
                self.assertEqual((answer.status, answer.headers["content-range"]), (416, f"bytes */{size}"))
        self.assertEqual(self.registry.count("GET", self.blob.digest), 1)

    async def test_far_range(self) -> None:
        """
        The end of a large blob reaches a client while the download is at its beginning.
        """
        image = self.add("large", 30_000_000)
        blob = image.layers[0].blob
        data = blob.read()
        path, start = f"/v2/app/blobs/{blob.digest}", 10_000_000
        self.registry.rate = 4_000_000.0
        await self.get("/v2/app/manifests/large")
        whole = await self.client.open(path)
        await whole.has(1)
        began = reactor.seconds()
        far = await self.client.open(path, Range=f"bytes={start}-")
        await far.has(1)
        self.assertLess(far.first - began, start / self.registry.rate / 2)
        answer, all_of_it = await gather([far.ended, whole.ended])
        self.assertEqual((answer.status, answer.body), (206, data[start:]))
        self.assertEqual(all_of_it.body, data)
        self.assertLess(self.registry.bytes_sent, 2 * len(data) - start + CHUNK)

    async def test_first_byte(self) -> None:
        """
        Bytes reach a client while the rest is still on its way.
        """
        self.registry.rate = RATE
        await self.get("/v2/app/manifests/1")
        began = reactor.seconds()
        download = await self.client.open(self.path)
        await download.has(1)
        self.assertLess(download.first - began, len(self.data) / RATE / 2)
        answer = await download.ended
        self.assertEqual(answer.body, self.data)


class FullDiskTests(FaultyCase):
    """
    A daemon whose data is on a disk of 40 MiB.
    """

    async def run_daemon(self) -> Xferd:
        """
        Run it there.
        """
        self.home = os.path.join(self.place, "small")
        self.disk = SmallDisk(self.home, 40 * 1024 * 1024)
        self.addCleanup(self.disk.unmount)
        return await super().run_daemon()

    async def test_runs_full(self) -> None:
        """
        When the disk runs full in the middle of a blob, two clients get all of it, in the
        responses that have begun, one after the other.
        """
        self.registry.rate = RATE
        await self.get("/v2/app/manifests/1")
        downloads = await gather([self.client.open(self.path) for _ in range(2)])
        await downloads[0].has(len(self.data) // 4)
        self.disk.fill()
        for answer in await gather([each.ended for each in downloads]):
            self.assertEqual((answer.status, answer.whole), (200, True))
            self.assertEqual(answer.body, self.data)
        self.assertIn("is not kept", self.daemon.output)
        self.assertLessEqual(self.registry.bytes_sent, 2 * len(self.data))


class LoopTests(MirrorCase):
    """
    A daemon that is led to itself.
    """

    interface = "0.0.0.0"

    async def test_upstream(self) -> None:
        """
        An upstream that is the daemon's own registry, under an address of the machine, is
        an error with its reason, at once.
        """
        self.port = free_port()
        own = f"{own_address()}:{self.port}"
        self.settings = f'[hosts."{own}"]\nplain_http = true\n'
        await self.start(own)
        for path in ("manifests/1", f"blobs/{Digest.of(b'')}", "tags/list"):
            began = reactor.seconds()
            answer = await self.get(f"/v2/app/{path}")
            self.assertEqual(answer.status, 508, answer.body)
            self.assertIn("is this daemon's own registry", answer.body.decode())
            self.assertLess(reactor.seconds() - began, 2)

    async def test_hosts_toml(self) -> None:
        """
        A C{hosts.toml} that names the daemon as a mirror of an upstream is passed over.
        """
        registry = Registry(reactor)
        await registry.listen(reactor)
        self.addCleanup(registry.stop)
        image = sample_image(1)
        registry.add(image, "app", "1")
        self.certs = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, self.certs)
        self.port = free_port()
        place = Path(self.certs, registry.host)
        place.mkdir()
        Path(place, "hosts.toml").write_text(
            f'server = "http://{registry.host}"\n[host."http://{own_address()}:{self.port}"]\n'
            'capabilities = ["pull", "resolve"]\n'
        )
        await self.start(registry.host)
        answer = await self.get("/v2/app/manifests/1")
        self.assertEqual((answer.status, answer.body), (200, image.manifest.data))
        self.assertIn("is this daemon's own registry", self.daemon.output)


class TwoHostsTests(MirrorCase):
    """
    An upstream with two hosts in its C{hosts.toml}.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start both, with one image.
        """
        self.image = sample_image(1, SIZE)
        self.blob = self.image.layers[0].blob
        self.first, self.second = Registry(reactor), Registry(reactor)
        for registry in (self.first, self.second):
            registry.add(self.image, "app", "1")
            await registry.listen(reactor)
            self.addCleanup(registry.stop)
        self.certs = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, self.certs)
        place = Path(self.certs, self.second.host)
        place.mkdir()
        Path(place, "hosts.toml").write_text(
            f'server = "http://{self.second.host}"\n[host."http://{self.first.host}"]\n'
            'capabilities = ["pull", "resolve"]\n'
        )
        await self.start(self.second.host)
        await self.get("/v2/app/manifests/1")

    def gets(self) -> tuple[int, int]:
        """
        How often each host was asked for the blob.
        """
        return self.first.count("GET", self.blob.digest), self.second.count("GET", self.blob.digest)

    async def test_wrong_bytes(self) -> None:
        """
        Wrong bytes of the first host cost their readers the connection, and that host one
        request: the next client gets the bytes of the second one.
        """
        self.first.faults.plant(Flip(1000), self.blob.digest, times=None)
        path = f"/v2/app/blobs/{self.blob.digest}"
        broken = await self.get(path)
        self.assertEqual((broken.status, broken.whole), (200, False))
        for answer in await gather([self.get(path) for _ in range(2)]):
            self.assertEqual((answer.status, answer.whole), (200, True))
            self.assertEqual(answer.body, self.blob.read())
        self.assertEqual(self.gets(), (1, 1))

    async def test_breaks(self) -> None:
        """
        Where the first host breaks in the middle, the second one sends the rest, in the
        response that has begun.
        """
        self.first.rate = RATE
        download = await self.client.open(f"/v2/app/blobs/{self.blob.digest}")
        await download.has(SIZE // 4)
        await self.first.stop()
        answer = await download.ended
        self.assertEqual((answer.status, answer.whole), (200, True))
        self.assertEqual(answer.body, self.blob.read())
        self.assertEqual(self.gets(), (1, 1))
        self.assertLess(self.second.bytes_sent, len(answer.body))


class FreshnessTests(FaultyCase):
    """
    Tags that are checked each time.
    """

    settings = "tag_ttl = 0"

    async def test_moved(self) -> None:
        """
        A tag that moves is found by HEAD, and its old manifest is still served by
        digest.
        """
        await self.fill()
        await self.get("/v2/app/manifests/1")
        self.assertEqual((self.registry.count("HEAD", "1"), self.registry.count("GET", "1")), (1, 1))
        other = sample_image(1, 1000, "other")
        self.registry.add(other, "app", "1")
        answer = await self.get("/v2/app/manifests/1")
        self.assertEqual(answer.body, other.manifest.data)
        answer = await self.get(f"/v2/app/manifests/{self.image.digest}")
        self.assertEqual(answer.body, self.image.manifest.data)

    async def test_down(self) -> None:
        """
        Without its upstream, what is here is served with a warning, and what is not is
        an error at once.
        """
        await self.fill()
        await self.registry.stop()
        for _ in range(2):
            answer = await self.get("/v2/app/manifests/1")
            self.assertEqual((answer.status, answer.body), (200, self.image.manifest.data))
            self.assertIn("does not answer", answer.headers["warning"])
        self.assertEqual((await self.get(self.path)).body, self.data)
        began = reactor.seconds()
        for path in ("/v2/app/manifests/2", f"/v2/app/blobs/{Digest.of(b'x')}"):
            answer = await self.get(path)
            self.assertEqual((answer.status, answer.headers["retry-after"]), (502, "5"))
        self.assertLess(reactor.seconds() - began, 5)


class FaultTests(FaultyCase):
    """
    An upstream that fails.
    """

    async def test_killed(self) -> None:
        """
        If it is away for three seconds in the middle of a blob, no client notices.
        """
        self.registry.rate = RATE
        await self.get("/v2/app/manifests/1")
        downloads = await gather([self.client.open(self.path) for _ in range(3)])
        await downloads[0].has(len(self.data) // 2)
        restarting = Deferred.fromCoroutine(self.restart_registry(3.0))
        for each in downloads:
            answer = await each.ended
            self.assertTrue(answer.whole)
            self.assertEqual(answer.body, self.data)
        await restarting
        self.assertLessEqual(self.registry.bytes_sent, len(self.data) + CHUNK)

    async def test_wrong_bytes(self) -> None:
        """
        Clients of wrong bytes are cut, and never get their end; the next one gets the
        right ones.
        """
        self.registry.faults.plant(Flip(1000), self.blob.digest)
        self.registry.rate = RATE
        await self.get("/v2/app/manifests/1")
        downloads = await gather([self.client.open(self.path) for _ in range(2)])
        for each in downloads:
            answer = await each.ended
            self.assertFalse(answer.whole)
            self.assertLessEqual(len(answer.body), len(self.data) - 64 * 1024)
        answer = await self.get(self.path)
        self.assertEqual((answer.status, answer.body), (200, self.data))

    async def test_statuses(self) -> None:
        """
        Refusals are 404, so that clients ask the upstream themselves; errors are 502.
        """
        await self.get("/v2/app/manifests/1")
        cases = (
            (unauthorized(), 404),
            (unavailable(403), 404),
            (not_found(), 404),
            (too_many_requests("1"), 404),
            (unavailable(500), 502),
        )
        for number, (fault, status) in enumerate(cases):
            image = self.add(f"s{number}", 1000)
            blob = image.layers[0].blob.digest
            self.assertEqual((await self.get(f"/v2/app/manifests/s{number}")).status, 200)
            self.registry.faults.plant(fault, blob, times=None)
            self.assertEqual((await self.get(f"/v2/app/blobs/{blob}")).status, status, fault)
            self.registry.faults.plant(fault, f"manifests/m{number}", times=None)
            self.assertEqual((await self.get(f"/v2/app/manifests/m{number}")).status, status, fault)
            self.registry.faults.clear()
            # The pause that 429 asked for.
            await deferLater(reactor, 1.1 if fault == cases[3][0] else 0)

    async def test_black_hole(self) -> None:
        """
        Without any answer, a client gets an error after ten seconds.
        """
        await self.get("/v2/app/manifests/1")
        self.registry.faults.plant(Stall(), times=None)
        began = reactor.seconds()
        for answer in await gather([self.get("/v2/app/manifests/2"), self.get(self.path)]):
            self.assertEqual((answer.status, answer.headers["retry-after"]), (504, "5"))
        self.assertLess(reactor.seconds() - began, 15)

    async def test_daemon_killed(self) -> None:
        """
        A daemon that is killed in the middle of a blob goes on where it was: the
        client's own retry completes.
        """
        self.registry.rate = RATE
        await self.get("/v2/app/manifests/1")
        download = await self.client.open(self.path)
        await download.has(len(self.data) // 2)
        await self.daemon.stop("KILL")
        broken = await download.ended
        self.assertFalse(broken.whole)
        await self.run_daemon()
        answer = await self.get(self.path, Range=f"bytes={len(broken.body)}-")
        self.assertEqual(answer.status, 206)
        self.assertEqual(broken.body + answer.body, self.data)
        self.assertLessEqual(self.registry.bytes_sent, len(self.data) + CHUNK)


class GoneTests(FaultyCase):
    """
    An upstream that is away for longer than the daemon tries.
    """

    settings = "[retry]\nattempts = 3\nbase = 0.2\n"

    async def test_in_the_middle(self) -> None:
        """
        Clients in the middle of a blob are cut, as by a connection that breaks.  Once the
        upstream is back, their own retry gets the rest, which alone is fetched.
        """
        self.registry.rate = RATE
        await self.get("/v2/app/manifests/1")
        downloads = await gather([self.client.open(self.path) for _ in range(2)])
        await downloads[0].has(len(self.data) // 2)
        port = int(self.registry.host.rpartition(":")[2])
        await self.registry.stop()
        broken = [await each.ended for each in downloads]
        for answer in broken:
            self.assertFalse(answer.whole)
            self.assertEqual(answer.body, self.data[: len(answer.body)])
        rest = f"bytes={len(broken[0].body)}-"
        refused = await self.get(self.path, Range=rest)
        self.assertEqual((refused.status, refused.headers["retry-after"]), (502, "5"))
        await self.registry.listen(reactor, port)
        answer = await self.get(self.path, Range=rest)
        self.assertEqual((answer.status, broken[0].body + answer.body), (206, self.data))
        self.assertLessEqual(self.registry.bytes_sent, len(self.data) + CHUNK)


class DebianTests(MirrorCase):
    """
    A mirror of Debian's registry.
    """

    kind: type[DockerRegistry] = DockerRegistry
    tls = False

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start both, and push an image.
        """
        tokens = await self.token_server()
        self.registry = self.kind(reactor, self.mktemp(), tls=self.tls, tokens=tokens)
        self.addCleanup(self.registry.stop)
        await self.registry.start()
        self.image = sample_image(2, 100_000)
        options = [] if tokens is None else [f"--dest-creds={USER}:{PASSWORD}"]
        await push(reactor, self.image, f"{self.registry.host}/app:1", self.mktemp(), *options)
        if self.tls:
            authority = Path(self.registry.certificates, "ca.crt")
            self.settings += f'[hosts."{self.registry.host}"]\nca_file = "{authority}"\n'
        await self.start(self.registry.host)

    async def token_server(self) -> SigningTokenServer | None:
        """
        The token server of the upstream, if it has one.
        """
        return None

    async def copy(self, number: int, *options: str) -> None:
        """
        Copy the image with skopeo.
        """
        target = Path(self.place, f"copy{number}")
        argv = ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", *options]
        await run(reactor, [*argv, f"docker://127.0.0.1:{self.port}/up/app:1", f"dir:{target}"])
        for blob in self.image.blobs:
            self.assertEqual(target.joinpath(blob.digest.hex).read_bytes(), blob.read())

    async def test_skopeo(self) -> None:
        """
        skopeo copies through the mirror, twice at once and once after, and the
        registry sends each blob once.
        """
        await gather([self.copy(1), self.copy(2)])
        await self.registry.stop()
        await self.copy(3)
        for blob in self.image.blobs:
            self.assertEqual(self.registry.count("GET", blob.digest), 1)

    async def test_conformance(self) -> None:
        """
        The conformance suite of the OCI passes in its read-only mode.
        """
        program = require("conformance")
        # A mirror lists the tags that it has.
        await self.get("/v2/up/app/manifests/1")
        blobs = " ".join(str(blob.digest) for blob in self.image.blobs)
        environment = {
            **os.environ,
            "OCI_REGISTRY": f"127.0.0.1:{self.port}",
            "OCI_TLS": "disabled",
            "OCI_REPO1": "up/app",
            "OCI_REPO2": "up/other",
            "OCI_RESULTS_DIR": self.place,
            "OCI_API_PUSH": "false",
            # What is deleted from a mirror is fetched again.
            "OCI_API_MANIFESTS_DELETE": "false",
            "OCI_API_BLOBS_DELETE": "false",
            "OCI_API_TAGS_DELETE": "false",
            "OCI_RO_DATA_TAGS": "1",
            "OCI_RO_DATA_MANIFESTS": str(self.image.digest),
            "OCI_RO_DATA_BLOBS": blobs,
        }
        output, errors, _ = await getProcessOutputAndValue(program, [], environment, self.place, reactor)
        # In this mode it crashes after its report, when it writes results.yaml.
        report = (output + errors).decode(errors="replace")
        self.assertIn("OCI Conformance Result: Pass", report, report[-3000:])


class TLSTests(DebianTests):
    """
    A mirror of Debian's registry with TLS, whose authority the settings name.
    """

    tls = True


class Registry3Tests(DebianTests):
    """
    A mirror of a registry of distribution 3.
    """

    kind = Registry3


class TokenTests(DebianTests):
    """
    A mirror of Debian's registry with a token server, which gives anybody a token to
    pull.
    """

    anonymous = True

    async def token_server(self) -> SigningTokenServer | None:
        """
        Start it.
        """
        self.tokens = SigningTokenServer(reactor, users={USER: PASSWORD}, anonymous=self.anonymous)
        await self.tokens.listen(reactor)
        self.addCleanup(self.tokens.stop)
        return self.tokens


class Registry3TokenTests(TokenTests):
    """
    The same with a registry of distribution 3.
    """

    kind = Registry3


class Registry3PassTests(TokenTests):
    """
    A mirror of a registry of distribution 3 whose token server wants credentials,
    which the clients of the mirror bring.
    """

    kind = Registry3
    anonymous = False
    settings = 'policy = "pass"\n'

    async def test_skopeo(self) -> None:
        """
        A client with the right password gets the image, once and again; others get
        nothing of it.
        """
        known = f"--src-creds={USER}:{PASSWORD}"
        await self.copy(1, known)
        for other in (f"--src-creds={USER}:wrong", "--src-no-creds"):
            await self.assertFailure(Deferred.fromCoroutine(self.copy(2, other)), PeerFailed)
        await self.copy(3, known)
        await self.registry.stop()
        for blob in self.image.blobs:
            self.assertEqual(self.registry.count("GET", blob.digest), 1)

    async def test_conformance(self) -> None:
        """
        Without credentials, the conformance suite sees nothing.
        """
        self.assertEqual((await self.get("/v2/up/app/manifests/1")).status, 401)


async def gather(works: list) -> list:  # type: ignore[type-arg]
    """
    The results of some work at the same time, in order.
    """
    deferreds = [w if isinstance(w, Deferred) else Deferred.fromCoroutine(w) for w in works]
    results = await DeferredList(deferreds, fireOnOneErrback=True, consumeErrors=True)
    return [result for _, result in results]
