"""
Tests for a fleet of daemons with Debian's etcd and registry: each blob comes from
upstream once.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.etcds import Etcd
from tests.integration.peers import DockerRegistry, push, require, run
from tests.integration.places import free_port
from tests.integration.programs import Xferd
from xferd.testing.certificates import Authority
from xferd.testing.images import SampleImage, sample_image
from xferd.testing.layers import Blob

reactor: Any = installed

SIZE = 20_000_000


class FleetCase(TestCase):
    """
    Debian's etcd and registry, and daemons of one fleet on the loopback.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start etcd and the registry, and push an image.
        """
        require("etcd")
        self.place = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, self.place)
        self.etcd = Etcd(reactor, f"{self.place}/etcd")
        self.addCleanup(self.etcd.kill)
        await self.etcd.start()
        self.registry = DockerRegistry(reactor, self.mktemp())
        self.addCleanup(self.registry.stop)
        await self.registry.start()
        self.image: SampleImage = sample_image(2, SIZE)
        await push(reactor, self.image, f"{self.registry.host}/app:1", self.mktemp())
        self.layers: list[Blob] = [layer.blob for layer in self.image.layers]
        Path(self.place, "secret").write_text("the secret of all nodes of the fleet")
        os.chmod(Path(self.place, "secret"), 0o600)
        self.ports: list[int] = []

    async def start(self, secret: str = "secret", authority: Authority | None = None, **limits: int) -> Xferd:
        """
        Start one more node.

        @param secret: the file with its secret.
        @param authority: signs its certificate, if peers reach it by TLS.
        """
        port, number = free_port(), len(self.ports) + 1
        self.ports.append(port)
        place = Path(self.place, f"n{number}")
        place.mkdir()
        scheme, listen, trusted = "http", f"tcp:{port}:interface=127.0.0.1", ""
        if authority is not None:
            certificate, key = authority.issue("127.0.0.1")
            (place / "tls.pem").write_bytes(certificate + key)
            (place / "ca.pem").write_bytes(authority.pem)
            scheme, trusted = "https", f'peer_ca = "{place}/ca.pem"\n'
            listen = f"ssl:{port}:interface=127.0.0.1:privateKey={place}/tls.pem:certKey={place}/tls.pem"
        limit = "".join(f"{name} = {value}\n" for name, value in limits.items())
        (place / "xferd.toml").write_text(
            f"[limits]\n{limit}\n"
            f'[registry]\nlisten = ["{listen}"]\n'
            f'default = "{self.registry.host}"\n[registry.upstreams."{self.registry.host}"]\nalias = "up"\n'
            f'[fleet]\netcd = ["{self.etcd.url}"]\nname = "n{number}"\nurl = "{scheme}://127.0.0.1:{port}"\n'
            f'secret_file = "{self.place}/{secret}"\npeer_networks = ["127.0.0.0/8"]\n{trusted}'
        )
        daemon = Xferd(reactor, str(place), "--config", str(place / "xferd.toml"))
        self.addCleanup(daemon.stop)
        await daemon.start()
        return daemon

    def assert_once(self) -> None:
        """
        Upstream has sent each layer once.
        """
        for blob in self.layers:
            self.assertEqual(self.registry.count("GET", blob.digest), 1)

    def assert_whole(self, node: Xferd) -> None:
        """
        A node has the right bytes.
        """
        for blob in self.layers:
            path = Path(node.data, "content", "blobs", blob.digest.algorithm, blob.digest.hex)
            self.assertTrue(path.read_bytes() == blob.read())


class PullTests(FleetCase):
    """
    Pulls on several nodes.
    """

    async def test_second(self) -> None:
        """
        What one node has, the second one gets from it: upstream sends no byte of a layer.
        """
        one, two = await self.start(), await self.start()
        await one.ctl("pull", f"{self.registry.host}/app:1")
        self.assert_once()
        await deferLater(reactor, 1.5)
        await two.ctl("pull", f"{self.registry.host}/app:1")
        self.assert_once()
        self.assert_whole(two)

    async def test_mirror(self) -> None:
        """
        So does skopeo at the registries of the nodes.
        """
        await self.start()
        await self.start()
        for number, port in enumerate(self.ports):
            target = Path(self.place, f"copy{number}")
            argv = ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]
            await run(reactor, [*argv, f"docker://127.0.0.1:{port}/up/app:1", f"dir:{target}"])
            for blob in self.layers:
                self.assertTrue(target.joinpath(blob.digest.hex).read_bytes() == blob.read())
            await deferLater(reactor, 1.5)
        self.assert_once()

    async def test_at_once(self) -> None:
        """
        Of four nodes that begin at once, one asks for each layer.
        """
        nodes = [await self.start() for _ in range(4)]
        await deferLater(reactor, 1.5)
        pulls = [Deferred.fromCoroutine(node.ctl("pull", f"{self.registry.host}/app:1")) for node in nodes]
        for pull in pulls:
            await pull
        self.assert_once()
        for node in nodes:
            self.assert_whole(node)

    async def test_tls(self) -> None:
        """
        Peers send one another blobs by TLS; one with a certificate of another authority
        gets none.
        """
        authority = Authority()
        one, two = await self.start(authority=authority), await self.start(authority=authority)
        stranger = await self.start(authority=Authority())
        await one.ctl("pull", f"{self.registry.host}/app:1")
        await deferLater(reactor, 1.5)
        await two.ctl("pull", f"{self.registry.host}/app:1")
        self.assert_once()
        self.assert_whole(two)
        await stranger.ctl("pull", f"{self.registry.host}/app:1")
        self.assert_whole(stranger)
        (fleet,) = await stranger.show("fleet")
        self.assertEqual(fleet["bytes"]["peer"], 0)
        self.assertIn("is not signed by a trusted authority", stranger.output)

    async def test_wrong_secret(self) -> None:
        """
        A node with another secret gets no blob, and its pull goes on.
        """
        Path(self.place, "other").write_text("the secret of another fleet")
        os.chmod(Path(self.place, "other"), 0o600)
        one, two = await self.start(), await self.start("other")
        await one.ctl("pull", f"{self.registry.host}/app:1")
        await deferLater(reactor, 1.5)
        await two.ctl("pull", f"{self.registry.host}/app:1")
        self.assert_whole(two)
        self.assertIn(
            "n1 refuses this node: secret_file must be the same on both, and name and url correct", two.output
        )
        (fleet,) = await two.show("fleet")
        self.assertEqual(fleet["bytes"]["peer"], 0)


class TroubleTests(FleetCase):
    """
    An owner that ends or stops in the middle of a blob.
    """

    async def half(self) -> tuple[Xferd, Xferd, Deferred[Any]]:
        """
        Two nodes, of which the first fetches the layers slowly, and the second follows it.

        @return: both, and the second one's pull.
        """
        one, two = await self.start(download_rate=4_000_000), await self.start()
        await deferLater(reactor, 1.5)
        first = Deferred.fromCoroutine(one.try_ctl("pull", f"{self.registry.host}/app:1"))
        self.addCleanup(lambda: first)
        await deferLater(reactor, 2.0)
        pull = Deferred.fromCoroutine(two.try_ctl("pull", f"{self.registry.host}/app:1"))
        await deferLater(reactor, 2.0)
        return one, two, pull

    async def assert_taken_over(self, two: Xferd, pull: Deferred[Any]) -> None:
        """
        The second node is done: it got bytes from the first, and the rest from upstream.
        """
        output, errors, code = await pull
        self.assertEqual(code, 0, output + errors + two.output[-3000:])
        self.assert_whole(two)
        (fleet,) = await two.show("fleet")
        total = sum(len(blob.read()) for blob in self.layers)
        self.assertEqual(fleet["bytes"]["peer"] + fleet["bytes"]["upstream"], total)
        self.assertGreater(fleet["bytes"]["peer"], total // 10)
        self.assertEqual(fleet["takeovers"], len(self.layers))
        for _ in range(20):
            # etcd may be busy with its disk.
            await deferLater(reactor, 0.5)
            (fleet,) = await two.show("fleet")
            if not fleet["claims"]:
                break
        self.assertEqual(fleet["claims"], [])

    async def test_killed(self) -> None:
        """
        The owner is killed: the second node goes on where it was.
        """
        one, two, pull = await self.half()
        one.signal("KILL")
        await self.assert_taken_over(two, pull)

    async def test_frozen(self) -> None:
        """
        The owner is frozen, and thawed later: all is well with both.
        """
        one, two, pull = await self.half()
        os.kill(one.pid, signal.SIGSTOP)
        await self.assert_taken_over(two, pull)
        os.kill(one.pid, signal.SIGCONT)
        await one.ctl("pull", f"{self.registry.host}/app:1")
        self.assert_whole(one)

    async def test_flipped(self) -> None:
        """
        A node whose disk has flipped a bit is named and left out; the other one gets the
        right bytes from upstream.
        """
        one, two = await self.start(), await self.start()
        await one.ctl("pull", f"{self.registry.host}/app:1")
        for blob in self.layers:
            path = Path(one.data, "content", "blobs", blob.digest.algorithm, blob.digest.hex)
            path.chmod(0o600)
            with path.open("r+b") as file:
                file.seek(5_000_000)
                byte = file.read(1)
                file.seek(5_000_000)
                file.write(bytes([byte[0] ^ 1]))
        await deferLater(reactor, 1.5)
        await two.ctl("pull", f"{self.registry.host}/app:1")
        self.assert_whole(two)
        (fleet,) = await two.show("fleet")
        self.assertEqual(fleet["left_out"], ["n1"])
        self.assertIn("n1 sent wrong bytes", two.output)

    async def test_etcd_stops(self) -> None:
        """
        etcd ends in the middle: what is in transit goes on, and new pulls as well.
        """
        _, _, pull = await self.half()
        await self.etcd.kill()
        output, errors, code = await pull
        self.assertEqual(code, 0, output + errors)
        self.assert_once()
        three = await self.start()
        await three.ctl("pull", f"{self.registry.host}/app:1")
        self.assert_whole(three)
