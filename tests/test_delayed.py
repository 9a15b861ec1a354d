"""
Tests for L{xferd.delayed}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from xferd.delayed import Delayed


class DelayedTests(SynchronousTestCase):
    """
    L{Delayed}.
    """

    def setUp(self) -> None:
        """
        Have a coroutine wait.
        """
        self.stops = 0
        self.delayed: Delayed[int] = Delayed(self.stop)
        self.waiting = Deferred.fromCoroutine(self.wait())

    def stop(self) -> None:
        """
        Count the cancellations.
        """
        self.stops += 1

    async def wait(self) -> int:
        """
        Return the result.
        """
        return await self.delayed

    def test_result(self) -> None:
        """
        The result comes through, or the failure.
        """
        self.delayed.callback(3)
        self.assertEqual(self.successResultOf(self.waiting), 3)
        self.assertFalse(self.delayed.cancelled)
        self.setUp()
        self.delayed.errback(ValueError("no"))
        self.failureResultOf(self.waiting, ValueError)

    def test_cancelled(self) -> None:
        """
        Cancellations are noted, and neither end the wait nor change its result.
        """
        for number in (1, 2):
            self.waiting.cancel()
            self.assertNoResult(self.waiting)
            self.assertEqual(self.stops, number)
        self.assertTrue(self.delayed.cancelled)
        self.delayed.callback(3)
        self.assertEqual(self.successResultOf(self.waiting), 3)

    def test_cancelled_late(self) -> None:
        """
        With a result, a cancellation goes to the Deferred that a callback returned.
        """
        more: Deferred[int] = Deferred()
        delayed: Delayed[int] = Delayed(self.stop)
        _ = delayed.addCallback(lambda _: more)
        delayed.callback(3)
        delayed.cancel()
        self.failureResultOf(delayed, CancelledError)
        self.assertEqual(self.stops, 0)
        self.assertTrue(more.called)
