# -*- test-case-name: tests.transfer.test_progress -*-
"""
Progress: notifications of watchers, and the rate at which something moves.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xferd.transfer.eventual import SLICE

PULSE: Final = 0.1
"""Seconds between two notifications by the same transfer, at least."""

NOTIFICATIONS: Final = 1000
"""Notifications per second: where one transfer has a hundred watchers, each gets fewer."""

WINDOW: Final = 5.0
"""Seconds over which a rate is taken."""


class Moving(Protocol):
    """
    A transfer, as the pulse needs it.
    """

    def pulse(self) -> int:
        """
        Notify all watchers of the progress.

        @return: the number of watchers.
        """


class Pulse:
    """
    Lets transfers notify their watchers, each at most ten times a second, and
    less often the more watchers there are.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._moved: dict[Moving, None] = {}
        self._beating: dict[Moving, None] = {}
        self._notified = 0
        self._next: IDelayedCall | None = None
        self._pause = PULSE

    def moved(self, thing: Moving) -> None:
        """
        Let C{thing} notify its watchers soon.
        """
        self._moved[thing] = None
        if self._next is None and not self._beating:
            self._next = self._clock.callLater(self._pause, self._beat)

    def ended(self, thing: Moving) -> None:
        """
        Let C{thing} notify no more.
        """
        self._moved.pop(thing, None)
        self._beating.pop(thing, None)
        if not self._moved and not self._beating and self._next is not None:
            self._next.cancel()
            self._next = None

    def _beat(self) -> None:
        self._beating, self._moved = self._moved, {}
        self._notified = 0
        self._notify()

    def _notify(self) -> None:
        """
        Let those that have moved notify, in several turns if it takes long.
        """
        self._next = None
        until = self._clock.seconds() + SLICE
        while self._beating:
            thing = next(iter(self._beating))
            try:
                self._notified += thing.pulse()
            except Exception:
                self._log.failure("while {thing} notifies its watchers", thing=thing)
            self._beating.pop(thing, None)
            if self._beating and self._clock.seconds() >= until:
                self._next = self._clock.callLater(0, self._notify)
                return
        self._pause = max(PULSE, self._notified / NOTIFICATIONS)
        if self._moved:
            self._next = self._clock.callLater(self._pause, self._beat)


class Rate:
    """
    The rate over the last L{WINDOW}.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def begin(self, now: float, position: int) -> None:
        """
        Begin at C{position}: the bytes before it were not moved now.
        """
        self._samples.clear()
        self._samples.append((now, position))

    def sample(self, now: float, position: int) -> None:
        """
        Record that C{position} bytes are there; a few times a second is enough.
        """
        if not self._samples or position < self._samples[-1][1]:
            self.begin(now, position)
        else:
            self._samples.append((now, position))
            self._prune(now)

    def value(self, now: float, position: int) -> float:
        """
        The rate in bytes per second.
        """
        self._prune(now)
        if not self._samples:
            return 0.0
        then, before = self._samples[0]
        return max(0.0, (position - before) / (now - then)) if now > then else 0.0

    def _prune(self, now: float) -> None:
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW:
            self._samples.popleft()
