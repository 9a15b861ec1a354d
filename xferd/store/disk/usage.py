# -*- test-case-name: tests.store.disk.test_usage -*-
"""
The disk space in use by parts of the store.
"""

from __future__ import annotations

import os

from xferd.store.paths import Paths


def files_of(paths: Paths) -> dict[str, int]:
    """
    The bytes of C{blobs}, and of partial blobs, C{arriving}.  Blocking.
    """
    algorithms = _entries(paths.blobs)
    blobs = sum(_size(file) for algorithm in algorithms for file in _entries(algorithm.path))
    return {"blobs": blobs, "arriving": sum(_size(file) for file in _entries(paths.ingest))}


def size_below(directory: str) -> int:
    """
    The bytes that a directory and its entries occupy; 0 if it does not exist.
    Blocking.
    """
    size = 0
    try:
        for _, _, names, fd in os.fwalk(directory):
            for name in names:
                size += os.stat(name, dir_fd=fd, follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:
        # It is being removed meanwhile.
        return size
    return size


def _entries(directory: str) -> list[os.DirEntry[str]]:
    """
    The entries of a directory; none if it is missing or not a directory.
    """
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError:
        return []


def _size(entry: os.DirEntry[str]) -> int:
    """
    The bytes that a file occupies, which holes make fewer than its length.
    """
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        # It has become a blob or has been removed.
        return 0
    return min(found.st_size, found.st_blocks * 512)
