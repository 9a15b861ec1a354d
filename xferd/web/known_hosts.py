# -*- test-case-name: tests.web.test_known_hosts -*-
"""
What the daemon remembers of hosts, as C{GET /api/v1/hosts} shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from xferd.docker_config import host_of
from xferd.errors import NotFound
from xferd.json_encoding import rfc3339

if TYPE_CHECKING:
    from xferd.interfaces.hosts import HostState, IHostMemory, KnownAccount, KnownHost, Quota
    from xferd.interfaces.reactor import WallClock


class QuotaJSON(TypedDict):
    """
    The requests that a registry permits an account: those that are left, and of
    how many in how many seconds, where that is known.
    """

    remaining: int
    limit: int | None
    window: float | None
    reset: str | None


class AccountJSON(TypedDict):
    """
    One account at a host.
    """

    account: str
    state: str
    why: str
    until: str | None
    quota: QuotaJSON | None
    used: str


class KnownHostJSON(TypedDict):
    """
    A host with its accounts.
    """

    host: str
    state: str
    why: str
    until: str | None
    failures: int
    error: str
    rate: float | None
    capabilities: Mapping[str, Any]
    used: str
    accounts: Sequence[AccountJSON]


class KnownHosts:
    """
    The memory of hosts, for clients of the API.
    """

    def __init__(self, memory: IHostMemory, wall_clock: WallClock) -> None:
        self._memory = memory
        self._wall_clock = wall_clock

    def listed(self) -> list[KnownHostJSON]:
        """
        All hosts, by name.
        """
        now = self._wall_clock()
        return [_host(host, now) for host in self._memory.hosts()]

    async def clear(self, name: str) -> dict[str, object]:
        """
        Forget a host.

        @raise NotFound: nothing is known of it.
        """
        host = host_of(name)
        if not await self._memory.clear(host):
            raise NotFound(f"nothing is known of {host}; 'xferctl hosts' lists the registries in use")
        return {"host": host, "cleared": True}


def _host(host: KnownHost, now: float) -> KnownHostJSON:
    return {
        "host": host.host,
        "state": host.state.availability.value,
        "why": host.state.why,
        "until": _until(host.state, now),
        "failures": host.failures,
        "error": host.error,
        "rate": host.rate,
        "capabilities": host.capabilities,
        "used": rfc3339(host.used),
        "accounts": [_account(account, now) for account in host.accounts],
    }


def _account(account: KnownAccount, now: float) -> AccountJSON:
    return {
        "account": account.account,
        "state": account.state.availability.value,
        "why": account.state.why,
        "until": _until(account.state, now),
        "quota": None if account.state.quota is None else _quota(account.state.quota, now),
        "used": rfc3339(account.used),
    }


def _until(state: HostState, now: float) -> str | None:
    return None if state.seconds is None else rfc3339(now + state.seconds)


def _quota(quota: Quota, now: float) -> QuotaJSON:
    return {
        "remaining": quota.remaining,
        "limit": quota.limit,
        "window": quota.window,
        "reset": None if quota.reset is None else rfc3339(now + quota.reset),
    }
