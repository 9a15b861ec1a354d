# -*- test-case-name: tests.unpack.test_flatten -*-
"""
Merges a stack of layers' trees as overlayfs would show it if it were mounted.

Nothing is copied, and only directories are opened, one component at a time and
never through a symbolic link.  Imports no Twisted: C{xferctl} uses it, in its
user's process.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from xferd.errors import StoreError
from xferd.unpack.limits import printable

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_MOST_OPEN: Final = 256
"""Descriptors to keep open."""

_PREFIXES: Final = ("trusted.overlay.", "user.overlay.")


class OpenDirectories:
    """
    Opens directories of some trees, and keeps the most recent descriptors.
    """

    def __init__(self, roots: Sequence[str], most: int = _MOST_OPEN) -> None:
        """
        @param roots: the trees' paths.
        @param most: descriptors to keep open; one at least.
        """
        self._roots = roots
        self._most = most
        self._open: OrderedDict[tuple[int, bytes], int] = OrderedDict()

    def at(self, tree: int, path: bytes) -> int:
        """
        Open a directory.

        @param tree: the tree's index in C{roots}.
        @param path: relative to its root, which is the empty path; without
            C{.}, C{..} and links.
        @return: a descriptor, valid until the next call.
        """
        key = (tree, path)
        found = self._open.get(key)
        if found is not None:
            self._open.move_to_end(key)
            return found
        if path:
            above, _, name = path.rpartition(b"/")
            found = os.open(name, _OPEN, dir_fd=self.at(tree, above))
        else:
            found = os.open(self._roots[tree], _OPEN)
        self._open[key] = found
        if len(self._open) > self._most:
            os.close(self._open.popitem(last=False)[1])
        return found

    def close(self) -> None:
        """
        Close all descriptors.
        """
        while self._open:
            os.close(self._open.popitem()[1])


class MergedDirectory(NamedTuple):
    """
    One directory of the merged tree.

    @ivar path: relative to the root, which is the empty path.
    @ivar tree: the tree that its metadata come from.
    @ivar files: its entries that are not directories: names, and the tree that
        each comes from.
    """

    path: bytes
    tree: int
    files: list[tuple[bytes, int]]


class MergedTree(NamedTuple):
    """
    A merged tree.

    @ivar directories: its directories, each after its parent.
    @ivar entries: the number of its entries of every kind, without the root.
    @ivar size: the bytes in its regular files, each file counted once,
        however many names it has.
    """

    directories: list[MergedDirectory]
    entries: int
    size: int


def merge(trees: OpenDirectories, count: int, step: Callable[[], None]) -> MergedTree:
    """
    Merge a stack of trees (OCI image-spec, "Applying Changesets"; kernel
    documentation of overlayfs, "whiteouts and opaque directories").

    @param trees: the layers' trees, bottom first, in overlayfs's form.
    @param count: the number of trees.
    @param step: called for each directory; an error that it raises ends the
        merge.
    @raise StoreError: a tree cannot be read.
    """
    directories: list[MergedDirectory] = []
    entries, sizes = 0, _Sizes()
    todo: list[tuple[bytes, list[int]]] = [(b"", list(range(count))[::-1])] if count else []
    while todo:
        step()
        path, having = todo.pop()
        try:
            files, inner = _merge_one(trees, path, having, sizes)
        except OSError as e:
            raise StoreError(f"cannot read {printable(path or b'/')} in the store: {e.strerror}") from e
        directories.append(MergedDirectory(path, having[0], files))
        entries += len(files) + len(inner)
        todo += [(b"%b/%b" % (path, name) if path else name, layers) for name, layers in inner.items()]
    return MergedTree(directories, entries, sizes.total)


class _Sizes:
    """
    Sums up the sizes of files, each inode once.
    """

    def __init__(self) -> None:
        self.total = 0
        self._seen: set[tuple[int, int]] = set()

    def add(self, tree: int, status: os.stat_result) -> None:
        """
        Count a file.
        """
        if not stat.S_ISREG(status.st_mode):
            return
        if status.st_nlink > 1:
            key = (tree, status.st_ino)
            if key in self._seen:
                return
            self._seen.add(key)
        self.total += status.st_size


def _merge_one(
    trees: OpenDirectories, path: bytes, having: Sequence[int], sizes: _Sizes
) -> tuple[list[tuple[bytes, int]], dict[bytes, list[int]]]:
    """
    Merge one directory.

    @param having: the trees that have it and are not hidden, the topmost first.
    @return: its files, and its directories with the trees that have each.
    """
    files: list[tuple[bytes, int]] = []
    directories: dict[bytes, list[int]] = {}
    closed: set[bytes] = set()  # names that hide those of the layers below
    for tree in having:
        here = trees.at(tree, path)
        opaque = overlay_xattr(here, "opaque")
        with os.scandir(here) as listing:
            for found in listing:
                name = os.fsencode(found.name)
                if name in closed:
                    continue
                if found.is_dir(follow_symlinks=False):
                    directories.setdefault(name, []).append(tree)
                    continue
                closed.add(name)
                if name in directories:
                    continue
                status = found.stat(follow_symlinks=False)
                if not _is_whiteout(here, name, status, by_xattr=opaque == b"x"):
                    sizes.add(tree, status)
                    files.append((name, tree))
        if opaque == b"y":
            break
    return files, directories


def overlay_xattr(target: int | bytes, name: str) -> bytes | None:
    """
    The value of an xattr of overlayfs, in either of its name spaces.

    @param name: the name without its prefix, such as C{opaque}.
    """
    for prefix in _PREFIXES:
        try:
            return os.getxattr(target, prefix + name, follow_symlinks=isinstance(target, int))
        except OSError as e:
            if e.errno not in (errno.ENODATA, errno.ENOTSUP):
                raise
    return None


def _is_whiteout(here: int, name: bytes, status: os.stat_result, *, by_xattr: bool) -> bool:
    """
    Whether a file is a whiteout.

    @param by_xattr: whether its directory is marked for whiteouts in the form
        that unprivileged users can create.
    """
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    if not by_xattr or not stat.S_ISREG(status.st_mode) or status.st_size:
        return False
    return overlay_xattr(by_descriptor(here, name), "whiteout") is not None


def by_descriptor(here: int, name: bytes) -> bytes:
    """
    A path to a name in an open directory, for calls without C{dir_fd}.
    """
    return b"/proc/self/fd/%d/%b" % (here, name)
