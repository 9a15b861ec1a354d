"""
Tests for a fleet whose nodes serve container engines: Debian's containerd and podman, on
different nodes at the same time.
"""

from __future__ import annotations

import os
from pathlib import Path
from unittest import SkipTest

from twisted.internet.defer import Deferred, gatherResults

from tests.integration.engines import Containerd, Engine, Podman
from tests.integration.test_fleet import PORT, FleetCase, reactor


class EnginesTests(FleetCase):
    """
    Two engines, each the client of its own node.
    """

    async def engine(self, kind: type[Engine], number: int) -> Engine:
        """
        Start an engine on the host of a node, with the configuration that the node
        prints for it.
        """
        host, node = self.hosts[number], self.nodes[number]
        place = Path(self.place, f"e{number}")
        engine = kind(reactor, place, f"{host.address}:{PORT}", before=host.within)
        engine.configure(await node.show("mirror", "show", kind.client))
        await engine.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(engine.stop()))
        return engine

    async def test_at_once(self) -> None:
        """
        Both pull the same image at the same time: each has it, and upstream has sent
        each layer once.
        """
        if os.geteuid() != 0:
            raise SkipTest("the daemons of engines need root")
        await self.start(3)
        engines = [await self.engine(Containerd, 0), await self.engine(Podman, 1)]
        pulls = [Deferred.fromCoroutine(engine.pull(self.reference)) for engine in engines]
        self.assertEqual(await gatherResults(pulls), [str(self.image.config.digest)] * 2)
        # A third node has nothing to ask upstream for but documents.
        third = await self.engine(Podman, 2)
        self.assertEqual(await third.pull(self.reference), str(self.image.config.digest))
        await self.assert_sent(1.1)
        await self.registry.stop()
        for layer in self.image.layers:
            self.assertEqual(self.registry.count("GET", layer.blob.digest), 1)
