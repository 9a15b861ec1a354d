# -*- test-case-name: tests.fleet.test_pauses -*-
"""
The pauses that registries ask for, and the quotas that they name: what one node
receives holds for all nodes with the same account.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from attrs import frozen
from twisted.internet.defer import Deferred

from xferd.expiring import ExpiringDict
from xferd.fleet.accounts import FleetAccounts
from xferd.interfaces.fleet import FleetPause, ICoordination
from xferd.interfaces.hosts import ISharedPauses, Quota
from xferd.interfaces.transfer import HostAccount
from xferd.transfer.eventual import Background

LEAST: Final = 1.0
"""Seconds of the shortest pause that is made known."""

MOST: Final = 600.0
"""Seconds of the longest pause that another node can cause, and for which its quota is
believed."""

BETWEEN: Final = 5.0
"""Seconds between two reports on one account by one node: a registry that names another
quota or pause in each response does not make etcd busy."""

MUCH: Final = 30.0
"""Seconds by which a pause ends so much later that it is reported at once."""

_QUOTA: Final = "quota"
"""In place of a kind of transfers."""


@frozen
class _KnownQuota:
    """
    What all nodes know of an account's quota.

    @ivar since: when it was reported, by the clock.
    """

    remaining: int
    is_low: bool
    since: float


class FleetPauses:
    """
    The pauses and quotas of the daemon's own accounts.  Those of anonymous clients are not
    shared: a registry counts them by address.

    A pause that came from another node is not made known again, so that it ends when it
    ends there.  A quota is made known when it becomes low, while it is low each time that a
    fourth of it was used, and when it is whole again.

    Life cycle: made; C{start}ed; C{stop}ped.
    """

    def __init__(
        self,
        coordination: ICoordination,
        accounts: FleetAccounts,
        pauses: ISharedPauses,
        clock: Callable[[], float],
    ) -> None:
        """
        @param pauses: those of this node.
        @param clock: returns monotonic seconds.
        """
        self._coordination = coordination
        self._accounts = accounts
        self._pauses = pauses
        self._clock = clock
        self._background = Background()
        self._ends: list[Callable[[], None]] = []
        self._quotas: ExpiringDict[str, _KnownQuota] = ExpiringDict(clock, keep=MOST)
        # By host and kind: when the last report was made, and when its pause ends.
        self._told: ExpiringDict[tuple[str, str], tuple[float, float]] = ExpiringDict(clock, keep=BETWEEN)

    def start(self) -> None:
        """
        Begin.
        """
        self._pauses.follow_pauses(self._paused)
        self._pauses.follow_quotas(self._counted)
        self._ends.append(self._coordination.follow_pauses(self._heard))

    def stop(self) -> Deferred[None]:
        """
        End.
        """
        while self._ends:
            self._ends.pop()()
        return self._background.stop()

    def _paused(self, kind: str, account: HostAccount, seconds: float) -> None:
        """
        A registry asked this node for a pause.
        """
        host = account.host
        if account.account is not None or seconds < LEAST or not self._ends:
            return
        if self._may_tell(host, kind, seconds):
            telling = Deferred.fromCoroutine(self._tell(kind, host, seconds, f"{host} asked to wait"))
            self._background.spawn(telling, "while a pause is made known")

    def _counted(self, account: HostAccount, quota: Quota, is_low: bool) -> None:
        """
        A registry named a quota that is low, or was.
        """
        host = account.host
        if account.account is not None or not self._ends or not self._is_news(host, quota, is_low):
            return
        if self._may_tell(host, _QUOTA, 0.0):
            self._quotas[host] = _KnownQuota(quota.remaining, is_low, self._clock())
            reason = f"{quota.remaining} requests to {host} are left"
            seconds = max(LEAST, MOST if quota.reset is None else min(quota.reset, MOST))
            telling = Deferred.fromCoroutine(self._tell(_QUOTA, host, seconds, reason, quota))
            self._background.spawn(telling, "while a quota is made known")

    def _is_news(self, host: str, quota: Quota, is_low: bool) -> bool:
        """
        Whether a quota differs enough from what all nodes know.
        """
        known = self._quotas.get(host)
        if known is None or known.is_low != is_low:
            return known is not None or is_low
        used = abs(known.remaining - quota.remaining)
        return is_low and (used > known.remaining // 4 or self._clock() - known.since > MOST / 2)

    def _may_tell(self, host: str, kind: str, seconds: float) -> bool:
        """
        Whether the last report is long enough ago, or this pause ends much later than that
        one; if so, it counts as made.
        """
        now = self._clock()
        since, until = self._told.get((host, kind)) or (-inf, 0.0)
        if now < since + BETWEEN and now + seconds < until + MUCH:
            return False
        self._told[host, kind] = now, now + seconds
        return True

    async def _tell(
        self, kind: str, host: str, seconds: float, reason: str, quota: Quota | None = None
    ) -> None:
        for name in (await self._accounts.names(host))[:1]:
            self._coordination.pause(host, f"{kind}/{name}", seconds, reason, quota)

    def _heard(self, pause: FleetPause) -> None:
        """
        Another node reports a pause or a quota.
        """
        # No credentials are looked up for whatever host etcd names.
        if self._pauses.knows(pause.host):
            obeying = Deferred.fromCoroutine(self._obey(pause))
            self._background.spawn(obeying, "while a pause is obeyed")

    async def _obey(self, pause: FleetPause) -> None:
        kind, _, name = pause.account.partition("/")
        if name not in await self._accounts.names(pause.host):
            return
        account, seconds = HostAccount(pause.host), min(pause.seconds, MOST)
        if kind != _QUOTA:
            self._pauses.adopt(kind, account, seconds)
        elif pause.quota is not None:
            is_low = self._pauses.adopt_quota(account, pause.quota, pause.age, seconds)
            self._quotas[pause.host] = _KnownQuota(pause.quota.remaining, is_low, self._clock() - pause.age)
