# -*- test-case-name: tests.transfer.test_histogram -*-
"""
A histogram of durations.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import Final

BOUNDS: Final = (0.01, 0.1, 1.0, 5.0, 30.0, 60.0, 300.0, 1800.0)
"""The upper bounds of the buckets, in seconds."""


class Histogram:
    """
    The durations since the start, counted by length.

    @ivar total: the sum of all, in seconds.
    """

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """
        Add one duration.
        """
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, int]]:
        """
        The cumulative counts, for each of L{BOUNDS} and C{+Inf}.
        """
        return list(zip([*map(str, BOUNDS), "+Inf"], accumulate(self._counts), strict=True))
