# -*- test-case-name: tests.transfer.test_eventual -*-
"""
Calls made from a clean reactor turn, and Deferreds that no caller awaits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

SLICE: Final = 0.004
"""Seconds of calls after which the reactor gets a turn in between."""


class Eventual:
    """
    Makes calls from a clean reactor turn, in order.

    The functions may call back into any object; a chain of a thousand such
    calls is a loop, not a recursion.  Calls that take longer than L{SLICE}
    together are spread over several turns of the reactor.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._turning = False
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """
        Call C{function(*args)} in the next reactor turn.  An exception is
        logged, and the other calls are made.
        """
        self._calls.append((function, args))
        if len(self._calls) == 1 and not self._turning:
            self._clock.callLater(0, self._turn)

    def caught_up(self) -> Deferred[None]:
        """
        Wait until all calls that were requested up to now are made.
        """
        d: Deferred[None] = Deferred()  # needs no canceller: a late result of it is dropped
        self.call(d.callback, None)
        return d

    def _turn(self) -> None:
        # Calls that these calls request wait for a turn of their own, so that the
        # reactor serves its sockets in between.
        self._turning = True
        until = self._clock.seconds() + SLICE
        for _ in range(len(self._calls)):
            function, args = self._calls.popleft()
            try:
                function(*args)
            except Exception:
                self._log.failure("while calling {function}", function=function)
            if self._clock.seconds() >= until:
                break
        self._turning = False
        if self._calls:
            self._clock.callLater(0, self._turn)


class Background:
    """
    The Deferreds that no caller awaits: their errors are logged, and their ends
    are waited for.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._live: dict[Deferred[Any], str] = {}
        self._cancelled: set[Deferred[Any]] = set()
        self._waiting: list[Deferred[None]] = []

    def spawn(self, d: Deferred[Any], activity: str) -> None:
        """
        Own C{d} until it fires.

        @param activity: its description in the log: "while closing idle
            connections".
        """
        self._live[d] = activity
        _ = d.addErrback(self._failed, activity).addBoth(self._ended, d)

    def ended(self) -> Deferred[None]:
        """
        Wait for all of them.

        @return: fires when all have fired.  Cancelling it ends only the wait.
        """
        if not self._live:
            return succeed(None)
        ended: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(ended)
        return ended

    def stop(self) -> Deferred[None]:
        """
        Cancel all of them, each once: a second cancellation would interrupt
        the cleanup that the first one began.

        @return: as L{ended}.
        """
        for d in [d for d in self._live if d not in self._cancelled]:
            self._cancelled.add(d)
            d.cancel()
        return self.ended()

    def _failed(self, failure: Failure, activity: str) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("{activity}", failure=failure, activity=activity)

    def _ended(self, _: object, d: Deferred[Any]) -> None:
        del self._live[d]
        self._cancelled.discard(d)
        if not self._live:
            waiting, self._waiting = self._waiting, []
            for ended in waiting:
                ended.callback(None)
