# -*- test-case-name: tests.store.trees.test_walk -*-
"""
Opens the directories of a tree by their paths, and reads overlayfs's xattrs.

Blocking, for threads.  Paths are opened component by component: they may be
longer than the system accepts, and no link in a tree may lead out of it.
"""

from __future__ import annotations

import os
from errno import ENODATA, ENOTSUP
from threading import Event
from types import TracebackType

from xferd.errors import StoreError
from xferd.store.disk.file_system import DIRECTORY

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


class TreeWalk:
    """
    A walk through the directories of one tree.

    Each directory is opened from the previous one, so that paths in the order
    of their L{components}, forwards or backwards, open each directory once.

    Life cycle: a context manager, which closes all descriptors.
    """

    def __init__(self, tree: str) -> None:
        self._names: list[bytes] = []
        self._open = [os.open(tree, DIRECTORY)]

    def __enter__(self) -> TreeWalk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._open:
            os.close(self._open.pop())

    def open(self, path: bytes) -> int:
        """
        Open a directory.

        @return: a descriptor, valid until the next call.
        """
        names = components(path)
        common = 0
        while common < min(len(names), len(self._names)) and names[common] == self._names[common]:
            common += 1
        while len(self._names) > common:
            self._names.pop()
            os.close(self._open.pop())
        for name in names[common:]:
            self._open.append(os.open(name, DIRECTORY, dir_fd=self._open[-1]))
            self._names.append(name)
        return self._open[-1]


def components(path: bytes) -> list[bytes]:
    """
    The names in a relative path; none for the tree's root.
    """
    return [c for c in path.split(b"/") if c not in (b"", b".")]


def opaque(fd: int) -> bool:
    """
    Whether a directory hides the entries that lower layers have in it.
    """
    return any(xattr(fd, name) == b"y" for name in _OPAQUE)


def xattr(target: int | str, name: str) -> bytes | None:
    """
    The value of an extended attribute, or L{None}.
    """
    try:
        return os.getxattr(target, name)
    except OSError as e:
        if e.errno not in (ENODATA, ENOTSUP):
            raise
    return None


def xattr_names(fd: int) -> list[str]:
    """
    The names of all extended attributes, in order; empty if the file system
    does not support them.
    """
    try:
        return sorted(os.listxattr(fd))
    except OSError as e:
        if e.errno != ENOTSUP:
            raise
        return []


def check(stop: Event) -> None:
    """
    @raise StoreError: the work has been cancelled.
    """
    if stop.is_set():
        raise StoreError("the work was cancelled")
