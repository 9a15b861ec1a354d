"""
Tests for L{xferd.fleet.known}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.fleet.known import AGAIN, FIRST, KnownNodes
from xferd.fleet.memory import MemoryCluster
from xferd.interfaces.fleet import CALL_SECONDS, LEASE_SECONDS, Peer
from xferd.names import Digest


class KnownNodesTests(SynchronousTestCase):
    """
    Tests for L{KnownNodes}.
    """

    def setUp(self) -> None:
        """
        Start three nodes.
        """
        self.clock = Clock()
        self.cluster = MemoryCluster(self.clock)
        self.nodes = [self.join(name) for name in ("a", "b", "c")]
        self.wait(FIRST)

    def join(self, name: str) -> KnownNodes:
        """
        Start one more node.
        """
        peer = Peer(name, f"http://{name}:5000")
        coordination = self.cluster.join(peer.name, peer.url)
        coordination.start()
        self.addCleanup(coordination.stop)
        known = KnownNodes(coordination, peer, self.clock)
        known.start()
        self.addCleanup(known.stop)
        return known

    def wait(self, seconds: float) -> None:
        """
        Let time pass.
        """
        self.clock.pump([0.5] * int(seconds * 2 + 1))

    def test_others(self) -> None:
        """
        A node knows the others, also while the coordination does not answer.
        """
        self.cluster.lose()
        self.wait(CALL_SECONDS + 1)
        self.assertEqual([peer.name for peer in self.nodes[0].others()], ["b", "c"])

    def test_same_order(self) -> None:
        """
        All nodes ask the same one about a blob, and different ones about different
        blobs.
        """
        first = set()
        for number in range(50):
            digest = Digest.of(b"%d" % number)
            orders = {tuple(peer.name for peer in known.order(digest)) for known in self.nodes}
            self.assertEqual(len(orders), 1)
            first.add(orders.pop()[0])
        self.assertEqual(first, {"a", "b", "c"})

    def test_alone(self) -> None:
        """
        A node that never reached the coordination knows none; it learns them soon after.
        """
        self.cluster.lose()
        late = self.join("d")
        self.wait(CALL_SECONDS + 10)
        self.assertEqual((late.others(), late.order(Digest.of(b""))), ([], []))
        self.cluster.regain()
        self.wait(LEASE_SECONDS)
        self.assertIn("a", [peer.name for peer in late.others()])

    def test_again(self) -> None:
        """
        Nodes that join later are known later.
        """
        self.join("d")
        self.wait(1)
        self.assertNotIn("d", [peer.name for peer in self.nodes[0].others()])
        self.wait(AGAIN)
        self.assertIn("d", [peer.name for peer in self.nodes[0].others()])

    def test_stopped(self) -> None:
        """
        Nothing happens after L{KnownNodes.stop}, which can be called again.
        """
        for known in self.nodes:
            self.successResultOf(known.stop())
            self.successResultOf(known.stop())
        for member in self.cluster._members:
            self.successResultOf(member.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
