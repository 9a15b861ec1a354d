# -*- test-case-name: tests.jobs.test_timing -*-
"""
The verdict on a job that has ended: how long each phase took, what moved, and what bounded
it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final

from xferd.durations import duration
from xferd.interfaces.job_json import BoundJSON, TimingJSON
from xferd.jobs.disk_space.sizes import in_words
from xferd.jobs.reasons import owner
from xferd.jobs.timing import PHASES, Cause, Stage, Timing

SENDING: Final = frozenset({"push", "copy"})
"""The kinds of jobs whose bytes go to a registry."""

LEAST: Final = 1.0
"""The shortest duration of a job, in seconds, for which a cause is named."""

NAMED: Final = 0.1
"""A phase is named if it has at least this share of the time of the job's main cause."""

FASTER: Final = 2.0
"""How much more one transfer with another host carries, where a host is slower than the line."""


def timing_json(
    timing: Timing,
    kind: str,
    size: int,
    received: int | None,
    rates: Callable[[], Mapping[str, float]],
    *,
    done: bool,
) -> TimingJSON:
    """
    The time of a job, as the API shows it.

    @param kind: the job's kind.
    @param size: the bytes of its blobs.
    @param received: the bytes of its archive, for an import.
    @param rates: returns the bytes per second that one transfer moves, by host.
    @param done: whether it has succeeded; what another job did not move is not saved.
    """
    stages = timing.stages()
    phases: defaultdict[str, float] = defaultdict(float)
    for stage, seconds in stages.items():
        phases[stage.phase] += seconds
    down, up = _moved(timing, "download"), _moved(timing, "upload")
    saved = 0
    if received is not None:
        down = received
    elif done and kind != "verify":
        saved = max(0, size - (up if kind in SENDING else down))
    moving = phases["moving"]
    whole = sum(stages.values())
    return {
        "seconds": round(whole, 3),
        "phases": {phase: round(phases[phase], 3) for phase in PHASES if round(phases[phase], 3)},
        "bytes_received": down,
        "bytes_sent": up,
        "bytes_saved": saved,
        "rate": round((up if kind in SENDING else down) / moving, 1) if moving > 0 else 0.0,
        "bound": None if whole < LEAST else _bound(timing, whole, rates),
    }


def _moved(timing: Timing, kind: str) -> int:
    return sum(size for (each, _), size in timing.moved.items() if each == kind)


def _bound(timing: Timing, whole: float, rates: Callable[[], Mapping[str, float]]) -> BoundJSON:
    """
    What bounded a job: what took most of its time, in one phase or in several.
    """
    causes: defaultdict[tuple[Cause, str], dict[Stage, float]] = defaultdict(dict)
    for stage, seconds in timing.stages().items():
        causes[stage.cause, stage.whom][stage] = seconds
    stages = max(causes.values(), key=lambda each: sum(each.values()))
    seconds, stage = sum(stages.values()), max(stages, key=lambda each: stages[each])
    # Others are too short to be named.
    named = {each.phase for each, part in stages.items() if part >= NAMED * seconds}
    phases = " and ".join(phase for phase in PHASES if phase in named)
    cause, text = _explain(timing, stage, rates)
    return {
        "by": cause.value,
        "whom": "" if cause is Cause.OTHER else stage.whom,
        "phase": stage.phase,
        "seconds": round(seconds, 3),
        "share": round(seconds / whole, 3),
        "text": f"{phases} {100 * seconds / whole:.0f} % of {duration(whole)}: {text}",
    }


def _explain(timing: Timing, stage: Stage, rates: Callable[[], Mapping[str, float]]) -> tuple[Cause, str]:
    """
    What bounded a job in a stage, as a cause and as a sentence.
    """
    whom, number, sending = stage.whom, stage.number, stage.kind == "upload"
    match stage.cause:
        case Cause.LINE if stage.phase == "moving":
            return _line(timing, stage, rates)
        case Cause.LINE:
            text = f"the line to {whom} is too slow for more at a time"
        case Cause.REGISTRY:
            text = f"{whom} took long to answer"
        case Cause.SILENCE:
            text = f"{whom} {'took' if sending else 'sent'} no bytes"
        case Cause.LIMIT:
            seconds = sum(
                s
                for other, s in timing.stages().items()
                if (other.phase, other.kind) == ("moving", stage.kind)
            )
            rate = in_words(round(_moved(timing, stage.kind) / seconds))
            text = f"the limit {stage.kind}_rate{owner(whom)}, {rate}/s"
        case Cause.SLOTS:
            text = f"{_plural(number, stage.kind)} at a time, which others had"
        case Cause.HOST_SLOTS:
            text = f"{_plural(number, stage.kind)} at a time {'to' if sending else 'from'} {whom}"
        case Cause.RATE_LIMIT:
            text = f"{whom} limits requests"
        case Cause.FAILURES:
            text = f"attempts at {whom} failed"
        case Cause.UNPACKING:
            text = "the unpacking of its layers"
        case Cause.DISK:
            text = "the disk"
        case Cause.FULL_DISK:
            text = "the disk was full"
        case Cause.DESCRIPTORS:
            text = "all file descriptors were in use"
        case Cause.CLIENT:
            text = "its client sent the archive"
        case Cause.PAUSED:
            text = f"it was paused by {whom}"
        case Cause.RESTART if stage.phase == "queued":
            text = "it had to wait before it could begin"
        case Cause.RESTART:
            text = "the daemon was restarted"
        case Cause.HELPER:
            text = f"{whom} took long to answer"
        case _:
            text = whom or "see the attempts"
    return stage.cause, text


def _line(timing: Timing, stage: Stage, rates: Callable[[], Mapping[str, float]]) -> tuple[Cause, str]:
    """
    Decide between a host and the line: the line is faster than the host if one transfer
    with another host has moved more, lately, than all that this job had with this one.
    """
    size = timing.moved[stage.kind, stage.whom]
    seconds = sum(
        s
        for other, s in timing.stages().items()
        if (other.phase, other.kind, other.whom) == ("moving", stage.kind, stage.whom)
    )
    rate = size / seconds
    verb = "took" if stage.kind == "upload" else "sent"
    own = f"{stage.whom} {verb} {in_words(round(rate))}/s"
    others = [(known, host) for host, known in rates().items() if host != stage.whom]
    best, host = max(others, default=(0.0, ""))
    if best > FASTER * rate:
        return Cause.REGISTRY, f"{own}, and {host} alone {in_words(round(best))}/s"
    return Cause.LINE, f"the line; {own}"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
