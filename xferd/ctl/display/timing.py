# -*- test-case-name: tests.ctl.display.test_timing -*-
"""
Where the time of a job went that has ended, and what bounded it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xferd.ctl.text import clean, size
from xferd.durations import duration

if TYPE_CHECKING:
    from collections.abc import Mapping


def verdict(job: Mapping[str, Any]) -> str:
    """
    What took most of a job's time, in a sentence; empty if the daemon did not report it.
    """
    timing = job.get("timing")
    bound = timing.get("bound") if isinstance(timing, dict) else None
    return clean(bound.get("text")) if isinstance(bound, dict) else ""


def moved(job: Mapping[str, Any]) -> str:
    """
    The bytes that moved for a job, those that did not have to, and the mean rate; empty if the
    daemon did not report them.
    """
    timing = job.get("timing")
    if not isinstance(timing, dict):
        return ""
    parts = [
        f"{size(_number(timing.get(name)))} {word}"
        for name, word in (("bytes_received", "received"), ("bytes_sent", "sent"), ("bytes_saved", "saved"))
        if _number(timing.get(name))
    ]
    rate = _number(timing.get("rate"))
    return ", ".join([*parts, *([f"{size(rate)}/s on average"] if rate else [])])


def closing(job: Mapping[str, Any]) -> tuple[str, ...]:
    """
    The last lines on a job that has ended: what moved, and what took most of its time; none if
    that was not long.
    """
    bound = verdict(job)
    return tuple(filter(None, (moved(job), bound))) if bound else ()


def timing_facts(job: Mapping[str, Any]) -> list[tuple[str, str]]:
    """
    The duration of a job, its phases, the bytes that moved, and what bounded it; empty
    until it has ended.
    """
    timing = job.get("timing")
    if not isinstance(timing, dict):
        return []
    phases = timing.get("phases")
    spent = (
        {clean(phase): _number(each) for phase, each in phases.items()} if isinstance(phases, dict) else {}
    )
    return [
        ("took", duration(_number(timing.get("seconds")))),
        ("phases", ", ".join(f"{phase} {duration(each)}" for phase, each in spent.items() if each >= 0.05)),
        ("moved", moved(job)),
        ("bounded by", verdict(job)),
    ]


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0.0
