# -*- test-case-name: tests.store.disk.test_usage -*-
"""
How many bytes the store takes on the disk.
"""

from __future__ import annotations

import os

from xferd.store.paths import Paths


def files_of(paths: Paths) -> dict[str, int]:
    """
    The bytes of C{blobs}, and of what is C{arriving}.  Blocking.
    """
    algorithms = _entries(paths.blobs)
    blobs = sum(_size(file) for algorithm in algorithms for file in _entries(algorithm.path))
    return {"blobs": blobs, "arriving": sum(_size(file) for file in _entries(paths.ingest))}


def size_below(directory: str) -> int:
    """
    The bytes that a directory takes with all that is in it; none if it has
    gone.  Blocking.
    """
    size = 0
    try:
        for _, _, names, fd in os.fwalk(directory):
            for name in names:
                size += os.stat(name, dir_fd=fd, follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:
        # It is being removed.
        return size
    return size


def _entries(directory: str) -> list[os.DirEntry[str]]:
    """
    What is in a directory; nothing, where it has gone or is none.
    """
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError:
        return []


def _size(entry: os.DirEntry[str]) -> int:
    """
    The bytes that a file takes, which may be fewer than its length says.
    """
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        # It has become a blob, or was removed, meanwhile.
        return 0
    return min(found.st_size, found.st_blocks * 512)
