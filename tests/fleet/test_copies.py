"""
Tests for L{xferd.fleet.copies}.
"""

from __future__ import annotations

from collections.abc import Set

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.fleet.copies import FleetCopies
from xferd.fleet.memory import MemoryCluster
from xferd.interfaces.collection import ICopies
from xferd.names import Digest

BLOB, OTHER = Digest.of(b"blob"), Digest.of(b"other")


class CopiesTests(SynchronousTestCase):
    """
    The copies on two other nodes.
    """

    def setUp(self) -> None:
        """
        Start the nodes.
        """
        self.clock = Clock()
        self.cluster = MemoryCluster(self.clock, latency=0.01)
        self.nodes = [self.cluster.join(name, f"http://{name}:5000") for name in ("own", "one", "two")]
        for node in self.nodes:
            node.start()
        self.pump()
        self.copies = FleetCopies(self.nodes[0], 2)
        self.assertTrue(verifyObject(ICopies, self.copies))

    def pump(self) -> None:
        """
        Let time pass.
        """
        for _ in range(30):
            self.clock.advance(0.1)

    def elsewhere(self, copies: FleetCopies) -> Set[Digest]:
        """
        The blobs that enough others have.
        """
        asking = copies.elsewhere([BLOB, OTHER])
        self.pump()
        return self.successResultOf(asking)

    def test_enough(self) -> None:
        """
        A blob counts that two others have; this node's own copy does not.
        """
        self.nodes[0].announce([BLOB, OTHER])
        self.nodes[1].announce([BLOB, OTHER])
        self.pump()
        self.assertEqual(self.elsewhere(self.copies), frozenset())
        self.nodes[2].announce([BLOB])
        self.pump()
        self.assertEqual(self.elsewhere(self.copies), {BLOB})

    def test_removed(self) -> None:
        """
        What is removed here is no copy for others.
        """
        self.nodes[0].announce([BLOB])
        self.pump()
        others = FleetCopies(self.nodes[1], 1)
        self.assertEqual(self.elsewhere(others), {BLOB})
        self.copies.removed([BLOB])
        self.pump()
        self.assertEqual(self.elsewhere(others), frozenset())

    def test_off(self) -> None:
        """
        Where it makes no difference, etcd gets no request.
        """
        requests = self.cluster.requests
        self.assertEqual(self.successResultOf(FleetCopies(self.nodes[0], 0).elsewhere([BLOB])), frozenset())
        self.assertEqual(self.successResultOf(self.copies.elsewhere([])), frozenset())
        self.assertEqual(self.cluster.requests, requests)

    def test_unavailable(self) -> None:
        """
        Without coordination nothing is known, within seconds and then at once.
        """
        asking = self.copies.elsewhere([BLOB])
        self.cluster.lose()
        self.pump()
        self.assertEqual(self.successResultOf(asking), frozenset())
        self.assertEqual(self.successResultOf(self.copies.elsewhere([BLOB])), frozenset())

    def test_cancelled(self) -> None:
        """
        Cancelling ends the wait.
        """
        asking = self.copies.elsewhere([BLOB])
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
