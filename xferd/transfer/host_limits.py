# -*- test-case-name: tests.transfer.test_lent_slot -*-
"""
Host limits: how many slots each host holds, and whether it may have more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping

from xferd.interfaces.transfer import HostAccount
from xferd.transfer.host_streams import HostStreams
from xferd.transfer.pauses import Pauses


class HostLimits:
    """
    The slots that hosts hold, and what keeps a host from another one: its
    limit, a pause, a hold on all hosts.

    The host C{""} is none: it has no limit and no pause.

    @ivar per_host: how many slots one host may hold; 0 for all.
    @ivar by_host: the same of those hosts which have a limit of their own.
    @ivar hold: why nothing may start at any host; empty if it may.
    @ivar held: how many slots each host holds.
    @ivar streams: the hosts that may hold fewer, as their streams starve one another.
    """

    def __init__(self, limit: int, per_host: int, pauses: Pauses) -> None:
        self.limit = limit
        self.per_host = per_host
        self.by_host: Mapping[str, int] = {}
        self.hold = ""
        self.held: Counter[str] = Counter()
        self.streams = HostStreams()
        self._pauses = pauses

    @property
    def limit(self) -> int:
        """
        How many slots there are.
        """
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        # What a host may hold while another one waits.
        self._share = (limit + 1) // 2 if limit >= 4 else max(1, limit - 1)

    def add(self, host: str) -> None:
        """
        A host holds one more slot.
        """
        self.held[host] += 1

    def remove(self, host: str) -> None:
        """
        A host holds one slot less.
        """
        self.held[host] -= 1
        if not self.held[host]:
            del self.held[host]

    def most(self, host: str) -> int:
        """
        How many slots a host may hold; 0 for all.
        """
        if not host:
            return 0
        fewer, limit = self.streams.most(host) if self.streams else 0, self.limit_of(host)
        return min(fewer, limit or fewer) if fewer else limit

    def limit_of(self, host: str) -> int:
        """
        How many slots a host may hold by its own limit, or else by that of each; 0 for all.
        """
        return self.by_host.get(host) or self.per_host

    def is_open(self, host: str) -> bool:
        """
        Whether anything may start at a host now, slots or not.
        """
        if self.hold:
            return False
        most = self.most(host)
        if most and self.held.get(host, 0) >= most:
            return False
        # Called of all hosts at each grant: where there is no pause at all, it is quick.
        return not self._pauses or not host or not self._pauses.left(host)

    def closed(self, host: str, account: Hashable = None) -> bool:
        """
        Whether nothing may start for C{account} at C{host} now, slots or not.
        """
        return not self.is_open(host) or bool(self.before_start(host, account))

    def paused(self, host: str, account: Hashable = None) -> float:
        """
        The seconds left of the pause of C{account} at C{host}; 0 if there is
        none.
        """
        if not host or not self._pauses:
            return 0.0
        return max(self._pauses.left(host), self._pauses.left(HostAccount(host, account)))

    def before_start(self, host: str, account: Hashable = None) -> float:
        """
        The seconds until anything may start for C{account} at C{host}, by its
        pauses and by the interval between starts.
        """
        if not host or not self._pauses:
            return 0.0
        return max(self._pauses.left(host), self._pauses.before_start(HostAccount(host, account)))

    def rank(self, host: str) -> int | None:
        """
        The rank of a host in the queue: those that hold their share come after
        all that do not; L{None} if nothing may start there.
        """
        if not self.is_open(host):
            return None
        return 1 if host and self.held.get(host, 0) >= self._share else 0
