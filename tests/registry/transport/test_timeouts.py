"""
Tests for L{xferd.registry.transport.timeouts}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.registry.transport.timeouts import Timeouts, within


class TimeoutsTests(SynchronousTestCase):
    """
    The limits are numbers above zero.
    """

    def test_defaults(self) -> None:
        """
        Every limit has a default.
        """
        self.assertTrue(all(getattr(Timeouts(), name) > 0 for name in Timeouts.names()))

    def test_refused(self) -> None:
        """
        What would be no limit is refused, by name.
        """
        for name in Timeouts.names():
            for value in (0, -1, float("inf"), float("nan"), "10", None):
                error = self.assertRaises(ValueError, Timeouts, **{name: value})
                self.assertIn(f"{name!r} must be a number above 0", str(error))


class WithinTests(SynchronousTestCase):
    """
    L{within} ends a wait, whatever becomes of the work.
    """

    def setUp(self) -> None:
        """
        Make a clock and some work.
        """
        self.clock = Clock()
        self.late: list[str] = []
        self.cancelled = 0

    def _work(self) -> Deferred[str]:
        def cancel(_: Deferred[str]) -> None:
            self.cancelled += 1

        return Deferred(cancel)

    def _within(self, work: Deferred[str]) -> Deferred[str]:
        return within(self.clock, 10, work, lambda: KeyError("late"), self.late.append)

    def test_success(self) -> None:
        """
        The result comes through, and no timer is left.
        """
        work = self._work()
        waiting = self._within(work)
        work.callback("it")
        self.assertEqual(self.successResultOf(waiting), "it")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_already_done(self) -> None:
        """
        Work that is done already is no special case.
        """
        work = self._work()
        work.callback("it")
        self.assertEqual(self.successResultOf(self._within(work)), "it")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failure(self) -> None:
        """
        The failure comes through, and no timer is left.
        """
        work = self._work()
        waiting = self._within(work)
        work.errback(ValueError("broken"))
        self.failureResultOf(waiting, ValueError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_late(self) -> None:
        """
        When time is over, the work is cancelled and the wait fails, even if
        the work does not react.
        """
        waiting = self._within(self._work())
        self.clock.advance(10)
        self.failureResultOf(waiting, KeyError)
        self.assertEqual(self.cancelled, 1)

    def test_cancelled(self) -> None:
        """
        Cancelling the wait cancels the work, and fails with CancelledError
        whatever the work calls its end.
        """
        work: Deferred[str] = Deferred(lambda d: d.errback(ValueError("its own word")))
        waiting = self._within(work)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_result_after_the_end(self) -> None:
        """
        A result that comes after the end is discarded.
        """
        work = self._work()
        waiting = self._within(work)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        # A Deferred that was cancelled swallows one result; this one had a
        # canceller that did nothing, and fails with CancelledError itself.
        stubborn: Deferred[str] = Deferred(lambda d: d.callback("late"))
        waiting = self._within(stubborn)
        self.clock.advance(10)
        self.failureResultOf(waiting, KeyError)
        self.assertEqual(self.late, ["late"])
