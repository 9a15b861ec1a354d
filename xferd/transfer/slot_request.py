# -*- test-case-name: tests.transfer.test_slots -*-
"""
Tickets: places in the queue for slots, and slots that are held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Protocol

from xferd.transfer.fair_queue import Turn
from xferd.transfer.pauses import Party
from xferd.transfer.reason import Obstacle
from xferd.transfer.throughput import Pace

Standing = tuple[Obstacle, int]
"""What a ticket waits for, and a number."""


class Office(Protocol):
    """
    What gave out a ticket.
    """

    def now(self) -> float:
        """
        The clock's time.
        """

    def enter(self, ticket: Ticket, turn: Turn) -> None:
        """
        Queue a ticket under one of its turns.
        """

    def leave(self, ticket: Ticket, turn: Turn) -> None:
        """
        Queue a ticket under one of its turns no longer.
        """

    def move(self, ticket: Ticket, host: str, account: Hashable) -> bool:
        """
        Let a ticket change its host or its account.
        """

    def end(self, ticket: Ticket) -> None:
        """
        Let go of a ticket, whatever it is.
        """


class Ticket:
    """
    One who waits for a slot, and then holds it.

    Life cycle: waiting; then held, once there is a free slot; then ended, by
    L{release}.  A ticket may be ended while it waits.

    @ivar waiting: whether it waits.
    @ivar held: whether it holds a slot.
    @ivar host: for which host the slot is.
    @ivar account: for whose credentials there, as in
        L{ISource <xferd.interfaces.transfer.ISource>}.
    @ivar place: where it stands in the queue, while it waits.
    @ivar number: counted up from the oldest ticket.
    @ivar turns: those on whose behalf it waits.
    @ivar since: the clock's time when it came.
    @ivar told: what it waited for when L{moved} was called last.
    @ivar position: how many bytes there are, of what it is for; L{None} where
        nobody counts them.
    @ivar recalled: called when a slot that was lent is wanted back; returns
        whether it is released.
    @ivar pace: how these moved since it was held.
    """

    def __init__(
        self,
        slots: Office,
        number: int,
        turns: Iterable[Turn],
        host: str,
        granted: Callable[[], object],
        moved: Callable[[], object] = lambda: None,
        account: Hashable = None,
        position: Callable[[], int] | None = None,
        recalled: Callable[[], bool] | None = None,
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

    def belong(self, slots: Office) -> None:
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
