# -*- test-case-name: tests.transfer.test_reputation -*-
"""
Reputation: what the last attempts at each host came to.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IReactorTime

DOUBT: Final = 60.0
"""Seconds for which a host where an attempt came to nothing is not trusted."""

MEMORY: Final = 600.0
"""Seconds for which what is known of a host counts at all."""

_SWEEP: Final = 128
"""How many hosts are known before those that do not count are forgotten."""


class Reputation:
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
        Note that an attempt at a host brought something, or took its time and
        came to nothing.
        """
        now = self._clock.seconds()
        self._last[host] = now, good
        if len(self._last) > self._sweep_at:
            self._last = {h: last for h, last in self._last.items() if now - last[0] < MEMORY}
            self._sweep_at = 2 * len(self._last) + _SWEEP

    def rank(self, host: str) -> int | None:
        """
        0 for a host that brought something, 1 where nothing is known, 2 where
        an attempt came to nothing a while ago, and L{None} where it did so
        lately.
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
