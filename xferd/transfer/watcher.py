# -*- test-case-name: tests.transfer.test_transfer -*-
"""
Watchers: the interest of one job in a transfer.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from xferd.interfaces.transfer import IProgressSink, ISource
from xferd.transfer.eventual import Eventual
from xferd.transfer.fair_queue import Turn
from xferd.transfer.transfer import Transfer

T = TypeVar("T")


class Watcher(Generic[T]):
    """
    Somebody's interest in a transfer, until L{release}.

    @ivar transfer: the transfer.
    @ivar source: the source that this watcher brought.
    @ivar turn: in whose turn it waits.
    @ivar sink: where its progress goes: the transfer itself under its C{id},
        whose C{snapshot} is the item.
    """

    def __init__(
        self,
        transfer: Transfer,
        eventual: Eventual,
        source: ISource | None,
        turn: Turn,
        sink: IProgressSink | None,
    ) -> None:
        self.transfer = transfer
        self.source = source
        self.turn = turn
        self.sink = sink
        self._eventual = eventual
        self._waiting: list[Deferred[T]] = []
        self._released = False

    def result(self) -> Deferred[T]:
        """
        Wait for the transfer's result.  Every call has a Deferred of its own.

        @return: fires with what the work returned.  Cancelling it ends the
            wait and nothing else.
        @raise XferdError: what the work failed with; where every source
            failed, what this watcher's own source failed with.
        @raise Interrupted: the manager was stopped.
        @raise CancelledError: the watcher was released.
        """
        d: Deferred[T] = Deferred(self._forget)
        self._waiting.append(d)
        if self._released or self.transfer.over:
            self.deliver()
        return d

    def release(self) -> None:
        """
        Want the transfer no longer.  Idempotent.

        The last watcher's release cancels a transfer that is not over, and
        lets go of the result of one that is.
        """
        if not self._released:
            self._released = True
            self.transfer.leave(self)
            if self._waiting:
                self._eventual.call(self.deliver)

    def deliver(self) -> None:
        """
        Fire what waits for the result.
        """
        while self._waiting:
            d = self._waiting.pop(0)
            # A Failure makes this an errback.
            d.callback(Failure(CancelledError()) if self._released else self.transfer.outcome(self))

    def _forget(self, d: Deferred[T]) -> None:
        self._waiting.remove(d)
