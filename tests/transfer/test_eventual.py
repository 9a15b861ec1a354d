"""
Tests for L{xferd.transfer.eventual}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.transfer.eventual import SLICE, Background, Eventual


class EventualTests(SynchronousTestCase):
    """
    Calls from a clean turn.
    """

    def setUp(self) -> None:
        """
        Make a clock.
        """
        self.clock = Clock()
        self.eventual = Eventual(self.clock)

    def test_order(self) -> None:
        """
        Calls are made later, in the order of the requests, in one turn.
        """
        called: list[int] = []
        for n in range(3):
            self.eventual.call(called.append, n)
        self.assertEqual(called, [])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(0)
        self.assertEqual(called, [0, 1, 2])

    def test_error(self) -> None:
        """
        A call that raises is logged, and the next ones are made.
        """
        called: list[int] = []
        self.eventual.call(lambda: 1 / 0)
        self.eventual.call(called.append, 1)
        self.clock.advance(0)
        self.assertEqual(called, [1])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_long(self) -> None:
        """
        Calls that take long are spread over several turns, in their order;
        what is asked for meanwhile comes behind them.
        """
        called: list[str] = []
        turns: list[str] = []

        def take(name: str) -> None:
            called.append(name)
            self.clock.rightNow += SLICE
            if name == "a":
                self.clock.callLater(0, lambda: turns.append("".join(called)))
                self.eventual.call(take, "d")

        for name in "abc":
            self.eventual.call(take, name)
        self.clock.advance(0)
        self.assertEqual(("".join(called), turns), ("abcd", ["a"]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_chain(self) -> None:
        """
        Ten thousand calls, each of which requests the next, do not recurse.
        """
        left = 10_000

        def step() -> None:
            nonlocal left
            left -= 1
            if left:
                self.eventual.call(step)

        self.eventual.call(step)
        self.clock.advance(0)
        self.assertEqual(left, 0)

    def test_caught_up(self) -> None:
        """
        All calls that were requested before can be waited for.
        """
        called: list[int] = []
        self.eventual.call(called.append, 1)
        d = self.eventual.caught_up()
        self.assertNoResult(d)
        self.clock.advance(0)
        self.assertEqual(called, [1])
        self.successResultOf(d)


class BackgroundTests(SynchronousTestCase):
    """
    Deferreds that no caller awaits.
    """

    def setUp(self) -> None:
        """
        Make a background.
        """
        self.background = Background()

    def test_success(self) -> None:
        """
        A Deferred that has fired is forgotten.
        """
        self.background.spawn(succeed(1), "while counting")
        self.successResultOf(self.background.ended())

    def test_failure(self) -> None:
        """
        An error is logged with its activity.
        """
        self.background.spawn(fail(ZeroDivisionError()), "while dividing")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.successResultOf(self.background.ended())

    def test_stop(self) -> None:
        """
        Stopping cancels each Deferred once and waits for the last one; a
        cancellation is not logged as an error.
        """
        interrupted: list[Deferred[None]] = []
        cleaned: Deferred[None] = Deferred(interrupted.append)

        async def work() -> None:
            try:
                await Deferred()
            finally:
                await cleaned

        self.background.spawn(Deferred.fromCoroutine(work()), "while working")
        self.background.spawn(Deferred(), "while waiting")
        first, second = self.background.stop(), self.background.stop()
        self.assertNoResult(first)
        self.assertEqual(interrupted, [])
        cleaned.callback(None)
        self.successResultOf(first)
        self.successResultOf(second)

    def test_stop_waiting(self) -> None:
        """
        The wait for the end can be cancelled.
        """
        d: Deferred[None] = Deferred()
        self.background.spawn(d, "while waiting")
        ended = self.background.ended()
        ended.cancel()
        self.failureResultOf(ended, CancelledError)
        d.callback(None)
        self.successResultOf(self.background.ended())
