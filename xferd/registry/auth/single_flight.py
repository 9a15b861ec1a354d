# -*- test-case-name: tests.registry.auth.test_single_flight -*-
"""
Waiting together for one thing that is fetched once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """
    One piece of work and all who wait for it.  It is cancelled when the last
    of them has gone.
    """

    def __init__(self) -> None:
        self._waiting: list[Deferred[T]] = []
        self._work: Deferred[Any] | None = None

    def start(self, work: Deferred[T], done: Callable[[], None]) -> None:
        """
        Begin; C{done} is called before the first waiter is told.
        """

        def tell(result: T | Failure) -> None:
            done()
            while self._waiting:
                waiter = self._waiting.pop(0)
                if isinstance(result, Failure):
                    waiter.errback(result)
                else:
                    waiter.callback(result)

        self._work = work.addBoth(tell)

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
