# -*- test-case-name: tests.transfer.slots -*-
"""
Slots: the right to move bytes, in a fair order.

The module is long because it is one semaphore: what decides about its tokens is elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Mapping
from itertools import count
from typing import Any, Final, Self

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xferd.interfaces.transfer import HostAccount
from xferd.transfer.alarm import Alarm
from xferd.transfer.bandwidth import Bandwidth
from xferd.transfer.eventual import Eventual
from xferd.transfer.fair_queue import Turn
from xferd.transfer.histogram import Histogram
from xferd.transfer.host_limits import HostLimits
from xferd.transfer.host_reputation import HostReputation
from xferd.transfer.lent_slot import LentSlot
from xferd.transfer.pauses import Pauses
from xferd.transfer.reason import Reason
from xferd.transfer.request_queue import RequestQueue
from xferd.transfer.slot_request import Issuer, SlotRequest
from xferd.transfer.slow_transfers import SlowHolders
from xferd.transfer.spare_slots import SpareSlots
from xferd.transfer.standings import Standings
from xferd.transfer.thin_lines import ThinLines

_LOOK: Final = 1.0
"""Seconds between two evaluations of the holders, while all slots are held."""

_PLAIN: Final = Turn("", 0, 0, 0)
"""The turn of those who acquire a slot without a request."""


class Slots(DeferredSemaphore, Issuer):
    """
    A semaphore whose limit may change at any time, with a fair queue.

    Differences from L{DeferredSemaphore}: requests are granted from a clean reactor turn, in the
    order of their L{Turn}s; a host may have a limit of its own; a host, or one account there, may be
    paused; a L{SlotRequest} may change while it waits, and is released only once.

    The states of a slot::

        free --acquire--> held --release--> free
        free --spare--> spare --release--> free
        (all are held) --> lent --release--> (gone)
                           lent --another one is released--> held

    While another host waits, grants to one host stop at its share: n - 1 of n slots, or half,
    rounded up, of four or more.  Running transfers keep their slots.  Where all slots are held, one
    further slot in all is lent, as L{LentSlot} decides.  A spare slot is borrowed while no request
    waits for one; L{SpareSlots} decides when it is wanted back.

    Without a request, by C{acquire}, C{release}, C{run} or C{async with}, it is a semaphore like any
    other.  C{waiting} stays empty: the queue is elsewhere.

    @ivar tokens: free slots; negative while more are held than the lowered limit allows.
    @ivar hosts: the slots that hosts hold, and whether they may have more.
    @ivar thin: fewer slots for hosts whose streams starve one another.
    @ivar waits: how long the requests waited that were granted.
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
        weights: Mapping[str, int] | None = None,
        beyond: Slots | None = None,
    ) -> None:
        """
        @param limit: how many slots there are; at least 1.
        @param per_host: how many of them one host may have; 0 for all.
        @param pauses: the pauses, where other slots share them.
        @param bandwidth: the bandwidth of all transfers together; L{None} for
            no limit.
        @param weights: the weights of clients, by which they take turns; 1 for others.
        @param beyond: other slots, which requests of these may use while no
            request of their own waits.
        """
        self._pauses = Pauses(clock) if pauses is None else pauses
        self._pauses.observe(self._see_pause)
        self.hosts = HostLimits(limit, per_host, self._pauses)
        self._queue = RequestQueue(clock, self._pauses, weights)
        self._spares = SpareSlots(self.hosts, self._queue)
        self._slow = SlowHolders(clock, lambda: 0 if bandwidth is None else bandwidth.rate)
        self._lent = LentSlot(clock, self.hosts, self._queue, self._slow)
        self._standings = Standings(clock, self.hosts, self._queue, self._lent, self._slow)
        self.thin = ThinLines(clock, self.hosts, self._queue, self._slow, self._standings)
        super().__init__(limit)
        self._clock = clock
        self._eventual = Eventual(clock)
        self._numbers = count()
        self._beyond = beyond
        self._guests: list[Slots] = []
        if beyond is not None:
            beyond.admit(self)
        self._anonymous: deque[SlotRequest] = deque()
        self._soon = Alarm(clock, self._wake)
        self._later = Alarm(clock, self._wake)
        self.waits = Histogram()

    # ------------------------------------------------------------- settings

    @property
    def limit(self) -> int:
        """
        How many slots there are.  When it is raised, waiting requests are
        granted at once; when it is lowered, none is until fewer are held.
        """
        return self.hosts.limit

    @limit.setter
    def limit(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"there must be at least one slot, not {limit}")
        before, self.hosts.limit = self.hosts.limit, limit
        self._gain(limit - before)
        if limit > before or self._spares:
            self.wake()

    @property
    def per_host(self) -> int:
        """
        How many slots one host may have; 0 for all.  Changes as L{limit} does,
        also of the slots for which these are the ones beyond.
        """
        return self.hosts.per_host

    @per_host.setter
    def per_host(self, per_host: int) -> None:
        if per_host < 0:
            raise ValueError(f"a host cannot have {per_host} slots")
        self.hosts.per_host = per_host
        self.wake()
        for guest in self._guests:
            guest.per_host = per_host

    @property
    def by_host(self) -> Mapping[str, int]:
        """
        How many slots those hosts may have which have a limit of their own; 0 for as many as
        each.  Changes as L{per_host} does.
        """
        return self.hosts.by_host

    @by_host.setter
    def by_host(self, limits: Mapping[str, int]) -> None:
        self.hosts.by_host = limits
        self._standings.changed()
        self.wake()
        for guest in self._guests:
            guest.by_host = limits

    @property
    def hold(self) -> str:
        """
        Why nothing may start at any host, as a text for people; empty if it
        may.  Running transfers continue.  It also counts for the slots for which
        these are the ones beyond.
        """
        return self.hosts.hold

    @hold.setter
    def hold(self, why: str) -> None:
        if why != self.hosts.hold:
            self.hosts.hold = why
            self._standings.changed()
            self.wake()
            for guest in self._guests:
                guest.hold = why

    def pause(self, whom: str | HostAccount, seconds: float) -> None:
        """
        Start nothing at a host, or for one account there, until some seconds
        have passed.  Running transfers continue.  A later pause never shortens
        an earlier one.
        """
        self._pauses.pause(whom, seconds)

    # -------------------------------------------------------- introspection

    @property
    def in_use(self) -> int:
        """
        How many slots are held.
        """
        return self.limit - self.tokens

    @property
    def queued(self) -> int:
        """
        How many requests wait.
        """
        return len(self._queue)

    @property
    def reputation(self) -> HostReputation:
        """
        The outcomes of the last attempts, by host.
        """
        return self._lent.reputation

    # -------------------------------------------------------------- requests

    def acquire(self, request: SlotRequest | None = None) -> Deferred[Self]:
        """
        Wait for a slot, to be released by L{release}.

        @param request: an idle request; its turns and its host may change
            while it waits.  L{None} for one without a host.
        @return: fires with this object: at once if a slot is free, else from a
            clean turn.  Cancelling it leaves the queue.
        @raise CancelledError: the request was released before it was granted;
            from a clean turn.
        """
        wanted = SlotRequest([_PLAIN]) if request is None else request
        if wanted.waiting or wanted.held:
            raise RuntimeError("a request is for one slot at a time")

        def withdraw(d: Deferred[Self]) -> None:
            if wanted.acquired is d:
                wanted.acquired = None
                wanted.release()

        acquired: Deferred[Self] = Deferred(withdraw)
        if request is None:
            _ = acquired.addCallback(self._remember, wanted)
        self._number(wanted)
        # No request overtakes those that are about to be granted.
        host, beyond = wanted.host, self._beyond
        if self.has_free(host) and not self.hosts.before_start(host, wanted.account):
            self.take_over(wanted)
        elif beyond is not None and beyond.has_free(host) and not self.hosts.closed(host, wanted.account):
            beyond.take_over(wanted)
        else:
            wanted.acquired = acquired
            self._add(wanted)
            return acquired
        acquired.callback(self)
        return acquired

    def release(self, request: SlotRequest | None = None) -> None:
        """
        Release a slot, or leave the queue.  Idempotent for a request.

        @param request: the request that was acquired; L{None} for the oldest
            slot that was acquired without one.
        """
        if request is None:
            assert self._anonymous, "more slots were released than were acquired"
            request = self._anonymous.popleft()
        request.release()

    def spare(self, host: str, wanted: Callable[[], object], account: Hashable = None) -> SlotRequest | None:
        """
        Borrow a slot that no request waits for.

        @param host: the host that it is for.
        @param wanted: called from a clean turn when a request could be granted
            with this slot, or when there are to be fewer: the borrower has to
            L{SlotRequest.release} it without delay.
        @param account: the account there.
        @return: a request that holds it, or L{None} if no slot can be spared now.
        """
        if self.hosts.closed(host, account) or not self.has_free(host) or self._guests_wait:
            return None
        request = SlotRequest((), host, account, recalled=wanted)
        self._number(request)
        self.take_over(request)
        self._spares.add(request)
        return request

    def _remember(self, slots: Self, request: SlotRequest) -> Self:
        self._anonymous.append(request)
        return slots

    def _number(self, request: SlotRequest) -> None:
        """
        Number a request behind all others.
        """
        request.number = next(self._numbers)
        request.since = self.now()
        request.reported = None

    def _add(self, request: SlotRequest) -> None:
        request.belong(self)
        request.waiting = True
        self._queue.add(request)
        self._standings.changed()
        self._wake_later()
        if self._spares or self._may_lend or self._lent.holder is not None:
            self.wake()
        if self._beyond is not None:
            self._beyond.wake()

    def _remove(self, request: SlotRequest) -> None:
        request.waiting = False
        self._queue.remove(request)
        self._standings.changed()

    # ------------------------------- for other slots, for which these are beyond

    def admit(self, guest: Slots) -> None:
        """
        Let the requests of C{guest} use these slots.
        """
        self._guests.append(guest)

    def has_free(self, host: str) -> bool:
        """
        Whether there is a slot for a host, and no request that it is for.
        """
        return self.tokens > 0 and self.hosts.is_open(host) and self._queue.first(self.hosts.rank) is None

    @property
    def _guests_wait(self) -> bool:
        return any(guest.queued for guest in self._guests)

    def take_over(self, request: SlotRequest) -> None:
        """
        Let a request, perhaps of other slots, hold one of these.
        """
        request.belong(self)
        request.held = True
        self.waits.add(self.now() - request.since)
        self.tokens -= 1
        self.hosts.add(request.host)
        self._lent.granted(request.host)
        self._slow.add(request)
        self._pauses.started(request.host_account)

    def rest(self) -> None:
        """
        Cancel the alarms if they would wake none.
        """
        if not (self._queue or self._spares or self._guests_wait):
            self._soon.cancel()
            self._later.cancel()
            if self._beyond is not None:
                self._beyond.rest()

    def wake(self) -> None:
        """
        Grant what can be granted, from a clean turn.
        """
        if self._queue or self._spares or self._guests_wait:
            self._soon.set(0)

    # ---------------------------------------------------------- for SlotRequest

    def now(self) -> float:
        return self._clock.seconds()

    def enter(self, request: SlotRequest, turn: Turn) -> None:
        self._queue.enter(request, turn)
        self._standings.changed()

    def leave(self, request: SlotRequest, turn: Turn) -> None:
        self._queue.leave(request, turn)
        self._standings.changed()

    def end(self, request: SlotRequest) -> None:
        if request.waiting:
            self._remove(request)
            request.belong(None)
            acquired, request.acquired = request.acquired, None
            if acquired is not None:
                self._eventual.call(_cancel, acquired)
            self.rest()
        elif request.held:
            request.held = False
            request.belong(None)
            if self._spares:
                self._spares.discard(request)
            self._slow.remove(request)
            self.hosts.remove(request.host)
            if request is self._lent.holder:
                self._lent.holder = None
            self._gain(1)
            self.wake()

    def move(self, request: SlotRequest, host: str, account: Hashable) -> bool:
        old = request.host
        if request.held and (
            self.hosts.paused(host, account) if host == old else self.hosts.closed(host, account)
        ):
            return False
        if request is self._lent.holder and host != old and not self._lent.may_move(host):
            return False
        if (host, account) == (old, request.account):
            return True
        if request.waiting:
            self._queue.move(request, HostAccount(host, account))
            self._standings.changed()
        elif request.held:
            self.hosts.remove(old)
            self.hosts.add(host)
        request.host, request.account = host, account
        self.wake()
        self._wake_later()
        return True

    def reason(self, request: SlotRequest) -> Reason:
        return self._standings.reason(request)

    # ------------------------------------------------------------ waking up

    def _see_pause(self, whom: str | HostAccount) -> None:
        """
        A host or an account is paused, perhaps by slots that share the pauses,
        or its pause is cleared.
        """
        for request in self._queue.at(whom):
            if request.host_paused is not None:
                self._eventual.call(request.host_paused)
        if isinstance(whom, HostAccount):
            if self._pauses.before_start(whom):
                self._queue.set_aside(whom)
            else:
                self._queue.restore(whom)
                self.wake()
        elif not self._pauses.left(whom):
            self.wake()
        self._standings.changed()
        self._wake_later()

    @property
    def _may_lend(self) -> bool:
        # A spare slot is wanted back before one is lent.
        return self.tokens <= 0 and self._lent.holder is None and not self._spares

    def _wake_later(self) -> None:
        """
        Wake when the first pause ends, or the holders are to be evaluated.
        """
        if not self._queue:
            return
        seconds = self._queue.next_end()
        if self._may_lend or self._lent.holder is not None or self.hosts.streams:
            seconds = _LOOK if seconds is None else min(seconds, _LOOK)
        if seconds is not None:
            self._later.set(seconds)

    def _wake(self) -> None:
        self._soon.cancel()
        self._queue.bring_back()
        self.thin.look()
        # Not one more than are free now: a slot that comes back at once waits
        # for a turn of its own, so that short holders do not hold the reactor.
        for _ in range(self.tokens):
            following = self._queue.first(self.hosts.rank)
            if following is None or self.tokens <= 0:
                break
            self._grant(*following)
        if self._beyond is not None:
            self._go_beyond(self._beyond)
        if self._queue and self._may_lend:
            following = self._lent.borrower()
            if following is not None:
                self._lent.holder = following[0]
                self._grant(*following)
        if self._spares:
            self._spares.want_back(self.tokens < 0 or self._guests_wait)
        if self._lent.holder is not None:
            self._lent.recall(self._lent.holder)
        for guest in self._guests:
            if self.tokens > 0:
                guest.wake()
        self._standings.changed()
        self._wake_later()
        self.rest()

    def _go_beyond(self, beyond: Slots) -> None:
        """
        Grant slots of C{beyond} that no request waits for.
        """
        for _ in range(beyond.tokens):
            following = self._queue.first(
                lambda host: self.hosts.rank(host) if beyond.has_free(host) else None
            )
            if following is None:
                break
            self._grant(*following, beyond)

    def _grant(self, request: SlotRequest, client: str, slots: Slots | None = None) -> None:
        self._queue.served(client)
        self._remove(request)
        (slots or self).take_over(request)
        acquired, request.acquired = request.acquired, None
        if acquired is not None:
            acquired.callback(self)

    def _gain(self, slots: int) -> None:
        """
        There are more free slots, or fewer.  A free one replaces the lent one.
        """
        self.tokens += slots
        if self.tokens >= 0:
            self._lent.holder = None


def _cancel(acquired: Deferred[Any]) -> None:
    if not acquired.called:
        acquired.cancel()
