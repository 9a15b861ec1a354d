# -*- test-case-name: tests.transfer.test_watcher -*-
"""
Watchers: the interests of jobs in transfers.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from xferd.interfaces.transfer import IProgressSink, ISource
from xferd.transfer.context import Watching
from xferd.transfer.eventual import Eventual
from xferd.transfer.fair_queue import Turn
from xferd.transfer.transfer import Transfer

T = TypeVar("T")


class Watcher(Watching, Generic[T]):
    """
    The interest of one job in a transfer, until L{release}.

    @ivar transfer: the transfer.
    @ivar source: the source of this watcher.
    @ivar turn: the turn in which it waits for a slot.
    @ivar sink: receives the progress: the transfer itself under its C{id}, of
        which C{snapshot} is the item.
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
        Wait for the transfer's result.

        @return: a Deferred of its own for each call, which fires with the value
            that the work returned.  Cancelling it ends only the wait.
        @raise XferdError: the error of the work; where every source failed,
            the error of this watcher's own source.
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
        End the interest.  Idempotent.

        When the last watcher is released, a transfer that is not over is
        cancelled; one that is over, and its result, are forgotten.
        """
        if not self._released:
            self._released = True
            self.transfer.leave(self)
            if self._waiting:
                self._eventual.call(self.deliver)

    def deliver(self) -> None:
        while self._waiting:
            d = self._waiting.pop(0)
            # A Failure makes this an errback.
            d.callback(Failure(CancelledError()) if self._released else self.transfer.outcome(self))

    def _forget(self, d: Deferred[T]) -> None:
        self._waiting.remove(d)
