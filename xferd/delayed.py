# -*- test-case-name: tests.test_delayed -*-
"""
A wait that a cancellation does not end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


class Delayed(Deferred[T]):
    """
    A Deferred that records cancellations until it has a result.  The code that fires it
    decides on their effect.

    @ivar cancelled: whether it was cancelled.
    """

    def __init__(self, stop: Callable[[], object] | None = None) -> None:
        """
        @param stop: called at each cancellation, to make the result come sooner.
        """
        super().__init__()
        self.cancelled = False
        self._stop = stop

    def cancel(self) -> None:
        """
        Record a cancellation.  After the result, it has its usual effect.
        """
        if self.called:
            super().cancel()
            return
        self.cancelled = True
        if self._stop is not None:
            self._stop()
