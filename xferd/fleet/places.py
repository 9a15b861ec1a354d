# -*- test-case-name: tests.fleet.test_downloads -*-
"""
The places for blobs that peers send to a node at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import CancelledError, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IReactorTime

AT_ONCE: Final = 16
"""Blobs that peers send to this node at the same time, at most: a node accepts a limited
number of connections of each other machine."""

LEAST: Final = AT_ONCE * 16 * 1024
"""Bytes a second that peers send to this node together, at least, while other blobs wait
for one of these places: otherwise those wait no longer."""


class Places:
    """
    The places of one node.
    """

    def __init__(self, clock: IReactorTime, received: Callable[[], int]) -> None:
        """
        @param received: returns the bytes that peers have sent so far.
        """
        self._clock = clock
        self._received = received
        self._semaphore = DeferredSemaphore(AT_ONCE)

    @property
    def free(self) -> int:
        """
        The number of free places.
        """
        return int(self._semaphore.tokens)

    async def acquire(self, seconds: float) -> bool:
        """
        Acquire a place, or wait for one, while peers send the other blobs well.

        @param seconds: the time over which their rate is measured.
        @return: L{False} if they have sent less than L{LEAST} in that time.
        """
        clock, slow = self._clock, False
        acquiring = self._semaphore.acquire()
        timer: IDelayedCall

        def look(before: int) -> None:
            nonlocal timer, slow
            received = self._received()
            slow = received - before < LEAST * seconds
            if slow:
                acquiring.cancel()
            else:
                timer = clock.callLater(seconds, look, received)

        timer = clock.callLater(seconds, look, self._received())
        try:
            await acquiring
        except CancelledError:
            if not slow:
                raise
        finally:
            if timer.active():
                timer.cancel()
        return not slow

    def release(self) -> None:
        """
        Release a place.
        """
        self._semaphore.release()
