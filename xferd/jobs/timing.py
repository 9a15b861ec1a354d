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
from enum import Enum
from typing import Any, Final

from attrs import astuple, frozen

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

SILENT: Final = 3.0
"""Seconds without a byte after which the time of a transfer that moves counts as silence."""


class Cause(Enum):
    """
    What bounds a job in a stage.

    @cvar LINE: the bytes that a host and the line to it carry.
    @cvar REGISTRY: a host, which answers slowly, or carries less than the line could.
    @cvar SILENCE: a host, which sends or takes nothing.
    @cvar LIMIT: the bandwidth limit.
    @cvar SLOTS: the number of transfers at the same time.
    @cvar HOST_SLOTS: that number for one host.
    @cvar RATE_LIMIT: a host asked to wait, or its quota is low.
    @cvar FAILURES: attempts failed, and the next one had to wait.
    @cvar UNPACKING: the unpacking of layers.
    @cvar DISK: the disk, which writes slowly.
    @cvar FULL_DISK: the disk, which is full.
    @cvar DESCRIPTORS: the process has no file descriptor left.
    @cvar CLIENT: the client, which sends an archive.
    @cvar RESTART: the daemon was restarted.
    @cvar OTHER: anything else.
    """

    LINE = "line"
    REGISTRY = "registry"
    SILENCE = "silence"
    LIMIT = "limit"
    SLOTS = "slots"
    HOST_SLOTS = "host-slots"
    RATE_LIMIT = "rate-limit"
    FAILURES = "failures"
    UNPACKING = "unpacking"
    DISK = "disk"
    FULL_DISK = "full-disk"
    DESCRIPTORS = "descriptors"
    CLIENT = "client"
    RESTART = "restart"
    OTHER = "other"


_CAUSES: Final[Mapping[Obstacle, Cause]] = {
    Obstacle.DISK: Cause.FULL_DISK,
    Obstacle.PAUSE: Cause.RATE_LIMIT,
    Obstacle.INTERVAL: Cause.RATE_LIMIT,
    Obstacle.HOST_LIMIT: Cause.HOST_SLOTS,
    Obstacle.THIN_LINE: Cause.LINE,
    Obstacle.QUEUE: Cause.SLOTS,
    Obstacle.BACK_OFF: Cause.FAILURES,
    Obstacle.FILE_DESCRIPTORS: Cause.DESCRIPTORS,
}
_MOVING_CAUSES: Final[Mapping[Obstacle, Cause]] = {
    Obstacle.BANDWIDTH: Cause.LIMIT,
    Obstacle.SILENCE: Cause.SILENCE,
}


@frozen
class Stage:
    """
    A phase, and what bounds the job in it.

    @ivar phase: one of L{PHASES}.
    @ivar kind: the kind of the transfers.
    @ivar whom: a host, or empty.
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


class Timing:
    """
    The time of one job, kept as its transfers change: a change costs the same whatever
    the number of transfers.

    Life cycle: made; L{begin}; then any of the others.  C{now} is always the clock's time.

    @ivar rest: the stage while no transfer is under way.
    @ivar moved: the bytes that moved while it watched their transfers, by the kind of
        the transfer and its host.
    """

    def __init__(self) -> None:
        self.rest = QUEUED
        self.moved: Counter[tuple[str, str]] = Counter()
        self._seconds: defaultdict[Stage, float] = defaultdict(float)
        self._counted: float | None = None
        self._groups: tuple[dict[Transfer, None], ...] = tuple({} for _ in _GROUPS)
        self._known: dict[Transfer, tuple[int, int]] = {}
        self._leading: Transfer | None = None
        self._stage: Stage | None = None

    def begin(self, now: float, rest: Stage) -> None:
        """
        Count from now on, or, if it counts already, as C{rest} what has no transfer.
        """
        self.count(now)
        self._counted = now
        self.rest = rest

    def note(self, transfer: Transfer, now: float) -> None:
        """
        Note the present state of a transfer that the job watches.
        """
        self.count(now)
        moved, group = transfer.bytes_moved, _group_of(transfer)
        before, old = self._known.get(transfer, (moved, -1))
        if moved > before:
            source = transfer.source
            self.moved[transfer.kind, "" if source is None else source.host] += moved - before
        if group < 0:
            self._forget(transfer)
            return
        self._known[transfer] = moved, group
        if group != old:
            if old >= 0:
                self._groups[old].pop(transfer, None)
            self._groups[group][transfer] = None
        self._lead(transfer)

    def drop(self, transfer: Transfer, now: float) -> None:
        """
        Note that the job watches a transfer no more.
        """
        self.count(now)
        self._forget(transfer)

    def received(self, host: str, size: int) -> None:
        """
        Note bytes that came from a host without a download.
        """
        self.moved["download", host] += size

    def count(self, now: float) -> None:
        """
        Add the time since the last call to the present stage.
        """
        if self._counted is None:
            return
        seconds, self._counted = now - self._counted, now
        if seconds <= 0:
            return
        stage = self._stage or self.rest
        if stage.cause is Cause.LINE and stage.phase == "moving" and seconds > SILENT:
            stage = Stage("moving", Cause.SILENCE, stage.kind, stage.whom)
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
        stages = [[*astuple(stage), seconds] for stage, seconds in self._seconds.items()]
        return {
            "stages": [[phase, cause.value, *rest] for phase, cause, *rest in stages],
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

    def _forget(self, transfer: Transfer) -> None:
        _, group = self._known.pop(transfer, (0, -1))
        if group >= 0:
            del self._groups[group][transfer]
        self._lead(transfer)

    def _lead(self, changed: Transfer | None) -> None:
        """
        Choose the transfer whose stage is that of the job: of those that move, the one that
        moved last; of others, the first.
        """
        number, group = next(((n, group) for n, group in enumerate(self._groups) if group), (-1, {}))
        leading = changed if number == _MOVING and changed in group else self._leading
        if leading not in group:
            leading = next(iter(group), None)
        if leading is changed or leading is not self._leading:
            self._leading, self._stage = leading, None if leading is None else _stage_of(leading, number)


def _group_of(transfer: Transfer) -> int:
    """
    The group of a transfer; -1 if it is over.
    """
    if transfer.over:
        return -1
    if transfer.kind == "document":
        return _RESOLVING
    if transfer.kind in ("download", "upload"):
        return _MOVING if transfer.state == "running" else _WAITING
    if transfer.state == "waiting":
        return _FOLLOWING
    return _UNPACKING if transfer.kind == "unpacking" else _REGISTERING


def _stage_of(transfer: Transfer, group: int) -> Stage | None:
    """
    The stage of a transfer; L{None} if it waits for another one.
    """
    kind, source, reason = transfer.kind, transfer.source, transfer.reason()
    whom = "" if source is None else source.host
    if group == _MOVING:
        if transfer.bytes_total is not None and 0 < transfer.bytes_total <= transfer.bytes_done:
            return (
                Stage("moving", Cause.REGISTRY, kind, whom)
                if kind == "upload"
                else Stage("moving", Cause.DISK)
            )
        if not whom:
            return Stage("moving", Cause.CLIENT, kind)
        cause = _MOVING_CAUSES.get(reason.obstacle, Cause.LINE)
        return Stage("moving", cause, kind, "" if cause is Cause.LIMIT else whom)
    phase = {_RESOLVING: "resolving", _UNPACKING: "unpacking", _REGISTERING: "registering"}.get(
        group, "waiting"
    )
    if transfer.state == "running":
        running = {_RESOLVING: Cause.REGISTRY, _UNPACKING: Cause.UNPACKING}.get(group, Cause.DISK)
        return Stage(phase, running, kind, whom)
    cause = _CAUSES.get(reason.obstacle, Cause.OTHER)
    if group == _FOLLOWING and cause is Cause.OTHER:
        return None
    if group == _UNPACKING and cause is Cause.SLOTS:
        return Stage(phase, Cause.UNPACKING, kind)
    number = 0
    if (
        cause is Cause.FAILURES
        and source is not None
        and getattr(transfer.trouble(source), "retry_after", None)
    ):
        cause = Cause.RATE_LIMIT
    match cause:
        case Cause.SLOTS:
            whom, number = "", transfer.slot_limit
        case Cause.HOST_SLOTS:
            number = reason.number
        case Cause.FULL_DISK | Cause.DESCRIPTORS:
            whom = ""
    return Stage(phase, cause, kind, whom, number)
