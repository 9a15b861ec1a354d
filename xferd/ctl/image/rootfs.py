# -*- test-case-name: tests.ctl.image.test_rootfs -*-
"""
Reading an image's root file system from outside: symbolic links are resolved
within it, as a process inside would resolve them.
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

    Life cycle: entered; read; left.
    """

    def __init__(self, path: str) -> None:
        """
        @param path: its root directory.
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
        A file's content, at most 16 MiB; empty if it is not a regular file.
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
        A directory's status; L{None} if it is not a directory.
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
        Open a path, with the root as C{/}.

        @return: an C{O_PATH} descriptor, for the caller to close; L{None} if
            the path does not exist.
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
        Resolve one component at a time.

        @param opened: descriptors from the root to the current directory; the
            caller closes those that stay in it.
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
