# -*- test-case-name: tests.transfer.test_bandwidth -*-
"""
Allowances: the bytes that one bandwidth limit permits, and the shares of clients in them.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

BURST: Final = 0.25
"""
Seconds whose bytes may move at once after a pause.  They make up for timers, all of which are
a little late, and for a process that did not run; over ten seconds they are 2.5 %.
"""

PATIENCE: Final = 0.02
"""Seconds for which the next piece of a client is awaited."""

_ROUNDING: Final = 0.5
"""Sums of floats may lack half a byte."""

_PRUNED: Final = 256
"""Clients whose shares are remembered before those without effect are forgotten."""


class Allowance:
    """
    A token bucket, with start-time fair queueing between clients.

    Each client has a tag: the bytes that it has moved, divided by its weight.  Where
    bytes of several clients wait, those of the client with the lowest tag go first.  A
    client that returns is at most L{BURST} behind the others: it is not compensated for the
    time without work.

    @ivar whose: its name: C{global}, C{host ghcr.io}, C{client ci}, C{job 1a2b}.
    @ivar rate: bytes per second; 0 for no limit.
    @ivar claims: what waits for it.
    @ivar awaited: the clients that have just been served, each with a time of the clock.  Until
        then, clients with a higher tag leave the next bytes to them.
    @ivar wanted: the size in bytes of the largest piece that waits.
    @ivar held: the clock's time when something waited for it last.
    """

    __slots__ = (
        "_balance",
        "_counted",
        "_tags",
        "_virtual",
        "awaited",
        "claims",
        "held",
        "rate",
        "wanted",
        "whose",
    )

    def __init__(self, whose: str, rate: int, now: float) -> None:
        self.whose = whose
        self.rate = rate
        self.claims: set[Hashable] = set()
        self.wanted = 0
        self.awaited: dict[str, float] = {}
        self.held = float("-inf")
        self._balance = 0.0
        self._counted = now
        self._tags: dict[str, float] = {}
        self._virtual = 0.0

    def change(self, rate: int, now: float) -> None:
        """
        Set the rate.  It counts from now on.
        """
        self.refill(now)
        if not self.rate:
            self._balance = 0.0
        self.rate = rate

    def refill(self, now: float) -> None:
        """
        Add the bytes of the time since the last call.
        """
        if now == self._counted:
            return
        most = self.rate * BURST + self.wanted
        self._balance = min(most, self._balance + (now - self._counted) * self.rate)
        self._counted = now

    def lacks(self, size: float) -> float:
        """
        The seconds until so many bytes may move; 0 if they may now.
        """
        missing = size - self._balance
        return missing / self.rate if missing > _ROUNDING else 0.0

    def is_claimed(self, flow: Hashable) -> bool:
        """
        Whether something else waits for it.
        """
        return len(self.claims) > (flow in self.claims)

    def charge(self, size: float) -> None:
        """
        Count bytes that move.
        """
        self._balance -= size

    def start(self, client: str) -> float:
        """
        The tag at which the next bytes of a client stand.
        """
        return max(self._tags.get(client, 0.0), self._virtual - self.rate * BURST)

    def yields(self, client: str, now: float) -> float:
        """
        The seconds for which a client leaves the next bytes to one with a lower tag that has
        just been served: its next piece is on the way, and comes late where the process lacks
        the processor.
        """
        if not self.awaited:
            return 0.0
        own = self.start(client)
        ahead = [
            until - now
            for other, until in self.awaited.items()
            if until > now and other != client and self.start(other) < own
        ]
        return max(ahead, default=0.0)

    def serve(self, client: str, size: float, now: float) -> None:
        """
        Move the tag of a client.

        @param size: the bytes that it has moved, divided by its weight.
        """
        start = self.start(client)
        self._virtual = max(self._virtual, start)
        self._tags[client] = start + size
        self.awaited[client] = now + PATIENCE
        if len(self._tags) > _PRUNED:
            least = self._virtual - self.rate * BURST
            self._tags = {name: tag for name, tag in self._tags.items() if tag > least}
            self.awaited = {name: until for name, until in self.awaited.items() if name in self._tags}
