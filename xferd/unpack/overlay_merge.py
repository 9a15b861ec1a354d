# -*- test-case-name: tests.unpack.test_flatten -*-
"""
The one tree that a stack of layers' trees amounts to: what overlayfs would
show if it were mounted.

Nothing is copied here and nothing opened but directories, one component at a
time and never through a symbolic link.  Imports no Twisted: C{xferctl} uses
it, in its user's process.
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
"""Descriptors to keep."""

_PREFIXES: Final = ("trusted.overlay.", "user.overlay.")


class OpenDirectories:
    """
    The directories of some trees, opened when they are asked for.
    """

    def __init__(self, roots: Sequence[str], most: int = _MOST_OPEN) -> None:
        """
        @param roots: the trees' paths.
        @param most: how many descriptors to keep; one at least.
        """
        self._roots = roots
        self._most = most
        self._open: OrderedDict[tuple[int, bytes], int] = OrderedDict()

    def at(self, tree: int, path: bytes) -> int:
        """
        A descriptor of a directory, valid until the next call.

        @param tree: which tree.
        @param path: relative to its root, which is the empty path; without
            C{.}, C{..} and links.
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
    @ivar tree: the tree whose attributes it has.
    @ivar files: what is in it besides directories: names, and the tree that
        each comes from.
    """

    path: bytes
    tree: int
    files: list[tuple[bytes, int]]


class MergedTree(NamedTuple):
    """
    A merged tree.

    @ivar folders: its directories, each behind the one that holds it.
    @ivar entries: its entries of every kind, the root not among them.
    @ivar size: the bytes in its regular files, each file counted once,
        however many names it has.
    """

    folders: list[MergedDirectory]
    entries: int
    size: int


def merge(trees: OpenDirectories, count: int, look: Callable[[], None]) -> MergedTree:
    """
    Find out what a stack of trees amounts to (OCI image-spec, "Applying
    Changesets"; kernel documentation of overlayfs, "whiteouts and opaque
    directories").

    @param trees: the layers' trees, bottom first, in overlayfs's form.
    @param count: how many there are.
    @param look: called for each directory; what it raises ends the search.
    @raise StoreError: a tree cannot be read.
    """
    folders: list[MergedDirectory] = []
    entries, sizes = 0, _Sizes()
    todo: list[tuple[bytes, list[int]]] = [(b"", list(range(count))[::-1])] if count else []
    while todo:
        look()
        path, having = todo.pop()
        try:
            files, inner = _merge_one(trees, path, having, sizes)
        except OSError as e:
            raise StoreError(f"cannot read {printable(path or b'/')} in the store: {e.strerror}") from e
        folders.append(MergedDirectory(path, having[0], files))
        entries += len(files) + len(inner)
        todo += [(b"%b/%b" % (path, name) if path else name, layers) for name, layers in inner.items()]
    return MergedTree(folders, entries, sizes.total)


class _Sizes:
    """
    Adds up files, each inode once.
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

    @param having: the trees that have it and show through, the topmost first.
    @return: what is in it, and its directories with the trees that have each.
    """
    files: list[tuple[bytes, int]] = []
    folders: dict[bytes, list[int]] = {}
    closed: set[bytes] = set()  # names of which the layers below show nothing
    for tree in having:
        here = trees.at(tree, path)
        opaque = overlay_xattr(here, "opaque")
        with os.scandir(here) as listing:
            for found in listing:
                name = os.fsencode(found.name)
                if name in closed:
                    continue
                if found.is_dir(follow_symlinks=False):
                    folders.setdefault(name, []).append(tree)
                    continue
                closed.add(name)
                if name in folders:
                    continue
                status = found.stat(follow_symlinks=False)
                if not _is_whiteout(here, name, status, by_xattr=opaque == b"x"):
                    sizes.add(tree, status)
                    files.append((name, tree))
        if opaque == b"y":
            break
    return files, folders


def overlay_xattr(target: int | bytes, name: str) -> bytes | None:
    """
    What overlayfs would read of a file, in either of its name spaces.

    @param name: without prefix, C{opaque}.
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
    Whether a file only hides what the layers below have of its name.

    @param by_xattr: whether its directory says that there may be whiteouts of
        the form that every user can make.
    """
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    if not by_xattr or not stat.S_ISREG(status.st_mode) or status.st_size:
        return False
    return overlay_xattr(by_descriptor(here, name), "whiteout") is not None


def by_descriptor(here: int, name: bytes) -> bytes:
    """
    A path to a name in an open directory, for calls that know no C{dir_fd}.
    """
    return b"/proc/self/fd/%d/%b" % (here, name)
