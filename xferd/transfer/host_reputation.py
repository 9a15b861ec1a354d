# -*- test-case-name: tests.transfer.test_host_reputation -*-
"""
The reputation of hosts: the outcome of the last attempt at each.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IReactorTime

DOUBT: Final = 60.0
"""Seconds for which a host is not trusted after an attempt without a byte."""

MEMORY: Final = 600.0
"""Seconds after which the outcome of an attempt is forgotten."""

_SWEEP: Final = 128
"""How many hosts are recorded before old records are removed."""


class HostReputation:
    """
    The reputations of hosts, by their last attempts of the last ten minutes.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._last: dict[str, tuple[float, bool]] = {}
        self._sweep_at = _SWEEP

    def __len__(self) -> int:
        return len(self._last)

    def record(self, host: str, good: bool) -> None:
        """
        Record the outcome of an attempt at a host.

        @param good: whether it transferred anything.
        """
        now = self._clock.seconds()
        self._last[host] = now, good
        if len(self._last) > self._sweep_at:
            self._last = {h: last for h, last in self._last.items() if now - last[0] < MEMORY}
            self._sweep_at = 2 * len(self._last) + _SWEEP

    def rank(self, host: str) -> int | None:
        """
        The place of a host among others, lower first.

        @return: 0 if the last attempt transferred something, 1 if no attempt
            is known, 2 if the last attempt transferred nothing, and L{None} if
            that was less than L{DOUBT} ago.
        """
        last = self._last.get(host)
        if last is None:
            return 1
        since, good = last
        age = self._clock.seconds() - since
        if age >= MEMORY:
            return 1
        if good:
            return 0
        return 2 if age >= DOUBT else None
