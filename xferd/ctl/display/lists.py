# -*- test-case-name: tests.ctl.display.test_lists -*-
"""
The columns of jobs and transfers, in lists and on the board of C{xferctl watch}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xferd.ctl.columns import Column
from xferd.ctl.display.job_view import JobView, Waiting, count
from xferd.ctl.text import age, amount, clean, cut_front, cut_reference, short, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

_TRANSFER_ORDER: Final = ("running", "backing-off", "waiting", "queued")


def rate(item: Mapping[str, Any]) -> float:
    """
    The bytes per second of an object of the API; 0 if it has none.
    """
    value = item.get("rate")
    return float(value) if isinstance(value, int | float) else 0.0


def speed(number: float) -> str:
    """
    Bytes per second in words; empty for 0.
    """
    return f"{size(number)}/s" if number > 0 else ""


def by_movement(transfers: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    Transfers in the order of lists: those that move, those that run, those that wait.
    """

    def place(item: Mapping[str, Any]) -> int:
        state = item.get("state")
        if rate(item) > 0:
            return -1
        return _TRANSFER_ORDER.index(state) if state in _TRANSFER_ORDER else len(_TRANSFER_ORDER)

    return sorted(transfers, key=place)


def job_columns(now: datetime) -> list[Column[JobView]]:
    """
    The columns of jobs.

    @param now: the present time.
    """
    return [
        Column("ID", lambda job: clean(job.job.get("id"))),
        Column("KIND", lambda job: job.kind),
        Column("STATE", lambda job: job.state),
        Column("REFERENCE", lambda job: job.title, crop=cut_reference),
        Column("PROGRESS", lambda job: amount(job.done, job.total) if job.total else "", right=True),
        Column("PLATFORM", lambda job: clean(job.job.get("platform")), wide=True),
        Column("CLIENT", lambda job: clean(job.job.get("client")), spare=True),
        Column("AGE", lambda job: age(job.job.get("created"), now), right=True),
        Column("WHY", lambda job: job.error or job.waiting.words(job.why, now), reason=True),
    ]


def transfer_columns(now: datetime) -> list[Column[dict[str, Any]]]:
    """
    The columns of transfers, as the API has them.

    @param now: the present time.
    """
    return [
        Column("ID", lambda item: clean(item.get("id")), spare=True),
        Column("KIND", lambda item: clean(item.get("kind"))),
        Column("DIGEST", lambda item: clean(item.get("digest")), short=short),
        Column("STATE", lambda item: clean(item.get("state"))),
        Column(
            "PROGRESS",
            lambda item: amount(count(item, "bytes_done"), count(item, "bytes_total")),
            right=True,
        ),
        Column("RATE", lambda item: speed(rate(item)), right=True),
        Column("ATTEMPT", lambda item: str(count(item, "attempt")), right=True, wide=True),
        Column("STREAMS", lambda item: str(count(item, "streams")), right=True, wide=True),
        Column("WATCHERS", lambda item: str(count(item, "watchers")), right=True, spare=True),
        Column("SOURCE", lambda item: clean(item.get("source")), crop=cut_front),
        Column("JOBS", lambda item: ",".join(map(clean, item.get("jobs") or ())), wide=True),
        Column("WHY", lambda item: Waiting.of(item).words(clean(item.get("why")), now), reason=True),
    ]
