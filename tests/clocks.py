"""
A clock for tests with many delayed calls.
"""

from __future__ import annotations

from operator import attrgetter

from twisted.internet.task import Clock


class QuickClock(Clock):
    """
    A clock that sorts its calls, as it does after each change, without calling a function
    of Python for each: with a hundred calls, that takes a third of a test's time.
    """

    def _sortCalls(self) -> None:
        for call in self.calls:
            if call.delayed_time:
                call.activate_delay()
        self.calls.sort(key=attrgetter("time"))
