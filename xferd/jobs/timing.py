# -*- test-case-name: tests.jobs.test_timing -*-
"""
The time of a job by phase, and what it waited for in each.

The time of a job belongs to one L{Stage} at a time, that of the transfers which decide when
it ends: bytes that move go before transfers that wait to move some, and these before what
only follows them.  So the phases add up to the duration of the job.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from enum import StrEnum
from itertools import compress
from typing import Any, Final

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from xferd.errors import TooManyRequests
from xferd.transfer.bandwidth import ALL
from xferd.transfer.reason import Obstacle
from xferd.transfer.transfer import Transfer

PHASES: Final = (
    "interrupted",
    "queued",
    "resolving",
    "waiting",
    "moving",
    "unpacking",
    "registering",
    "checking",
)
"""The phases, in their usual order."""


MUTE: Final = 2.5
"""Seconds without a byte after which the time of transfers that move counts as that of a mute
host.  After three seconds, it is their own reason."""


class Cause(StrEnum):
    """
    What bounds a job in a stage.

    @cvar LINE: the bytes that a host and the line to it carry.
    @cvar REGISTRY: a host, which answers slowly, or carries less than the line could.
    @cvar SILENCE: a host, which sends or takes nothing.
    @cvar LIMIT: the bandwidth limit.
    @cvar SLOTS: the number of transfers at the same time.
    @cvar HOST_SLOTS: that number for one host.
    @cvar HELPER: a credential helper, which answers slowly.
    @cvar RATE_LIMIT: a host asked to wait, or its quota is low.
    @cvar FAILURES: attempts failed, and the next one had to wait.
    @cvar UNPACKING: the unpacking of layers.
    @cvar DISK: the disk, which writes slowly.
    @cvar FULL_DISK: the disk, which is full.
    @cvar DESCRIPTORS: the process has no file descriptor left.
    @cvar CLIENT: the client, which sends an archive.
    @cvar RESTART: the daemon was restarted.
    @cvar PAUSED: a person, who has paused it.
    @cvar OTHER: anything else.
    """

    LINE = "line"
    REGISTRY = "registry"
    SILENCE = "silence"
    LIMIT = "limit"
    SLOTS = "slots"
    HOST_SLOTS = "host-slots"
    HELPER = "helper"
    RATE_LIMIT = "rate-limit"
    FAILURES = "failures"
    UNPACKING = "unpacking"
    DISK = "disk"
    FULL_DISK = "full-disk"
    DESCRIPTORS = "descriptors"
    CLIENT = "client"
    RESTART = "restart"
    PAUSED = "paused"
    OTHER = "other"


_CAUSES: Final[Mapping[Obstacle, Cause]] = {
    Obstacle.DISK: Cause.FULL_DISK,
    Obstacle.PAUSED: Cause.PAUSED,
    Obstacle.PAUSE: Cause.RATE_LIMIT,
    Obstacle.INTERVAL: Cause.RATE_LIMIT,
    Obstacle.HOST_LIMIT: Cause.HOST_SLOTS,
    Obstacle.THIN_LINE: Cause.LINE,
    Obstacle.QUEUE: Cause.SLOTS,
    Obstacle.BACK_OFF: Cause.FAILURES,
    Obstacle.FILE_DESCRIPTORS: Cause.DESCRIPTORS,
    Obstacle.BANDWIDTH: Cause.LIMIT,
    Obstacle.SILENCE: Cause.SILENCE,
    Obstacle.TOKEN: Cause.REGISTRY,
    Obstacle.CONFIRMATION: Cause.REGISTRY,
    Obstacle.MOUNT: Cause.REGISTRY,
    Obstacle.HELPER: Cause.HELPER,
    Obstacle.WRITING: Cause.DISK,
}
_STILL: Final = frozenset(
    {
        Obstacle.SILENCE,
        Obstacle.TOKEN,
        Obstacle.CONFIRMATION,
        Obstacle.MOUNT,
        Obstacle.HELPER,
        Obstacle.WRITING,
        Obstacle.DISK,
    }
)
"""Why no byte moves of a transfer that runs."""


@frozen(cache_hash=True)
class Stage:
    """
    A phase, and what bounds the job in it.

    @ivar phase: one of L{PHASES}.
    @ivar kind: the kind of the transfers.
    @ivar whom: a host, a program, a person or empty; for L{Cause.OTHER} the reason in words, for
        L{Cause.LIMIT} whose limit it is, empty for that of all transfers.
    @ivar number: the number of transfers that are permitted at the same time, or 0.
    """

    phase: str
    cause: Cause
    kind: str = ""
    whom: str = ""
    number: int = 0


QUEUED: Final = Stage("queued", Cause.RESTART)
INTERRUPTED: Final = Stage("interrupted", Cause.RESTART)
RESOLVING: Final = Stage("resolving", Cause.OTHER)
REGISTERING: Final = Stage("registering", Cause.DISK)
CHECKING: Final = Stage("checking", Cause.DISK)
RECEIVING: Final = Stage("moving", Cause.CLIENT)

# The groups of transfers that a job has at the same time; the first that is not empty counts.
_MOVING, _WAITING, _RESOLVING, _UNPACKING, _REGISTERING, _FOLLOWING = _GROUPS = range(6)
_OVER = -1
_PHASES = ("moving", "waiting", "resolving", "unpacking", "registering", "waiting")


class Timing:
    """
    The time of one job, kept as its transfers change: a change costs the same whatever
    the number of transfers.

    Life cycle: made; L{begin}; then any of the others.

    @ivar moved: the bytes that moved while it watched their transfers, by the kind of
        the transfer and its host.
    """

    def __init__(self) -> None:
        self.moved: Counter[tuple[str, str]] = Counter()
        self._seconds: defaultdict[Stage, float] = defaultdict(float)
        self._clock: IReactorTime | None = None
        self._counted = 0.0
        self._rest = QUEUED
        self._groups: tuple[dict[Transfer, None], ...] = ({}, {}, {}, {}, {}, {})
        self._known: dict[Transfer, tuple[int, int]] = {}
        self._leading: Transfer | None = None
        self._stage: Stage | None = None
        self._paused: Stage | None = None

    def begin(self, clock: IReactorTime) -> None:
        """
        Count from now on, as L{QUEUED}.

        @param clock: measures the time.
        """
        self._clock, self._counted = clock, clock.seconds()

    def rest(self, stage: Stage) -> None:
        """
        From now on, be in this stage while no transfer is under way.  L{RECEIVING} also
        counts while some are: they follow the archive.
        """
        self.count()
        self._rest = stage

    def pause(self, by: str | None) -> None:
        """
        Attribute all time to a pause, until it ends.

        @param by: the person who paused the job; L{None} at the end of the pause.
        """
        self.count()
        self._paused = None if by is None else Stage("waiting", Cause.PAUSED, whom=by)

    def note(self, transfer: Transfer) -> None:
        """
        Note the present state of a transfer that the job watches.
        """
        group = _group_of(transfer)
        old, moved = self._count_moved(transfer, group)
        if group != old or moved or transfer is self._leading:
            self._place(transfer, old, group, moved)

    def drop(self, transfer: Transfer) -> None:
        """
        Note that the job watches a transfer no more.
        """
        old, moved = self._count_moved(transfer, _OVER)
        if old != _OVER:
            self._place(transfer, old, _OVER, moved)

    def received(self, host: str, size: int) -> None:
        """
        Note bytes that came from a host without a download.
        """
        self.moved["download", host] += size

    def count(self) -> None:
        """
        Add the time since the last call to the present stage.
        """
        if self._clock is None:
            return
        now = self._clock.seconds()
        seconds, self._counted = now - self._counted, now
        if seconds <= 0:
            return
        stage = self._rest if self._stage is None or self._rest is RECEIVING else self._stage
        stage = self._paused or stage
        if stage.phase == "moving" and stage.cause is Cause.LINE and seconds >= MUTE:
            stage = Stage("waiting", Cause.SILENCE, stage.kind, stage.whom)
        self._seconds[stage] += seconds

    def stages(self) -> dict[Stage, float]:
        """
        The seconds of each stage.
        """
        return dict(self._seconds)

    def to_json(self) -> dict[str, Any]:
        """
        What L{restore} reads, values for JSON.
        """
        return {
            "stages": [
                [stage.phase, stage.cause, stage.kind, stage.whom, stage.number, seconds]
                for stage, seconds in self._seconds.items()
            ],
            "moved": [[*whose, size] for whose, size in self.moved.items()],
        }

    def restore(self, values: Mapping[str, Any], seconds: float) -> None:
        """
        Continue the time of an earlier daemon.

        @param values: see L{to_json}; empty if there are none.
        @param seconds: the age of the job.  What the values do not explain belongs to the
            restart.
        """
        for phase, cause, kind, whom, number, spent in values.get("stages", ()):
            self._seconds[Stage(phase, Cause(cause), kind, whom, number)] += spent
        for kind, host, size in values.get("moved", ()):
            self.moved[kind, host] += size
        lost = seconds - sum(self._seconds.values())
        if lost > 0:
            self._seconds[INTERRUPTED] += lost

    def _count_moved(self, transfer: Transfer, group: int) -> tuple[int, bool]:
        """
        Count the bytes that have moved since the transfer was noted last.

        @param group: its group now.
        @return: its group then, L{_OVER} for one that is new; and whether some have.
        """
        moved = transfer.bytes_moved
        before, old = self._known.get(transfer, (moved, _OVER))
        if moved > before:
            source = transfer.source
            self.moved[transfer.kind, "" if source is None else source.host] += moved - before
        if group == _OVER:
            self._known.pop(transfer, None)
        else:
            self._known[transfer] = moved, group
        return old, moved > before

    def _place(self, transfer: Transfer, old: int, group: int, moved: bool) -> None:
        """
        Move a transfer from one group to another, and choose the one whose stage is that
        of the job: of those that move, the one that moved last; of others, the first.

        @param moved: whether bytes of it have moved.
        """
        if old not in (_OVER, group):
            del self._groups[old][transfer]
        if group != _OVER:
            self._groups[group][transfer] = None
        number = next(compress(_GROUPS, self._groups), _OVER)
        if number == _OVER:
            self.count()
            self._leading = self._stage = None
            return
        members = self._groups[number]
        leading = transfer if number == group == _MOVING else self._leading
        if leading not in members:
            leading = next(iter(members))
        stage = self._stage
        if leading is transfer or leading is not self._leading:
            stage = _stage_of(leading, number)
        if moved or stage != self._stage:
            # Otherwise the time without a byte goes on.
            self.count()
        self._leading, self._stage = leading, stage


def _group_of(transfer: Transfer) -> int:
    """
    The group of a transfer.
    """
    if transfer.over:
        return _OVER
    if transfer.state == "waiting" and transfer.reason().obstacle is Obstacle.PAUSED:
        return _WAITING
    if transfer.kind == "document":
        return _RESOLVING
    if transfer.kind not in ("download", "upload"):
        if transfer.state == "waiting":
            return _FOLLOWING
        return _UNPACKING if transfer.kind == "unpacking" else _REGISTERING
    if transfer.state == "running":
        return _WAITING if _is_whole(transfer) or transfer.reason().obstacle in _STILL else _MOVING
    # The upload of a blob that arrives.
    return _FOLLOWING if transfer.state == "waiting" and transfer.kind == "upload" else _WAITING


def _is_whole(transfer: Transfer) -> bool:
    """
    Whether all bytes are here, or were sent.
    """
    return bool(transfer.bytes_total) and transfer.bytes_done >= (transfer.bytes_total or 0)


def _stage_of(transfer: Transfer, group: int) -> Stage | None:
    """
    The stage of a transfer; L{None} if it waits for another one.
    """
    kind, source, reason = transfer.kind, transfer.source, transfer.reason()
    whom = reason.whom or ("" if source is None else source.host)
    cause = _CAUSES.get(reason.obstacle, Cause.OTHER)
    if group == _MOVING:
        if cause is Cause.LIMIT:
            return Stage("moving", Cause.LIMIT, kind, "" if reason.whom == ALL else reason.whom)
        return Stage("moving", Cause.LINE, kind, whom) if whom else Stage("moving", Cause.CLIENT, kind)
    phase = _PHASES[group]
    if transfer.state == "running" and cause is not Cause.FULL_DISK:
        if group == _UNPACKING:
            return Stage(phase, Cause.UNPACKING)
        if group == _REGISTERING:
            return Stage(phase, Cause.DISK)
        if group == _RESOLVING and cause is not Cause.HELPER:
            cause = Cause.REGISTRY
        elif reason.obstacle not in _STILL:
            # All bytes are here, or were sent.
            cause = Cause.REGISTRY if kind == "upload" else Cause.DISK
    if cause is Cause.FAILURES and source is not None:
        cause = Cause.RATE_LIMIT if isinstance(transfer.trouble(source), TooManyRequests) else cause
    match cause:
        case Cause.OTHER if group == _FOLLOWING:
            return None
        case Cause.OTHER:
            return Stage(phase, cause, kind, reason.detail)
        case Cause.SLOTS if group == _UNPACKING:
            return Stage(phase, Cause.UNPACKING)
        case Cause.SLOTS:
            return Stage(phase, cause, kind, "", transfer.slot_limit)
        case Cause.HOST_SLOTS:
            return Stage(phase, cause, kind, whom, reason.number)
        case Cause.DISK | Cause.FULL_DISK | Cause.DESCRIPTORS:
            return Stage(phase, cause)
    return Stage(phase, cause, kind, whom)
