# -*- test-case-name: tests.store.disk.test_file_system -*-
"""
Blocking operations on the file system, for threads: atomic and durable writes
and renames, and the removal of any tree.

They import no Twisted and raise L{OSError}; callers turn it with L{trying_to}
into an error that the operator understands.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from secrets import token_hex
from tempfile import mkstemp
from threading import Event
from typing import Final

from xferd.errors import DiskFull, StoreError

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How to open a directory that must not be a link to one."""

_syncfs = ctypes.CDLL(None, use_errno=True).syncfs


def refusal(error: OSError, doing: str) -> StoreError:
    """
    The error to report for an error of the file system.

    @param doing: the failed operation, as it follows "cannot".
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"cannot {doing}: no space is left; free some on that disk and try again")
    return StoreError(f"cannot {doing}: {error.strerror or error}")


@contextmanager
def trying_to(doing: str) -> Iterator[None]:
    """
    Raise L{StoreError} in place of L{OSError}.

    @param doing: the operation of the block, as it follows "cannot".
    """
    try:
        yield
    except OSError as e:
        raise refusal(e, doing) from e


def free_bytes(path: str) -> int:
    """
    The free bytes on the disk of C{path}; 0 if it has no free inodes.
    """
    disk = os.statvfs(path)
    if disk.f_files and not disk.f_favail:
        return 0
    return disk.f_bavail * disk.f_frsize


def total_bytes(path: str) -> int:
    """
    The bytes of the disk of C{path}.
    """
    disk = os.statvfs(path)
    return disk.f_blocks * disk.f_frsize


def sync_directory(path: str) -> None:
    """
    Flush a directory: a rename is durable only after this.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def flushed(path: str) -> Iterator[None]:
    """
    Flush the whole file system of C{path} after a block that writes to it: one flush for a
    tree of ten thousand files.

    The kernel reports a failed write to each descriptor that was open then.  One that is
    opened later does not get an error that another flush has got, of any program.
    Therefore it is opened before the first write.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
        sync_file_system(fd)
    finally:
        os.close(fd)


def sync_file_system(fd: int) -> None:
    """
    Flush the whole file system of an open file.

    @raise OSError: writes have failed since it was opened, or since the last error.
    """
    if _syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class FileSystemFlush:
    """
    Flushes of one file system for many writers, each with its own beginning: see L{flushed}.
    An error is reported to one flush only, and concerns all who wrote before it.

    Life cycle: made; C{open}ed, before any write; C{close}d.

    @ivar failures: the number of flushes that failed.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None
        self.failures = 0
        self._error: OSError | None = None

    def open(self) -> None:
        """
        Open the file system.
        """
        self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """
        Close it.  Idempotent.
        """
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def flush(self) -> None:
        """
        Flush it.  Blocking, for one thread at a time.
        """
        assert self._fd is not None
        try:
            sync_file_system(self._fd)
        except OSError as e:
            self.failures += 1
            self._error = e

    def check(self, known: int) -> None:
        """
        Check after a flush that the writes of one writer are on the disk.

        @param known: the number of C{failures} when it began.
        @raise OSError: some may be lost.
        """
        if self._error is not None and self.failures > known:
            raise OSError(self._error.errno, self._error.strerror)


def make_directory(path: str, mode: int) -> None:
    """
    Make sure that a directory exists, durably; a new one has this mode,
    independent of the umask.
    """
    try:
        os.mkdir(path, mode)
    except FileExistsError as e:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from e
        return
    os.chmod(path, mode)
    sync_directory(os.path.dirname(path))


def move(source: str, target: str) -> None:
    """
    Rename a file or a directory, durably.
    """
    # Opened first: if that fails, nothing has been renamed.
    fd = os.open(os.path.dirname(target), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.rename(source, target)
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(path: str, data: bytes, staging: str) -> None:
    """
    Write a file atomically and durably.  Only its owner may read it.

    @param staging: a directory of the same file system for the temporary file.
    """
    fd, temporary = mkstemp(prefix="file-", dir=staging)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        move(temporary, path)
    except OSError:
        # After the rename, it does not exist.
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise


_DEPTH: Final = 64
"""Directories within directories that are open at once."""

_BATCH: Final = 10_000
"""Entries of a directory that are in memory at once."""


def remove(path: str, stop: Event) -> None:
    """
    Remove a file, or a directory with all its entries, if it exists.

    @param stop: ends the removal when it is set.
    """
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        fd = _open_to_empty(path, None)
        try:
            emptied = _empty(fd, stop)
        finally:
            os.close(fd)
        if emptied:
            os.rmdir(path)


def _empty(fd: int, stop: Event, top: int | None = None, depth: int = 0) -> bool:
    """
    Remove the entries of a directory, by descriptors: paths in a tree may be
    longer than the system accepts.  Directories that are deeper than descriptors suffice
    for are moved to the top: containers can make trees of any depth.

    @param top: the topmost directory.
    @return: whether the directory is empty.
    """
    top = fd if top is None else top
    while True:
        with os.scandir(fd) as listing:
            entries = list(islice(listing, _BATCH))
        if not entries:
            return True
        for entry in entries:
            if stop.is_set():
                return False
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=fd)
                continue
            inner = _open_to_empty(entry.name, fd)
            try:
                if depth == _DEPTH:
                    os.rename(entry.name, f"deep-{token_hex(16)}", src_dir_fd=fd, dst_dir_fd=top)
                    continue
                emptied = _empty(inner, stop, top, depth + 1)
            finally:
                os.close(inner)
            if not emptied:
                return False
            os.rmdir(entry.name, dir_fd=fd)


def _open_to_empty(name: str, parent: int | None) -> int:
    """
    Open a directory, and permit the removal of its entries: only root may remove
    them with any mode.
    """
    if os.geteuid() != 0:
        os.chmod(name, 0o700, dir_fd=parent)
    return os.open(name, DIRECTORY, dir_fd=parent)
