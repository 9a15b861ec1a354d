# -*- test-case-name: tests.transfer.test_file_descriptors -*-
"""
File descriptors: whether enough of them are free for an attempt, and whether an
error means that none was left.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from xferd.errors import causes

RESERVE: Final = 8
"""Descriptors that must be free for an attempt to begin: for its file, its
connection, one to a token server, and the resolver's."""

PAUSE: Final = 1.0
"""Seconds until the next try."""

_SHORTAGE: Final = frozenset({errno.EMFILE, errno.ENFILE})


def few_left(needed: int = RESERVE) -> bool:
    """
    Whether the process can open fewer than C{needed} descriptors.
    """
    opened: list[int] = []
    try:
        opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        while len(opened) < needed:
            # In less than half the time of opening it again.
            opened.append(os.dup(opened[0]))
    except OSError as e:
        return e.errno in _SHORTAGE
    finally:
        for fd in opened:
            os.close(fd)
    return False


def is_shortage(error: BaseException) -> bool:
    """
    Whether an error, or one of its causes, is that no descriptor was left for a
    file, a socket or a process.
    """
    # Twisted's ConnectError keeps the number in an attribute of its own.
    return any(
        getattr(e, "errno", None) in _SHORTAGE or getattr(e, "osError", None) in _SHORTAGE
        for e in causes(error)
    )
