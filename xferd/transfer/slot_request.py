# -*- test-case-name: tests.transfer.test_slot_request -*-
"""
Requests for slots: places in the queue, and slots that are held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from xferd.interfaces.transfer import HostAccount
from xferd.transfer.fair_queue import Turn
from xferd.transfer.reason import NO_REASON, Obstacle, Reason
from xferd.transfer.throughput import Throughput

Standing = tuple[Obstacle, int]
"""What a request waits for, and a number: a L{Reason} without what changes as time passes."""


class Issuer(Protocol):
    """
    The slots that a request waits for, or holds one of.
    """

    def now(self) -> float:
        """
        The clock's time.
        """

    def enter(self, request: SlotRequest, turn: Turn) -> None:
        """
        Queue a request under one of its turns.
        """

    def leave(self, request: SlotRequest, turn: Turn) -> None:
        """
        Remove a request from the queue, under one of its turns.
        """

    def move(self, request: SlotRequest, host: str, account: Hashable) -> bool:
        """
        Change the host or the account of a request.

        @return: whether that was possible.
        """

    def end(self, request: SlotRequest) -> None:
        """
        Release the slot or the place in the queue.
        """

    def reason(self, request: SlotRequest) -> Reason:
        """
        What the request waits for, or what slows its holder.
        """


class SlotRequest:
    """
    A request for a slot, and the slot once it is granted.

    States, by L{waiting} and L{held}::

        idle --acquire--> waiting --grant--> held --release--> idle
        idle --acquire--> held               waiting --release--> idle

    Its turns, host and account may change in every state.

    @ivar turns: those on whose behalf it waits, counted.
    @ivar host: the host that the slot is for; empty for none, which has no
        limit and no pause of its own.
    @ivar account: the account there, as in
        L{ISource <xferd.interfaces.transfer.ISource>}.
    @ivar waiting: whether it has a place in the queue.
    @ivar held: whether it holds a slot.
    @ivar position: returns how many bytes there are of what the slot is for;
        L{None} where they are not counted.
    @ivar reason_changed: called, at most once a second, when L{reason} has
        changed for one of the first requests in the queue.
    @ivar host_paused: called from a clean turn when its host, or its account
        there, is paused while it waits.
    @ivar recalled: called from a clean turn when a lent slot is wanted back:
        its holder hardly moves, and another host waits for one.  The holder
        releases it, and returns L{True}, or keeps it.
    @ivar limited: returns whether a bandwidth limit holds what the slot is for.
    @ivar number: counted up from the oldest request.
    @ivar since: the clock's time when it was made.
    @ivar place: where it stands in the queue, while it waits.
    @ivar reported: what it waited for when L{reason_changed} was called last.
    @ivar acquired: fires when it is granted, while it waits.
    @ivar pace: how the bytes moved since it was granted, while it is held.
    """

    def __init__(
        self,
        turns: Iterable[Turn],
        host: str = "",
        account: Hashable = None,
        *,
        position: Callable[[], int] | None = None,
        reason_changed: Callable[[], object] = lambda: None,
        host_paused: Callable[[], object] | None = None,
        recalled: Callable[[], object] | None = None,
        limited: Callable[[], bool] = lambda: False,
    ) -> None:
        self.turns = Counter(turns)
        self.host = host
        self.account = account
        self.position = position
        self.reason_changed = reason_changed
        self.host_paused = host_paused
        self.recalled = recalled
        self.limited = limited
        self.waiting = False
        self.held = False
        self.number = 0
        self.since = 0.0
        self.place: str | HostAccount = host
        self.reported: Standing | None = None
        self.acquired: Deferred[Any] | None = None
        self.pace: Throughput | None = None
        self._issuer: Issuer | None = None

    @property
    def host_account(self) -> HostAccount:
        """
        Its account at its host.
        """
        return HostAccount(self.host, self.account)

    def add(self, turn: Turn) -> None:
        """
        Add a turn.  The best one counts.
        """
        self.turns[turn] += 1
        if self.waiting and self._issuer is not None and self.turns[turn] == 1:
            self._issuer.enter(self, turn)

    def discard(self, turn: Turn) -> None:
        """
        Remove a turn, unless it is the last one.
        """
        if turn not in self.turns or self.turns.total() == 1:
            return
        self.turns[turn] -= 1
        if not self.turns[turn]:
            del self.turns[turn]
            if self.waiting and self._issuer is not None:
                self._issuer.leave(self, turn)

    def move(self, host: str, account: Hashable = None) -> bool:
        """
        Wait for, or hold, the slot for another host or account.

        @return: whether that was possible.  A slot that is held cannot be
            used where nothing may start now.
        """
        if self._issuer is not None:
            return self._issuer.move(self, host, account)
        self.host, self.account = host, account
        return True

    def release(self) -> None:
        """
        Release the slot, or leave the queue.  Idempotent.
        """
        if self._issuer is not None:
            self._issuer.end(self)

    def reason(self) -> Reason:
        """
        What it waits for, or what slows its holder.
        """
        return NO_REASON if self._issuer is None else self._issuer.reason(self)

    def sample(self) -> None:
        """
        Record how many bytes there are now.
        """
        if self.pace is not None and self.position is not None and self._issuer is not None:
            self.pace.sample(self._issuer.now(), self.position())

    # ---------------------------------------------------------- for the slots

    def belong(self, issuer: Issuer | None) -> None:
        """
        Set the slots that it belongs to; L{None} for an idle request.
        """
        self._issuer = issuer
