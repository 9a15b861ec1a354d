# -*- test-case-name: tests.jobs.mirror.test_limited -*-
"""
Waits that are bounded in time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

T = TypeVar("T")


async def limited(work: Deferred[T], seconds: float, late: Callable[[], Exception], clock: IReactorTime) -> T:
    """
    Wait for C{work}, not longer than C{seconds}; then cancel it, and wait for its
    end.

    @param late: makes the error for a timeout.
    @raise CancelledError: this was cancelled, and so C{work}.
    """
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        work.cancel()

    timer = clock.callLater(seconds, expire)
    try:
        return await work
    except CancelledError:
        if expired:
            raise late() from None
        raise
    finally:
        if timer.active():
            timer.cancel()
