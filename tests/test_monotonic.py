"""
Tests for L{xferd.monotonic}.
"""

from __future__ import annotations

from time import monotonic

from twisted.internet.base import ReactorBase
from twisted.trial.unittest import SynchronousTestCase

from xferd.monotonic import use_monotonic_time


class Timers(ReactorBase):
    """
    The timers of Twisted's reactors, without files to watch.
    """

    def installWaker(self) -> None:
        """
        It needs no waker.
        """


class MonotonicTests(SynchronousTestCase):
    """
    The reactor's time.
    """

    def test_timers(self) -> None:
        """
        Timers are set and run by monotonic time.
        """
        reactor = Timers()
        use_monotonic_time(reactor)
        ran: list[str] = []
        before = monotonic()
        call = reactor.callLater(0, ran.append, "now")
        late = reactor.callLater(60, ran.append, "later")
        self.assertTrue(before <= call.getTime() <= monotonic())
        timeout = reactor.timeout()
        self.assertEqual(timeout, 0)
        reactor.runUntilCurrent()
        self.assertEqual(ran, ["now"])
        late.reset(30)
        self.assertTrue(before + 30 <= late.getTime() <= monotonic() + 30)

    def test_twice(self) -> None:
        """
        A second call has no effect, with or without timers.
        """
        reactor = Timers()
        use_monotonic_time(reactor)
        reactor.callLater(60, int)
        use_monotonic_time(reactor)
        self.assertIs(reactor.seconds, monotonic)

    def test_too_late(self) -> None:
        """
        A timer that was set before is an error, because it was measured by
        another clock.
        """
        reactor = Timers()
        reactor.callLater(60, int)
        error = self.assertRaises(RuntimeError, use_monotonic_time, reactor)
        self.assertIn("before the first timer", str(error))
