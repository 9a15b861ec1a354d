# -*- test-case-name: tests.transfer.test_pace -*-
"""
Pace: which transfers hold a slot and hardly move.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from xferd.transfer.pauses import ROUNDING

WINDOW: Final = 30.0
"""Seconds over which a pace is taken, and before which nothing is slow."""

ASSUMED: Final = 1024 * 1024
"""Bytes a second that a line has at least, where nothing says how much it has:
if all that run are slow together, their sum does not show it."""

TENTH: Final = 0.1
"""The part of its fair share under which a transfer is slow."""

_STEP: Final = 3.0
"""Seconds between two samples that are kept."""


class Pace:
    """
    How much moved in the last half minute, in a few samples.
    """

    def __init__(self, now: float, position: int) -> None:
        self._position = position
        self._moved = 0
        self._last = now
        self._samples = deque([(now, 0)])

    def sample(self, now: float, position: int) -> None:
        """
        Note that C{position} bytes are there.
        """
        # What is moved once more, from an earlier position on, counts again.
        if position > self._position:
            self._moved += position - self._position
            self._last = now
        self._position = position
        if now - self._samples[-1][0] >= _STEP:
            self._samples.append((now, self._moved))
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW + ROUNDING:
            self._samples.popleft()

    def rate(self, now: float, position: int) -> float:
        """
        Bytes a second.
        """
        self.sample(now, position)
        then, before = self._samples[0]
        return (self._moved - before) / (now - then) if now > then else 0.0

    def idle(self, now: float, position: int) -> float:
        """
        For how many seconds nothing has moved.
        """
        self.sample(now, position)
        return now - self._last

    def lasts(self, now: float, seconds: float = WINDOW) -> bool:
        """
        Whether there are so many seconds to judge by.
        """
        return now - self._samples[0][0] >= seconds - ROUNDING


def fair_share(rates: Iterable[float], slots: int, most: float) -> float:
    """
    Bytes a second that a transfer may expect.

    @param rates: those of all that run.
    @param slots: how many may run.
    @param most: bytes a second of all together, by our own limit; 0 for none.
    """
    capacity = max(sum(rates), float(ASSUMED))
    return (min(capacity, most) if most else capacity) / slots
