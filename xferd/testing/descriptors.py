# -*- test-case-name: tests.transfer.test_file_descriptors -*-
"""
A process without free file descriptors, for tests.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_descriptors(left: int = 0) -> Iterator[None]:
    """
    A context in which this process can open C{left} descriptors at most.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + left, hard))
    taken: list[int] = []
    try:
        while not taken or taken[-1] < highest + left:
            taken.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        pass
    for fd in taken[len(taken) - left :]:
        os.close(fd)
    try:
        yield
    finally:
        for fd in taken[: len(taken) - left]:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
