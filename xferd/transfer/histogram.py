# -*- test-case-name: tests.transfer.test_histogram -*-
"""
A histogram of durations.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

BOUNDS: Final = (0.01, 0.1, 1.0, 5.0, 30.0, 60.0, 300.0, 1800.0)
"""The upper bounds of the buckets, in seconds."""


class Histogram:
    """
    The durations since the start, counted by length.

    @ivar total: the sum of all, in seconds.
    """

    def __init__(self, bounds: Sequence[float] = BOUNDS) -> None:
        """
        @param bounds: the upper bounds of the buckets, in seconds, rising.
        """
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """
        Add one duration.
        """
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, int]]:
        """
        The cumulative counts, for each bound and C{+Inf}.
        """
        return list(zip([*map(str, self._bounds), "+Inf"], accumulate(self._counts), strict=True))
