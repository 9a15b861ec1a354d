# -*- test-case-name: tests.store.test_batches -*-
"""
Group commit: work that is done once for all requests that wait for it, such as
a flush of the disk, a new version of a file, or a transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from xferd.store.threads import delay_cancellation

Item = TypeVar("Item")


class Batches(Generic[Item]):
    """
    Runs one round of work for all items that were added before it began.
    """

    def __init__(self, work: Callable[[list[Item]], Deferred[None]]) -> None:
        """
        @param work: does one round, for these items; called again after the
            previous round has ended.
        """
        self._work = work
        self._next: list[tuple[Item, Deferred[None]]] = []
        self._busy = False
        self._idle: list[Deferred[None]] = []

    def add(self, item: Item) -> Deferred[None]:
        """
        Add an item to the next round.

        @return: fires, or fails, as that round does.  Cancelling waits for it.
        """
        # No canceller: cancellation is delayed until the round has ended.
        done: Deferred[None] = Deferred()
        self._next.append((item, done))
        if not self._busy:
            self._begin()
        return delay_cancellation(done)

    async def drain(self) -> None:
        """
        Wait until no round is waiting or running.
        """
        while self._busy:
            waiter: Deferred[None] = Deferred()
            self._idle.append(waiter)
            await waiter

    def _begin(self) -> None:
        self._busy = True
        batch, self._next = self._next, []
        items, waiters = [item for item, _ in batch], [waiter for _, waiter in batch]
        _ = self._work(items).addBoth(self._end, waiters)

    def _end(self, result: Failure | None, waiters: list[Deferred[None]]) -> None:
        self._busy = False
        if self._next:
            self._begin()
        for waiter in waiters:
            waiter.callback(result)
        if not self._busy:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)
