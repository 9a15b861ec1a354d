# -*- test-case-name: tests.transfer.test_slots -*-
"""
Slots: the right to move bytes, handed out fairly.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable
from heapq import heappop, heappush
from itertools import count, islice
from math import ceil
from typing import Any, Final, Self

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xferd.transfer.bandwidth import Bandwidth
from xferd.transfer.eventual import Eventual
from xferd.transfer.fair_queue import FairQueue, Turn
from xferd.transfer.histogram import Histogram
from xferd.transfer.host_reputation import HostReputation
from xferd.transfer.pauses import ROUNDING, HostAccount, Pauses
from xferd.transfer.reason import NO_REASON, PLACES, Obstacle, Reason
from xferd.transfer.slot_request import SlotRequest, Standing
from xferd.transfer.slow_transfers import SlowHolders

_NEWS: Final = 1.0
"""Seconds from one telling of those who wait, that they wait for something else now, to the next."""

_LOOK: Final = 1.0
"""Seconds between two looks at how those who hold slots move, while all are held."""

_UNKNOWN: Final = 30.0
"""Seconds for which hosts with a good reputation go before an unknown host."""

_PLAIN: Final = Turn("", 0, 0, 0)
"""The turn of those who use L{Slots} as any other semaphore."""


class Slots(DeferredSemaphore):
    """
    A semaphore whose limit may change at any time, with a fair queue.

    Differences from L{DeferredSemaphore}: waiters are woken from a clean
    reactor turn, in the order of their L{Turn}s; a host may have a limit of
    its own; a host, or one account there, may be paused; a L{SlotRequest} can be
    given back only once.

    While another host waits, grants to one host stop at its share: n - 1 of n
    slots, or half, rounded up, of four or more.  Running transfers keep their
    slots.  Where all slots are held, one further slot in all is lent: at once
    to a host that holds none, unless the last attempt there transferred
    nothing; and to any other waiter if some holders hardly move.  A lent slot
    is recalled if its holder hardly moves while another host holds none.

    Used without requests, by C{acquire}, C{release}, C{run} or C{async with},
    it is a semaphore like any other.  C{waiting} stays empty: the queue is
    elsewhere.

    @ivar tokens: free slots; negative while more are held than the limit,
        which has been lowered, allows.
    @ivar waits: how long those who hold a slot, or held one, waited for it.
    """

    _log = Logger()

    def __init__(
        self,
        limit: int,
        clock: IReactorTime,
        *,
        per_host: int = 0,
        pauses: Pauses | None = None,
        bandwidth: Bandwidth | None = None,
        beyond: Slots | None = None,
    ) -> None:
        """
        @param limit: how many slots there are; at least 1.
        @param per_host: how many of them one host may have; 0 for all.
        @param pauses: the pauses, where other slots share them.
        @param bandwidth: the bandwidth of all transfers together; L{None} for
            no limit.
        @param beyond: other slots, which requests of these may use while no
            request of their own waits.
        """
        self._limit = limit
        self._hold = ""
        self._spares: list[SlotRequest] = []
        super().__init__(limit)
        self._clock = clock
        self._per_host = per_host
        self._bandwidth = bandwidth
        self._numbers = count()
        self._beyond = beyond
        self._guests: list[Slots] = []
        if beyond is not None:
            beyond.admit(self)
        self._running: Counter[str] = Counter()
        self._laggards = SlowHolders(clock, lambda: 0 if bandwidth is None else bandwidth.rate)
        self._lent: SlotRequest | None = None
        self._reputation = HostReputation(clock)
        self._kept_since: dict[str, float] = {}
        self._pauses = Pauses(clock) if pauses is None else pauses
        self._pauses.observe(self._see_pause)
        self._waiters: dict[HostAccount, dict[SlotRequest, None]] = {}
        self._resumes: list[tuple[float, int, HostAccount]] = []
        self._resuming: set[HostAccount] = set()
        self._queue: FairQueue[SlotRequest] = FairQueue()
        self._queued = 0
        self._anonymous: deque[SlotRequest] = deque()
        self._eventual = Eventual(clock)
        self._waking: IDelayedCall | None = None
        self._places: dict[SlotRequest, int] | None = None
        self._telling: IDelayedCall | None = None
        self.waits = Histogram()

    # ------------------------------------------------------------- settings

    @property
    def limit(self) -> int:
        """
        How many slots there are.  Raised, waiters start at once; lowered,
        nobody starts until fewer are in use.
        """
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"there must be at least one slot, not {limit}")
        self._gain(limit - self._limit)
        if limit > self._limit or self._spares:
            self._wake_soon()
        self._limit = limit
        self._share = _share_of(limit)

    @property
    def per_host(self) -> int:
        """
        How many slots one host may have; 0 for all.  Changes as L{limit} does,
        also of those slots for which these are the ones beyond.
        """
        return self._per_host

    @per_host.setter
    def per_host(self, per_host: int) -> None:
        if per_host < 0:
            raise ValueError(f"a host cannot have {per_host} slots")
        self._per_host = per_host
        self._wake_soon()
        for guest in self._guests:
            guest.per_host = per_host

    @property
    def hold(self) -> str:
        """
        Why nothing may start at any host, in words for people; empty if it
        may.  What runs already goes on.  It counts for those slots as well for
        which these are the ones beyond.
        """
        return self._hold

    @hold.setter
    def hold(self, why: str) -> None:
        if why != self._hold:
            self._hold = why
            self._tell_soon()
            self._wake_soon()
            for guest in self._guests:
                guest.hold = why

    def pause(self, whom: str | HostAccount, seconds: float) -> None:
        """
        Start nothing at a host, or for one party there, until some seconds
        have passed.  What runs already goes on.  A pause is never shortened by
        another.
        """
        self._pauses.pause(whom, seconds)

    # -------------------------------------------------------- introspection

    @property
    def in_use(self) -> int:
        """
        How many slots are held.
        """
        return self._limit - self.tokens

    @property
    def queued(self) -> int:
        """
        How many requests wait.
        """
        return self._queued

    def closed(self, host: str, account: Hashable = None) -> bool:
        """
        Whether nothing may start for C{account} at C{host} now, free slots or
        not.
        """
        return not self._is_open(host) or bool(self.paused(host, account))

    def paused(self, host: str, account: Hashable = None) -> float:
        """
        For how many seconds yet nothing may start for C{account} at C{host},
        whatever else.
        """
        return max(self._pauses.left(host), self._pauses.left(HostAccount(host, account))) if host else 0.0

    def reason(self, request: SlotRequest) -> Reason:
        """
        What a request waits for, or what is special about the slot that it
        holds.
        """
        if not request.waiting:
            return self._reason_held(request)
        obstacle, number = self._standing(request)
        if obstacle is Obstacle.HOLD:
            return Reason(obstacle, detail=self._hold)
        if obstacle is Obstacle.PAUSE:
            number = ceil(self.paused(request.host, request.account))
        return Reason(obstacle, number, "" if obstacle is Obstacle.QUEUE else request.host)

    def _reason_held(self, request: SlotRequest) -> Reason:
        if self._bandwidth is not None and self._bandwidth.binding:
            return Reason(Obstacle.BANDWIDTH)
        if request is self._lent:
            return Reason(Obstacle.LENT, self._limit)
        if request in self._laggards.slow and self._queued:
            return Reason(Obstacle.SLOW)
        return NO_REASON

    def until(self, request: SlotRequest) -> float | None:
        """
        The clock's time before which a request gets no slot, if one is known.
        """
        paused = self.paused(request.host, request.account) if request.waiting else 0.0
        return self._clock.seconds() + paused if paused else None

    # -------------------------------------------------------------- requests

    def acquire(self, request: SlotRequest | None = None) -> Deferred[Self]:
        """
        Wait for a slot, to be released by C{release}.

        @param request: an idle request; its turns and its host may change
            while it waits.  L{None} for one without a host.
        @return: fires with this object: at once if a slot is free, else from a
            clean turn.  Cancelling it leaves the queue.
        @raise CancelledError: the request was released before it was granted;
            from a clean turn.
        """
        anonymous = request is None
        wanted = SlotRequest([_PLAIN]) if request is None else request
        if wanted.waiting or wanted.held:
            raise RuntimeError("a request is for one slot at a time")

        def withdraw(d: Deferred[Self]) -> None:
            if wanted.acquired is d:
                wanted.acquired = None
                wanted.release()

        acquired: Deferred[Self] = Deferred(withdraw)
        if anonymous:
            _ = acquired.addCallback(self._remember, wanted)
        self._number(wanted)
        # No request overtakes those that are about to be granted.
        closed = self.closed(wanted.host, wanted.account)
        if self.tokens > 0 and not closed and self._queue.first(self._rank) is None:
            self._take(wanted)
            acquired.callback(self)
        elif self._beyond is not None and not closed and self._beyond.has_room(wanted.host):
            self._beyond.take_over(wanted)
            acquired.callback(self)
        else:
            wanted.acquired = acquired
            self._add(wanted)
        return acquired

    def release(self, request: SlotRequest | None = None) -> None:
        """
        Release a slot, or leave the queue.

        @param request: what was acquired, once or several times released;
            L{None} for the oldest slot that was acquired without a request.
        """
        if request is None:
            assert self._anonymous, "more slots were released than were acquired"
            request = self._anonymous.popleft()
        request.release()

    def _remember(self, slots: Self, request: SlotRequest) -> Self:
        self._anonymous.append(request)
        return slots

    def spare(self, host: str, wanted: Callable[[], object], account: Hashable = None) -> SlotRequest | None:
        """
        Borrow a slot that nobody waits for, to do better what is done already.

        @param host: for which host.
        @param wanted: called from a clean turn when somebody could begin with
            this slot, or when there are to be fewer: the borrower is to
            L{SlotRequest.release} it then, without delay.
        @param account: for whose credentials there.
        @return: the request, held, or L{None} if no slot can be spared now.
        """
        if self.closed(host, account) or not self.has_room(host) or self._guests_wait:
            return None
        request = SlotRequest((), host, account, recalled=wanted)
        self._number(request)
        self._take(request)
        self._spares.append(request)
        return request

    # ---------------------------------- for other slots, which these are beyond

    def admit(self, guest: Slots) -> None:
        """
        Let those who wait for C{guest} use these.
        """
        self._guests.append(guest)

    def has_room(self, host: str) -> bool:
        """
        Whether there is a slot for a host, for which nobody waits.
        """
        return self.tokens > 0 and self._is_open(host) and self._queue.first(self._rank) is None

    @property
    def _guests_wait(self) -> bool:
        return any(guest.queued for guest in self._guests)

    def take_over(self, request: SlotRequest) -> None:
        """
        Let a request of other slots hold one of these.
        """
        self._take(request)

    def rest(self) -> None:
        """
        Wake nobody where nobody waits.
        """
        if not (self._queued or self._spares or self._guests_wait):
            if self._waking is not None:
                self._waking.cancel()
                self._waking = None
            if self._beyond is not None:
                self._beyond.rest()

    def wake(self) -> None:
        """
        See who can start, or whose borrowed slot is wanted, soon.
        """
        self._wake_soon()

    # ---------------------------------------------------------- for SlotRequest

    def now(self) -> float:
        """
        The clock's time.
        """
        return self._clock.seconds()

    def enter(self, request: SlotRequest, turn: Turn) -> None:
        """
        Queue a request under one of its turns.
        """
        self._queue.enter(request.place, turn, request.number, request)
        self._tell_soon()

    def leave(self, request: SlotRequest, turn: Turn) -> None:
        """
        Queue a request under one of its turns no longer.
        """
        self._queue.leave(request.place, turn, request.number, request)
        self._tell_soon()

    def end(self, request: SlotRequest) -> None:
        """
        Let go of a request, whatever it is.
        """
        if request.waiting:
            self._part(request)
            request.belong(None)
            acquired, request.acquired = request.acquired, None
            if acquired is not None:
                self._eventual.call(_cancel, acquired)
            self.rest()
        elif request.held:
            request.held = False
            request.belong(None)
            if request in self._spares:
                self._spares.remove(request)
            self._laggards.remove(request)
            self._left(request.host)
            if request is self._lent:
                self._lent = None
            self._gain(1)
            self._wake_soon()

    def move(self, request: SlotRequest, host: str, account: Hashable) -> bool:
        """
        Let a request change its host or its account.
        """
        old = request.host
        if request.held and (self.paused(host, account) if host == old else self.closed(host, account)):
            return False
        if request is self._lent and host != old and self._kept_out(host) is None:
            return False
        if (host, account) == (old, request.account):
            return True
        if request.waiting:
            self._unlist(request)
            request.host, request.account = host, account
            self._shift(request, self._enlist(request))
            self._tell_soon()
        elif request.held:
            self._left(old)
            self._running[host] += 1
        request.host, request.account = host, account
        self._wake_soon()
        self._wake_later()
        return True

    def _enlist(self, request: SlotRequest) -> str | HostAccount:
        """
        Note who waits for which party.

        @return: where the request has to stand in the queue: aside, while its
            party is paused.
        """
        party = request.host_account
        self._waiters.setdefault(party, {})[request] = None
        if not request.host or not self._pauses.left(party):
            return request.host
        self._resume_later(party)
        return party

    def _shift(self, request: SlotRequest, place: str | HostAccount) -> None:
        """
        Let a request that waits stand elsewhere in the queue.
        """
        old, request.place = request.place, place
        if old != place:
            for turn in request.turns:
                # In this order, or a client that has no other request would
                # lose its place in the rotation.
                self._queue.enter(place, turn, request.number, request)
                self._queue.leave(old, turn, request.number, request)

    def _unlist(self, request: SlotRequest) -> None:
        waiters = self._waiters[request.host_account]
        del waiters[request]
        if not waiters:
            del self._waiters[request.host_account]

    def _number(self, request: SlotRequest) -> None:
        """
        Put a request behind all others.
        """
        request.number = next(self._numbers)
        request.since = self.now()
        request.reported = None

    def _add(self, request: SlotRequest) -> None:
        request.belong(self)
        request.waiting = True
        self._queued += 1
        request.place = self._enlist(request)
        for turn in request.turns:
            self.enter(request, turn)
        self._wake_later()
        if self._spares or self._may_lend or self._lent is not None:
            self._wake_soon()
        if self._beyond is not None:
            self._beyond.wake()

    def _part(self, request: SlotRequest) -> None:
        request.waiting = False
        self._queued -= 1
        self._unlist(request)
        for turn in request.turns:
            self.leave(request, turn)
        if not self._queued and self._telling is not None:
            self._telling.cancel()
            self._telling = None

    def _take(self, request: SlotRequest) -> None:
        request.belong(self)
        request.held = True
        self.waits.add(self.now() - request.since)
        self.tokens -= 1
        self._kept_since.pop(request.host, None)
        self._running[request.host] += 1
        self._laggards.add(request)

    # ---------------------------------------------------- what they wait for

    def _standing(self, request: SlotRequest) -> Standing:
        """
        What a request waits for: L{reason}, without what changes as time passes.
        """
        if self._hold:
            return Obstacle.HOLD, 0
        if self.paused(request.host, request.account):
            return Obstacle.PAUSE, 0
        if self.closed(request.host):
            return Obstacle.HOST_LIMIT, self._per_host
        return Obstacle.QUEUE, self._first().get(request, PLACES + 1)

    def _first(self) -> dict[SlotRequest, int]:
        """
        The places of the first in the queue; counted when somebody asks.
        """
        if self._places is None:
            first = islice(self._queue.in_order(), PLACES)
            self._places = {waiter: place for place, waiter in enumerate(first, 1)}
        return self._places

    def _tell_soon(self) -> None:
        """
        The queue has changed: tell those of whom something else is true now.
        """
        self._places = None
        if self._queued and self._telling is None:
            self._telling = self._clock.callLater(_NEWS, self._tell)

    def _tell(self) -> None:
        self._telling = None
        for request in list(self._first()):
            standing = self._standing(request)
            if standing != request.reported:
                request.reported = standing
                request.reason_changed()

    # ------------------------------------------------------------ the hosts

    def _is_open(self, host: str) -> bool:
        if self._hold or (self._per_host and host and self._running.get(host, 0) >= self._per_host):
            return False
        # Of all hosts, at each grant: where there is no pause at all, it is quick.
        return not self._pauses or not host or not self._pauses.left(host)

    def _left(self, host: str) -> None:
        self._running[host] -= 1
        if not self._running[host]:
            del self._running[host]

    def _rank(self, host: str) -> int | None:
        """
        A host that has its share comes after all that have not.
        """
        if not self._is_open(host):
            return None
        return 1 if host and self._running.get(host, 0) >= self._share else 0

    # ------------------------------------------------------ the further slot

    def judge(self, host: str, good: bool) -> None:
        """
        Record the outcome of an attempt at a host.

        @param good: whether it transferred anything.
        """
        self._reputation.record(host, good)

    @property
    def _may_lend(self) -> bool:
        # A slot that was borrowed is given back before one is lent.
        return self.tokens <= 0 and self._lent is None and not self._spares

    def _kept_out(self, host: str) -> int | None:
        """
        The rank of those hosts that hold nothing.
        """
        if not host or host in self._running or not self._is_open(host):
            return None
        rank = self._reputation.rank(host)
        if rank == 1:
            now = self.now()
            if now - self._kept_since.setdefault(host, now) >= _UNKNOWN:
                return 0
        return rank

    def _trust(self, host: str) -> int | None:
        """
        The rank of those hosts that are open and may be of use.
        """
        return self._reputation.rank(host) if self._is_open(host) else None

    def _recall(self) -> None:
        """
        Recall the lent slot if its holder makes no use of it and another host
        holds none.
        """
        lent = self._lent
        if lent is None or lent.recalled is None:
            return
        self._laggards.look(self._limit)
        if not self._laggards.is_useless(lent):
            return
        if self._queue.first(lambda host: 0 if self._kept_out(host) in (0, 1) else None) is None:
            return
        try:
            if lent.recalled():
                self.judge(lent.host, good=False)
        except Exception:
            self._log.failure("while recalling a slot of {host}", host=lent.host)

    def _borrower(self) -> tuple[SlotRequest, str] | None:
        """
        Who gets the further slot, and in which client's turn.

        Those whose own transfers are slow would only fill it, too.
        """
        if len(self._kept_since) > PLACES:
            waiting = self._queue.hosts
            self._kept_since = {h: since for h, since in self._kept_since.items() if h in waiting}
        found = self._queue.first(self._kept_out)
        if found is not None:
            return found
        self._kept_since.clear()
        slow = self._laggards.look(self._limit)
        if not slow:
            return None
        hosts = {request.host for request in slow}
        found = self._queue.first(lambda host: None if host in hosts else self._trust(host))
        if found is not None:
            return found
        jobs = {(turn.client, turn.job) for request in slow for turn in request.turns}
        for request in self._first():
            if request.place == request.host and self._trust(request.host) is not None:
                for turn in request.turns:
                    if (turn.client, turn.job) not in jobs:
                        return request, turn.client
        return None

    # ------------------------------------------------------------ the pauses

    def _see_pause(self, whom: str | HostAccount) -> None:
        """
        A host or a party is paused, perhaps by what shares the pauses.
        """
        for party, waiters in self._waiters.items():
            if whom in (party, party.host):
                for request in waiters:
                    if request.host_paused is not None:
                        self._eventual.call(request.host_paused)
        if isinstance(whom, HostAccount) and whom.host and whom in self._waiters:
            self._resume_later(whom)
            for request in self._waiters[whom]:
                self._shift(request, whom)
        self._tell_soon()
        self._wake_later()

    def _resume_later(self, party: HostAccount) -> None:
        """
        Look at a party again when its pause ends.
        """
        if party not in self._resuming:
            self._resuming.add(party)
            heappush(self._resumes, (self.now() + self._pauses.left(party), next(self._numbers), party))

    def _resume(self) -> None:
        """
        Let those wait for a slot again whose pause has ended.
        """
        while self._resumes and self._resumes[0][0] <= self.now() + ROUNDING:
            _, _, party = heappop(self._resumes)
            self._resuming.discard(party)
            if party in self._waiters:
                if self._pauses.left(party):
                    self._resume_later(party)
                else:
                    for request in self._waiters[party]:
                        self._shift(request, party.host)

    # ------------------------------------------------------------ waking up

    def _wake_soon(self) -> None:
        if self._queued or self._spares or self._guests_wait:
            self._wake_in(0)

    def _wake_later(self) -> None:
        """
        Wake those who wait for a pause to end, when it ends.
        """
        if not self._queued:
            return
        pauses = [self._pauses.left(host) for host in self._queue.hosts] if self._pauses else []
        if self._resumes:
            pauses.append(max(self._resumes[0][0] - self.now(), ROUNDING))
        if self._may_lend or self._lent is not None:
            pauses.append(_LOOK)
        first = min(filter(None, pauses), default=None)
        if first is not None:
            self._wake_in(first)

    def _wake_in(self, seconds: float) -> None:
        if self._waking is not None:
            if self._waking.getTime() <= self._clock.seconds() + seconds:
                return
            self._waking.cancel()
        self._waking = self._clock.callLater(seconds, self._wake)

    def _wake(self) -> None:
        self._waking = None
        self._resume()
        # Not one more than are free now: a slot that comes back at once waits
        # for a turn of its own, so that short holders do not hold the reactor.
        for _ in range(self.tokens):
            following = self._queue.first(self._rank)
            if following is None or self.tokens <= 0:
                break
            self._grant(*following)
        self._go_beyond()
        if self._queued and self._may_lend:
            following = self._borrower()
            if following is not None:
                self._lent = following[0]
                self._grant(*following)
        self._want_back()
        self._recall()
        for guest in self._guests:
            if self.tokens > 0:
                guest.wake()
        self._tell_soon()
        self._wake_later()
        self.rest()

    def _go_beyond(self) -> None:
        """
        Let those who wait use other slots for which nobody waits.
        """
        beyond = self._beyond
        if beyond is None:
            return
        for _ in range(beyond.tokens):
            following = self._queue.first(lambda host: self._rank(host) if beyond.has_room(host) else None)
            if following is None:
                break
            self._grant(*following, beyond)

    def _grant(self, request: SlotRequest, client: str, slots: Slots | None = None) -> None:
        self._queue.served(client)
        self._part(request)
        (slots or self).take_over(request)
        acquired, request.acquired = request.acquired, None
        if acquired is not None:
            acquired.callback(self)

    def _gain(self, slots: int) -> None:
        """
        There are more free slots, or fewer.  One that is free stands in for
        the one that was lent.
        """
        self.tokens += slots
        if self.tokens >= 0:
            self._lent = None

    def _want_back(self) -> None:
        """
        Ask for a spare slot that is of use to somebody else.  When it is there,
        all is looked at again.
        """
        request = next((spare for spare in reversed(self._spares) if self._is_wanted(spare)), None)
        if request is not None and request.recalled is not None:
            try:
                request.recalled()
            except Exception:
                self._log.failure("while asking for a slot for {host}", host=request.host)

    def _is_wanted(self, spare: SlotRequest) -> bool:
        """
        Whether there are to be fewer slots in use, or somebody could begin if
        there was one fewer.
        """
        if self.tokens < 0 or (self._per_host and self._running[spare.host] > self._per_host):
            return True
        if self._guests_wait:
            return True
        self._running[spare.host] -= 1
        try:
            return self._queue.first(self._rank) is not None
        finally:
            self._running[spare.host] += 1


def _cancel(acquired: Deferred[Any]) -> None:
    if not acquired.called:
        acquired.cancel()


def _share_of(limit: int) -> int:
    """
    How many of some slots one host gets while another waits.
    """
    return (limit + 1) // 2 if limit >= 4 else max(1, limit - 1)
