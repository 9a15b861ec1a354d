# -*- test-case-name: tests.test_descriptors -*-
"""
How many files the daemon may have open: one for each connection and each
blob that moves, where the usual limit of 1,024 is meant for programs that use
C{select}.

The daemon raises its own soft limit, and runs other programs with the one
that it was started with, because some of those close every descriptor up to
the limit, or do use C{select}.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from typing import Final

MOST: Final = 65_536
"""The soft limit that the daemon gives itself, unless the hard limit is lower."""


def own_limit() -> int:
    """
    This process's soft limit.
    """
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_limit() -> None:
    """
    Raise this process's soft limit to L{MOST} or to the hard limit, whichever
    is lower; one that is higher already stays.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limited(soft: int, argv: Sequence[str]) -> list[str]:
    """
    A command line that runs another one with this soft limit.

    Twisted sets no limit between C{fork} and C{exec}, so that the shell does,
    which then becomes that program.

    @param argv: the program's path, and its arguments.
    """
    number = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
    return ["/bin/sh", "-c", 'ulimit -S -n "$0"; exec "$@"', number, *argv]
