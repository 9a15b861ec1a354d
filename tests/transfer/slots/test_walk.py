"""
Slots under random requests, compared with a plain model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.transfer.slots_case import HOST, OTHER, acquire, picks
from xferd.interfaces.transfer import HostAccount
from xferd.transfer.fair_queue import Turn
from xferd.transfer.reason import NO_REASON
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots


@define(eq=False)
class Waiter:
    """
    A request of the model.
    """

    number: int
    turns: list[Turn]
    host: str
    account: str
    request: SlotRequest = field(init=False)


@define
class Model:
    """
    The rules of L{Slots} in their plainest form: lists, searched from end to
    end.
    """

    limit: int
    clock: Clock
    per_host: int = 0
    waiting: list[Waiter] = field(factory=list)
    held: list[Waiter] = field(factory=list)
    spares: list[Waiter] = field(factory=list)
    lent: Waiter | None = None
    rotation: list[str] = field(factory=list)
    resumes: dict[str | HostAccount, float] = field(factory=dict)
    intervals: dict[HostAccount, tuple[float, float]] = field(factory=dict)

    def is_open(self, host: str, account: str) -> bool:
        """
        Whether an account may start something at a host.
        """
        full = self.per_host and self.running(host) >= self.per_host
        ends = [self.resumes.get(whom, 0) for whom in (host, HostAccount(host, account))]
        _, following = self.intervals.get(HostAccount(host, account), (0, 0))
        return not full and max(*ends, following) <= self.clock.seconds()

    def start(self, host: str, account: str) -> None:
        """
        A slot is granted for an account.
        """
        interval, _ = self.intervals.get(HostAccount(host, account), (0, 0))
        if interval:
            self.intervals[HostAccount(host, account)] = interval, self.clock.seconds() + interval

    @property
    def free(self) -> int:
        """
        How many slots are free; negative where there are to be fewer.
        """
        return self.limit - len(self.held) - len(self.spares)

    def running(self, host: str) -> int:
        """
        How many slots a host has.
        """
        return sum(w.host == host for w in [*self.held, *self.spares])

    def next(self) -> tuple[Waiter, str] | None:
        """
        The next request, and the client in whose turn it is.
        """
        share = (self.limit + 1) // 2 if self.limit > 3 else max(1, self.limit - 1)
        lends = self.free <= 0
        if lends and (self.lent is not None or self.spares):
            return None
        places = [
            (
                (
                    self.running(w.host) >= share,
                    -t.priority,
                    self.rotation.index(t.client),
                    t.job,
                    t.layer,
                    w.number,
                ),
                w,
                t.client,
            )
            for w in self.waiting
            if self.is_open(w.host, w.account) and not (lends and self.running(w.host))
            for t in w.turns
        ]
        return min(places, key=lambda p: p[0])[1:] if places else None

    def wants(self, spare: Waiter) -> bool:
        """
        Whether a spare slot is of more use to a request.
        """
        if self.free < 0 or (self.per_host and self.running(spare.host) > self.per_host):
            return True
        self.spares.remove(spare)
        try:
            return self.next() is not None
        finally:
            self.spares.append(spare)

    def tidy(self) -> None:
        """
        Clients without requests lose their place in the rotation; new ones are
        last.  A lent slot becomes an ordinary one when there are enough.
        """
        if self.free >= 0 or self.lent not in self.held:
            self.lent = None
        clients = [t.client for w in self.waiting for t in w.turns]
        self.rotation = [c for c in self.rotation if c in clients]
        self.rotation += dict.fromkeys(c for c in clients if c not in self.rotation)


hosts = st.sampled_from([HOST, OTHER, "three.example"])
accounts = st.sampled_from(["alice", "bob"])
turns = st.builds(Turn, st.sampled_from("abc"), st.integers(0, 1), st.integers(0, 3), st.integers(0, 2))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.lists(turns, min_size=1, max_size=3), hosts, accounts),
        st.tuples(st.just("ask"), st.lists(turns, min_size=1, max_size=3), hosts, accounts),
        st.tuples(st.just("release"), picks),
        st.tuples(st.just("cancel"), picks),
        st.tuples(st.just("add"), picks, turns),
        st.tuples(st.just("discard"), picks),
        st.tuples(st.just("move"), picks, hosts, accounts),
        st.tuples(st.just("spare"), hosts, accounts),
        st.tuples(st.just("limit"), st.integers(1, 6)),
        st.tuples(st.just("per_host"), st.integers(0, 2)),
        st.tuples(
            st.just("pause"), st.one_of(hosts, st.builds(HostAccount, hosts, accounts)), st.integers(1, 9)
        ),
        st.tuples(st.just("space"), st.builds(HostAccount, hosts, accounts), st.integers(0, 5)),
        st.tuples(st.just("clear"), hosts),
        st.tuples(st.just("pass"), st.integers(1, 9)),
    ),
    max_size=60,
)


class WalkTests(SynchronousTestCase):
    """
    Slots agree with the model, whatever happens.
    """

    @settings(max_examples=150, deadline=None)
    @given(st.integers(1, 3), steps)
    def test_walk(self, limit: int, walk: list[tuple[Any, ...]]) -> None:
        """
        After any steps, the requests were granted that the model grants, in its
        order; no grant exceeded the limit, except for the lent slot; and when
        all are released, every slot is free.
        """
        self.clock = Clock()
        self.slots = Slots(limit, self.clock)
        self.model = Model(limit, self.clock)
        self.number = 0
        self.everybody: list[Waiter] = []
        for name, *arguments in walk:
            getattr(self, f"step_{name}")(*arguments)
            self.settle()
            self.agree()
        self.model.resumes.clear()
        for account in self.model.intervals:
            self.slots._pauses.space(account, 0)
        self.model.intervals.clear()
        self.clock.advance(100)
        self.settle()
        while self.model.held or self.model.spares:
            for spare in self.model.spares:
                spare.request.release()
            self.model.spares.clear()
            self.step_release(0)
            self.settle()
            self.agree()
        self.assertEqual((self.slots.in_use, self.slots.queued), (0, 0))
        self.assertEqual(self.slots.tokens, self.slots.limit)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def started(self, waiter: Waiter) -> Callable[[], None]:
        """
        Compare a grant with the model's.
        """

        def granted() -> None:
            self.model.tidy()
            expected = self.model.next()
            assert expected is not None
            self.assertIs(waiter, expected[0])
            self.begin(*expected)

        return granted

    def begin(self, waiter: Waiter, client: str) -> None:
        """
        Grant a request in the model.
        """
        if self.model.free <= 0:
            self.assertIsNone(self.model.lent)
            self.model.lent = waiter
        self.model.waiting.remove(waiter)
        self.model.held.append(waiter)
        self.model.start(waiter.host, waiter.account)
        self.model.rotation.remove(client)
        self.model.rotation.append(client)
        self.model.tidy()

    def settle(self) -> None:
        """
        Run the clean turns: one for each spare slot.
        """
        for _ in range(8):
            self.clock.advance(0)

    def agree(self) -> None:
        """
        Slots and model are in the same state, and no request waits in vain.
        """
        self.model.tidy()
        self.assertIsNone(self.model.next())
        self.assertEqual(
            {w.number for w in self.everybody if w.request.held}, {w.number for w in self.model.held}
        )
        self.assertEqual(self.slots.in_use, len(self.model.held) + len(self.model.spares))
        self.assertEqual(self.slots.queued, len(self.model.waiting))
        self.assertEqual(self.slots.tokens, self.model.free)
        self.assertFalse(any(self.model.wants(spare) for spare in list(self.model.spares)))
        for waiter in self.everybody:
            special = waiter in self.model.waiting or waiter is self.model.lent
            self.assertEqual(waiter.request.reason() != NO_REASON, special)

    def step_ask(self, turns: list[Turn], host: str, account: str) -> None:
        """
        A request is made.
        """
        waiter = Waiter(self.number, list(turns), host, account)
        self.number += 1
        before = self.model.next()
        free = before is None and self.model.free > 0
        free = free and self.model.is_open(host, account)
        waiter.request = acquire(self.slots, turns, host, self.started(waiter), account=account)
        self.everybody.append(waiter)
        self.assertEqual(waiter.request.held, free)
        (self.model.held if free else self.model.waiting).append(waiter)
        if free:
            self.model.start(host, account)
        self.model.tidy()

    def step_release(self, pick: int) -> None:
        """
        A holder releases its slot.
        """
        if self.model.held:
            waiter = self.model.held.pop(pick % len(self.model.held))
            waiter.request.release()

    def step_cancel(self, pick: int) -> None:
        """
        A waiting request is released.
        """
        if self.model.waiting:
            waiter = self.model.waiting.pop(pick % len(self.model.waiting))
            waiter.request.release()
            self.model.tidy()

    def step_add(self, pick: int, turn: Turn) -> None:
        """
        A waiting request gets another turn.
        """
        if self.model.waiting:
            waiter = self.model.waiting[pick % len(self.model.waiting)]
            waiter.turns.append(turn)
            waiter.request.add(turn)
            self.model.tidy()

    def step_discard(self, pick: int) -> None:
        """
        A waiting request loses a turn, unless it is the last.
        """
        if self.model.waiting:
            waiter = self.model.waiting[pick % len(self.model.waiting)]
            turn = waiter.turns[pick % len(waiter.turns)]
            if len(waiter.turns) > 1:
                waiter.turns.remove(turn)
            waiter.request.discard(turn)
            self.model.tidy()

    def step_move(self, pick: int, host: str, account: str) -> None:
        """
        A request moves to another host or account.
        """
        if self.everybody:
            waiter = self.everybody[pick % len(self.everybody)]
            moved = waiter.request.move(host, account)
            if moved and waiter in [*self.model.held, *self.model.waiting]:
                waiter.host, waiter.account = host, account

    def step_spare(self, host: str, account: str) -> None:
        """
        A slot is borrowed, until it is wanted back.
        """

        def wanted() -> None:
            self.model.tidy()
            self.assertTrue(self.model.wants(spare))
            self.model.spares.remove(spare)
            spare.request.release()

        free = self.model.next() is None and self.model.free > 0 and self.model.is_open(host, account)
        request = self.slots.spare(host, wanted, account)
        self.assertEqual(request is not None, free)
        if request is not None:
            spare = Waiter(0, [], host, account)
            spare.request = request
            self.model.spares.append(spare)
            self.model.start(host, account)

    def step_space(self, account: HostAccount, seconds: int) -> None:
        """
        Starts at an account are to be some seconds apart, or not any more.
        """
        now = self.clock.seconds()
        _, following = self.model.intervals.pop(account, (0, now + seconds))
        if seconds:
            self.model.intervals[account] = seconds, min(following, now + seconds)
        self.slots._pauses.space(account, seconds)

    def step_clear(self, host: str) -> None:
        """
        The pauses and intervals of a host end.
        """
        for whom in [*self.model.resumes, *self.model.intervals]:
            if (whom.host if isinstance(whom, HostAccount) else whom) == host:
                self.model.resumes.pop(whom, None)
                if isinstance(whom, HostAccount):
                    self.model.intervals.pop(whom, None)
        self.slots._pauses.clear(host)

    def step_limit(self, limit: int) -> None:
        """
        The number of slots changes.
        """
        self.slots.limit = self.model.limit = limit

    def step_per_host(self, per_host: int) -> None:
        """
        The limit of each host changes.
        """
        self.slots.per_host = self.model.per_host = per_host

    def step_pause(self, whom: str | HostAccount, seconds: int) -> None:
        """
        A host or an account there is paused.
        """
        self.slots.pause(whom, seconds)
        until = self.clock.seconds() + seconds
        self.model.resumes[whom] = max(until, self.model.resumes.get(whom, 0))

    def step_pass(self, seconds: int) -> None:
        """
        Time passes.
        """
        for _ in range(seconds):
            self.clock.advance(1)
