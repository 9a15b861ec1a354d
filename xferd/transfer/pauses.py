# -*- test-case-name: tests.transfer.test_pauses -*-
"""
Pauses: the time before which nothing may start at a host, for one account or
for all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, NamedTuple

from twisted.internet.interfaces import IReactorTime

ROUNDING: Final = 1e-3
"""Seconds by which a timer may be early: sums of floats do not meet exactly."""

_SWEEP: Final = 64
"""How many pauses are kept before expired ones are removed."""


class HostAccount(NamedTuple):
    """
    One account at one host.  A registry's rate limit belongs to it.

    @ivar host: the registry's host.
    @ivar account: the account there, as in
        L{ISource <xferd.interfaces.transfer.ISource>}.
    """

    host: str
    account: Hashable = None


class Pauses:
    """
    The pauses of hosts and of accounts.  A later pause never shortens an earlier one.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._observers: list[Callable[[str | HostAccount], object]] = []
        self._ends: dict[str | HostAccount, float] = {}
        self._sweep_at = _SWEEP

    def __len__(self) -> int:
        return len(self._ends)

    def observe(self, observer: Callable[[str | HostAccount], object]) -> None:
        """
        Call C{observer} with each host or account when it is paused.
        """
        self._observers.append(observer)

    def pause(self, whom: str | HostAccount, seconds: float) -> None:
        """
        Pause a host, for all accounts, or one account.
        """
        now = self._clock.seconds()
        self._ends[whom] = max(self._ends.get(whom, 0.0), now + seconds)
        if len(self._ends) > self._sweep_at:
            self._ends = {key: end for key, end in self._ends.items() if end > now}
            self._sweep_at = 2 * len(self._ends) + _SWEEP
        for observer in self._observers:
            observer(whom)

    def left(self, whom: str | HostAccount) -> float:
        """
        The seconds left of the pause of a host, or of an account alone; 0 if
        there is none.
        """
        end = self._ends.get(whom)
        if end is None:
            return 0.0
        left = end - self._clock.seconds()
        if left > ROUNDING:
            return left
        del self._ends[whom]
        return 0.0
