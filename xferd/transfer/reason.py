# -*- test-case-name: tests.transfer.test_standings,tests.transfer.test_transfer -*-
"""
Reasons: what a transfer waits for, or what slows it, as data.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from attrs import field, frozen


class Obstacle(StrEnum):
    """
    What keeps a transfer from moving at full speed.

    @cvar NONE: nothing.
    @cvar DISK: the disk is full: nothing may start at any host, or its work waits
        for free space; C{detail} is the text.
    @cvar PAUSED: a person, C{host}, has paused it, its host or more; C{detail} is the text.
    @cvar PAUSE: a registry back-off: the host, C{detail}, requested a wait of C{number} seconds.
    @cvar INTERVAL: the quota at the host, C{detail}, is low; the next transfer
        may start there in C{number} seconds.
    @cvar HOST_LIMIT: the host, C{detail}, has all its C{number} slots in use.
    @cvar THIN_LINE: the host, C{detail}, has all the C{number} slots in use that it may have while
        its line is thin: more streams were too slow, and were closed.
    @cvar QUEUE: it is the C{number}th in the queue for a slot.
    @cvar LENT: none; it holds a lent slot, as others hold all C{number}.
    @cvar SLOW: none; it holds a slot and hardly moves.
    @cvar DISCARDED: none; the bytes that were here were discarded, because of C{detail}.
    @cvar BANDWIDTH: none; a bandwidth limit holds it: C{detail} is C{global}, or as
        C{host ghcr.io}, C{client ci}, C{job 1a2b}.
    @cvar BACK_OFF: an attempt failed with C{detail}; the next one follows in
        C{number} seconds.
    @cvar DOWNLOAD: the download of the same blob receives no bytes.
    @cvar UNPACKING: the layer's bytes are not unpacked.
    @cvar PARENT: the layer below is not registered.
    @cvar TOKEN: the token server of the host, C{detail}, has not answered.
    @cvar HELPER: the credential helper C{detail} has not answered.
    @cvar CONFIRMATION: the host, C{detail}, has not confirmed that it has the blob.
    @cvar MOUNT: the host, C{detail}, has not mounted the blob from another repository.
    @cvar SILENCE: the host, C{detail}, has sent or taken no byte for C{number} seconds; without a
        host, no byte was unpacked.
    @cvar WORKER: bytes are here, and no worker unpacks them, as all unpack other layers.
    @cvar WRITING: all bytes are here, and the disk has not confirmed them.
    @cvar WORK: what its work function waits for, C{detail}.
    @cvar CLIENT: the client, C{detail}, has sent no more of its archive.
    @cvar MEMORY: the documents of other copies occupy the memory.
    @cvar FILE_DESCRIPTORS: the process has no file descriptor left.
    @cvar PREDECESSOR: the cancelled work of the same key has not ended.
    @cvar CANCELLATION: it was cancelled, and its work has not ended.
    @cvar FAILURE: it failed with C{detail}.
    """

    NONE = "none"
    DISK = "disk"
    PAUSED = "paused"
    PAUSE = "pause"
    INTERVAL = "interval"
    HOST_LIMIT = "host-limit"
    THIN_LINE = "thin-line"
    QUEUE = "queue"
    LENT = "lent"
    SLOW = "slow"
    DISCARDED = "discarded"
    BANDWIDTH = "bandwidth"
    BACK_OFF = "back-off"
    DOWNLOAD = "download"
    UNPACKING = "unpacking"
    PARENT = "parent"
    TOKEN = "token"  # noqa: S105 - no password
    HELPER = "helper"
    CONFIRMATION = "confirmation"
    MOUNT = "mount"
    SILENCE = "silence"
    WORKER = "worker"
    WRITING = "writing"
    WORK = "work"
    CLIENT = "client"
    MEMORY = "memory"
    FILE_DESCRIPTORS = "file-descriptors"
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
    @ivar host: the host or person that it waits for, where C{detail} is another text.
    """

    obstacle: Obstacle
    number: int = 0
    detail: str = ""
    until: float | None = field(default=None, eq=False)
    host: str = field(default="", eq=False)

    @property
    def whom(self) -> str:
        """
        The host, program or person that it waits for, or whose limit; empty if there is none.
        """
        return self.host or (self.detail if self.obstacle in _NAMING else "")

    @property
    def idles(self) -> bool:
        """
        Whether the transfer has nothing to do meanwhile, though its work runs: another
        transfer or a worker has to act.
        """
        return self.obstacle in _IDLE

    @property
    def hinders(self) -> bool:
        """
        Whether nothing moves meanwhile.
        """
        return self.obstacle not in _MOVING


_NAMING: Final = frozenset(
    {
        Obstacle.PAUSE,
        Obstacle.INTERVAL,
        Obstacle.HOST_LIMIT,
        Obstacle.THIN_LINE,
        Obstacle.BANDWIDTH,
        Obstacle.TOKEN,
        Obstacle.HELPER,
        Obstacle.CONFIRMATION,
        Obstacle.MOUNT,
        Obstacle.SILENCE,
        Obstacle.CLIENT,
    }
)
_IDLE: Final = frozenset({Obstacle.DOWNLOAD, Obstacle.WORKER})
_MOVING: Final = frozenset(
    {Obstacle.NONE, Obstacle.LENT, Obstacle.SLOW, Obstacle.BANDWIDTH, Obstacle.DISCARDED}
)

NO_REASON: Final = Reason(Obstacle.NONE)
"""Nothing is waited for."""

PLACES: Final = 100
"""The places in the queue that are counted.  C{PLACES + 1} stands for every place behind them."""
