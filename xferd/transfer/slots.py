# -*- test-case-name: tests.transfer.test_slots -*-
"""
Slots: the right to move bytes, handed out fairly.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from heapq import heappop, heappush
from itertools import count, islice
from math import ceil
from typing import Final, Self

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xferd.transfer.pace import TENTH, WINDOW, Pace, fair_share
from xferd.transfer.pauses import ROUNDING, Party, Pauses
from xferd.transfer.reputation import Reputation
from xferd.transfer.turns import Queue, Turn
from xferd.transfer.waits import Waits

__all__ = ["ROUNDING", "Slots", "Ticket", "Turn"]

_PLACES: Final = 100
"""How far the queue is looked through to tell a waiter its place."""

_NEWS: Final = 1.0
"""Seconds from one telling of those who wait, that they wait for something else now, to the next."""

_LOOK: Final = 1.0
"""Seconds between two looks at how those who hold slots move, while all are held."""

_IDLE: Final = 3.0
"""Seconds in which something must move in a slot that was lent."""

_UNKNOWN: Final = 30.0
"""Seconds for which hosts that have brought something go before an unknown one."""

_PLAIN: Final = Turn("", 0, 0, 0)
"""The turn of those who use L{Slots} as any other semaphore."""


Standing = tuple[str, int]
"""What a ticket waits for, and a number."""


class Ticket:
    """
    One who waits for a slot, and then holds it.

    Life cycle: waiting; then held, once there is a free slot; then ended, by
    L{release}.  A ticket may be ended while it waits.

    @ivar waiting: whether it waits.
    @ivar held: whether it holds a slot.
    @ivar host: for which host the slot is.
    @ivar account: for whose credentials there, as in
        L{ISource <xferd.interfaces.ISource>}.
    @ivar place: where it stands in the queue, while it waits.
    @ivar number: counted up from the oldest ticket.
    @ivar turns: those on whose behalf it waits.
    @ivar since: the clock's time when it came.
    @ivar told: what it waited for when L{moved} was called last.
    @ivar position: how many bytes there are, of what it is for; L{None} where
        nobody counts them.
    @ivar recalled: called when a slot that was lent is wanted back.
    @ivar pace: how these moved since it was held.
    """

    def __init__(
        self,
        slots: Slots,
        number: int,
        turns: Iterable[Turn],
        host: str,
        granted: Callable[[], object],
        moved: Callable[[], object] = lambda: None,
        account: Hashable = None,
        position: Callable[[], int] | None = None,
        recalled: Callable[[], object] | None = None,
    ) -> None:
        self._slots = slots
        self.number = number
        self.turns = Counter(turns)
        self.host = host
        self.account = account
        self.place: str | Party = host
        self.granted = granted
        self.moved = moved
        self.told: Standing | None = None
        self.waiting = False
        self.held = False
        self.since = slots.now()
        self.position = position
        self.recalled = recalled
        self.pace: Pace | None = None

    def add(self, turn: Turn) -> None:
        """
        Wait under another turn, too.  The best one counts.
        """
        self.turns[turn] += 1
        if self.waiting and self.turns[turn] == 1:
            self._slots.enter(self, turn)

    def discard(self, turn: Turn) -> None:
        """
        Wait under C{turn} no longer.  The last turn stays: somebody waits.
        """
        if turn not in self.turns or self.turns.total() == 1:
            return
        self.turns[turn] -= 1
        if not self.turns[turn]:
            del self.turns[turn]
            if self.waiting:
                self._slots.leave(self, turn)

    @property
    def party(self) -> Party:
        """
        Its account at its host.
        """
        return Party(self.host, self.account)

    def move(self, host: str, account: Hashable = None) -> bool:
        """
        Wait for, or hold, the slot for another host or account.

        @return: whether that was possible.  A slot that is held cannot be
            used where nothing may start now.
        """
        return self._slots.move(self, host, account)

    def belong(self, slots: Slots) -> None:
        """
        Be a ticket of other slots from now on.
        """
        self._slots = slots

    def sample(self) -> None:
        """
        Look at how far it is.
        """
        if self.pace is not None and self.position is not None:
            self.pace.sample(self._slots.now(), self.position())

    def release(self) -> None:
        """
        Give the slot back, or the place in the queue.  Idempotent.
        """
        self._slots.end(self)


class Slots(DeferredSemaphore):
    """
    A semaphore whose limit may change at any time, with a fair queue.

    Differences from L{DeferredSemaphore}: waiters are woken from a clean
    reactor turn, in the order of their L{Turn}s; a host may have a limit of
    its own; a host, or one account there, may be paused; a L{Ticket} can be
    given back only once.

    While a host waits, another one gets no more than its share: all slots but
    one, or half of four and more.  What runs is not taken back.  Where all
    slots are held, one further slot in all is lent: at once to a host that
    holds none, unless the last attempt there came to nothing; and to all
    others where some of those that hold slots hardly move.  Such a slot is
    wanted back if what has it hardly moves while another host holds none.

    Used without tickets, by C{acquire}, C{release}, C{run} or C{async with},
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
        noun: str = "slot",
        pauses: Pauses | None = None,
        most: Callable[[], float] = lambda: 0.0,
        beyond: Slots | None = None,
    ) -> None:
        """
        @param limit: how many slots there are; at least 1.
        @param per_host: how many of them one host may have; 0 for all.
        @param noun: what to call one: C{download slot}.
        @param pauses: the pauses, where other slots share them.
        @param most: gives the bytes a second that all together may move; 0
            for any.
        @param beyond: other slots, which are used as well while nobody waits
            for them.
        """
        self._limit = limit
        self._hold = ""
        self._spares: list[Ticket] = []
        super().__init__(limit)
        self._clock = clock
        self._per_host = per_host
        self._noun = noun
        self._any = f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
        self._numbers = count()
        self._most = most
        self._beyond = beyond
        self._guests: list[Slots] = []
        if beyond is not None:
            beyond.admit(self)
        self._running: Counter[str] = Counter()
        self._holders: dict[Ticket, None] = {}
        self._lent: Ticket | None = None
        self._reputation = Reputation(clock)
        self._kept_since: dict[str, float] = {}
        self._slow: frozenset[Ticket] = frozenset()
        self._least = 0.0
        self._looked = float("-inf")
        self._pauses = Pauses(clock) if pauses is None else pauses
        self._pauses.observe(self._see_pause)
        self._waiters: dict[Party, dict[Ticket, None]] = {}
        self._resumes: list[tuple[float, int, Party]] = []
        self._resuming: set[Party] = set()
        self._queue: Queue[Ticket] = Queue()
        self._queued = 0
        self._borrowed: deque[Ticket] = deque()
        self._waking: IDelayedCall | None = None
        self._places: dict[Ticket, int] | None = None
        self._telling: IDelayedCall | None = None
        self.waits = Waits()

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
        may.  What runs already goes on.
        """
        return self._hold

    @hold.setter
    def hold(self, why: str) -> None:
        if why != self._hold:
            self._hold = why
            self._tell_soon()
            self._wake_soon()

    def pause(self, whom: str | Party, seconds: float) -> None:
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
        How many tickets wait.
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
        return max(self._pauses.left(host), self._pauses.left(Party(host, account))) if host else 0.0

    def why(self, ticket: Ticket) -> str:
        """
        What a ticket waits for, or what is special about the slot that it
        holds, for a person; empty if nothing.
        """
        if not ticket.waiting:
            return self._why_held(ticket)
        obstacle, number = self._standing(ticket)
        match obstacle:
            case "hold":
                return self._hold
            case "pause":
                return f"{ticket.host} asked to wait {ceil(self.paused(ticket.host, ticket.account))} s"
            case "cap":
                return f"{ticket.host} has its {number} {self._noun}{'s' * (number != 1)} in use"
            case _ if number > _PLACES:
                return f"waiting for {self._any}, behind {_PLACES} others or more"
        return f"waiting for {self._any}, {_ordinal(number)} in line"

    def _why_held(self, ticket: Ticket) -> str:
        if ticket is self._lent:
            return f"in a further slot, as others hold all {self._limit}"
        if ticket in self._slow and self._queued:
            return "under a tenth of its fair share for 30 s; it keeps no others waiting"
        return ""

    def until(self, ticket: Ticket) -> float | None:
        """
        The clock's time before which a ticket gets no slot, if one is known.
        """
        paused = self.paused(ticket.host, ticket.account) if ticket.waiting else 0.0
        return self._clock.seconds() + paused if paused else None

    # -------------------------------------------------------------- tickets

    def ticket(
        self,
        turns: Iterable[Turn],
        host: str,
        granted: Callable[[], object],
        moved: Callable[[], object] = lambda: None,
        account: Hashable = None,
        position: Callable[[], int] | None = None,
        recalled: Callable[[], object] | None = None,
    ) -> Ticket:
        """
        Ask for a slot.

        @param turns: those who wait, at least one.
        @param host: for which host; empty if for none, which has no limit and
            no pause of its own.
        @param granted: called from a clean turn when the slot is there.  It is
            not called if the ticket is held already when it is returned.
        @param moved: called, at most once a second, when L{why} says something
            else of one of the first in the queue.
        @param account: for whose credentials at the host.
        @param position: gives how many bytes there are, where they are counted.
        @param recalled: called from a clean turn if the slot was lent, nothing
            moves in it, and another host waits for one: the holder is to
            release it, and may ask for another.
        @return: the ticket, which the caller must L{Ticket.release}.
        """
        ticket = Ticket(self, next(self._numbers), turns, host, granted, moved, account, position, recalled)
        # Nobody overtakes those who are about to be woken.
        closed = self.closed(host, account)
        if self.tokens > 0 and not closed and self._queue.first(self._rank) is None:
            self._take(ticket)
        elif self._beyond is not None and not closed and self._beyond.has_room(host):
            self._beyond.take_over(ticket)
        else:
            ticket.waiting = True
            self._queued += 1
            ticket.place = self._enlist(ticket)
            for turn in ticket.turns:
                self.enter(ticket, turn)
            self._wake_later()
            if self._spares or self._may_lend or self._lent is not None:
                self._wake_soon()
            if self._beyond is not None:
                self._beyond.wake()
        return ticket

    def spare(self, host: str, wanted: Callable[[], object], account: Hashable = None) -> Ticket | None:
        """
        Borrow a slot that nobody waits for, to do better what is done already.

        @param host: for which host.
        @param wanted: called from a clean turn when somebody could begin with
            this slot, or when there are to be fewer: the borrower is to
            L{Ticket.release} it then, without delay.
        @param account: for whose credentials there.
        @return: the ticket, held, or L{None} if no slot can be spared now.
        """
        if self.closed(host, account) or not self.has_room(host) or self._guests_wait:
            return None
        ticket = Ticket(self, next(self._numbers), (), host, wanted, account=account)
        self._take(ticket)
        self._spares.append(ticket)
        return ticket

    def acquire(self) -> Deferred[Self]:
        """
        Wait for a slot, to be given back by L{release}.

        @return: fires with this object.  Cancelling it gives up the place in
            the queue.
        """

        def lend() -> None:
            self._borrowed.append(ticket)
            d.callback(self)

        d: Deferred[Self] = Deferred(lambda _: ticket.release())
        ticket = self.ticket([_PLAIN], "", lend)
        if ticket.held:
            lend()
        return d

    def release(self) -> None:
        """
        Give back a slot that came from L{acquire}.
        """
        assert self._borrowed, "more slots were given back than were acquired"
        self._borrowed.popleft().release()

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

    def take_over(self, ticket: Ticket) -> None:
        """
        Let a ticket of other slots hold one of these.
        """
        ticket.belong(self)
        self._take(ticket)

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

    # ---------------------------------------------------------- for Ticket

    def now(self) -> float:
        """
        The clock's time.
        """
        return self._clock.seconds()

    def enter(self, ticket: Ticket, turn: Turn) -> None:
        """
        Queue a ticket under one of its turns.
        """
        self._queue.enter(ticket.place, turn, ticket.number, ticket)
        self._tell_soon()

    def leave(self, ticket: Ticket, turn: Turn) -> None:
        """
        Queue a ticket under one of its turns no longer.
        """
        self._queue.leave(ticket.place, turn, ticket.number, ticket)
        self._tell_soon()

    def end(self, ticket: Ticket) -> None:
        """
        Let go of a ticket, whatever it is.
        """
        if ticket.waiting:
            self._part(ticket)
            self.rest()
        elif ticket.held:
            ticket.held = False
            if ticket in self._spares:
                self._spares.remove(ticket)
            del self._holders[ticket]
            self._left(ticket.host)
            if ticket is self._lent:
                self._lent = None
            if ticket in self._slow:
                self._slow -= {ticket}
            self._gain(1)
            self._wake_soon()

    def move(self, ticket: Ticket, host: str, account: Hashable) -> bool:
        """
        Let a ticket change its host or its account.
        """
        old = ticket.host
        if ticket.held and (self.paused(host, account) if host == old else self.closed(host, account)):
            return False
        if ticket is self._lent and host != old and self._kept_out(host) is None:
            return False
        if (host, account) == (old, ticket.account):
            return True
        if ticket.waiting:
            self._unlist(ticket)
            ticket.host, ticket.account = host, account
            self._shift(ticket, self._enlist(ticket))
            self._tell_soon()
        elif ticket.held:
            self._left(old)
            self._running[host] += 1
        ticket.host, ticket.account = host, account
        self._wake_soon()
        self._wake_later()
        return True

    def _enlist(self, ticket: Ticket) -> str | Party:
        """
        Note who waits for which party.

        @return: where the ticket has to stand in the queue: aside, while its
            party is paused.
        """
        party = ticket.party
        self._waiters.setdefault(party, {})[ticket] = None
        if not ticket.host or not self._pauses.left(party):
            return ticket.host
        self._resume_later(party)
        return party

    def _shift(self, ticket: Ticket, place: str | Party) -> None:
        """
        Let a ticket that waits stand elsewhere in the queue.
        """
        old, ticket.place = ticket.place, place
        if old != place:
            for turn in ticket.turns:
                # In this order, or a client that has no other ticket would
                # lose its place in the rotation.
                self._queue.enter(place, turn, ticket.number, ticket)
                self._queue.leave(old, turn, ticket.number, ticket)

    def _unlist(self, ticket: Ticket) -> None:
        waiters = self._waiters[ticket.party]
        del waiters[ticket]
        if not waiters:
            del self._waiters[ticket.party]

    def _part(self, ticket: Ticket) -> None:
        ticket.waiting = False
        self._queued -= 1
        self._unlist(ticket)
        for turn in ticket.turns:
            self.leave(ticket, turn)
        if not self._queued and self._telling is not None:
            self._telling.cancel()
            self._telling = None

    def _take(self, ticket: Ticket) -> None:
        ticket.held = True
        self.waits.add(self.now() - ticket.since)
        self.tokens -= 1
        self._kept_since.pop(ticket.host, None)
        self._holders[ticket] = None
        self._running[ticket.host] += 1
        if ticket.position is not None:
            ticket.pace = Pace(self.now(), ticket.position())

    # ---------------------------------------------------- what they wait for

    def _standing(self, ticket: Ticket) -> Standing:
        """
        What a ticket waits for: the end of a C{hold} or a C{pause} or, where a number
        says more, a slot of its host's C{cap} or its C{place} in the queue.
        """
        if self._hold:
            return "hold", 0
        if self.paused(ticket.host, ticket.account):
            return "pause", 0
        if self.closed(ticket.host):
            return "cap", self._per_host
        return "place", self._first().get(ticket, _PLACES + 1)

    def _first(self) -> dict[Ticket, int]:
        """
        The places of the first in the queue; counted when somebody asks.
        """
        if self._places is None:
            first = islice(self._queue.in_order(), _PLACES)
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
        for ticket in list(self._first()):
            standing = self._standing(ticket)
            if standing != ticket.told:
                ticket.told = standing
                ticket.moved()

    # ------------------------------------------------------------ the hosts

    def _is_open(self, host: str) -> bool:
        if not host or self._hold:
            return not self._hold
        full = self._per_host and self._running[host] >= self._per_host
        return not full and not self._pauses.left(host)

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
        return 1 if host and self._running[host] >= self._share else 0

    @property
    def _share(self) -> int:
        """
        How many slots one host gets while another waits.
        """
        return (self._limit + 1) // 2 if self._limit >= 4 else max(1, self._limit - 1)

    # ------------------------------------------------------ the further slot

    def judge(self, host: str, good: bool) -> None:
        """
        Note that an attempt at a host brought something, or took its time and
        came to nothing.
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
        if not host or self._running[host]:
            return None
        rank = self._trust(host)
        if rank == 1 and self.now() - self._kept_since.setdefault(host, self.now()) >= _UNKNOWN:
            return 0
        return rank

    def _trust(self, host: str) -> int | None:
        """
        The rank of those hosts that are open and may be of use.
        """
        return self._reputation.rank(host) if self._is_open(host) else None

    def _recall(self) -> None:
        """
        Ask for the further slot back where it does no good and another host
        holds none.
        """
        lent, now = self._lent, self.now()
        if lent is None or lent.recalled is None or lent.pace is None or lent.position is None:
            return
        if self._queue.first(lambda host: 0 if self._kept_out(host) in (0, 1) else None) is None:
            return
        self._look()
        # With a limit on the rate, nobody is idle for its own reasons.
        idle = not self._most() and lent.pace.idle(now, lent.position()) >= _IDLE - ROUNDING
        if idle or self._is_slow(lent, WINDOW if self._most() else _IDLE):
            self.judge(lent.host, good=False)
            try:
                lent.recalled()
            except Exception:
                self._log.failure("while recalling a slot of {host}", host=lent.host)

    def _borrower(self) -> tuple[Ticket, str] | None:
        """
        Who gets the further slot, and in which client's turn.

        Those whose own transfers are slow would only fill it, too.
        """
        if len(self._kept_since) > _PLACES:
            waiting = self._queue.hosts
            self._kept_since = {h: since for h, since in self._kept_since.items() if h in waiting}
        found = self._queue.first(self._kept_out)
        if found is not None:
            return found
        self._kept_since.clear()
        self._look()
        if not self._slow:
            return None
        hosts = {ticket.host for ticket in self._slow}
        found = self._queue.first(lambda host: None if host in hosts else self._trust(host))
        if found is not None:
            return found
        jobs = {(turn.client, turn.job) for ticket in self._slow for turn in ticket.turns}
        for ticket in self._first():
            if ticket.place == ticket.host and self._trust(ticket.host) is not None:
                for turn in ticket.turns:
                    if (turn.client, turn.job) not in jobs:
                        return ticket, turn.client
        return None

    def _look(self) -> None:
        """
        See who hardly moves, at most once a second.
        """
        now = self.now()
        if now < self._looked + _NEWS:
            return
        self._looked = now
        rates = [t.pace.rate(now, t.position()) for t in self._holders if t.pace and t.position]
        self._least = TENTH * fair_share(rates, self._limit, self._most())
        slow = frozenset(ticket for ticket in self._holders if self._is_slow(ticket, WINDOW))
        changed, self._slow = slow ^ self._slow, slow
        for ticket in changed:
            ticket.moved()

    def _is_slow(self, ticket: Ticket, seconds: float) -> bool:
        """
        Whether a ticket was held for some seconds and hardly moved.
        """
        if ticket.pace is None or ticket.position is None:
            return False
        now = self.now()
        return ticket.pace.lasts(now, seconds) and ticket.pace.rate(now, ticket.position()) < self._least

    # ------------------------------------------------------------ the pauses

    def _see_pause(self, whom: str | Party) -> None:
        """
        A host or a party is paused, perhaps by what shares the pauses.
        """
        if isinstance(whom, Party) and whom.host and whom in self._waiters:
            self._resume_later(whom)
            for ticket in self._waiters[whom]:
                self._shift(ticket, whom)
        self._tell_soon()
        self._wake_later()

    def _resume_later(self, party: Party) -> None:
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
                    for ticket in self._waiters[party]:
                        self._shift(ticket, party.host)

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
        pauses = [self._pauses.left(host) for host in self._queue.hosts]
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

    def _grant(self, ticket: Ticket, client: str, slots: Slots | None = None) -> None:
        self._queue.served(client)
        self._part(ticket)
        (slots or self).take_over(ticket)
        try:
            ticket.granted()
        except Exception:
            self._log.failure("while granting a slot for {host}", host=ticket.host)

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
        ticket = next((spare for spare in reversed(self._spares) if self._is_wanted(spare)), None)
        if ticket is not None:
            try:
                ticket.granted()
            except Exception:
                self._log.failure("while asking for a slot for {host}", host=ticket.host)

    def _is_wanted(self, spare: Ticket) -> bool:
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


def _ordinal(n: int) -> str:
    """
    Say 1st, 2nd, 3rd, 4th, 11th.
    """
    suffix = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"
