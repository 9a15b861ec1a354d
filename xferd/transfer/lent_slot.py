# -*- test-case-name: tests.transfer.test_lent_slot -*-
"""
The lent slot: one slot above the limit, while all others are held.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xferd.transfer.host_limits import HostLimits
from xferd.transfer.host_reputation import HostReputation
from xferd.transfer.reason import PLACES
from xferd.transfer.request_queue import RequestQueue
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slow_transfers import SlowHolders

_UNKNOWN: Final = 30.0
"""Seconds for which hosts with a good reputation go before an unknown host."""


class LentSlot:
    """
    Decides which request gets the lent slot, and when it is wanted back.

    It goes at once to a host that holds no slot, unless the last attempt there
    transferred nothing; and to any other request if some holders hardly move.
    It is wanted back if its holder hardly moves while another host holds none.

    @ivar holder: the request that holds it.
    @ivar reputation: the outcomes of the last attempts.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        hosts: HostLimits,
        queue: RequestQueue,
        slow: SlowHolders,
    ) -> None:
        self._clock = clock
        self._hosts = hosts
        self._queue = queue
        self._slow = slow
        self._waiting_since: dict[str, float] = {}
        self.holder: SlotRequest | None = None
        self.reputation = HostReputation(clock)

    def borrower(self) -> tuple[SlotRequest, str] | None:
        """
        The request that gets the slot, and the client in whose turn.

        Jobs whose own transfers are slow do not get it for those: they would
        only fill it, too.
        """
        if len(self._waiting_since) > PLACES:
            waiting = self._queue.hosts
            self._waiting_since = {h: since for h, since in self._waiting_since.items() if h in waiting}
        found = self._queue.first(self._rank_without_slot)
        if found is not None:
            return found
        self._waiting_since.clear()
        slow = self._slow.look(self._hosts.limit)
        if not slow:
            return None
        hosts = {request.host for request in slow}
        found = self._queue.first(lambda host: None if host in hosts else self._rank(host))
        if found is not None:
            return found
        jobs = {(turn.client, turn.job) for request in slow for turn in request.turns}
        for request in self._queue.places():
            if request.place == request.host and self._rank(request.host) is not None:
                for turn in request.turns:
                    if (turn.client, turn.job) not in jobs:
                        return request, turn.client
        return None

    def granted(self, host: str) -> None:
        """
        A host holds a slot now.
        """
        if self._waiting_since:
            self._waiting_since.pop(host, None)

    def may_move(self, host: str) -> bool:
        """
        Whether the holder may use the slot for another host.
        """
        return self._rank_without_slot(host) is not None

    def recall(self, holder: SlotRequest) -> None:
        """
        Want the slot back, if its holder makes no use of it and another host
        holds none.
        """
        if holder.recalled is None:
            return
        self._slow.look(self._hosts.limit)
        if not self._slow.is_useless(holder):
            return
        if self._queue.first(lambda host: 0 if self._rank_without_slot(host) in (0, 1) else None) is None:
            return
        try:
            if holder.recalled():
                self.reputation.record(holder.host, good=False)
        except Exception:
            self._log.failure("while recalling a slot of {host}", host=holder.host)

    def _rank_without_slot(self, host: str) -> int | None:
        """
        The rank of the hosts that hold no slot; L{None} for all others.
        """
        if not host or host in self._hosts.held or not self._hosts.is_open(host):
            return None
        rank = self.reputation.rank(host)
        if rank == 1:
            now = self._clock.seconds()
            if now - self._waiting_since.setdefault(host, now) >= _UNKNOWN:
                return 0
        return rank

    def _rank(self, host: str) -> int | None:
        """
        The rank of the hosts that are open, by their reputation.
        """
        return self.reputation.rank(host) if self._hosts.is_open(host) else None
