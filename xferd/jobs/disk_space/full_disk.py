# -*- test-case-name: tests.jobs.disk_space.test_full_disk -*-
"""
Work that waits while the disk is full, and is done again when there is room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from xferd.errors import DiskFull
from xferd.interfaces.store import IFreeSpace
from xferd.transfer.transfer import Transfer

T = TypeVar("T")


async def retry_while_full(
    room: IFreeSpace,
    work: Callable[[], Awaitable[T]],
    wait: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> T:
    """
    Do some work, and do it again when there is room, as long as it fails
    because the disk is full.

    @param wait: entered with the reason while this waits, as
        L{Transfer.wait}.
    @raise DiskFull: there was no room for ten minutes.
    """
    since: float | None = None
    while True:
        try:
            return await work()
        except DiskFull as e:
            since = room.now() if since is None else since
            waiting = room.wait(e, since)
            with wait(room.why):
                await waiting


class FullDiskRetries:
    """
    Decides for a download whether to go back to the queue when the disk is
    full: there all downloads wait for room.
    """

    def __init__(self, room: IFreeSpace, transfer: Transfer) -> None:
        self._room = room
        self._transfer = transfer
        self._since = 0.0
        self._reached = -1

    def check(self, error: DiskFull) -> None:
        """
        An attempt found the disk full.

        @raise DiskFull: it was so for ten minutes, or as long has nothing more
            of this blob come.
        """
        self._room.ran_out()
        now = self._room.now()
        if self._transfer.bytes_done > self._reached:
            self._since, self._reached = now, self._transfer.bytes_done
        if self._room.given_up or now >= self._since + self._room.patience:
            raise error
