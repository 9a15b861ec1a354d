# -*- test-case-name: tests.web.test_runtime -*-
"""
What keeps the whole daemon waiting: the lag of the reactor, and Python's garbage collector.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from xferd.transfer.histogram import Histogram

INTERVAL: Final = 1.0
"""Seconds between two measurements of the lag."""

BOUNDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
"""The upper bounds of the buckets, in seconds."""


class Runtime:
    """
    Measures while it runs.

    Life cycle: made; L{start}; L{stop}.

    @ivar lag: how much later than due a timer ran, in seconds.
    @ivar collections: the durations of garbage collections, in seconds, by generation.
    """

    def __init__(self, clock: IReactorTime, seconds: Callable[[], float] = perf_counter) -> None:
        """
        @param seconds: a time that also advances within a turn of the reactor.
        """
        self._clock = clock
        self._seconds = seconds
        self._timer: IDelayedCall | None = None
        self._due = 0.0
        self._began = 0.0
        self.lag = Histogram(BOUNDS)
        self.collections = tuple(Histogram(BOUNDS) for _ in gc.get_count())

    def start(self) -> None:
        """
        Begin.
        """
        gc.callbacks.append(self._collect)
        self._wait()

    def stop(self) -> None:
        """
        End.  Idempotent.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            gc.callbacks.remove(self._collect)

    def _wait(self) -> None:
        self._due = self._clock.seconds() + INTERVAL
        self._timer = self._clock.callLater(INTERVAL, self._measure)

    def _measure(self) -> None:
        self.lag.add(max(self._clock.seconds() - self._due, 0.0))
        self._wait()

    def _collect(self, phase: str, info: Mapping[str, int]) -> None:
        """
        A collection begins or ends; see C{gc.callbacks}.
        """
        if phase == "start":
            self._began = self._seconds()
        else:
            self.collections[info["generation"]].add(self._seconds() - self._began)
