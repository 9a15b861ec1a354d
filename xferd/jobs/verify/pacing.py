# -*- test-case-name: tests.jobs.verify -*-
"""
The rate of checks, fitted to the transfers that run meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from xferd.interfaces.integrity import IPace

INTERVAL: Final = 0.2
"""Seconds after which the rate is set again."""


@contextmanager
def paced(pace: IPace, clock: IReactorTime, rate: Callable[[], float]) -> Iterator[None]:
    """
    Set the rate of a pace at once, and again and again.

    @param rate: returns bytes per second; 0 for no limit.
    """

    def fit() -> None:
        pace.rate = rate()

    fitting = LoopingCall(fit)
    fitting.clock = clock
    # It fires when the call is stopped.
    _ = fitting.start(INTERVAL)
    try:
        yield
    finally:
        fitting.stop()
