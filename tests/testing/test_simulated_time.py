"""
Tests for L{xferd.testing.simulated_time}.
"""

from __future__ import annotations

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IReactorTime
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.testing.simulated_time import SimulatedTime


class SimulatedTimeTests(SynchronousTestCase):
    """
    Calls of two hosts.
    """

    def setUp(self) -> None:
        """
        Make the hosts.
        """
        self.time = SimulatedTime()
        self.one, self.two = self.time.host("one"), self.time.host("two")
        self.made: list[tuple[str, float]] = []

    def make(self, what: str) -> None:
        """
        Record a call.
        """
        self.made.append((what, self.time.seconds()))

    def test_interface(self) -> None:
        """
        A host's time is a reactor's.
        """
        verifyObject(IReactorTime, self.one)

    def test_order(self) -> None:
        """
        Calls are made in the order of their times, and those of one time in the order
        in which they were asked for; each at its own time.
        """
        self.one.callLater(2, self.make, "late")
        self.two.callLater(1, self.make, "first")
        self.one.callLater(1, self.make, "second")
        self.one.callLater(3, self.make, "never")
        self.time.advance(2.5)
        self.assertEqual(self.made, [("first", 1.0), ("second", 1.0), ("late", 2.0)])
        self.assertEqual(self.one.seconds(), 2.5)

    def test_at_once(self) -> None:
        """
        A call that another one asks for is made in the same turn, if it is due.
        """
        self.one.callLater(1, lambda: self.one.callLater(0, self.make, "next"))
        self.time.advance(1)
        self.assertEqual(self.made, [("next", 1.0)])

    def test_cancelled(self) -> None:
        """
        A cancelled call is not made, and a call that was made cannot be cancelled.
        """
        call = self.one.callLater(1, self.make, "never")
        other = self.one.callLater(1, self.make, "made")
        call.cancel()
        self.time.advance(1)
        self.assertEqual(self.made, [("made", 1.0)])
        self.assertRaises(AlreadyCancelled, call.cancel)
        self.assertRaises(AlreadyCalled, other.cancel)

    def test_moved(self) -> None:
        """
        A call can be made earlier or later than it was to be.
        """
        self.one.callLater(5, self.make, "earlier").reset(1)
        self.one.callLater(1, self.make, "later").delay(2)
        self.time.advance(10)
        self.assertEqual(self.made, [("earlier", 1.0), ("later", 3.0)])

    def test_stopped(self) -> None:
        """
        A host that is stopped makes its overdue calls when it continues, but for those
        that are cancelled until then.
        """
        call = self.one.callLater(1, self.make, "never")
        self.one.callLater(1.5, self.make, "overdue")
        self.one.callLater(20, self.make, "in time")
        self.two.callLater(2, self.make, "other")
        self.time.stop("one")
        self.time.advance(10)
        self.assertEqual(self.made, [("other", 2.0)])
        call.cancel()
        self.time.resume("one")
        self.time.advance(10)
        self.assertEqual(self.made[1:], [("overdue", 10.0), ("in time", 20.0)])

    def test_pending(self) -> None:
        """
        The delayed calls of a host can be listed.
        """
        call = self.one.callLater(1, self.make, "call")
        self.two.callLater(1, self.make, "other")
        self.one.callLater(2, self.make, "cancelled").cancel()
        self.assertEqual(self.one.getDelayedCalls(), [call])
        self.time.advance(1)
        self.assertEqual(self.one.getDelayedCalls(), [])

    def test_past(self) -> None:
        """
        A call cannot be asked for in the past.
        """
        self.assertRaises(ValueError, self.one.callLater, -1, self.make, "never")
