# -*- test-case-name: tests.store.integrity.test_pace -*-
"""
Reads files at a limited rate, and leaves the kernel's cache as it is.

Blocking, for threads.
"""

from __future__ import annotations

import os
from threading import Event
from typing import Final

from zope.interface import implementer

from xferd.errors import StoreError
from xferd.interfaces.integrity import IPace

PIECE: Final = 1024 * 1024
"""Bytes of one read, at most."""

_SLICE: Final = 0.1
"""Seconds of one sleep, at most: a change of the rate counts after that."""


@implementer(IPace)
class Pace:
    """
    How fast threads read.  The reactor's thread sets C{rate}.
    """

    def __init__(self) -> None:
        self.rate = 0.0

    def take(self, size: int, stop: Event) -> None:
        """
        Wait for as long as C{size} bytes take at this rate.

        @raise StoreError: C{stop} is set: the work has been cancelled.
        """
        left = float(size)
        while True:
            if stop.is_set():
                raise StoreError("the work was cancelled")
            rate = self.rate
            if rate <= 0 or left <= 0:
                return
            seconds = min(left / rate, _SLICE)
            stop.wait(seconds)
            left -= seconds * rate


class UncachedReader:
    """
    Reads a file.  What the kernel had in memory stays there, and
    what it had not is dropped again.
    """

    def __init__(self, fd: int, buffer: memoryview, start: int = 0) -> None:
        """
        @param fd: the file; the caller closes it.
        @param buffer: the bytes of one read are put here.
        @param start: the offset of the first byte to read.
        """
        self._fd = fd
        self._buffer = buffer
        self._at = start
        # Without read-ahead, a read tells what was in memory before.
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)

    def read(self) -> int:
        """
        Read the next bytes into the buffer.

        @return: their number; 0 at the end.
        @raise OSError: the disk cannot read them.
        """
        count = self._read_cached()
        if not count:
            count = os.preadv(self._fd, [self._buffer], self._at)
            os.posix_fadvise(self._fd, self._at, count, os.POSIX_FADV_DONTNEED)
        self._at += count
        return count

    def _read_cached(self) -> int:
        """
        Read what is in memory; 0 if that is nothing, or the file system does not support the call.
        """
        try:
            return os.preadv(self._fd, [self._buffer], self._at, os.RWF_NOWAIT)
        except OSError:
            return 0
