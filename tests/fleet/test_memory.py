"""
Tests for L{xferd.fleet.memory}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.fleet.conformance import BLOB, OTHER, SIZE, CoordinationConformance
from xferd.errors import CoordinationUnavailable
from xferd.fleet.memory import MemoryCluster
from xferd.interfaces.fleet import CALL_SECONDS, LEASE_SECONDS, Found


class MemoryConformanceTests(CoordinationConformance, TestCase):
    """
    Nodes of a cluster in memory.
    """

    lease = LEASE_SECONDS

    def setUp(self) -> None:
        """
        Make a cluster.
        """
        self.clock = Clock()
        self.cluster = MemoryCluster(self.clock)

    def make(self, name: str, url: str = "") -> Any:
        """
        Join the cluster.
        """
        return self.cluster.join(name, url or f"http://{name}.example:5000")

    def cut(self, node: Any) -> None:
        """
        Cut a node off.
        """
        node.cut()

    def heal(self, node: Any) -> None:
        """
        Reach it again.
        """
        node.heal()

    def lose(self) -> Deferred[None]:
        """
        Lose the cluster.
        """
        self.cluster.lose()
        return succeed(None)

    def regain(self) -> Deferred[None]:
        """
        Regain it.
        """
        self.cluster.regain()
        return succeed(None)

    def passes(self, seconds: float) -> Deferred[None]:
        """
        Advance the clock.
        """
        self.clock.pump([0.05] * round(seconds / 0.05))
        return succeed(None)


class FaultTests(SynchronousTestCase):
    """
    Faults of nodes.
    """

    def setUp(self) -> None:
        """
        Start two nodes.
        """
        self.clock = Clock()
        self.cluster = MemoryCluster(self.clock)
        self.one = self.cluster.join("one", "http://one.example:5000")
        self.two = self.cluster.join("two", "http://two.example:5000")
        self.one.start()
        self.two.start()

    def look(self) -> Found:
        """
        Look from the second node.
        """
        return self.successResultOf(self.two.look([BLOB]))[BLOB]

    def test_frozen(self) -> None:
        """
        A node that is frozen for longer than a lease loses its claim.  When it is
        thawed, it announces its blobs again, and learns who took its claim over.
        """
        mine = self.successResultOf(self.one.claim(BLOB, SIZE, "a"))
        self.one.announce([OTHER])
        self.one.freeze()
        waiting = self.one.claim(BLOB, SIZE, "a")
        self.clock.pump([1.0] * (LEASE_SECONDS + 1))
        self.assertEqual(Found(), self.look())
        theirs = self.successResultOf(self.two.take_over(mine))
        self.assertTrue(theirs.mine)
        self.assertNoResult(waiting)
        self.one.thaw()
        late = self.successResultOf(waiting)
        self.assertEqual((theirs.owner, False), (late.owner, late.mine))
        self.assertEqual(1, len(self.successResultOf(self.two.look([OTHER]))[OTHER].holders))

    def test_frozen_briefly(self) -> None:
        """
        A node that is frozen for less than a lease keeps all.
        """
        mine = self.successResultOf(self.one.claim(BLOB, SIZE, "a"))
        self.one.freeze()
        self.clock.pump([1.0] * (LEASE_SECONDS - 6))
        self.one.thaw()
        self.clock.pump([1.0] * (LEASE_SECONDS - 1))
        found = self.look().claim
        assert found is not None
        self.assertEqual(mine.revision, found.revision)

    def test_noticed(self) -> None:
        """
        A node that is cut off says so after two seconds.
        """
        self.one.cut()
        self.clock.advance(CALL_SECONDS - 0.1)
        self.assertTrue(self.one.available)
        self.clock.advance(0.2)
        self.assertFalse(self.one.available)
        self.failureResultOf(self.one.look([BLOB]), CoordinationUnavailable)

    def test_latency(self) -> None:
        """
        A call takes effect after the latency, and its result arrives after another
        one.
        """
        self.cluster.latency = 0.1
        claiming = self.one.claim(BLOB, SIZE, "a")
        self.clock.advance(0.1)
        self.assertNoResult(claiming)
        self.clock.advance(0.1)
        self.assertTrue(self.successResultOf(claiming).mine)

    def test_load(self) -> None:
        """
        What a node reports of itself is known when the lease is kept alive.
        """
        self.one.report_load(7, 1000)
        self.clock.pump([1.0] * LEASE_SECONDS)
        nodes = self.successResultOf(self.two.nodes())
        self.assertEqual([(7, 1000), (0, 0)], [(node.load, node.saved) for node in nodes])

    def test_counted(self) -> None:
        """
        Requests are counted.
        """
        before = self.cluster.requests
        self.look()
        self.one.announce([BLOB])
        self.assertEqual(before + 2, self.cluster.requests)


class LatencyTests(SynchronousTestCase):
    """
    Calls that take their time.
    """

    def setUp(self) -> None:
        """
        Make a cluster of two nodes.
        """
        self.clock = Clock()
        cluster = MemoryCluster(self.clock, latency=0.1)
        self.one, self.two = (cluster.join(name, f"http://{name}.example:5000") for name in ("one", "two"))
        self.one.start()
        self.two.start()

    def test_cancelled_claim(self) -> None:
        """
        A claim that nobody waits for any more is given back when it comes.
        """
        claiming = self.one.claim(BLOB, SIZE, "registry.example/app")
        claiming.cancel()
        self.failureResultOf(claiming, CancelledError)
        self.clock.pump([0.1, 0.1])
        claiming = self.two.claim(BLOB, SIZE, "registry.example/app")
        self.clock.pump([0.1, 0.1])
        self.assertTrue(self.successResultOf(claiming).mine)

    def test_cancelled_again(self) -> None:
        """
        One that the node had before stays.
        """
        claiming = self.one.claim(BLOB, SIZE, "registry.example/app")
        self.clock.pump([0.1, 0.1])
        self.successResultOf(claiming)
        again = self.one.claim(BLOB, SIZE, "registry.example/app")
        again.cancel()
        self.failureResultOf(again, CancelledError)
        self.clock.pump([0.1, 0.1])
        claiming = self.two.claim(BLOB, SIZE, "registry.example/app")
        self.clock.pump([0.1, 0.1])
        self.assertFalse(self.successResultOf(claiming).mine)
