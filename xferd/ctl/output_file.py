# -*- test-case-name: tests.ctl.test_output_file -*-
"""
Files that commands write, which appear complete or not at all.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from tempfile import mkstemp
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xferd.ctl.interrupts import Interrupts


@contextmanager
def output_file(path: str, interrupts: Interrupts) -> Iterator[BinaryIO]:
    """
    A temporary file beside a path, which gets that name at the end of the block, once its
    content is on the disk.  It is removed if the block raises an exception.

    @param interrupts: signals wait while the file is made or named, so that none stays.
    @raise OSError: the file cannot be made, written or named.
    """
    folder, name = os.path.split(path)
    temporary = None
    try:
        with interrupts.held():
            fd, temporary = mkstemp(prefix=f".{name}.", suffix=".part", dir=folder or ".")
        # It has a name, which other libraries open.
        with open(temporary, "wb", opener=lambda *_: fd) as file:
            yield file
            file.flush()
            os.fsync(fd)
        with interrupts.held():
            os.rename(temporary, path)
            temporary = None
    finally:
        if temporary is not None:
            os.unlink(temporary)
