# -*- test-case-name: tests.transfer.test_pauses -*-
"""
Registry back-offs: the time before which nothing may start at a host, for one account or
for all, because the host requested it (C{Retry-After}).  In this module they are called pauses;
those that people make are in L{steering<xferd.transfer.steering>}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from xferd.interfaces.transfer import HostAccount

ROUNDING: Final = 1e-3
"""Seconds by which a timer may be early: sums of floats do not meet exactly."""

_SWEEP: Final = 64
"""How many pauses are kept before expired ones are removed."""

_UNUSED: Final = 600.0
"""Seconds without a start after which an interval may be removed."""


class Pauses:
    """
    The pauses of hosts and of accounts.  A later pause never shortens an earlier one.

    Starts at an account may also be kept apart by an interval.  Unlike a pause,
    the interval does not concern a transfer that has a slot.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._observers: list[Callable[[str | HostAccount], object]] = []
        self._ends: dict[str | HostAccount, float] = {}
        # Of each account with an interval, the interval and the time of the next start.
        self._intervals: dict[HostAccount, tuple[float, float]] = {}
        self._sweep_at = _SWEEP

    def __len__(self) -> int:
        return len(self._ends) + len(self._intervals)

    def __bool__(self) -> bool:
        # Asked for each request that waits: there are no pauses, mostly.
        return bool(self._ends or self._intervals)

    def observe(self, observer: Callable[[str | HostAccount], object]) -> None:
        """
        Call C{observer} with each host or account that is paused, that has to
        wait for its next start, or whose pause is cleared.
        """
        self._observers.append(observer)

    def pause(self, whom: str | HostAccount, seconds: float) -> None:
        """
        Pause a host, for all accounts, or one account.
        """
        now = self._clock.seconds()
        self._ends[whom] = max(self._ends.get(whom, 0.0), now + seconds)
        self._sweep()
        self._changed(whom)

    def space(self, account: HostAccount, seconds: float) -> None:
        """
        Let the starts at an account be so many seconds apart, from now on; 0
        ends that.
        """
        latest = self._clock.seconds() + seconds
        _, following = self._intervals.pop(account, (0.0, latest))
        if seconds:
            self._intervals[account] = seconds, min(following, latest)
            self._sweep()
        self._changed(account)

    def started(self, account: HostAccount) -> None:
        """
        Record that a transfer has started at an account.
        """
        interval, _ = self._intervals.get(account, (0.0, 0.0))
        if interval:
            self._intervals[account] = interval, self._clock.seconds() + interval
            self._changed(account)

    def clear(self, host: str) -> None:
        """
        End the pauses and the intervals of a host and of all accounts there.
        """
        cleared = [whom for whom in {*self._ends, *self._intervals} if _is_at(whom, host)]
        for whom in cleared:
            self._ends.pop(whom, None)
            if isinstance(whom, HostAccount):
                self._intervals.pop(whom, None)
        for whom in cleared:
            self._changed(whom)

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

    def before_start(self, account: HostAccount) -> float:
        """
        The seconds until a transfer may start at an account, by its own pause
        and interval.
        """
        left = self.left(account)
        if self._intervals:
            _, following = self._intervals.get(account, (0.0, 0.0))
            wait = following - self._clock.seconds()
            left = max(left, wait if wait > ROUNDING else 0.0)
        return left

    def _changed(self, whom: str | HostAccount) -> None:
        for observer in self._observers:
            observer(whom)

    def _sweep(self) -> None:
        if len(self) > self._sweep_at:
            now = self._clock.seconds()
            self._ends = {key: end for key, end in self._ends.items() if end > now}
            self._intervals = {
                account: (interval, following)
                for account, (interval, following) in self._intervals.items()
                if following > now - _UNUSED
            }
            self._sweep_at = 2 * len(self) + _SWEEP


def _is_at(whom: str | HostAccount, host: str) -> bool:
    return (whom.host if isinstance(whom, HostAccount) else whom) == host
