"""
Child processes that are another user, for tests that run as root.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import SkipTest

from tests.forks import bounded, fork

OTHER = 65534
"""A user who is neither root nor the user of the tests."""


@contextmanager
def child(uid: int, run: Callable[[int], None]) -> Iterator[int]:
    """
    Run a function in a child process.

    @param uid: the user that the child is.
    @param run: gets the end of a pipe that is at its end as soon as the
        context is left.
    @return: the context, which has the process ID.
    """
    if os.geteuid() not in (0, uid):
        raise SkipTest("only root can be another user")
    reads, writes = os.pipe()
    process = fork()
    if process == 0:
        try:
            os.close(writes)
            if uid != os.geteuid():
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            run(reads)
        finally:
            os._exit(0)
    os.close(reads)
    try:
        yield process
    finally:
        os.close(writes)
        with bounded(lambda: [process]):
            os.waitpid(process, 0)
