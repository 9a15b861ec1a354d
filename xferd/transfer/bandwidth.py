# -*- test-case-name: tests.transfer.test_bandwidth -*-
"""
Bandwidth: the bytes per second in one direction, of all transfers together, and of each
host, client and job that has a limit.

The module is long because one class decides in which order bytes are paid for by several limits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from itertools import chain, count
from typing import Final

from attrs import define, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from xferd.transfer.allowance import Allowance
from xferd.transfer.fair_queue import Turn
from xferd.transfer.reason import NO_REASON, Obstacle, Reason

ALL: Final = "global"
"""The name of the limit of all transfers together."""

HOST, CLIENT, JOB = "host", "client", "job"
"""The scopes of all other limits."""

_EVENLY: Final = 0.1
"""Pieces are as large as the bytes of so many seconds."""

_SMALLEST: Final = 4096
"""Bytes of the smallest pieces in which content is sent."""

_LASTING: Final = 1.0
"""Seconds for which a limit that held a transfer is shown as its reason."""


@frozen
class _Party:
    """
    A job that watches a transfer, and the limits on it and on its client.
    """

    client: str
    allowances: tuple[Allowance, ...]


_NOBODY: Final = (_Party("", ()),)


@frozen(eq=False)
class _Route:
    """
    The limits on one transfer.

    @ivar host: the limit of its host.
    """

    turns: Sequence[Turn]
    version: int
    host: Allowance | None
    parties: tuple[_Party, ...]

    def __iter__(self) -> Iterator[Allowance]:
        own = chain.from_iterable(party.allowances for party in self.parties)
        return own if self.host is None else chain((self.host,), own)


@define(eq=False)
class _Piece:
    """
    Bytes that have moved, and are not paid for.
    """

    size: int
    number: int
    waiting: Deferred[None]


_Place = tuple[float, int, "Flow"]
"""Where a flow stands in the order of a limit: its tag, the number of its piece, itself."""


def _nobody() -> Sequence[Turn]:
    return ()


class Flow:
    """
    The bytes of one transfer: those of all its streams count together.

    It has the limits on its host, on the jobs that watch it and on their clients.  It moves
    as long as one of these jobs permits it, and is charged in equal parts to the jobs that
    permit it.  A job whose limit delays another of its transfers is not charged for one that
    moves without it.
    """

    def __init__(
        self,
        bandwidth: Bandwidth,
        host: str = "",
        turns: Callable[[], Sequence[Turn]] = _nobody,
        count: Callable[[str, int], object] = lambda _, __: None,
    ) -> None:
        """
        @param turns: returns the turns of those that watch the transfer: another sequence when they
            have changed.
        @param count: called with the host and the size of each piece.
        """
        self._bandwidth = bandwidth
        self._host = host
        self._turns = turns
        self._count = count
        self._route: _Route | None = None
        self.pieces: deque[_Piece] = deque()
        self.bound: Allowance | None = None
        self.held = float("-inf")

    def take(self, size: int) -> Deferred[None] | None:
        """
        See L{Bandwidth.take}.
        """
        self._count(self._host, size)
        bandwidth = self._bandwidth
        return bandwidth.take(size, self) if bandwidth.limited else None

    def piece(self, most: int) -> int:
        """
        The size of the pieces in which content is sent, so that it flows evenly.
        """
        if not self._bandwidth.limited:
            return most
        rates = [each.rate for each in (self._bandwidth.all, *self.route()) if each.rate]
        return max(min(most, _SMALLEST), min(most, int(min(rates) * _EVENLY))) if rates else most

    def reason(self) -> Reason:
        """
        The limit that holds the transfer, or held it within the last second.
        """
        bound = self.bound
        if bound is None or not bound.rate or not (self.pieces or self._bandwidth.is_recent(self.held)):
            return NO_REASON
        return Reason(Obstacle.BANDWIDTH, detail=bound.whose)

    def route(self) -> _Route:
        """
        The limits on it, besides that of all transfers.
        """
        turns, bandwidth, route = self._turns(), self._bandwidth, self._route
        if route is None or route.turns is not turns or route.version != bandwidth.version:
            route = self._route = bandwidth.route(self._host, turns)
        return route


class Bandwidth:
    """
    Token buckets whose rates may change at any time.

    Bytes are counted when they have moved; the transfer then waits until they
    are charged to the global limit, to that of the host, and to a job.  Where clients share a
    limit, the client that has moved the fewest bytes, divided by its weight, is served
    first.  Transfers of one client are served in the order of their arrival, one piece at a
    time.

    @ivar all: the limit of all transfers together.
    @ivar limited: whether there is any limit.
    @ivar version: counted up when a limit is added or removed.
    """

    def __init__(self, rate: int, clock: IReactorTime, weights: Mapping[str, int] | None = None) -> None:
        """
        @param rate: bytes per second; 0 for no limit.
        @param weights: the weights of clients; 1 for others.  They may change.
        """
        self._clock = clock
        self._weights = {} if weights is None else weights
        self.all = Allowance(ALL, rate, clock.seconds())
        self.limited = bool(rate)
        self.version = 0
        self._limits: dict[tuple[str, Hashable], Allowance] = {}
        self._flows: dict[Flow, None] = {}
        self._anybody = Flow(self)
        self._numbers = count()
        self._claimed: dict[Allowance, None] = {}
        self._waking: IDelayedCall | None = None
        self._soonest = float("inf")

    # ------------------------------------------------------------- settings

    @property
    def rate(self) -> int:
        """
        Bytes per second; 0 for no limit.  A change takes effect at once, also
        for the transfers that wait.
        """
        return self.all.rate

    @rate.setter
    def rate(self, rate: int) -> None:
        _check(rate)
        self.all.change(rate, self._clock.seconds())
        self._changed()

    def limit(self, scope: str, key: Hashable, rate: int, name: str = "") -> None:
        """
        Limit one host, client or job.  It takes effect at once, also for those that wait.

        @param scope: L{HOST}, L{CLIENT} or L{JOB}.
        @param key: the host, the client's name, or the number of the job's turns.
        @param rate: bytes per second; 0 for no limit.
        @param name: what to call it, if not by its key.
        """
        _check(rate)
        known, now = self._limits.get((scope, key)), self._clock.seconds()
        if known is not None:
            known.change(rate, now)
            if not rate:
                del self._limits[scope, key]
        elif rate:
            self._limits[scope, key] = Allowance(f"{scope} {name or key}", rate, now)
        if (known is None) != (not rate):
            self.version += 1
        self._changed()

    def rate_of(self, scope: str, key: Hashable) -> int:
        """
        The limit of one host, client or job in bytes per second; 0 if it has none.
        """
        known = self._limits.get((scope, key))
        return 0 if known is None else known.rate

    def binding(self) -> list[str]:
        """
        The names of the limits that delay a transfer, or did within the last second.
        """
        every = (self.all, *self._limits.values())
        return [each.whose for each in every if each.rate and (each.claims or self.is_recent(each.held))]

    @property
    def waiting(self) -> int:
        """
        How many transfers wait.
        """
        return len(self._flows)

    def is_recent(self, when: float) -> bool:
        """
        Whether a time of the clock is not longer ago than a second.
        """
        return self._clock.seconds() - when <= _LASTING

    # ---------------------------------------------------------------- bytes

    def take(self, size: int, flow: Flow | None = None) -> Deferred[None] | None:
        """
        Count bytes that have moved.

        @param flow: that of their transfer; L{None} for one without a host and a job.
        @return: L{None} if more may move at once; else fires, from a clean turn,
            when they may.  Cancelling ends the wait; the bytes stay counted.
        """
        if not self.limited:
            return None
        flow = self._anybody if flow is None else flow
        now = self._clock.seconds()
        returned = self._returns(flow, now)
        if not flow.pieces and self._may_move(flow, size, now):
            self._pay(flow, size, self._payers(flow, size))
            return None
        piece = _Piece(size, next(self._numbers), Deferred(lambda _: self._forget(flow, piece)))
        flow.pieces.append(piece)
        self._flows[flow] = None
        if returned:
            # Others have left the next bytes to it.
            self._wake_in(0.0, now)
        return piece.waiting

    def route(self, host: str, turns: Sequence[Turn]) -> _Route:
        """
        The limits on a transfer.
        """
        parties: dict[tuple[str, int], _Party] = {}
        limits = self._limits
        for turn in turns:
            if (turn.client, turn.job) not in parties:
                found = limits.get((CLIENT, turn.client)), limits.get((JOB, turn.job))
                own = tuple(each for each in found if each is not None)
                parties[turn.client, turn.job] = _Party(turn.client, own)
        own_host = limits.get((HOST, host)) if host else None
        return _Route(turns, self.version, own_host, tuple(parties.values()) or _NOBODY)

    def _may_move(self, flow: Flow, size: int, now: float) -> bool:
        """
        Whether bytes may move now, and overtake none that wait for the same.  Otherwise
        see to it that the flow is served.
        """
        route = flow.route()
        self._refill(route, now)
        for shared in (self.all, route.host):
            if shared is not None and shared.rate:
                seconds = shared.lacks(size) or self._yields(shared, flow, now)
                if seconds or shared.is_claimed(flow):
                    self._claim(shared, flow, size, seconds, now)
                    return False
        return self._has_payer(flow, size, now)

    def _yields(self, shared: Allowance, flow: Flow, now: float) -> float:
        """
        The seconds for which the next bytes are left to another client.
        """
        return min(shared.yields(party.client, now) for party in flow.route().parties)

    def _returns(self, flow: Flow, now: float) -> bool:
        """
        Note that the next piece of a client has come.

        @return: whether others may have waited for it.
        """
        route, returned = flow.route(), False
        for shared in (self.all, route.host):
            if shared is not None and shared.awaited:
                for party in route.parties:
                    returned = (
                        shared.awaited.pop(party.client, 0.0) > now and bool(shared.claims)
                    ) or returned
        return returned

    def _refill(self, route: _Route, now: float) -> None:
        self.all.refill(now)
        for each in route:
            each.refill(now)

    def _payers(self, flow: Flow, size: int) -> list[_Party]:
        """
        The jobs that can pay for a piece, and whose limits nothing else waits for.
        """
        return [
            party
            for party in flow.route().parties
            if not any(each.lacks(size) or each.is_claimed(flow) for each in party.allowances)
        ]

    def _has_payer(self, flow: Flow, size: int, now: float) -> bool:
        """
        Whether a job can pay for a piece.  Otherwise claim the limit of that which
        can first.
        """
        if self._payers(flow, size):
            return True
        waits = (
            max((each.lacks(size), number) for number, each in enumerate(party.allowances))
            for party in flow.route().parties
        )
        (seconds, number), party = min(zip(waits, flow.route().parties, strict=True), key=lambda w: w[0])
        self._claim(party.allowances[number], flow, size, seconds, now)
        return False

    def _pay(self, flow: Flow, size: int, payers: Sequence[_Party]) -> None:
        """
        Charge a piece to the limits on a transfer.
        """
        route, now = flow.route(), self._clock.seconds()
        part = size / len(payers)
        for shared in (self.all, route.host):
            if shared is not None and shared.rate:
                shared.charge(size)
                for party in payers:
                    shared.serve(party.client, part / self._weights.get(party.client, 1), now)
        for party in payers:
            for own in party.allowances:
                own.charge(part)

    def _claim(self, allowance: Allowance, flow: Flow, size: int, seconds: float, now: float) -> None:
        """
        Note what a flow waits for, and wake it then.
        """
        flow.bound, flow.held = allowance, now
        allowance.claims.add(flow)
        allowance.held = now
        for each in (self.all, *flow.route()):
            self._claimed[each] = None
            each.wanted = max(each.wanted, size)
        if seconds:
            # Otherwise what has claimed it before is served first.
            self._wake_in(seconds, now)

    # -------------------------------------------------------------- serving

    def _changed(self) -> None:
        """
        A limit has changed: see from a clean turn what may move.
        """
        self.limited = bool(self.all.rate or self._limits)
        if self._flows:
            self._wake_in(0.0, self._clock.seconds())

    def _wake_in(self, seconds: float, now: float) -> None:
        """
        Wake within so many seconds.
        """
        if self._waking is not None:
            if now + seconds >= self._soonest:
                return
            self._waking.cancel()
        self._soonest = now + seconds
        self._waking = self._clock.callLater(seconds, self._wake)

    def _wake(self) -> None:
        """
        Wake all waiters whose bytes are paid for.
        """
        self._waking, now = None, self._clock.seconds()
        self._drop_claims(now)
        for waiting in self._serve(now):
            if not waiting.called:
                waiting.callback(None)

    def _drop_claims(self, now: float) -> None:
        for each in self._claimed:
            each.refill(now)
            each.claims.clear()
            each.wanted = 0
        self._claimed.clear()

    def _serve(self, now: float) -> list[Deferred[None]]:
        """
        Charge all pieces that the limits permit, in a fair order.

        @return: the Deferreds of their flows, to be fired.
        """
        ready: list[Deferred[None]] = []
        # The limit of a host determines the order of its transfers.
        groups: dict[Allowance | None, list[_Place]] = {}
        for flow in self._flows:
            host = flow.route().host
            groups.setdefault(host, []).append((self._tag(host, flow), flow.pieces[0].number, flow))
        for group in groups.values():
            heapify(group)
        heads = {host: self._head(host, group, now) for host, group in groups.items()}
        while True:
            # The first two are unique.
            places = [
                (self._tag(None, flow), flow.pieces[0].number, host, flow)
                for host, flow in heads.items()
                if flow is not None
            ]
            if not places:
                break
            _, _, host, flow = min(places, key=lambda place: place[:2])
            group, size = groups[host], flow.pieces[0].size
            seconds = (self.all.lacks(size) or self._yields(self.all, flow, now)) if self.all.rate else 0.0
            if seconds:
                self._claim(self.all, flow, size, seconds, now)
                self._hold(self.all, chain.from_iterable(groups.values()), now)
                break
            payers = self._payers(flow, size)
            # Without any, the head of another group has claimed what its job permits.
            if payers:
                self._pay(flow, size, payers)
                ready.append(flow.pieces.popleft().waiting)
                flow.held = now
                heappop(group)
                if flow.pieces:
                    heappush(group, (self._tag(host, flow), flow.pieces[0].number, flow))
                else:
                    del self._flows[flow]
            heads[host] = self._head(host, group, now)
        return ready

    def _head(self, host: Allowance | None, group: list[_Place], now: float) -> Flow | None:
        """
        The next flow of a group, if it waits only for the global limit.

        @param group: a heap; flows that wait for another limit are removed.
        """
        while group:
            tag, number, flow = group[0]
            self._refill(flow.route(), now)
            present = self._tag(host, flow)
            size = flow.pieces[0].size
            if present > tag:
                # Others of its client were served meanwhile.
                heapreplace(group, (present, number, flow))
            elif not self._has_payer(flow, size, now):
                heappop(group)
            elif host is not None and (seconds := host.lacks(size) or self._yields(host, flow, now)):
                self._claim(host, flow, size, seconds, now)
                self._hold(host, group, now)
                group.clear()
            else:
                return flow
        return None

    def _hold(self, allowance: Allowance, places: Iterable[_Place], now: float) -> None:
        """
        Record the limit that these flows wait for, behind the one that has claimed it.
        """
        for _, _, flow in places:
            flow.bound, flow.held = allowance, now

    def _tag(self, host: Allowance | None, flow: Flow) -> float:
        """
        The place of a flow in the order of one limit; L{None} is the global one.
        """
        shared = self.all if host is None else host
        if not shared.rate:
            return 0.0
        parties = flow.route().parties
        if len(parties) == 1:
            return shared.start(parties[0].client)
        payers = self._payers(flow, flow.pieces[0].size) or parties
        return min(shared.start(party.client) for party in payers)

    def _forget(self, flow: Flow, piece: _Piece) -> None:
        """
        Remove a cancelled waiter, and charge its bytes.
        """
        if piece not in flow.pieces:
            return
        flow.pieces.remove(piece)
        route, now = flow.route(), self._clock.seconds()
        self._refill(route, now)
        self._pay(flow, piece.size, self._payers(flow, piece.size) or route.parties)
        if not flow.pieces:
            del self._flows[flow]
        if self._flows:
            self._wake_in(0.0, now)
        else:
            self._drop_claims(now)
            if self._waking is not None:
                self._waking.cancel()
                self._waking = None


def _check(rate: int) -> None:
    if rate < 0:
        raise ValueError(f"nothing moves at {rate} bytes a second")
