# -*- test-case-name: tests.test_unix_socket -*-
"""
Exclusive use of the path of a unix socket.

Twisted's own lock goes by process IDs, so that a daemon that was killed may
never start again in a container.  Here the kernel holds the lock
(L{xferd.locks}), on the file C{PATH.lock} beside the socket.
"""

from __future__ import annotations

import errno
import os
import socket
import stat

from xferd.locks import FileLock, Held


class SocketInUse(Exception):
    """
    The path cannot be listened on; the text says why.
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
        Acquire the path's lock, and remove the socket that an earlier
        process left there.

        @raise SocketInUse: a process listens there, or something else than a
            socket has the name.
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
