# -*- test-case-name: tests.test_whole_file -*-
"""
Small files that are replaced as a whole: readers find the old content or the new one.
"""

from __future__ import annotations

import os
from tempfile import mkstemp


def write_whole(path: str, data: bytes) -> None:
    """
    Replace a file, with mode 0600.  Its content is on the disk before it has the name.

    @raise OSError: it cannot be written; nothing has changed then.
    """
    directory, name = os.path.split(path)
    fd, temporary = mkstemp(prefix=f".{name}.", dir=directory or ".")
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
