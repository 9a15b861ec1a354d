"""
Tests for L{xferd.fleet.guide}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.fleet.guide import KEPT_SECONDS, Guide
from xferd.fleet.memory import MemoryCluster, MemoryCoordination
from xferd.interfaces.fleet import CALL_SECONDS, Found, Peer
from xferd.names import Digest

DIGEST = Digest.of(b"a blob")
SIZE = 6


def peer_of(name: str) -> Peer:
    """
    A node.
    """
    return Peer(name, f"http://{name}:5000")


class GuideTests(SynchronousTestCase):
    """
    Node C{r} guides nodes C{x} and C{y}, which do not reach the coordination; C{z} does.
    """

    def setUp(self) -> None:
        """
        Start the nodes that reach it.
        """
        self.clock = Clock()
        self.cluster = MemoryCluster(self.clock)
        self.coordination, self.other = self.join("r"), self.join("z")
        self.guide = Guide(self.coordination, "r", self.clock)
        self.addCleanup(self.guide.stop)

    def join(self, name: str) -> MemoryCoordination:
        """
        Start a node.
        """
        coordination = self.cluster.join(name, peer_of(name).url)
        coordination.start()
        self.addCleanup(coordination.stop)
        return coordination

    def find(self, name: str, *avoided: str) -> str | None:
        """
        Ask as a node.
        """
        finding = Deferred.fromCoroutine(self.guide.find(DIGEST, SIZE, peer_of(name), avoided))
        self.clock.advance(0)
        peer = self.successResultOf(finding)
        return None if peer is None else peer.name

    def found(self) -> Found:
        """
        What node z sees of the blob.
        """
        looking = self.other.look([DIGEST])
        self.clock.advance(0)
        return self.successResultOf(looking)[DIGEST]

    def lose(self) -> None:
        """
        Have the coordination be lost.
        """
        self.cluster.lose()
        self.clock.advance(CALL_SECONDS)

    def test_first(self) -> None:
        """
        The first one that asks fetches the blob, and further ones follow it.
        """
        for _ in range(2):
            self.assertIsNone(self.find("x"))
            self.assertEqual(self.find("y"), "x")
            self.assertEqual(getattr(self.guide.known(DIGEST, "z"), "name", None), "x")
            self.assertIsNone(self.guide.known(DIGEST, "x"))
            self.lose()

    def test_lost(self) -> None:
        """
        It needs no coordination.
        """
        self.lose()
        self.assertIsNone(self.find("x"))
        self.assertEqual(self.find("y"), "x")

    def test_avoided(self) -> None:
        """
        Where the one that fetches does not deliver, the next one that asks fetches.
        """
        self.assertIsNone(self.find("x"))
        self.assertIsNone(self.find("y", "x"))
        self.assertEqual(self.find("x"), "y")

    def test_holder(self) -> None:
        """
        A node that has the blob, or fetches it, is named, but not an unwanted one.
        """
        claiming = self.other.claim(DIGEST, SIZE, "somewhere")
        self.clock.advance(0)
        self.successResultOf(claiming)
        self.assertEqual(self.find("x"), "z")
        self.other.announce([DIGEST])
        self.assertEqual(self.find("x"), "z")
        self.assertIsNone(self.find("x", "z"))

    def test_claimed(self) -> None:
        """
        Nodes that reach the coordination see a claim meanwhile, for a limited time.
        """
        self.assertIsNone(self.find("x"))
        claim = self.found().claim
        assert claim is not None
        self.assertEqual((claim.owner.name, claim.size), ("r", SIZE))
        self.clock.pump([1.0] * int(KEPT_SECONDS))
        self.assertIsNone(self.found().claim)

    def test_stop(self) -> None:
        """
        Claims are released with the node's end, and nothing is left.
        """
        self.assertIsNone(self.find("x"))
        self.guide.stop()
        self.guide.stop()
        self.assertIsNone(self.found().claim)

    def test_lost_while_asked(self) -> None:
        """
        Where the coordination is lost meanwhile, the answer comes nevertheless.
        """
        self.coordination.cut()
        finding = Deferred.fromCoroutine(self.guide.find(DIGEST, SIZE, peer_of("x"), ()))
        self.clock.pump([0.5] * int(CALL_SECONDS * 4))
        self.assertIsNone(self.successResultOf(finding))
        self.assertEqual(self.find("y"), "x")
