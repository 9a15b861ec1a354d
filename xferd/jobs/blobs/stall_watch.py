# -*- test-case-name: tests.jobs.blobs.test_stall_watch -*-
"""
The watch on a source that may stall, while there is another source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

T = TypeVar("T")

PATIENCE: Final = 5.0
"""Seconds for which a source may send nothing."""

LEAST: Final = 5 * 1024
"""Fewer bytes in that time count as none."""

CONNECTING: Final = 10.0
"""Seconds more until the first byte, for the connection to be made."""

_LOOK: Final = 1.0


class StallWatch:
    """
    Watches one response of a source.

    Time for which the daemon's own bandwidth limit holds reading does not count.

    Life cycle: made; L{start}ed; I{stalled} or not; L{stop}ped.

    @ivar stalled: whether the source has stalled.
    """

    def __init__(self, clock: IReactorTime, replaceable: Callable[[], bool]) -> None:
        """
        @param replaceable: returns whether there is another source.
        """
        self._clock = clock
        self._replaceable = replaceable
        self._since = clock.seconds() + CONNECTING
        self._bytes = 0
        self._holds = 0
        self._give_up: Callable[[], object] = lambda: None
        self._timer: IDelayedCall | None = None
        self.stalled = False

    def start(self, give_up: Callable[[], object]) -> None:
        """
        Begin to watch.

        @param give_up: called once, if the source stalls.
        """
        self._give_up = give_up
        self._timer = self._clock.callLater(_LOOK, self._look)

    def moved(self, size: int, hold: Deferred[None] | None) -> None:
        """
        Report received bytes.

        @param hold: fires before more are read.
        """
        now = self._clock.seconds()
        self._bytes += size
        self._since = min(self._since, now)
        if self._bytes >= LEAST:
            self._mark(now)
        if hold is not None:
            self._holds += 1
            _ = hold.addBoth(self._released)

    def stop(self) -> None:
        """
        Stop watching.  Idempotent.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        # The reader keeps this object, which must not keep an ended download.
        self._give_up, self._replaceable = lambda: None, lambda: False

    def _released(self, result: T) -> T:
        self._holds -= 1
        self._mark(self._clock.seconds())
        return result

    def _mark(self, now: float) -> None:
        self._since, self._bytes = now, 0

    def _look(self) -> None:
        self._timer = self._clock.callLater(_LOOK, self._look)
        now = self._clock.seconds()
        if self._holds:
            self._mark(now)
        elif now - self._since >= PATIENCE and self._replaceable():
            give_up = self._give_up
            self.stop()
            self.stalled = True
            give_up()
