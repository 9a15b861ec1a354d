"""
Tests for L{xferd.single_flight}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from xferd.single_flight import SingleFlight


class SingleFlightTests(SynchronousTestCase):
    """
    Many wait for one.
    """

    def setUp(self) -> None:
        """
        Begin some work, with three who wait.
        """
        self.cancelled = 0
        self.landed = 0
        self.work: Deferred[int] = Deferred(lambda _: self._cancel())
        self.flight: SingleFlight[int] = SingleFlight()
        self.waiting = [self.flight.wait() for _ in range(3)]
        self.flight.start(self.work, self._land)

    def _cancel(self) -> None:
        self.cancelled += 1

    def _land(self) -> None:
        self.landed += 1

    def test_result(self) -> None:
        """
        All get the result, and C{done} is called before.
        """
        self.work.callback(7)
        self.assertEqual([self.successResultOf(d) for d in self.waiting], [7] * 3)
        self.assertEqual(self.landed, 1)

    def test_failure(self) -> None:
        """
        All get the failure.
        """
        self.work.errback(ZeroDivisionError())
        for each in self.waiting:
            self.failureResultOf(each, ZeroDivisionError)

    def test_some_leave(self) -> None:
        """
        A waiter that is cancelled ends no other wait.
        """
        for each in self.waiting[:2]:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.work.callback(7)
        self.assertEqual((self.successResultOf(self.waiting[2]), self.cancelled), (7, 0))

    def test_all_leave(self) -> None:
        """
        The work ends with its last waiter.
        """
        for each in self.waiting:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.assertEqual((self.cancelled, self.landed), (1, 1))

    def test_at_once(self) -> None:
        """
        Work may be done before it has begun.
        """
        flight: SingleFlight[int] = SingleFlight()
        waiting = flight.wait()
        flight.start(succeed(3), self._land)
        self.assertEqual(self.successResultOf(waiting), 3)
