# -*- test-case-name: tests.test_locks -*-
"""
Locks on files, held by the kernel.

C{flock} ends with the process that holds it.  The content of a lock file, such
as a process ID, has no effect: process IDs are reused, belong to zombies, and
are the same in every container.

Blocking, and without Twisted.
"""

from __future__ import annotations

import fcntl
import os
import stat


class Held(Exception):
    """
    Another process holds the lock.

    @ivar holder: the process as a message names it, C{" (process 12)"}, with its
        host where that is another one; the empty string if it is unknown.
    """

    def __init__(self, path: str, holder: str) -> None:
        super().__init__(f"{path} is locked{holder}")
        self.holder = holder


def is_held(path: str) -> bool:
    """
    Whether a process holds the L{FileLock} on a file.

    @raise OSError: that cannot be found out.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return not _locked(file, fcntl.LOCK_SH)
    finally:
        os.close(file)


class FileLock:
    """
    An exclusive lock on a file, which is made if it is missing and stays when
    the lock is released: a file that is removed can be locked twice.

    States: free; acquired; free again.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self) -> None:
        """
        Acquire the lock, without waiting, and write our process ID and host
        into the file, so that a refused process can name the holder.

        @raise Held: another process holds it.
        @raise OSError: the file cannot be made, or the file system has no
            locks.
        """
        assert self._file is None, "a lock is acquired once"
        self._remove_link()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(self.path, flags, 0o600)
        try:
            while not _locked(file, fcntl.LOCK_EX):
                # L{is_held} takes a shared lock for a moment.
                if not _locked(file, fcntl.LOCK_SH):
                    raise Held(self.path, _holder(file))
            # The content is informative; a full disk must not prevent the lock.
            try:
                os.ftruncate(file, 0)
                os.pwrite(file, f"{os.getpid()} {os.uname().nodename}\n".encode(), 0)
            except OSError:
                pass
        except BaseException:
            os.close(file)
            raise
        self._file = file

    def release(self) -> None:
        """
        Release the lock.  Idempotent.
        """
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _remove_link(self) -> None:
        """
        Remove a link of this name: Twisted's locks are links to a process ID.
        """
        try:
            if stat.S_ISLNK(os.lstat(self.path).st_mode):
                os.unlink(self.path)
        except FileNotFoundError:
            pass


def _locked(file: int, kind: int) -> bool:
    """
    Lock a file, without waiting.

    @return: whether that was possible.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: int) -> str:
    """
    The process whose ID is in a lock file.
    """
    process, _, host = os.pread(file, 300, 0).decode("ascii", "replace").strip().partition(" ")
    if not process.isdecimal():
        return ""
    elsewhere = f" on {host}" if host.isprintable() and host not in ("", os.uname().nodename) else ""
    return f" (process {process}{elsewhere})"
