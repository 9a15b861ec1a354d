# -*- test-case-name: tests.test_interfaces -*-
"""
The memory of hosts: what registries permit, and whether they can be reached.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

from attrs import field, frozen
from attrs.validators import ge, optional
from twisted.internet.defer import Deferred
from zope.interface import Interface

from xferd.interfaces.transfer import HostAccount


@frozen
class Quota:
    """
    The requests that a registry permits an account, by one of its responses.

    @ivar remaining: requests that are left.
    @ivar limit: requests in a window, or L{None} if it is not known.
    @ivar window: the window's length in seconds, or L{None}.
    @ivar reset: seconds from the response until the quota is whole again, or
        L{None}.
    """

    remaining: int = field(validator=ge(0))
    limit: int | None = field(default=None, validator=optional(ge(1)))
    window: float | None = field(default=None, validator=optional(ge(0.0)))
    reset: float | None = field(default=None, validator=optional(ge(0.0)))


class Availability(Enum):
    """
    Whether a host serves an account now.

    @cvar OK: requests may be made.
    @cvar QUOTA_LOW: only requests that a client waits for may be made.
    @cvar PAUSED: the registry asked to wait.
    @cvar DOWN: the last requests failed; the circuit is open.
    """

    OK = "ok"
    QUOTA_LOW = "quota-low"
    PAUSED = "paused"
    DOWN = "down"


@frozen
class HostState:
    """
    What is known of one account at one host.

    @ivar availability: whether requests may be made.
    @ivar why: the reason, for people; empty for L{Availability.OK}.
    @ivar seconds: seconds until this changes by itself, or L{None} if that is
        not known.
    @ivar quota: the requests that are left, with the times of its response, or
        L{None}.
    """

    availability: Availability = Availability.OK
    why: str = ""
    seconds: float | None = None
    quota: Quota | None = None

    @property
    def ok(self) -> bool:
        """
        Whether every request may be made.
        """
        return self.availability is Availability.OK


@frozen
class KnownAccount:
    """
    What is known of one account at a host.

    @ivar account: C{daemon} for the daemon's own credentials, C{anonymous}, or
        the beginning of a salted hash of a client's.
    @ivar state: whether the host serves it now.
    @ivar used: when it last got a response, in seconds since the epoch.
    """

    account: str
    state: HostState
    used: float


@frozen
class KnownHost:
    """
    What is known of a host.

    @ivar host: its name.
    @ivar state: whether it serves any account now.
    @ivar failures: the failures in a row.
    @ivar error: the newest of them, for people, or the empty string.
    @ivar rate: the bytes per second that one transfer moves, by those of the
        last minutes, or L{None} if there was none.
    @ivar capabilities: the features that were found by use.
    @ivar used: when it was last used, in seconds since the epoch.
    @ivar accounts: the accounts, by their names.
    """

    host: str
    state: HostState
    failures: int
    error: str
    rate: float | None
    capabilities: Mapping[str, Any]
    used: float
    accounts: Sequence[KnownAccount]


class PauseTable(Protocol):
    """
    The pauses of one kind of transfer, as
    L{Pauses<xferd.transfer.pauses.Pauses>} has them.
    """

    def observe(self, observer: Callable[[str | HostAccount], object]) -> None:
        """
        Call C{observer} with each host or account whose pause changes.
        """

    def pause(self, whom: str | HostAccount, seconds: float) -> None:
        """
        Pause a host, or one account there.
        """

    def left(self, whom: str | HostAccount) -> float:
        """
        The seconds left of a pause; 0 if there is none.
        """

    def space(self, account: HostAccount, seconds: float) -> None:
        """
        Let transfers of an account start at intervals; 0 ends that.
        """

    def clear(self, host: str) -> None:
        """
        End the pauses and intervals of a host and of all accounts there.
        """


class ISharedPauses(Interface):
    """
    The pauses and quotas of this daemon, for the other nodes of a fleet.
    """

    def knows(host: str) -> bool:
        """
        Whether anything is known of a host.
        """

    def follow_pauses(follower: Callable[[str, HostAccount, float], object]) -> None:
        """
        Call C{follower} with each pause of an account that a registry asks for: the
        kind of its transfers, the account, and the seconds.  Pauses that were adopted
        are left out.
        """

    def adopt(kind: str, account: HostAccount, seconds: float) -> None:
        """
        Pause an account as a registry asked another node.  It never shortens a pause.

        @param kind: the kind of the transfers; others are not paused.
        """

    def follow_quotas(follower: Callable[[HostAccount, Quota, bool], object]) -> None:
        """
        Call C{follower} with the quota in each response of an account whose quota is
        low, or was low before that response, and whether it is low.
        """

    def adopt_quota(account: HostAccount, quota: Quota, age: float, seconds: float) -> bool:
        """
        Believe in a quota that a registry named to another node, until this one gets a
        response.  A newer quota here is kept.

        @param age: seconds since that response.
        @param seconds: how long to believe in it.
        @return: whether it is low.
        """


class IHostMemory(Interface):
    """
    What the daemon remembers of each host, and of each account there.  It
    outlives the daemon; records that are not used for a week are dropped.

    A host is a registry or a mirror, by its name as people write it.  An account
    is that of L{ISource<xferd.interfaces.transfer.ISource>}.
    """

    def state(host: str, account: Hashable = None) -> HostState:
        """
        Whether a host serves an account now.
        """

    def admit(host: str, account: Hashable = None) -> HostState:
        """
        Ask whether to make a request that its caller can do without, such as
        the check whether a tag has moved.

        After a failure, and while the quota is low, one request at a time is
        admitted now and then, as its response may show that this is over.

        @return: the state; the request is refused unless it is
            L{HostState.ok}.
        """

    def allows(host: str) -> bool:
        """
        Whether the circuit of a host lets a request pass.  When its pause has
        ended, the first caller may probe the host.
        """

    def reached(host: str) -> None:
        """
        Record that a host responded, which closes its circuit.
        """

    def unreachable(host: str, error: Exception) -> float:
        """
        Record that a host failed.

        @return: the seconds for which its circuit is open from now on; 0 if it
            was open before.
        """

    def answered(host: str, account: Hashable, quota: Quota | None) -> None:
        """
        Record a response to a request with an account.

        @param quota: the quota by its headers, or L{None} if it names none.
        """

    def moved(host: str, size: int, seconds: float) -> None:
        """
        Record that one transfer moved some bytes from or to a host.
        """

    def capabilities(host: str) -> Mapping[str, Any]:
        """
        What L{learned} recorded in the last day; empty if nothing was.
        """

    def learned(host: str, capabilities: Mapping[str, Any]) -> None:
        """
        Record the features of a registry, as values for JSON.
        """

    def join(kind: str, pauses: PauseTable, *, metered: bool = False) -> None:
        """
        Remember the pauses of one kind of transfer, too.  Called before the
        records of an earlier daemon are loaded.

        @param metered: whether its requests count against quotas, so that they
            start at intervals while one is low.
        """

    def follow(cleared: Callable[[str], object]) -> None:
        """
        Call C{cleared} with each host that is cleared.
        """

    def hosts() -> Sequence[KnownHost]:
        """
        All that is known, by host.
        """

    def clear(host: str) -> Deferred[bool]:
        """
        Forget a host: pauses, quotas, failures and features.

        @return: fires with whether it was known, when the journal has forgotten
            it.
        """
