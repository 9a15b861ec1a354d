"""
Tests for a fleet of daemons on hosts of their own, with Debian's etcd, and Debian's
registry behind a thin line: whatever happens, each client's pull ends well, the line is
used about once, and no node keeps a wrong byte.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.etcds import Etcd
from tests.integration.networks import Host, Network
from tests.integration.peers import DockerRegistry, push, require, run
from tests.integration.programs import Program, Xferd
from tests.integration.test_clock import find_library
from xferd.testing.images import SampleImage, sample_image

reactor: Any = installed

MBIT = 16
"""Million bits a second of the registry's line."""

SIZE = 4_000_000
"""Bytes of each of two layers: the line sends both in 4 s."""

PORT = 5000


class FleetCase(TestCase):
    """
    A network with etcd, the registry, and nodes.
    """

    layers = 2
    size = SIZE
    mbit = MBIT

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Build all but the nodes.
        """
        require("etcd")
        self.network = Network(reactor)
        await self.network.build()
        self.addCleanup(self.network.remove)
        self.place = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, self.place)
        self.etcd_host, self.upstream = await self.network.host(), await self.network.host()
        etcd_host, upstream = self.etcd_host, self.upstream
        self.etcd = Etcd(reactor, f"{self.place}/etcd", address=etcd_host.address, before=etcd_host.within)
        self.addCleanup(self.etcd.kill)
        await self.etcd.start()
        self.registry = DockerRegistry(
            reactor, f"{self.place}/registry", address=upstream.address, before=upstream.within
        )
        self.addCleanup(self.registry.stop)
        await self.registry.start()
        self.image: SampleImage = sample_image(self.layers, self.size)
        self.reference = f"{self.registry.host}/app:1"
        await push(reactor, self.image, self.reference, f"{self.place}/image", before=upstream.within)
        await upstream.limit(self.mbit)
        self.total = sum(layer.blob.descriptor.size for layer in self.image.layers)
        Path(self.place, "secret").write_text("the secret of all nodes of the fleet")
        os.chmod(Path(self.place, "secret"), 0o600)
        self.nodes: list[Xferd] = []
        self.hosts: list[Host] = []
        self.before = await upstream.sent()

    async def start(self, number: int, *, peer_port: int = PORT, before: Sequence[str] = ()) -> None:
        """
        Start some more nodes.

        @param peer_port: the port of their URLs.
        @param before: a program that runs the daemons.
        """
        for _ in range(number):
            host = await self.network.host()
            place = Path(self.place, host.name)
            place.mkdir()
            url = f"http://{host.address}:{peer_port}"
            (place / "xferd.toml").write_text(
                f'[registry]\nlisten = ["tcp:{PORT}"]\ndefault = "{self.registry.host}"\n'
                f'[registry.upstreams."{self.registry.host}"]\nalias = "up"\n'
                f'[hosts."{self.registry.host}"]\nplain_http = true\n'
                f'[fleet]\netcd = ["{self.etcd.url}"]\nname = "n{len(self.nodes) + 1}"\nurl = "{url}"\n'
                f'secret_file = "{self.place}/secret"\npeer_networks = ["10.97.0.0/24"]\n'
            )
            node = Xferd(
                reactor, str(place), "--config", str(place / "xferd.toml"), before=[*host.within, *before]
            )
            self.addCleanup(node.stop)
            self.nodes.append(node)
            self.hosts.append(host)
        await gatherResults([Deferred.fromCoroutine(node.start()) for node in self.nodes[-number:]])
        await deferLater(reactor, 1.0)

    def pull(self, node: Xferd) -> Deferred[tuple[str, str, int]]:
        """
        Begin a client's pull.
        """
        return Deferred.fromCoroutine(node.try_ctl("pull", self.reference))

    async def pulls(self, first: int = 0) -> list[Deferred[tuple[str, str, int]]]:
        """
        Begin a pull at the first node, and then at all others.
        """
        pulls = [self.pull(self.nodes[first])]
        self.addCleanup(lambda: pulls[0])
        await deferLater(reactor, 1.0)
        return [*pulls, *(self.pull(node) for n, node in enumerate(self.nodes) if n != first)]

    async def middle(self) -> None:
        """
        Wait until the line has sent half of the image.
        """
        while await self.upstream.sent() - self.before < self.total / 2:
            await deferLater(reactor, 0.1)

    async def check(self, pulls: Sequence[Deferred[tuple[str, str, int]]], nodes: Sequence[Xferd]) -> None:
        """
        Pulls end well, and their nodes have the right bytes.
        """
        for pull, node in zip(pulls, nodes, strict=True):
            output, errors, code = await pull
            self.assertEqual(code, 0, output + errors + node.output[-3000:])
            for layer in self.image.layers:
                digest = layer.blob.digest
                path = Path(node.data, "content", "blobs", digest.algorithm, digest.hex)
                self.assertTrue(path.read_bytes() == layer.blob.read())

    async def assert_sent(self, times: float) -> None:
        """
        The line has sent the layers at most that many times.
        """
        sent = (await self.upstream.sent() - self.before) / self.total
        self.assertLessEqual(sent, times)
        self.assertGreater(sent, 0.99)


class OwnerTests(FleetCase):
    """
    Something happens to the node that fetches, at half of the image.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Have three nodes pull.
        """
        await super().setUp()
        await self.start(3)
        self.running = await self.pulls()
        await self.middle()

    async def test_killed(self) -> None:
        """
        It is killed.
        """
        self.nodes[0].signal("KILL")
        await self.check(self.running[1:], self.nodes[1:])
        await self.assert_sent(1.1)

    async def test_frozen(self) -> None:
        """
        It is frozen for 60 s: its own pull ends well, too.
        """
        os.kill(self.nodes[0].pid, signal.SIGSTOP)
        began = reactor.seconds()
        try:
            await self.check(self.running[1:], self.nodes[1:])
            await deferLater(reactor, max(0.0, began + 60 - reactor.seconds()))
        finally:
            os.kill(self.nodes[0].pid, signal.SIGCONT)
        await self.check(self.running[:1], self.nodes[:1])
        await self.assert_sent(1.1)

    async def test_cut_from_etcd(self) -> None:
        """
        It is cut from etcd alone.
        """
        await self.hosts[0].cut(self.etcd_host)
        await self.check(self.running, self.nodes)
        await self.assert_sent(1.1)

    async def test_cut_from_peers(self) -> None:
        """
        It is cut from its peers alone: upstream sends to it and to the others what each
        of them cannot get elsewhere, and so all bytes twice at most.
        """
        await self.hosts[0].cut(*self.hosts[1:])
        await self.check(self.running, self.nodes)
        await self.assert_sent(2.0)

    async def test_etcd_restarts(self) -> None:
        """
        etcd is stopped and started.
        """
        await self.etcd.kill()
        await deferLater(reactor, 1.0)
        await self.etcd.start()
        await self.check(self.running, self.nodes)
        await self.assert_sent(1.1)


class OtherTests(FleetCase):
    """
    Other circumstances.
    """

    async def test_skopeo(self) -> None:
        """
        Clients of the nodes' registries get the image over the line once, all at the
        same time.
        """
        await self.start(4)
        argv = ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]
        pulls = [
            Deferred.fromCoroutine(
                run(
                    reactor,
                    [
                        *host.within,
                        *argv,
                        f"docker://{host.address}:{PORT}/up/app:1",
                        f"dir:{self.place}/copy{host.number}",
                    ],
                )
            )
            for host in self.hosts
        ]
        for pull in pulls:
            await pull
        for host in self.hosts:
            for layer in self.image.layers:
                path = Path(self.place, f"copy{host.number}", layer.blob.digest.hex)
                self.assertTrue(path.read_bytes() == layer.blob.read())
        await self.assert_sent(1.1)

    async def test_wrong_bytes(self) -> None:
        """
        What one node sends to its peers is changed in transit: upstream sends once more
        what that node alone has when the others notice it, because they cannot get it
        elsewhere.
        """
        await self.start(1, peer_port=PORT + 1)
        argv = [*self.hosts[0].within, sys.executable, "-m", "tests.integration.flipping_proxy"]
        proxy = Program(reactor, [*argv, str(PORT + 1), str(PORT)], "the proxy listens", self.place)
        self.addCleanup(proxy.stop)
        await proxy.start()
        await self.start(2)
        running = [self.pull(self.nodes[0])]
        while await self.upstream.sent() - self.before < self.total / 100:
            await deferLater(reactor, 0.05)
        running += [self.pull(node) for node in self.nodes[1:]]
        await self.check(running, self.nodes)
        (fleet,) = await self.nodes[0].show("fleet")
        alone = fleet["bytes"]["upstream"]
        # It has got the rest from the others.
        self.assertLess(alone, self.total)
        await self.assert_sent(1.1 + alone / self.total)
        self.assertIn("n1 does not send", "".join(node.output for node in self.nodes[1:]))

    async def test_clocks(self) -> None:
        """
        The clocks of two nodes differ by five minutes from those of the others.
        """
        await self.start(2)
        library = find_library()
        for offset in ("+300", "-300"):
            settings = [f"LD_PRELOAD={library}", f"FAKETIME={offset}", "FAKETIME_DONT_FAKE_MONOTONIC=1"]
            await self.start(1, before=["env", *settings, "NO_FAKE_STAT=1"])
        await self.check(await self.pulls(first=0), self.nodes)
        await self.assert_sent(1.1)


class SameMomentTests(FleetCase):
    """
    Many small blobs.
    """

    layers = 40
    size = 1_100_000
    mbit = 1000

    async def test_two(self) -> None:
        """
        Two nodes begin in the same moment: upstream is asked for each of forty blobs
        once.
        """
        await self.start(2)
        running = [self.pull(node) for node in self.nodes]
        await self.check(running, self.nodes)
        for layer in self.image.layers:
            self.assertEqual(self.registry.count("GET", layer.blob.digest), 1)
