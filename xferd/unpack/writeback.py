# -*- test-case-name: tests.unpack.test_writeback -*-
"""
Starts to write the bytes of a growing file to the disk while more of them come.

The kernel keeps written bytes in memory for up to 30 seconds, or until they are a tenth of it.  So
the flush at the end of a layer would have nearly all of its bytes to write, and the disk would
be idle until then.

Imports no Twisted: this runs in the worker.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from mmap import PAGESIZE
from typing import Final

PIECE: Final = 8 * 1024 * 1024
"""Bytes that are begun at once."""

SMALLEST: Final = 1024 * 1024
"""Bytes of a file for which the call is worth its time: smaller files are nearly all of an image's, and have
a third of its bytes."""

_WRITE: Final = 2
"""SYNC_FILE_RANGE_WRITE of <linux/fs.h>: do not wait for the end."""

# Looked up now: the sandbox may prevent it later.
_sync_file_range = ctypes.CDLL(None, use_errno=True).sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)

Begin = Callable[[int, int, int], object]


def begin(fd: int, offset: int, length: int) -> None:
    """
    Begin to write some bytes of a file.  It is a hint: file systems without a disk ignore it, and
    the flush reports what cannot be written.
    """
    _sync_file_range(fd, offset, length, _WRITE)


class Writeback:
    """
    What has been begun of one file.
    """

    def __init__(self, fd: int, begin: Begin = begin) -> None:
        """
        @param fd: the file, open for reading or writing, from whose start the bytes come.
        """
        self._fd = fd
        self._begin = begin
        self._size = self._begun = 0

    def added(self, count: int) -> None:
        """
        The file has so many more bytes, and more will come.
        """
        self._size += count
        if self._size - self._begun >= PIECE:
            # The rest of a page would be written twice.
            self._begin_until(self._size - self._size % PAGESIZE)

    def end(self) -> None:
        """
        The file has all of its bytes.
        """
        if self._size > self._begun:
            self._begin_until(self._size)

    def _begin_until(self, end: int) -> None:
        self._begin(self._fd, self._begun, end - self._begun)
        self._begun = end
