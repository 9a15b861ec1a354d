# -*- test-case-name: tests.store.trees.test_lower_directories -*-
"""
Looks up the metadata of implied directories in the layers below.

Each lower tree is walked once for all directories, and only where it has a
directory that is still sought.  A directory with fewer entries than are sought
in it is listed instead.  So the work depends on the size of the trees, not on
paths times layers times depth.

Blocking, for threads.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from threading import Event
from typing import Final

from attrs import define, field

from xferd.errors import BadLayer
from xferd.store.disk.file_system import DIRECTORY
from xferd.store.trees.implied_directories import DirectoryMetadata
from xferd.store.trees.walk import TreeWalk, check, components, opaque

MOST_LOOKS: Final = 2_000_000
"""Directories and entries of lower trees to look at for one layer, at most."""


def find_lower(
    tree: str,
    implied: Iterable[bytes],
    below: Sequence[str],
    stop: Event,
    most: int = MOST_LOOKS,
) -> dict[bytes, DirectoryMetadata | None]:
    """
    Look up implied directories in the trees below.

    @param tree: the tree that implies them.
    @param below: the trees that it stands on, the nearest first.
    @param stop: ends the work when it is set.
    @param most: directories and entries to look at, at most.
    @return: their metadata; L{None} if the trees below lack the directory.
    @raise BadLayer: the search would exceed C{most}.
    @raise StoreError: it was stopped.
    """
    search = _Search(dict.fromkeys(implied), stop, most)
    sought = _Sought()
    for path in search.found:
        sought.add(path)
    with TreeWalk(tree) as walk:
        search.unhide(walk.open(b""), sought)
    # Each tree is searched once, although it may be in the chain several times.
    for lower in dict.fromkeys(below):
        if sought.is_done:
            break
        with TreeWalk(lower) as walk:
            search.visit(walk.open(b""), sought, hidden=False)
    return search.found


@define(eq=False)
class _Sought:
    """
    A directory that is sought, or leads to sought ones.

    @ivar path: the implied directory, until it is found.
    @ivar inner: the directories that are sought in it, by name.
    """

    path: bytes | None = None
    inner: dict[bytes, _Sought] = field(factory=dict)

    @property
    def is_done(self) -> bool:
        """
        Whether nothing is sought here any more.
        """
        return self.path is None and not self.inner

    def add(self, path: bytes) -> None:
        """
        Add a directory to seek.
        """
        here = self
        for name in components(path):
            here = here.inner.setdefault(name, _Sought())
        here.path = path


@define(eq=False)
class _Search:
    """
    One search.

    @ivar found: the metadata of the directories that were found.
    """

    found: dict[bytes, DirectoryMetadata | None]
    _stop: Event
    _left: int

    def unhide(self, fd: int, sought: _Sought) -> None:
        """
        Stop seeking directories that the tree itself hides by an opaque
        directory.
        """
        check(self._stop)
        if opaque(fd):
            sought.inner.clear()
        for name, inner in sought.inner.items():
            if inner.inner:
                inner_fd = os.open(name, DIRECTORY, dir_fd=fd)
                try:
                    self.unhide(inner_fd, inner)
                finally:
                    os.close(inner_fd)

    def visit(self, fd: int, sought: _Sought, hidden: bool) -> None:
        """
        Search a directory of a lower tree.

        @param hidden: whether a directory above it hides the trees further down.
        """
        check(self._stop)
        self._look()
        hidden = hidden or opaque(fd)
        if sought.path is not None:
            self.found[sought.path] = DirectoryMetadata.of(fd)
            sought.path = None
        if not sought.inner:
            return
        there = self._there(fd, sought.inner)
        for name, is_directory in there.items():
            if is_directory:
                inner = os.open(name, DIRECTORY, dir_fd=fd)
                try:
                    self.visit(inner, sought.inner[name], hidden)
                finally:
                    os.close(inner)
            if not is_directory or sought.inner[name].is_done:
                # Also for a whiteout, which is not a directory.
                del sought.inner[name]
        if hidden:
            for name in sought.inner.keys() - there.keys():
                del sought.inner[name]

    def _there(self, fd: int, names: dict[bytes, _Sought]) -> dict[bytes, bool]:
        """
        Find some entries of a directory.

        @return: those that exist, each with whether it is a directory.
        """
        there: dict[bytes, bool] = {}
        with os.scandir(fd) as listing:
            for number, entry in enumerate(listing):
                if number >= len(names):
                    break
                self._look()
                name = os.fsencode(entry.name)
                if name in names:
                    there[name] = entry.is_dir(follow_symlinks=False)
            else:
                return there
        for name in names:
            self._look()
            try:
                mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
            except FileNotFoundError:
                there.pop(name, None)
            else:
                there[name] = stat.S_ISDIR(mode)
        return there

    def _look(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise BadLayer(
                "the directories that the layer's tar does not list are too many to be looked up "
                "in the layers below; have the image built again with all directories listed"
            )
