# -*- test-case-name: tests.transfer.test_histogram -*-
"""
How long things waited, counted by length.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import Final

BOUNDS: Final = (0.01, 0.1, 1.0, 5.0, 30.0, 60.0, 300.0, 1800.0)
"""The upper ends of the lengths that are told apart, in seconds."""


class Histogram:
    """
    A histogram of waits, since the start.

    @ivar total: the seconds of all of them.
    """

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """
        Count a wait that is over.
        """
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, int]]:
        """
        How many waits were at most so long, for each of L{BOUNDS} and C{+Inf}.
        """
        return list(zip([*map(str, BOUNDS), "+Inf"], accumulate(self._counts), strict=True))
