# -*- test-case-name: tests.web.test_audit -*-
"""
The lines of the audit trail: their form, the doors, and how many may come in a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

LINE: Final = "{user} by {door}: {method} {path}: {status}{details}"
"""The format of a line."""

MOST_LINES: Final = 60
"""The largest number of lines within L{WINDOW} of what others can repeat at will."""

WINDOW: Final = 60.0
"""Seconds."""


class Door(StrEnum):
    """
    How a request came.

    @cvar SOCKET: the unix socket of the API.
    @cvar LOOPBACK: the API, at an address of this machine alone.
    @cvar TCP: the API, at another address.
    @cvar REGISTRY: the registry at C{/v2/}.
    @cvar FLEET: from another node of the fleet.
    @cvar BROWSER: the API, by the login of a browser.
    @cvar ENGINE: from a container engine, by gRPC.
    @cvar SIGNAL: a signal to the daemon; the kernel does not report its sender.
    """

    SOCKET = "socket"
    LOOPBACK = "loopback"
    TCP = "tcp"
    REGISTRY = "registry"
    FLEET = "fleet"
    BROWSER = "browser"
    ENGINE = "engine"
    SIGNAL = "signal"


class Allowance:
    """
    Permits L{MOST_LINES} lines within L{WINDOW}, and counts those that it leaves out.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """
        @param clock: returns monotonic seconds.
        """
        self._clock = clock
        self._until = 0.0
        self._lines = 0
        self._left_out = 0

    def permits(self) -> bool:
        """
        Count a line.

        @return: whether it may be written.
        """
        now = self._clock()
        if now >= self._until:
            self._until, self._lines = now + WINDOW, 0
        self._lines += 1
        if self._lines > MOST_LINES:
            self._left_out += 1
            return False
        return True

    def left_out(self) -> int:
        """
        The number of lines that were left out since this was called last.
        """
        number, self._left_out = self._left_out, 0
        return number
