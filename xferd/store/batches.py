# -*- test-case-name: tests.store.test_batches -*-
"""
Group commit: work that is done once for all requests that wait for it, such as
a flush of the disk, a new version of a file, or a transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from xferd.store.threads import delay_cancellation

Item = TypeVar("Item")


class Batches(Generic[Item]):
    """
    Runs one round of work for all items that were added before it began.  It
    begins at once for an item that cannot wait.
    """

    def __init__(
        self, work: Callable[[list[Item]], Deferred[None]], clock: IReactorTime | None = None
    ) -> None:
        """
        @param work: does one round, for these items; called again after the
            previous round has ended.
        @param clock: needed for items that may wait.
        """
        self._work = work
        self._clock = clock
        self._next: list[tuple[Item, Deferred[None]]] = []
        self._busy = self._wanted = False
        self._timer: IDelayedCall | None = None
        self._idle: list[Deferred[None]] = []
        self._rounds = 0
        self._ending: list[Deferred[None]] = []

    @property
    def idle(self) -> bool:
        """
        Whether no round is waiting or running.
        """
        return not (self._busy or self._next)

    def add(self, item: Item, lag: float = 0.0) -> Deferred[None]:
        """
        Add an item to the next round.

        @param lag: the seconds that the item may wait for others.
        @return: fires, or fails, as that round does.  Cancelling waits for it.
        """
        # No canceller: cancellation is delayed until the round has ended.
        done: Deferred[None] = Deferred()
        self._next.append((item, done))
        if not lag:
            self.hurry()
        elif self._timer is None and not self._wanted:
            assert self._clock is not None
            self._timer = self._clock.callLater(lag, self.hurry)
        return delay_cancellation(done)

    def hurry(self) -> None:
        """
        Begin the round of the items that wait, now or after the one that runs.
        """
        self._wanted = bool(self._next)
        if self._wanted and not self._busy:
            self._begin()

    async def drain(self) -> None:
        """
        Wait until no round is waiting or running.
        """
        self.hurry()
        while self._busy:
            waiter: Deferred[None] = Deferred()
            self._idle.append(waiter)
            await waiter
            self.hurry()

    async def flush(self) -> None:
        """
        Wait until the rounds of all present items have ended, well or not.
        """
        self.hurry()
        last = self._rounds + self._busy + self._wanted
        while self._rounds < last:
            # No canceller: the round tells all of its waiters.
            waiter: Deferred[None] = Deferred()
            self._ending.append(waiter)
            await waiter

    def _begin(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        self._busy, self._wanted = True, False
        batch, self._next = self._next, []
        items, waiters = [item for item, _ in batch], [waiter for _, waiter in batch]
        _ = self._work(items).addBoth(self._end, waiters)

    def _end(self, result: Failure | None, waiters: list[Deferred[None]]) -> None:
        self._busy = False
        self._rounds += 1
        if self._wanted:
            self._begin()
        ending, self._ending = self._ending, []
        for waiter in waiters:
            waiter.callback(result)
        for waiter in ending:
            waiter.callback(None)
        if not self._busy:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)
