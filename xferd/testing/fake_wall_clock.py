# -*- test-case-name: tests.testing.test_fakes -*-
"""
A time of day that tests can set.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

BEGIN = 1_767_323_045.0
"""2026-01-02T03:04:05Z."""


class FakeWallClock:
    """
    A wall clock that advances with another clock, and jumps when it is set.
    """

    def __init__(self, clock: IReactorTime, now: float = BEGIN) -> None:
        """
        @param now: seconds since the epoch.
        """
        self._clock = clock
        self.set(now)

    def __call__(self) -> float:
        """
        Seconds since the epoch.
        """
        return self._offset + self._clock.seconds()

    def set(self, now: float) -> None:
        """
        Set the time of day, in seconds since the epoch.
        """
        self._offset = now - self._clock.seconds()
