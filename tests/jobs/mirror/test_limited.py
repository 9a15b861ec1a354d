"""
Tests for L{xferd.jobs.mirror.limited}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.jobs.mirror.limited import limited


class LimitedTests(SynchronousTestCase):
    """
    Waits that are bounded.
    """

    def setUp(self) -> None:
        """
        Wait for some work for 5 seconds.
        """
        self.clock = Clock()
        self.work: Deferred[int] = Deferred()
        self.waiting = Deferred.fromCoroutine(limited(self.work, 5.0, lambda: KeyError("late"), self.clock))

    def test_in_time(self) -> None:
        """
        The result is that of the work, and no timer is left.
        """
        self.clock.advance(4)
        self.work.callback(3)
        self.assertEqual(self.successResultOf(self.waiting), 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_at_once(self) -> None:
        """
        Work that is done needs no time.
        """
        self.waiting.cancel()
        self.failureResultOf(self.waiting, CancelledError)
        done = Deferred.fromCoroutine(limited(succeed(1), 5.0, KeyError, self.clock))
        self.assertEqual(self.successResultOf(done), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_late(self) -> None:
        """
        Late work is cancelled.
        """
        self.clock.advance(5)
        self.failureResultOf(self.waiting, KeyError)
        self.assertTrue(self.work.called)

    def test_failed(self) -> None:
        """
        An error passes.
        """
        self.work.errback(ValueError())
        self.failureResultOf(self.waiting, ValueError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelled(self) -> None:
        """
        Cancelling the wait cancels the work.
        """
        self.waiting.cancel()
        self.failureResultOf(self.waiting, CancelledError)
        self.assertTrue(self.work.called)
        self.assertEqual(self.clock.getDelayedCalls(), [])
