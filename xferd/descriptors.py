# -*- test-case-name: tests.test_descriptors -*-
"""
The limit of open files: the daemon needs one for each connection and each
moving blob, and the usual limit of 1,024 is for programs that use C{select}.

The daemon raises its own soft limit, and runs other programs with its original
one, as some of them close every descriptor up to the limit, or use C{select}.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from typing import Final

MOST: Final = 65_536
"""The soft limit that the daemon gives itself, unless the hard limit is lower."""


def own_limit() -> int:
    """
    The soft limit of this process.
    """
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_limit() -> None:
    """
    Raise the soft limit of this process to the lower of L{MOST} and the hard
    limit, unless it is higher already.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limited(soft: int, argv: Sequence[str]) -> list[str]:
    """
    A command line that runs another one with a soft limit.

    Twisted cannot set a limit between C{fork} and C{exec}; a shell does, and then
    executes the program.

    @param argv: the program's path, and its arguments.
    """
    number = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
    return ["/bin/sh", "-c", 'ulimit -S -n "$0"; exec "$@"', number, *argv]
