# -*- test-case-name: tests.store.trees.test_hard_links -*-
"""
Makes variants of trees: their files are hard links to those of another tree,
and their directories are their own.

The files take no space, but directories and names do: they count towards the
limits of an image and the usage of the store.

Blocking, for threads.
"""

from __future__ import annotations

import os
from threading import Event

from attrs import define, frozen

from xferd.errors import BadLayer
from xferd.store.disk.file_system import DIRECTORY
from xferd.store.trees.implied_directories import OVERLAY, DirectoryMetadata
from xferd.store.trees.walk import check, xattr_names

_LEAST = 4096
"""Bytes that a directory takes at least, including the file system's own data."""


@frozen
class CopySize:
    """
    The size of variants, without the files that they share.

    @ivar entries: directories, and names of files.
    @ivar size: bytes of the directories.
    """

    entries: int = 0
    size: int = 0

    def __add__(self, other: CopySize) -> CopySize:
        """
        Both together.
        """
        return CopySize(self.entries + other.entries, self.size + other.size)

    def check(self, most: CopySize) -> None:
        """
        @raise BadLayer: it is too much for one image.
        """
        for unit, asked, allowed, setting in (
            ("entries", self.entries, most.entries, "entries"),
            ("bytes", self.size, most.size, "size"),
        ):
            if asked > allowed:
                raise BadLayer(
                    "the image needs copies of layers whose tars do not list all directories, and the "
                    f"copies have more than {allowed} {unit} together; raise '{setting}' in [unpack], or "
                    "have the image made again with all directories listed"
                )


def link_tree(source: str, target: str, used: CopySize, most: CopySize | None, stop: Event) -> CopySize:
    """
    Make a second tree of hard links to the first one's files, with directories
    of its own.

    @param target: an empty directory.
    @param used: the size of the other variants in the same image.
    @param most: the size of all of them together, at most; L{None} for no limit.
    @param stop: ends the work when it is set.
    @return: its size.
    @raise BadLayer: it would be too large.
    @raise StoreError: the work was stopped.
    """
    linking = _Linking(used, most, stop)
    source_fd = os.open(source, DIRECTORY)
    try:
        target_fd = os.open(target, DIRECTORY)
        try:
            linking.link(source_fd, target_fd)
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)
    return linking.copied


def measure(tree: str) -> CopySize:
    """
    Count the size of a variant.
    """
    entries, size = 0, 0
    for _, directories, files, fd in os.fwalk(tree):
        entries += 1 + len(files)
        entries += sum(os.path.islink(f"/proc/self/fd/{fd}/{name}") for name in directories)
        size += _bytes(fd)
    return CopySize(entries, size)


@define(eq=False)
class _Linking:
    """
    One variant that is being made.

    @ivar copied: its size so far.
    """

    _used: CopySize
    _most: CopySize | None
    _stop: Event
    copied: CopySize = CopySize()

    def link(self, source: int, target: int) -> None:
        """
        Link the files of a directory, and of those in it.
        """
        with os.scandir(source) as listing:
            entries = list(listing)
        self._count(CopySize(1 + sum(not entry.is_dir(follow_symlinks=False) for entry in entries)))
        for entry in entries:
            check(self._stop)
            if not entry.is_dir(follow_symlinks=False):
                os.link(entry.name, entry.name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
                continue
            os.mkdir(entry.name, 0o700, dir_fd=target)
            inner_source = os.open(entry.name, DIRECTORY, dir_fd=source)
            try:
                inner_target = os.open(entry.name, DIRECTORY, dir_fd=target)
                try:
                    self.link(inner_source, inner_target)
                finally:
                    os.close(inner_target)
            finally:
                os.close(inner_source)
        for name in xattr_names(source):
            if name.startswith(OVERLAY):
                os.setxattr(target, name, os.getxattr(source, name))
        DirectoryMetadata.of(source).apply(target)
        self._count(CopySize(0, _bytes(target)))

    def _count(self, more: CopySize) -> None:
        self.copied += more
        if self._most is not None:
            (self._used + self.copied).check(self._most)


def _bytes(fd: int) -> int:
    return max(os.fstat(fd).st_blocks * 512, _LEAST)
