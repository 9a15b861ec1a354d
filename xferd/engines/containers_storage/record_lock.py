# -*- test-case-name: tests.engines.containers_storage.test_record_lock -*-
"""
The locks of containers-storage: POSIX record locks on whole files, which engines hold
for the time of one call.

These are locks of the open file (F_OFD_SETLK, fcntl(2)).  They exclude the engines'
record locks, as well as other threads of this process, and do not vanish when another
descriptor of the file is closed.

Blocking, for threads.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Final

from xferd.errors import StoreError

PATIENCE: Final = 10.0
"""Seconds for which a lock is waited for, by default."""

_INTERVAL: Final = 0.02
"""Seconds between two attempts."""

_FLOCK: Final = struct.Struct("@hhqqi4x")
"""C{struct flock} with 64-bit offsets: type, whence, start, length, process."""

_STAMP: Final = 64
"""The bytes at the start of a lock file.  Readers read a file again once they have changed."""


@contextmanager
def locked(path: str, *, exclusive: bool, stop: Event, patience: float = PATIENCE) -> Iterator[int]:
    """
    Hold a lock.

    @param exclusive: whether to write; then the file is made if it is missing.
    @param stop: ends the wait when it is set.
    @param patience: seconds to wait, about.
    @return: the descriptor of the lock file.
    @raise StoreError: an engine holds the lock for longer, or C{stop} was set.
    @raise OSError: the file cannot be opened, or is not a regular file.
    """
    fd = open_file(path, os.O_RDWR | os.O_CREAT if exclusive else os.O_RDONLY)
    try:
        _acquire(fd, path, fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK, stop, patience)
        yield fd
    finally:
        # Releases the lock.
        os.close(fd)


def open_file(path: str, flags: int) -> int:
    """
    Open a file only if it is a regular one: the storage of an engine may be an ordinary
    user's, and a pipe or a device in place of a file could block.

    @raise OSError: it cannot be opened, or is something else.
    """
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return fd


def mark_changed(lock: int) -> None:
    """
    Have engines read the files again that a lock protects, which is held.

    @param lock: its descriptor.
    """
    os.pwrite(lock, os.urandom(_STAMP), 0)


def _acquire(fd: int, path: str, kind: int, stop: Event, patience: float) -> None:
    request = _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0)
    for _ in range(max(1, int(patience / _INTERVAL))):
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
        except OSError as e:
            if e.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        else:
            return
        if stop.wait(_INTERVAL):
            raise StoreError(f"the wait for the lock {path} was ended")
    raise StoreError(f"an engine has held the lock {path} for more than {patience:g} s")
