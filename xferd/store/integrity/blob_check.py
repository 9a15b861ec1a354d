# -*- test-case-name: tests.store.integrity.test_blob_check -*-
"""
Compares a blob's file with its digest.

Blocking, for a thread.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from threading import Event

from xferd.names import Digest
from xferd.store.integrity.pace import PIECE, Pace, UncachedReader


def check_blob(path: str, digest: Digest, size: int | None, pace: Pace, stop: Event) -> str:
    """
    Read a blob.

    @param size: its size in bytes, if it is known.
    @return: what is wrong with it; empty if nothing is.
    @raise StoreError: the work was cancelled.
    """
    try:
        # A FIFO must not block the thread.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return "is missing"
    except OSError as e:
        if e.errno == errno.ELOOP:
            return "is a symbolic link"
        return f"cannot be opened: {e.strerror}"
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return "is not a regular file"
        if size is not None and found.st_size != size:
            return f"has {found.st_size} bytes; it should have {size}"
        return _compare(fd, digest, pace, stop)
    finally:
        os.close(fd)


def _compare(fd: int, digest: Digest, pace: Pace, stop: Event) -> str:
    """
    Compare the content of a file with its digest.
    """
    buffer = memoryview(bytearray(PIECE))
    reader, hashing, at = UncachedReader(fd, buffer), hashlib.new(digest.algorithm), 0
    while True:
        try:
            count = reader.read()
        except OSError as e:
            return f"cannot be read at byte {at}: {e.strerror}"
        if not count:
            break
        at += count
        hashing.update(buffer[:count])
        pace.take(count, stop)
    encoded = hashing.hexdigest()
    return "" if encoded == digest.hex else f"has the digest {digest.algorithm}:{encoded}"
