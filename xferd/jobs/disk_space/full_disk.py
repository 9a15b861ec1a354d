# -*- test-case-name: tests.jobs.disk_space.test_full_disk -*-
"""
Work that fails because the disk is full is repeated when space is free.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TypeVar

from xferd.errors import DiskFull
from xferd.interfaces.store import IFreeSpace
from xferd.transfer.transfer import Transfer
from xferd.waits import DISK, waiting_for

T = TypeVar("T")

_waiting_for_disk = partial(waiting_for, DISK)


async def retry_while_full(
    space: IFreeSpace,
    work: Callable[[], Awaitable[T]],
    wait: Callable[[str], AbstractContextManager[None]] = _waiting_for_disk,
) -> T:
    """
    Do some work, and repeat it when space is free, as long as it fails because
    the disk is full.

    @param wait: entered with the reason while this waits, as L{Transfer.wait_for_disk}; by
        default the reason is reported as L{xferd.waits} describes.
    @raise DiskFull: no space was free for ten minutes.
    """
    since: float | None = None
    while True:
        try:
            return await work()
        except DiskFull as e:
            since = space.now() if since is None else since
            waiting = space.wait(e, since)
            with wait(space.why):
                await waiting


class FullDiskRetries:
    """
    Decides whether a download returns to the queue when the disk is full: there
    all downloads wait for free space.
    """

    def __init__(self, space: IFreeSpace, transfer: Transfer) -> None:
        self._space = space
        self._transfer = transfer
        self._since = 0.0
        self._reached = -1

    def check(self, error: DiskFull) -> None:
        """
        Report that an attempt failed because the disk is full.

        @raise DiskFull: it was full for ten minutes, or no byte of this blob has
            arrived for as long.
        """
        self._space.ran_out()
        now = self._space.now()
        if self._transfer.bytes_done > self._reached:
            self._since, self._reached = now, self._transfer.bytes_done
        if self._space.given_up or now >= self._since + self._space.patience:
            raise error
