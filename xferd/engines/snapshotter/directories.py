# -*- test-case-name: tests.engines.snapshotter.test_directories -*-
"""
The files of an engine's snapshots::

    snapshots/<number>/fs      the files of a snapshot that has its own
    snapshots/<number>/work    for overlayfs, beside it
    l/<number>                 a short name of any snapshot's files; l/<number>-1 and
                               so on, if these have moved since

Blocking, for threads.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, count
from typing import Final

from attrs import frozen

from xferd.errors import StoreError
from xferd.interfaces.snapshots import Usage
from xferd.store.disk.file_system import DIRECTORY, make_directory, sync_directory, trying_to

BLOCK: Final = 512
"""The unit of C{st_blocks}."""

DEPTH: Final = 64
"""Directories within directories that are open at once.  What is deeper is not counted:
containers can make trees of any depth."""


@frozen
class Directories:
    """
    The directories of one engine.

    @ivar root: C{engines/NAME} in the data directory.
    """

    root: str

    @property
    def _snapshots(self) -> str:
        return os.path.join(self.root, "snapshots")

    @property
    def _links(self) -> str:
        return os.path.join(self.root, "l")

    def of(self, number: int | str) -> str:
        """
        The directory of a snapshot's own files.
        """
        return os.path.join(self._snapshots, str(number))

    def prepare(self) -> None:
        """
        Create the directories.

        @raise StoreError: the disk refuses, or overlayfs cannot have its files there.
        """
        with trying_to(f"use {self.root} for snapshots"):
            for path in (os.path.dirname(self.root), self.root, self._snapshots, self._links):
                make_directory(path, 0o700)
        for character in ",:":
            if character in self.root:
                raise StoreError(
                    f"containers cannot run in {self.root}: mounts take no path with {character!r}; "
                    "choose another data directory"
                )
        if file_system_of(self.root) == "overlay":
            raise StoreError(
                f"containers cannot run in {self.root}, which is on an overlay itself, as in a container; "
                "keep the data directory on a volume"
            )

    def present(self) -> tuple[Sequence[str], Sequence[str]]:
        """
        The names of all directories, and of all short names: to be compared afterwards
        with the snapshots, as further ones may be made meanwhile.
        """
        with trying_to(f"look through {self.root}"):
            return os.listdir(self._snapshots), os.listdir(self._links)

    def remove_links(self, names: Iterable[str]) -> None:
        """
        Remove short names.
        """
        with trying_to(f"look through {self.root}"):
            for name in names:
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self._links, name))

    def make(self, number: int, writable: bool, parent: str | None, root: tuple[int, int] | None) -> None:
        """
        Make the directory of a new snapshot, durably.

        @param writable: whether overlayfs will write there.
        @param parent: the directory whose owner and mode C{fs} takes, as it becomes
            the root directory of a container.
        @param root: the user and group that own it instead.
        """
        own = self.of(number)
        with trying_to(f"make {own}"):
            os.mkdir(own, 0o700)
            files = os.path.join(own, "fs")
            os.mkdir(files, 0o755)
            found = os.stat(own if parent is None else parent)
            os.chown(files, *(root or (found.st_uid, found.st_gid)))
            os.chmod(files, 0o755 if parent is None else stat.S_IMODE(found.st_mode))
            if writable:
                work = os.path.join(own, "work")
                os.mkdir(work)
                os.chmod(work, 0o711)  # noqa: S103 - overlayfs works in there as any user
            sync_directory(own)
            sync_directory(self._snapshots)

    def shorten(self, lowers: Sequence[tuple[int, str]]) -> Sequence[str]:
        """
        Short names for lower directories.

        The bottom one keeps its own, so that all have the data directory in common:
        containerd mounts that with mapped owners for a user namespace, and a relative
        link stays in there.

        @param lowers: number and directory of each, the top one first.
        """
        with trying_to(f"make short names in {self._links}"):
            names = [self._link(number, path) for number, path in lowers[:-1]]
        return [*names, *(path for _, path in lowers[-1:])]

    def _link(self, number: int, path: str) -> str:
        """
        A link to a directory.  One that leads elsewhere stays: the garbage collector
        follows those that mounts have, also if the tree has another place by now.
        """
        target = os.path.relpath(path, self._links)
        for name in chain([str(number)], (f"{number}-{again}" for again in count(1))):
            link = os.path.join(self._links, name)
            with suppress(FileExistsError):
                os.symlink(target, link)
            if os.readlink(link) == target:
                return link
        raise AssertionError("endless")

    def usage(self, number: int) -> Usage:
        """
        What the files of a snapshot take: each inode once.
        """
        with trying_to(f"measure {self.of(number)}"):
            fd = _open_directory(os.path.join(self.of(number), "fs"))
            if fd is None:
                return Usage()
            try:
                blocks, inodes, linked = 0, 0, set[int]()
                for found in chain([os.fstat(fd)], _entries(fd)):
                    if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                        if found.st_ino in linked:
                            continue
                        linked.add(found.st_ino)
                    blocks, inodes = blocks + found.st_blocks, inodes + 1
            finally:
                os.close(fd)
        return Usage(blocks * BLOCK, inodes)


def _entries(fd: int, depth: int = 0) -> Iterator[os.stat_result]:
    """
    Everything in a directory, by descriptors: a container may replace any directory by a
    link meanwhile.  What is removed meanwhile is left out, and so is what is deeper than
    L{DEPTH}.
    """
    directories = []
    with os.scandir(fd) as listing:
        for entry in listing:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield found
            if stat.S_ISDIR(found.st_mode) and depth < DEPTH:
                directories.append(entry.name)
    for name in directories:
        inner = _open_directory(name, fd)
        if inner is not None:
            try:
                yield from _entries(inner, depth + 1)
            finally:
                os.close(inner)


def _open_directory(name: str, parent: int | None = None) -> int | None:
    """
    Open a directory; L{None} if there is none, or something else.
    """
    try:
        return os.open(name, DIRECTORY, dir_fd=parent)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def file_system_of(path: str, mounts: str = "/proc/self/mountinfo") -> str:
    """
    The type of the file system that a directory is on, or the empty string if it is
    unknown.

    @param mounts: in the format of proc(5), C{/proc/pid/mountinfo}.
    """
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                head, _, tail = line.partition(" - ")
                if head.split()[2] == wanted:
                    return tail.split()[0]
    except OSError:
        pass
    return ""
