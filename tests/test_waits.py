"""
Tests for L{xferd.waits}.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from xferd.waits import MOUNT, TOKEN, reporting, waiting_for


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
    def waiting(self, what: str, whom: str) -> Iterator[None]:
        """
        Record a wait.
        """
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
