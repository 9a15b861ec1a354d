"""
Tests for L{xferd.waits}.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.waits import CLIENT, MOUNT, TOKEN, reporting, waiting_for, waiting_long


class WaitsTests(SynchronousTestCase):
    """
    The waits of coroutines.
    """

    def setUp(self) -> None:
        """
        Record waits.
        """
        self.present: list[str] = []

    @contextmanager
    def waiting(self, what: str, whom: str, ago: float) -> Iterator[None]:
        """
        Record a wait.
        """
        self.assertEqual(ago, 3.0 if what == CLIENT else 0.0)
        self.present.append(f"{what} {whom}")
        try:
            yield
        finally:
            self.present.remove(f"{what} {whom}")

    def begin(self, deep: Deferred[None]) -> Deferred[None]:
        """
        Begin a coroutine that starts another one, which waits.
        """

        async def inner() -> None:
            with waiting_for(TOKEN, "one.example"):
                await deep

        async def outer() -> None:
            with reporting(self.waiting), waiting_for(MOUNT, "two.example"):
                await Deferred.fromCoroutine(inner())

        return Deferred.fromCoroutine(outer())

    def test_nested(self) -> None:
        """
        Waits are reported from coroutines that the first one starts, and end with them.
        """
        deep: Deferred[None] = Deferred()
        done = self.begin(deep)
        self.assertEqual(self.present, ["mount two.example", "token one.example"])
        deep.callback(None)
        self.successResultOf(done)
        self.assertEqual(self.present, [])

    def test_cancelled(self) -> None:
        """
        A wait that is cancelled ends.
        """
        done = self.begin(Deferred())
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertEqual(self.present, [])

    def test_long(self) -> None:
        """
        A wait that is reported late ends as others do; one that ends before is not reported.
        """
        clock = Clock()

        async def work(end: Deferred[None]) -> None:
            with reporting(self.waiting), waiting_long(clock, 3.0, CLIENT, "ci"):
                await end

        for seconds, present in ((2.0, []), (3.0, ["client ci"])):
            for cancelled in (False, True):
                end: Deferred[None] = Deferred()
                done = Deferred.fromCoroutine(work(end))
                clock.advance(seconds)
                self.assertEqual(self.present, present)
                if cancelled:
                    done.cancel()
                    self.failureResultOf(done, CancelledError)
                else:
                    end.callback(None)
                    self.successResultOf(done)
                self.assertEqual((self.present, clock.getDelayedCalls()), ([], []))

    def test_none(self) -> None:
        """
        Without a report, and outside of the coroutine, a wait is nothing.
        """
        deep: Deferred[None] = Deferred()
        done = self.begin(deep)
        with waiting_for(TOKEN, "three.example"):
            self.assertNotIn("token three.example", self.present)
        deep.callback(None)
        self.successResultOf(done)
