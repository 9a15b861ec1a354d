# -*- test-case-name: tests.transfer.test_throughput -*-
"""
The throughput of a transfer over the last half minute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from xferd.transfer.pauses import ROUNDING

WINDOW: Final = 30.0
"""Seconds over which a rate is taken."""

ASSUMED: Final = 1024 * 1024
"""Bytes per second that a link is assumed to carry where no limit is set.  When
all transfers are slow, their sum does not show what the link could carry."""

TENTH: Final = 0.1
"""The part of its fair share below which a transfer is slow."""

_STEP: Final = 3.0
"""Seconds between two samples."""


class Throughput:
    """
    The bytes that moved in the last half minute, kept as a few samples.
    """

    def __init__(self, now: float, position: int) -> None:
        self._position = position
        self._moved = 0
        self._last = now
        self._samples = deque([(now, 0)])

    def sample(self, now: float, position: int) -> None:
        """
        Record that C{position} bytes have arrived.
        """
        # Bytes that move once more, after a restart at an earlier position, count again.
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
        The rate in bytes per second.
        """
        self.sample(now, position)
        then, before = self._samples[0]
        return (self._moved - before) / (now - then) if now > then else 0.0

    def idle(self, now: float, position: int) -> float:
        """
        The seconds since a byte moved.
        """
        self.sample(now, position)
        return now - self._last

    def lasts(self, now: float, seconds: float = WINDOW) -> bool:
        """
        Whether the samples cover so many seconds.
        """
        return now - self._samples[0][0] >= seconds - ROUNDING


def fair_share(rates: Iterable[float], slots: int, most: float) -> float:
    """
    The rate, in bytes per second, that one transfer may expect.

    @param rates: the rates of all running transfers.
    @param slots: the number of slots.
    @param most: the bandwidth limit for all transfers together; 0 for none.
    """
    capacity = max(sum(rates), float(ASSUMED))
    return (min(capacity, most) if most else capacity) / slots
