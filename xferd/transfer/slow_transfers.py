# -*- test-case-name: tests.transfer.test_lent_slot -*-
"""
Slow transfers: those that hold a slot and hardly move.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from xferd.transfer.pauses import ROUNDING
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.throughput import TENTH, WINDOW, Throughput, fair_share

IDLE: Final = 3.0
"""Seconds after which a lent slot without progress may be recalled."""

_LOOK: Final = 1.0
"""Seconds between two evaluations."""


class SlowHolders:
    """
    The requests that hold slots, and which of them hardly move.

    @ivar slow: the requests that moved less than a tenth of their fair share
        for half a minute, as of the last L{look}.
    """

    def __init__(self, clock: IReactorTime, most: Callable[[], float]) -> None:
        """
        @param most: returns the bandwidth limit for all transfers together,
            in bytes per second; 0 for none.
        """
        self._clock = clock
        self._most = most
        self._holders: dict[SlotRequest, None] = {}
        self._least = 0.0
        self._looked = float("-inf")
        self.slow: frozenset[SlotRequest] = frozenset()

    def add(self, request: SlotRequest) -> None:
        """
        Add a request that was granted a slot.
        """
        self._holders[request] = None
        if request.position is not None:
            request.pace = Throughput(self._clock.seconds(), request.position())

    def remove(self, request: SlotRequest) -> None:
        """
        Remove a request that has released its slot.
        """
        del self._holders[request]
        if request in self.slow:
            self.slow -= {request}

    def rate(self, host: str) -> float:
        """
        The bytes per second of all requests at a host.
        """
        now = self._clock.seconds()
        return sum(
            t.pace.rate(now, t.position()) for t in self._holders if t.host == host and t.pace and t.position
        )

    def look(self, limit: int) -> frozenset[SlotRequest]:
        """
        Evaluate which requests are slow, at most once a second, and call
        C{reason_changed} of each request for which the result has changed.

        @param limit: the number of slots.
        """
        now = self._clock.seconds()
        if now < self._looked + _LOOK:
            return self.slow
        self._looked = now
        rates = [t.pace.rate(now, t.position()) for t in self._holders if t.pace and t.position]
        self._least = TENTH * fair_share(rates, limit, self._most())
        slow = frozenset(request for request in self._holders if self._is_slow(request, WINDOW))
        changed, self.slow = slow ^ self.slow, slow
        for request in changed:
            request.reason_changed()
        return self.slow

    def is_useless(self, request: SlotRequest) -> bool:
        """
        Whether a request makes no use of its slot.  With a bandwidth limit only
        the whole window shows it, because transfers wait for their turn.
        """
        if request.pace is None or request.position is None:
            return False
        if self._most() or request.limited():
            return self._is_slow(request, WINDOW)
        idle = request.pace.idle(self._clock.seconds(), request.position())
        return idle >= IDLE - ROUNDING or self._is_slow(request, IDLE)

    def _is_slow(self, request: SlotRequest, seconds: float) -> bool:
        if request.pace is None or request.position is None:
            return False
        now = self._clock.seconds()
        return request.pace.lasts(now, seconds) and request.pace.rate(now, request.position()) < self._least
