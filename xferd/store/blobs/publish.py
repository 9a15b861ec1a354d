# -*- test-case-name: tests.store.blobs.partials,tests.store.incoming.test_sessions -*-
"""
Makes a file whose bytes have been verified a blob.  Blocking, for threads.
"""

from __future__ import annotations

import os

from xferd.store.disk.file_system import make_directory, move


class Unsynced(Exception):
    """
    C{fsync} failed.  The bytes may not be on the disk, and another C{fsync}
    would not show it: the kernel reports a failed write once.
    """


def publish(fd: int, source: str, target: str) -> None:
    """
    Flush a file and rename it into place.

    @raise Unsynced: it cannot be flushed; the error of the system is the cause.
    @raise OSError: it cannot be renamed.
    """
    try:
        os.fsync(fd)
    except OSError as e:
        raise Unsynced from e
    make_directory(os.path.dirname(target), 0o700)
    move(source, target)
