# -*- test-case-name: tests.registry.test_clock_skews -*-
"""
The differences between registries' clocks and this machine's, by the C{Date} of
responses (RFC 9110, section 6.6.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from twisted.web.http_headers import Headers

from xferd.interfaces.reactor import WallClock
from xferd.registry.transport.errors import date_sent

MAX_HOSTS: Final = 100
"""Registries that are remembered: those that responded last."""


class ClockSkews:
    """
    The clocks of all registries.
    """

    def __init__(self, wall_clock: WallClock) -> None:
        self._wall_clock = wall_clock
        self._skews: dict[str, float] = {}

    def note(self, host: str, headers: Headers) -> None:
        """
        Note the clock of a response.
        """
        sent = date_sent(headers)
        if sent is None:
            return
        self._skews.pop(host, None)
        self._skews[host] = sent - self._wall_clock()
        if len(self._skews) > MAX_HOSTS:
            del self._skews[next(iter(self._skews))]

    def known(self) -> Mapping[str, float]:
        """
        The seconds by which each registry's clock is ahead.
        """
        return dict(self._skews)
