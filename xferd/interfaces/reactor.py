# -*- test-case-name: tests.test_interfaces -*-
"""
What the daemon needs of a reactor and of a wall clock.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import (
    IReactorCore,
    IReactorPluggableNameResolver,
    IReactorProcess,
    IReactorSSL,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
    IReactorUNIX,
)


class IUnixReactor(IReactorUNIX, IReactorTime):
    """
    What servers and clients of unix sockets need of a reactor.
    """


class IReactor(
    IUnixReactor,
    IReactorCore,
    IReactorTCP,
    IReactorSSL,
    IReactorProcess,
    IReactorThreads,
    IReactorPluggableNameResolver,
):
    """
    What the daemon as a whole needs of a reactor.  A package requires less.
    """


WallClock = Callable[[], float]
"""
Reports the seconds since the epoch.  It makes stamps that people and other
programs read; it may jump at any time, so durations are measured with
L{IReactorTime}.
"""
