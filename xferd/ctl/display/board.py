# -*- test-case-name: tests.ctl.display.test_board -*-
"""
The board of C{xferctl watch}: present jobs and transfers, as text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xferd.ctl.client import ENDED
from xferd.ctl.display.job_view import JobView, count
from xferd.ctl.text import clean, plural, portion, short, size, table

if TYPE_CHECKING:
    from xferd.ctl.api import Event

RECENT: Final = 5
"""The number of ended jobs that the board keeps."""

_DIRECTIONS: Final = {"download": "in", "upload": "out"}
_JOB_HEADS: Final = ("ID", "KIND", "STATE", "REFERENCE", "PROGRESS", "RATE", "CLIENT")
_TRANSFER_HEADS: Final = ("KIND", "DIGEST", "STATE", "PROGRESS", "RATE", "SHARED", "SOURCE", "WHY")


class Board:
    """
    The present jobs and transfers, assembled from events.
    """

    def __init__(self) -> None:
        self._jobs: dict[str, dict[str, Any]] = {}
        self._transfers: dict[str, dict[str, Any]] = {}

    def update(self, event: Event) -> JobView | None:
        """
        Apply an event.

        @return: the job, if its state changed.
        """
        key = str(event.data.get("id"))
        if event.kind == "begin":
            self._jobs, self._transfers = {}, {}
        elif event.kind == "transfer":
            self._transfers.pop(key, None)
            if event.data.get("state") not in ENDED:
                self._transfers[key] = event.data
        elif event.kind == "job":
            before = self._jobs.pop(key, {})
            self._jobs[key] = event.data
            ended = [k for k, job in self._jobs.items() if job.get("state") in ENDED]
            for old in ended[:-RECENT]:
                del self._jobs[old]
            if before.get("state") != event.data.get("state"):
                return JobView(event.data)
        return None

    def lines(self, width: int, height: int) -> list[str]:
        """
        The board as text.  The last line counts the jobs and transfers for
        which there are too few lines.

        @param width: the terminal's columns.
        @param height: the terminal's lines.
        """
        transfers = [t for t in self._transfers.values() if t.get("state") in ("running", "backing-off")]
        transfers += [t for t in self._transfers.values() if t not in transfers]
        jobs = sorted(self._jobs.values(), key=lambda job: job.get("state") in ENDED)
        # Without the headings, the totals, two empty lines and the last line.
        room = max(2, height - 6)
        jobs_shown = jobs[: max(room // 2, room - len(transfers))]
        transfers_shown = transfers[: room - len(jobs_shown)]
        lines = [self._totals()[:width], ""]
        lines += table(_JOB_HEADS, [self._job(job) for job in jobs_shown], width, ("RATE",))
        lines += [
            "",
            *table(_TRANSFER_HEADS, [_transfer(t) for t in transfers_shown], width, ("RATE", "SHARED")),
        ]
        hidden = [
            plural(len(all_) - len(shown), f"more {noun}")
            for all_, shown, noun in ((jobs, jobs_shown, "job"), (transfers, transfers_shown, "transfer"))
            if len(all_) > len(shown)
        ]
        return [*lines, ", ".join(hidden)[:width]][:height]

    def _totals(self) -> str:
        states = [job.get("state") for job in self._jobs.values()]
        waiting = sum(t.get("state") in ("queued", "waiting") for t in self._transfers.values())
        rates = dict.fromkeys(_DIRECTIONS.values(), 0.0)
        for transfer in self._transfers.values():
            if transfer.get("kind") in _DIRECTIONS:
                rates[_DIRECTIONS[transfer["kind"]]] += _rate(transfer)
        moving = ", ".join(f"{size(rate)}/s {direction}" for direction, rate in rates.items())
        return (
            f"{plural(states.count('running'), 'job')} running, {states.count('queued')} queued; {moving}; "
            f"{plural(len(self._transfers), 'transfer')}, {waiting} waiting"
        )

    def _job(self, job: dict[str, Any]) -> tuple[str, ...]:
        view = JobView(job)
        rate = sum(
            _rate(transfer)
            for transfer in self._transfers.values()
            if transfer.get("kind") in _DIRECTIONS and job.get("id") in (transfer.get("jobs") or ())
        )
        code = clean(job["error"].get("code")) if isinstance(job.get("error"), dict) else ""
        return (
            clean(job.get("id")),
            view.kind,
            view.state,
            view.title,
            code or (portion(view.done, view.total) if view.total else ""),
            f"{size(rate)}/s" if rate and not view.ended else "",
            clean(job.get("client")),
        )


def _transfer(transfer: dict[str, Any]) -> tuple[str, ...]:
    rate, watchers = _rate(transfer), count(transfer, "watchers")
    return (
        clean(transfer.get("kind")),
        short(transfer.get("digest")),
        clean(transfer.get("state")),
        portion(count(transfer, "bytes_done"), count(transfer, "bytes_total")),
        f"{size(rate)}/s" if rate else "",
        str(watchers) if watchers > 1 else "",
        clean(transfer.get("source")),
        clean(transfer.get("why")),
    )


def _rate(transfer: dict[str, Any]) -> float:
    rate = transfer.get("rate")
    return float(rate) if isinstance(rate, int | float) else 0.0
