# -*- test-case-name: tests.fleet.test_pauses -*-
"""
The pauses that registries ask for: a pause that one node receives holds for all nodes
with the same account.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred

from xferd.fleet.accounts import FleetAccounts
from xferd.interfaces.fleet import FleetPause, ICoordination
from xferd.interfaces.hosts import ISharedPauses
from xferd.interfaces.transfer import HostAccount
from xferd.transfer.eventual import Background

LEAST: Final = 1.0
"""Seconds of the shortest pause that is made known."""

MOST: Final = 600.0
"""Seconds of the longest pause that another node can cause."""


class FleetPauses:
    """
    The pauses of the daemon's own accounts.  Those of anonymous clients are not shared:
    a registry counts them by address.

    A pause that came from another node is not made known again, so that it ends when it
    ends there.

    Life cycle: made; C{start}ed; C{stop}ped.
    """

    def __init__(self, coordination: ICoordination, accounts: FleetAccounts, pauses: ISharedPauses) -> None:
        """
        @param pauses: those of this node.
        """
        self._coordination = coordination
        self._accounts = accounts
        self._pauses = pauses
        self._background = Background()
        self._ends: list[Callable[[], None]] = []

    def start(self) -> None:
        """
        Begin.
        """
        self._pauses.follow_pauses(self._paused)
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
        if account.account is None and seconds >= LEAST and self._ends:
            telling = Deferred.fromCoroutine(self._tell(kind, account.host, seconds))
            self._background.spawn(telling, "while a pause is made known")

    async def _tell(self, kind: str, host: str, seconds: float) -> None:
        name = await self._accounts.name(host)
        if name:
            self._coordination.pause(host, f"{kind}/{name}", seconds, f"{host} asked to wait")

    def _heard(self, pause: FleetPause) -> None:
        """
        Another node reports a pause.
        """
        # No credentials are looked up for whatever host etcd names.
        if self._pauses.knows(pause.host):
            obeying = Deferred.fromCoroutine(self._obey(pause))
            self._background.spawn(obeying, "while a pause is obeyed")

    async def _obey(self, pause: FleetPause) -> None:
        kind, _, name = pause.account.partition("/")
        if name and name == await self._accounts.name(pause.host):
            self._pauses.adopt(kind, HostAccount(pause.host), min(pause.seconds, MOST))
