# -*- test-case-name: tests.ctl.image.test_rootfs -*-
"""
Looking into an image's root file system from outside, with the image's links
leading where they would lead inside.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

_MOST_LINKS: Final = 40
_MOST_BYTES: Final = 16 * 1024 * 1024

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


class RootFS:
    """
    A root file system.

    Life cycle: it is entered, asked, and left.
    """

    def __init__(self, path: str) -> None:
        """
        @param path: its root.
        """
        self._path = path
        self._root = -1

    def __enter__(self) -> RootFS:
        self._root = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def read(self, path: str) -> bytes:
        """
        A file, 16 MiB of it at most; empty if there is no regular file.
        """
        found = self._open(path)
        if found is None:
            return b""
        try:
            if not stat.S_ISREG(os.fstat(found).st_mode):
                return b""
            with open(f"/proc/self/fd/{found}", "rb") as file:
                return file.read(_MOST_BYTES)
        finally:
            os.close(found)

    def directory(self, path: str) -> os.stat_result | None:
        """
        The facts of a directory; L{None} if there is none.
        """
        found = self._open(path)
        if found is None:
            return None
        try:
            status = os.fstat(found)
        finally:
            os.close(found)
        return status if stat.S_ISDIR(status.st_mode) else None

    def _open(self, path: str) -> int | None:
        """
        Find what a path leads to, with the root as C{/}.

        @return: an C{O_PATH} descriptor, for the caller to close; or None if
            there is nothing.
        """
        opened = [os.dup(self._root)]
        try:
            return self._walk(opened, os.fsencode(path))
        except OSError as e:
            if e.errno not in _ABSENT:
                raise
            return None
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _walk(self, opened: list[int], path: bytes) -> int:
        """
        Go one component at a time.

        @param opened: the way from the root to here; what stays in it is the
            caller's to close.
        """
        todo, links = path.split(b"/")[::-1], 0
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                if len(opened) > 1:
                    os.close(opened.pop())
                continue
            found = os.open(name, _PATH, dir_fd=opened[-1])
            if not stat.S_ISLNK(os.fstat(found).st_mode):
                opened.append(found)
                continue
            try:
                target = os.readlink(b"", dir_fd=found)
            finally:
                os.close(found)
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, "too many links")
            if target.startswith(b"/"):
                while len(opened) > 1:
                    os.close(opened.pop())
            todo += target.split(b"/")[::-1]
        return os.dup(opened[-1])
