# -*- test-case-name: tests.test_unix_socket -*-
"""
Exclusive use of the path of a unix socket, and its mode.

Twisted's lock relies on process IDs: in a container, a daemon that was killed
may never start again.  Here the kernel holds the lock (L{xferd.locks}), on the
file C{PATH.lock} beside the socket.
"""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from typing import Final

from xferd.locks import FileLock, Held

GROUP: Final = "xferd"
"""The group whose members may use the socket of root's daemon."""


class SocketInUse(Exception):
    """
    The path is in use; the text is the reason.
    """


class UnixSocket:
    """
    The path of a unix socket.

    States: free; claimed; released.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = FileLock(f"{path}.lock")

    def claim(self) -> None:
        """
        Acquire the path's lock, and remove the socket of an earlier process.

        @raise SocketInUse: a process listens on it, or the path is not a socket.
        @raise OSError: the file system refuses.
        """
        try:
            self._lock.acquire()
        except Held as e:
            raise SocketInUse(f"another xferd{e.holder} listens there") from e
        try:
            self._remove_stale()
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """
        Release the path's lock.  Idempotent.
        """
        self._lock.release()

    def _remove_stale(self) -> None:
        """
        Remove the socket at the path if no process listens on it.
        """
        try:
            mode = os.lstat(self.path).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise SocketInUse("something that is no socket has that name")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(self.path)
            except ConnectionRefusedError:
                os.unlink(self.path)
                return
            except OSError as e:
                if e.errno == errno.EPROTOTYPE:
                    raise SocketInUse("a socket of another kind has that name") from e
                if not isinstance(e, BlockingIOError):
                    raise
        raise SocketInUse("another program listens there")


def make_directory(path: str) -> None:
    """
    Make the directory of a socket, if it is missing.  Other users may traverse
    it, but not list or change it.
    """
    directory = os.path.dirname(path) or "."
    if os.path.isdir(directory):
        return
    os.makedirs(directory, mode=0o700, exist_ok=True)
    # Independent of the umask.
    os.chmod(directory, 0o711)  # noqa: S103 - what is in it has modes of its own


def open_to_group(path: str) -> None:
    """
    Permit the members of the group C{xferd} to use a private socket, if the group
    exists and this process is root's or has it as its primary group.  Other users
    have sockets of their own.

    @raise OSError: owner or mode of the socket cannot be set.
    """
    try:
        group = grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return
    if os.geteuid() != 0 and os.getegid() != group:
        return
    os.chown(path, -1, group, follow_symlinks=False)
    os.chmod(path, 0o660)
