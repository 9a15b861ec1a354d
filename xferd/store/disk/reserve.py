# -*- test-case-name: tests.store.disk.test_reserve -*-
"""
The reserve: a file that occupies disk space, which is released when the disk is
full.

Removing an image first writes a new C{index.json}, and SQLite appends to its
log before it frees anything.  On a full disk these small writes use the space
of the reserve, which is allocated again as soon as it is free.

Blocking, for threads; several may use it at the same time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EDQUOT, ENOSPC
from threading import Lock
from typing import Any, Final, TypeVar

from twisted.logger import Logger

from xferd.errors import DiskFull, causes

T = TypeVar("T")

RESERVE: Final = 16 * 1024 * 1024
"""Bytes that the reserve occupies."""

_STEP: Final = 4 * 1024 * 1024
"""Bytes that are released at a time."""

_UNIT: Final = 64 * 1024
"""Bytes of which a multiple is allocated."""

_SHARE: Final = 3
"""The reserve is at most this fraction of a small disk."""


class Reserve:
    """
    The reserve of one data directory.
    """

    _log = Logger()

    def __init__(self, path: str, size: int = RESERVE) -> None:
        """
        @param path: the file.
        @param size: the bytes that it should occupy.
        """
        self._path = path
        self._size = size
        self._lock = Lock()

    def missing(self) -> int:
        """
        The bytes that the reserve lacks.
        """
        try:
            there = os.stat(self._path).st_size
            disk = os.statvfs(self._path)
        except OSError:
            return self._size
        return max(self._wanted(disk) - there, 0)

    def fill(self) -> None:
        """
        Allocate the missing bytes, or as many as are free.  A file system
        without allocation has no reserve.
        """
        with self._lock:
            try:
                self._fill()
            except OSError as e:
                if not _is_full(e):
                    self._log.warn("cannot allocate {path}: {error}", path=self._path, error=e)

    def spend(self, work: Callable[..., T], *args: Any) -> T:
        """
        Call C{work}.  While it fails because the disk is full, release a part of
        the reserve and call it again.

        @param work: a function that can be repeated after a failure.
        """
        released = False
        try:
            while True:
                try:
                    return work(*args)
                except Exception as e:
                    if not any(map(_is_full, causes(e))) or not self._release():
                        raise
                    released = True
        finally:
            if released:
                self.fill()

    def _release(self) -> bool:
        """
        Release a part of the reserve.

        @return: false if the reserve is empty.
        """
        with self._lock:
            try:
                fd = os.open(self._path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                return False
            try:
                size = os.fstat(fd).st_size
                if not size:
                    return False
                os.ftruncate(fd, max(size - _STEP, 0))
                # Some file systems reuse the blocks only after this.
                os.fsync(fd)
            except OSError as e:
                self._log.warn("cannot shorten {path}: {error}", path=self._path, error=e)
                return False
            finally:
                os.close(fd)
        return True

    def _fill(self) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            size, disk = os.fstat(fd).st_size, os.fstatvfs(fd)
            free = disk.f_bavail * disk.f_frsize // _UNIT * _UNIT
            missing = min(self._wanted(disk) - size, free)
            if missing > 0:
                os.posix_fallocate(fd, size, missing)
        finally:
            os.close(fd)

    def _wanted(self, disk: os.statvfs_result) -> int:
        return min(self._size, disk.f_blocks * disk.f_frsize // _SHARE)


def _is_full(error: BaseException) -> bool:
    if isinstance(error, DiskFull):
        return True
    return isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT)
