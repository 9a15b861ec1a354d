# -*- test-case-name: tests.transfer.test_silence -*-
"""
The activity of a running transfer: its throughput, and why it is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import floor
from typing import Final

from twisted.internet.interfaces import IReactorTime

from xferd.transfer.progress import Rate
from xferd.transfer.reason import NO_REASON, Obstacle, Reason

SILENCE: Final = 3.0
"""Seconds without a byte after which that is the reason of a running transfer."""

_STILL: Final = frozenset(
    {Obstacle.SILENCE, Obstacle.DOWNLOAD, Obstacle.WORKER, Obstacle.WRITING, Obstacle.CONFIRMATION}
)
_KINDS_OF_BYTES: Final = frozenset({"download", "upload", "unpacking", "document"})


class Activity:
    """
    The progress of the bytes of a running transfer.

    @ivar stillness: returns the reason why no byte moves, if the work function knows one.
    @ivar limit: returns the bandwidth limit that holds it as its reason.
    """

    def __init__(self, kind: str, clock: IReactorTime, began: float) -> None:
        """
        @param kind: the kind of transfer: C{download}.
        @param began: the clock's time at which the transfer began to run.
        """
        self._kind = kind
        self._clock = clock
        self._rate = Rate()
        self._heard = began
        self._seen = 0
        self._requests: list[tuple[Reason, float]] = []
        self.stillness: Callable[[], Reason] = lambda: NO_REASON
        self.limit: Callable[[], Reason] = lambda: NO_REASON

    def begin(self) -> None:
        """
        The transfer begins to run, or its next attempt begins.
        """
        self._heard = self._clock.seconds()

    def place(self, position: int) -> None:
        """
        An attempt begins at a position: it did not move the bytes before that.
        """
        self._rate.begin(self._clock.seconds(), position)

    def look(self, position: int) -> None:
        """
        Note whether bytes have moved.
        """
        if position != self._seen:
            self._seen = position
            self._heard = self._clock.seconds()

    def sample(self, position: int) -> None:
        """
        Note whether bytes have moved, and how fast.
        """
        self.look(position)
        self._rate.sample(self._clock.seconds(), position)

    def rate(self, position: int) -> float:
        """
        The rate in bytes per second: 0 after L{SILENCE}.
        """
        now = self._clock.seconds()
        return 0.0 if now - self._heard >= SILENCE else self._rate.value(now, position)

    @contextmanager
    def requesting(self, what: str, whom: str, ago: float) -> Iterator[None]:
        """
        A context in which the transfer waits for one request of many.

        @param what: a value of L{Obstacle}.
        @param ago: the seconds since the wait began.
        """
        request = Reason(Obstacle(what), detail=whom), self._clock.seconds() - ago
        self._requests.append(request)
        try:
            yield
        finally:
            self._requests = [each for each in self._requests if each is not request]

    def reason(self, slot_reason: Reason, position: int, total: int | None, host: str) -> Reason:
        """
        What slows the transfer.

        @param slot_reason: what slows it in its slot.
        @param host: the one that it transfers with, or empty.
        """
        if self._requests:
            return self._requests[-1][0]
        limit = self.limit()
        if limit is not NO_REASON:
            return limit
        silence = self._clock.seconds() - self._heard
        if silence < SILENCE:
            return slot_reason
        known = self.stillness()
        if known is not NO_REASON:
            return known
        if self._kind not in _KINDS_OF_BYTES:
            return slot_reason
        if total and position >= total:
            sent = self._kind == "upload"
            return Reason(Obstacle.CONFIRMATION, detail=host) if sent else Reason(Obstacle.WRITING)
        return Reason(Obstacle.SILENCE, floor(silence), host)

    def since(self, reason: Reason) -> float | None:
        """
        The clock's time at which the wait for this reason began; L{None} if it began when the
        transfer began to run.
        """
        if self._requests:
            return self._requests[-1][1]
        return self._heard if reason.obstacle in _STILL else None
