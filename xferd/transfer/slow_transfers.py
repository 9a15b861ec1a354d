# -*- test-case-name: tests.transfer.test_slots -*-
"""
Laggards: transfers that hold a slot and hardly move.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from xferd.transfer.pauses import ROUNDING
from xferd.transfer.slot_request import Ticket
from xferd.transfer.throughput import TENTH, WINDOW, Pace, fair_share

IDLE: Final = 3.0
"""Seconds after which a lent slot without progress may be recalled."""

_LOOK: Final = 1.0
"""Seconds between two evaluations."""


class Laggards:
    """
    The tickets that hold slots, and which of them hardly move.

    @ivar slow: the tickets that moved less than a tenth of their fair share
        for half a minute, as of the last L{look}.
    """

    def __init__(self, clock: IReactorTime, most: Callable[[], float]) -> None:
        """
        @param most: returns the bandwidth limit for all transfers together,
            in bytes per second; 0 for none.
        """
        self._clock = clock
        self._most = most
        self._holders: dict[Ticket, None] = {}
        self._least = 0.0
        self._looked = float("-inf")
        self.slow: frozenset[Ticket] = frozenset()

    def add(self, ticket: Ticket) -> None:
        """
        Add a ticket that has got a slot.
        """
        self._holders[ticket] = None
        if ticket.position is not None:
            ticket.pace = Pace(self._clock.seconds(), ticket.position())

    def remove(self, ticket: Ticket) -> None:
        """
        Remove a ticket that has released its slot.
        """
        del self._holders[ticket]
        if ticket in self.slow:
            self.slow -= {ticket}

    def look(self, limit: int) -> frozenset[Ticket]:
        """
        Evaluate which tickets are slow, at most once a second, and call
        C{moved} of each ticket for which the result has changed.

        @param limit: the number of slots.
        """
        now = self._clock.seconds()
        if now < self._looked + _LOOK:
            return self.slow
        self._looked = now
        rates = [t.pace.rate(now, t.position()) for t in self._holders if t.pace and t.position]
        self._least = TENTH * fair_share(rates, limit, self._most())
        slow = frozenset(ticket for ticket in self._holders if self._is_slow(ticket, WINDOW))
        changed, self.slow = slow ^ self.slow, slow
        for ticket in changed:
            ticket.moved()
        return self.slow

    def is_useless(self, ticket: Ticket) -> bool:
        """
        Whether a ticket makes no use of its slot.  With a bandwidth limit only
        the whole window shows it, because transfers wait for their turn.
        """
        if ticket.pace is None or ticket.position is None:
            return False
        if self._most():
            return self._is_slow(ticket, WINDOW)
        idle = ticket.pace.idle(self._clock.seconds(), ticket.position())
        return idle >= IDLE - ROUNDING or self._is_slow(ticket, IDLE)

    def _is_slow(self, ticket: Ticket, seconds: float) -> bool:
        if ticket.pace is None or ticket.position is None:
            return False
        now = self._clock.seconds()
        return ticket.pace.lasts(now, seconds) and ticket.pace.rate(now, ticket.position()) < self._least
