# -*- test-case-name: tests.test_single_flight -*-
"""
One fetch whose result several callers wait for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """
    One piece of work and its waiters.  It is cancelled when the last waiter is.
    """

    def __init__(self) -> None:
        self._waiting: list[Deferred[T]] = []
        self._work: Deferred[Any] | None = None

    def start(self, work: Deferred[T], done: Callable[[], None]) -> None:
        """
        Begin.

        @param done: called when the work has ended, before the first waiter fires.
        """

        def fire(result: T | Failure) -> None:
            done()
            while self._waiting:
                waiter = self._waiting.pop(0)
                if isinstance(result, Failure):
                    waiter.errback(result)
                else:
                    waiter.callback(result)

        self._work = work.addBoth(fire)

    def wait(self) -> Deferred[T]:
        """
        Wait for the result.  Cancelling ends only this wait.
        """
        waiter: Deferred[T] = Deferred(self._leave)
        self._waiting.append(waiter)
        return waiter

    def _leave(self, waiter: Deferred[T]) -> None:
        self._waiting.remove(waiter)
        if not self._waiting and self._work is not None:
            self._work.cancel()
