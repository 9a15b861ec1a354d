# -*- test-case-name: tests.transfer.test_fair_queue -*-
"""
The queue of the requests for slots, with those of paused accounts set aside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush
from itertools import count, islice

from twisted.internet.interfaces import IReactorTime

from xferd.interfaces.transfer import HostAccount
from xferd.transfer.fair_queue import FairQueue, Turn
from xferd.transfer.pauses import ROUNDING, Pauses
from xferd.transfer.reason import PLACES
from xferd.transfer.slot_request import SlotRequest


class RequestQueue:
    """
    The requests that wait, in the order of their turns.

    The requests of an account that is paused are set aside: they keep their
    places, and L{first} does not look at them.  Those of a paused host stay,
    and are passed over by the rank of the host.
    """

    def __init__(self, clock: IReactorTime, pauses: Pauses, weights: Mapping[str, int] | None = None) -> None:
        """
        @param weights: as for L{FairQueue}.
        """
        self._clock = clock
        self._pauses = pauses
        self._queue: FairQueue[SlotRequest] = FairQueue(weights)
        self._length = 0
        self._places: dict[SlotRequest, int] | None = None
        self._by_account: dict[HostAccount, dict[SlotRequest, None]] = {}
        self._ends: list[tuple[float, int, HostAccount]] = []
        self._ending: set[HostAccount] = set()
        self._numbers = count()

    def __len__(self) -> int:
        return self._length

    @property
    def hosts(self) -> list[str]:
        """
        The hosts of the requests that are not set aside.
        """
        return self._queue.hosts

    def add(self, request: SlotRequest) -> None:
        """
        Add a request under all its turns.
        """
        self._length += 1
        request.place = self._enlist(request)
        for turn in request.turns:
            self.enter(request, turn)

    def remove(self, request: SlotRequest) -> None:
        """
        Remove a request.
        """
        self._length -= 1
        self._unlist(request)
        for turn in request.turns:
            self.leave(request, turn)

    def enter(self, request: SlotRequest, turn: Turn) -> None:
        """
        Queue a request under one more turn.
        """
        self._places = None
        self._queue.enter(request.place, turn, request.number, request)

    def leave(self, request: SlotRequest, turn: Turn) -> None:
        """
        Queue a request under one turn less.
        """
        self._places = None
        self._queue.leave(request.place, turn, request.number, request)

    def move(self, request: SlotRequest, account: HostAccount) -> None:
        """
        Queue a request for another host or account.
        """
        self._unlist(request)
        request.host, request.account = account.host, account.account
        self._shift(request, self._enlist(request))

    def first(self, rank: Callable[[str], int | None]) -> tuple[SlotRequest, str] | None:
        """
        The next request, and the client in whose turn it is.

        @param rank: as for L{FairQueue.first}.
        """
        return self._queue.first(rank)

    def served(self, client: str) -> None:
        """
        Put a client behind all others.
        """
        self._places = None
        self._queue.served(client)

    def places(self) -> dict[SlotRequest, int]:
        """
        The places of the first L{PLACES} requests, from 1; counted when they
        are read after a change.
        """
        if self._places is None:
            first = islice(self._queue.in_order(), PLACES)
            self._places = {request: place for place, request in enumerate(first, 1)}
        return self._places

    def at(self, whom: str | HostAccount) -> list[SlotRequest]:
        """
        The requests for a host, or for one account there.
        """
        return [
            request
            for account, requests in self._by_account.items()
            if whom in (account, account.host)
            for request in requests
        ]

    def set_aside(self, account: HostAccount) -> None:
        """
        Set the requests of a paused account aside until its pause ends.
        """
        if account.host and account in self._by_account:
            self._await_end(account)
            for request in self._by_account[account]:
                self._shift(request, account)

    def restore(self, account: HostAccount) -> None:
        """
        Queue again the requests of an account whose pause was cleared.
        """
        if account in self._ending:
            self._ending.discard(account)
            self._ends = [end for end in self._ends if end[2] != account]
            heapify(self._ends)
        for request in self._by_account.get(account, ()):
            self._shift(request, account.host)

    def bring_back(self) -> None:
        """
        Queue again the requests of all accounts whose pauses have ended.
        """
        while self._ends and self._ends[0][0] <= self._clock.seconds() + ROUNDING:
            _, _, account = heappop(self._ends)
            self._ending.discard(account)
            if account in self._by_account:
                if self._pauses.before_start(account):
                    self._await_end(account)
                else:
                    for request in self._by_account[account]:
                        self._shift(request, account.host)

    def next_end(self) -> float | None:
        """
        The seconds until the first pause that concerns a request ends; L{None}
        if there is none.
        """
        if not self._pauses and not self._ends:
            return None
        left = [self._pauses.left(host) for host in self._queue.hosts]
        if self._ends:
            left.append(max(self._ends[0][0] - self._clock.seconds(), ROUNDING))
        return min(filter(None, left), default=None)

    def _enlist(self, request: SlotRequest) -> str | HostAccount:
        """
        List a request under its account.

        @return: its place in the queue: aside, while its account is paused.
        """
        account = request.host_account
        self._by_account.setdefault(account, {})[request] = None
        if not request.host or not self._pauses.before_start(account):
            return request.host
        self._await_end(account)
        return account

    def _unlist(self, request: SlotRequest) -> None:
        requests = self._by_account[request.host_account]
        del requests[request]
        if not requests:
            del self._by_account[request.host_account]

    def _shift(self, request: SlotRequest, place: str | HostAccount) -> None:
        old, request.place = request.place, place
        if old != place:
            self._places = None
            for turn in request.turns:
                # In this order, or a client that has no other request would
                # lose its place in the rotation.
                self._queue.enter(place, turn, request.number, request)
                self._queue.leave(old, turn, request.number, request)

    def _await_end(self, account: HostAccount) -> None:
        if account not in self._ending:
            self._ending.add(account)
            end = self._clock.seconds() + self._pauses.before_start(account)
            heappush(self._ends, (end, next(self._numbers), account))
