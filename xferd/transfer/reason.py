# -*- test-case-name: tests.transfer.test_standings,tests.transfer.test_transfer -*-
"""
Reasons: what a transfer waits for, or what slows it, as data.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import field, frozen


class Obstacle(Enum):
    """
    What keeps a transfer from moving at full speed.

    @cvar NONE: nothing.
    @cvar HOLD: nothing may start at any host; C{detail} is the text that the
        slots were put on hold with.
    @cvar PAUSE: the host, C{detail}, is paused for C{number} seconds.
    @cvar INTERVAL: the quota at the host, C{detail}, is low; the next transfer
        may start there in C{number} seconds.
    @cvar HOST_LIMIT: the host, C{detail}, has all its C{number} slots in use.
    @cvar THIN_LINE: the host, C{detail}, has all the C{number} slots in use that it may have while
        its line is thin: more streams were too slow, and broke off.
    @cvar QUEUE: it is the C{number}th in the queue for a slot.
    @cvar LENT: none; it holds a lent slot, as others hold all C{number}.
    @cvar SLOW: none; it holds a slot and hardly moves.
    @cvar DISCARDED: none; the bytes that were here were discarded, because of C{detail}.
    @cvar BANDWIDTH: the bandwidth limit of all transfers together.
    @cvar BACK_OFF: an attempt failed with C{detail}; the next one follows in
        C{number} seconds.
    @cvar WORK: what its work function waits for, C{detail}.
    @cvar FILE_DESCRIPTORS: the process has no file descriptor left.
    @cvar PREDECESSOR: the cancelled work of the same key has not ended.
    @cvar CANCELLATION: it was cancelled, and its work has not ended.
    @cvar FAILURE: it failed with C{detail}.
    """

    NONE = "none"
    HOLD = "hold"
    PAUSE = "pause"
    INTERVAL = "interval"
    HOST_LIMIT = "host limit"
    THIN_LINE = "thin line"
    QUEUE = "queue"
    LENT = "lent"
    SLOW = "slow"
    DISCARDED = "discarded"
    BANDWIDTH = "bandwidth"
    BACK_OFF = "back-off"
    WORK = "work"
    FILE_DESCRIPTORS = "file descriptors"
    PREDECESSOR = "predecessor"
    CANCELLATION = "cancellation"
    FAILURE = "failure"


@frozen
class Reason:
    """
    An obstacle, with the number and the text that belong to it.

    @ivar number: a place in the queue, a number of slots or of seconds,
        rounded up; as L{Obstacle} says.
    @ivar detail: a host, or a text for people.
    @ivar until: the clock's time at which the wait is over, if it is known.
    """

    obstacle: Obstacle
    number: int = 0
    detail: str = ""
    until: float | None = field(default=None, eq=False)


NO_REASON: Final = Reason(Obstacle.NONE)
"""Nothing is waited for."""

PLACES: Final = 100
"""The places in the queue that are counted.  C{PLACES + 1} stands for every place behind them."""
