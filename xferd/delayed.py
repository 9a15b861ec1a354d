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
    A Deferred that notes cancellations until it has a result.  What fires it decides what
    they mean then.

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
        Note a cancellation; with a result, as for any Deferred.
        """
        if self.called:
            super().cancel()
            return
        self.cancelled = True
        if self._stop is not None:
            self._stop()
