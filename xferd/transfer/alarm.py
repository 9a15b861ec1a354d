# -*- test-case-name: tests.transfer.test_alarm -*-
"""
Alarms: timers that keep the earliest of the times that they are set to.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Alarm:
    """
    Calls a function once, at the earliest of the times that it is set to.
    """

    def __init__(self, clock: IReactorTime, function: Callable[[], object]) -> None:
        self._clock = clock
        self._function = function
        self._call: IDelayedCall | None = None
        self._at = 0.0

    def set(self, seconds: float) -> None:
        """
        Call the function within so many seconds.
        """
        at = self._clock.seconds() + seconds
        if self._call is not None:
            if self._at <= at:
                return
            self._call.cancel()
        self._call, self._at = self._clock.callLater(seconds, self._ring), at

    def cancel(self) -> None:
        """
        Do not call the function.  Idempotent.
        """
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _ring(self) -> None:
        self._call = None
        self._function()
