# -*- test-case-name: tests.jobs.mirror.test_full_disk -*-
"""
Waits of the mirror's clients that end when the disk runs full.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred

from xferd.errors import DiskFull
from xferd.interfaces.store import IFreeSpace

T = TypeVar("T")


class Room:
    """
    Whether what arrives fits on the disk.
    """

    def __init__(self, space: IFreeSpace) -> None:
        self._space = space
        # In order: the first client is the first to go on.
        self._waits: dict[Callable[[], None], None] = {}
        space.follow(self._changed)

    @property
    def is_short(self) -> bool:
        """
        Whether nothing can be kept now.
        """
        return self._space.paused or self._space.given_up

    async def wait(self, work: Deferred[T]) -> T:
        """
        Wait for bytes that are written to the disk.

        @raise DiskFull: the disk is full; C{work} was cancelled.
        """
        short = False

        def end() -> None:
            nonlocal short
            short = True
            work.cancel()

        self._waits[end] = None
        try:
            if self.is_short and not work.called:
                end()
            return await work
        except CancelledError:
            if short:
                raise DiskFull(self._space.why) from None
            raise
        finally:
            del self._waits[end]

    def _changed(self) -> None:
        if self.is_short:
            for end in tuple(self._waits):
                end()
