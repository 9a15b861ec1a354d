# -*- test-case-name: tests.ctl.display.test_board -*-
"""
The board of C{xferctl watch}: present jobs and transfers, as text.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from xferd.ctl.client import ENDED
from xferd.ctl.columns import Column, lay_out
from xferd.ctl.display.job_view import JobView
from xferd.ctl.display.lists import by_movement, job_columns, rate, speed, transfer_columns
from xferd.ctl.text import cut, plural, size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from xferd.ctl.api import Event

RECENT: Final = 5
"""The number of ended jobs that the board keeps."""

KNOWN: Final = 10_000
"""The number of jobs whose last state is remembered, so that no change is reported twice."""

_ROOMY: Final = 16
"""The height of a terminal from which empty lines separate the parts."""

_DIRECTIONS: Final = {"download": "in", "upload": "out"}
_JOB_ORDER: Final = ("running", "queued")


class Board:
    """
    The present jobs and transfers, assembled from events.  What moves comes first.

    Events come from one thread, and lines are read in another.

    @ivar words: only jobs with this text in their line are shown, and their transfers.
    @ivar selected: the ID of the selected job; empty for none.
    """

    def __init__(
        self,
        chosen: Callable[[Mapping[str, Any]], bool] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """
        @param chosen: whether a job is shown, with its transfers; L{None} for all.
        @param now: returns the present time.
        """
        self.words = ""
        self.selected = ""
        self._chosen = chosen
        self._now = now
        self._lock = Lock()
        self._jobs: dict[str, dict[str, Any]] = {}
        self._transfers: dict[str, dict[str, Any]] = {}
        self._states: dict[str, object] = {}
        self._lost = False

    def update(self, event: Event) -> JobView | None:
        """
        Apply an event.

        @return: the job, if it is shown and its state changed.  What was reported before a stream
            started over is not reported again.
        """
        with self._lock:
            return self._update(event)

    def _update(self, event: Event) -> JobView | None:
        key = str(event.data.get("id"))
        self._lost = event.kind == "lost"
        if self._lost:
            self._transfers = {k: {**each, "rate": 0} for k, each in self._transfers.items()}
        if event.kind == "begin":
            self._jobs, self._transfers = {}, {}
        elif event.kind == "transfer":
            # One that no job waits for any more has no later event.
            if event.data.get("state") in ENDED or not event.data.get("jobs"):
                self._transfers.pop(key, None)
            else:
                self._transfers[key] = event.data
        elif event.kind == "job":
            if self._chosen is not None and not self._chosen(event.data):
                self._jobs.pop(key, None)
                return None
            self._jobs[key] = event.data
            if event.data.get("state") in ENDED:
                # The newest end is the last.
                self._jobs[key] = self._jobs.pop(key)
                ended = [k for k, job in self._jobs.items() if job.get("state") in ENDED]
                for old in ended[:-RECENT]:
                    del self._jobs[old]
            if self._has_changed(key, event.data.get("state")):
                return JobView(event.data)
        return None

    def _has_changed(self, key: str, state: object) -> bool:
        before = self._states.pop(key, None)
        self._states[key] = state
        if len(self._states) > KNOWN:
            del self._states[next(iter(self._states))]
        return state != before

    def job(self, job_id: str) -> JobView | None:
        """
        A job of the board.
        """
        with self._lock:
            found = self._jobs.get(job_id)
        return None if found is None else JobView(found)

    def select(self, step: int) -> None:
        """
        Select the job that is some lines below the selected one, or the first or last.
        """
        with self._lock:
            ids = [str(job.job.get("id")) for job in self._shown_jobs(self._rates())]
        if self.selected in ids:
            self.selected = ids[max(0, min(len(ids) - 1, ids.index(self.selected) + step))]
        elif ids:
            self.selected = ids[0 if step > 0 else -1]

    def lines(self, width: int, height: int, footer: str = "") -> list[str]:
        """
        The board as text.  The last line counts the jobs and transfers for
        which there are too few lines.

        @param width: the terminal's columns.
        @param height: the terminal's lines.
        @param footer: further text for the last line.
        """
        with self._lock:
            rates = self._rates()
            jobs, transfers = self._shown_jobs(rates), self._shown_transfers()
            first = self._totals()
        ids = [str(job.job.get("id")) for job in jobs]
        selected = ids.index(self.selected) if self.selected in ids else 0
        # Each has one line or more.
        start = max(0, selected - height)
        job_head, job_rows = lay_out(self._job_columns(rates), jobs[start : selected + height], width)
        head, rows = lay_out(transfer_columns(self._now()), transfers[:height], width)
        gap = [""] if height >= _ROOMY else []
        room = height - 2 - 2 * len(gap) - bool(jobs) - bool(transfers)
        wanted = sum(map(len, rows))
        job_room = max(room // 2, room - wanted)
        # The selected job is among those that are shown.
        while start < selected and sum(map(len, job_rows[: selected - start + 1])) > job_room:
            del job_rows[0]
            start += 1
        job_rows = _fitting(job_rows, job_room)
        rows = _fitting(rows, room - sum(map(len, job_rows)))
        lines = [first[:width]]
        for title, shown in ((job_head, job_rows), (head, rows)):
            if shown:
                lines += [*gap, title, *(line for row in shown for line in row)]
        hidden = [
            plural(number, f"more {noun}")
            for number, noun in ((len(jobs) - len(job_rows), "job"), (len(transfers) - len(rows), "transfer"))
            if number
        ]
        last = cut("  ".join(filter(None, (footer, ", ".join(hidden)))), width)
        return [*lines[: max(1, height - 1)], last][:height]

    def _rates(self) -> Mapping[str, float]:
        """
        The bytes per second of each job.
        """
        rates: dict[str, float] = defaultdict(float)
        for transfer in self._transfers.values():
            if transfer.get("kind") in _DIRECTIONS:
                for job_id in transfer.get("jobs") or ():
                    rates[str(job_id)] += rate(transfer)
        return rates

    def _shown_jobs(self, rates: Mapping[str, float]) -> list[JobView]:
        """
        The jobs that are shown: those that move, those that run, those that are queued,
        those that have ended.
        """
        words = self.words.lower()

        def place(job: JobView) -> int:
            moves = not job.ended and rates.get(str(job.job.get("id")), 0) > 0
            if moves:
                return -1
            return _JOB_ORDER.index(job.state) if job.state in _JOB_ORDER else len(_JOB_ORDER)

        shown = [view for view in map(JobView, self._jobs.values()) if words in _line(view)]
        return sorted(shown, key=place)

    def _shown_transfers(self) -> list[dict[str, Any]]:
        """
        The transfers of the jobs that are shown, those that move first.
        """
        found = list(self._transfers.values())
        if self.words or self._chosen is not None:
            ids = {str(view.job.get("id")) for view in self._shown_jobs({})}
            found = [each for each in found if not ids.isdisjoint(map(str, each.get("jobs") or ()))]
        return by_movement(found)

    def _job_columns(self, rates: Mapping[str, float]) -> list[Column[JobView]]:
        columns = job_columns(self._now())
        at = [column.head for column in columns].index("PROGRESS") + 1

        def job_rate(view: JobView) -> str:
            return "" if view.ended else speed(rates.get(str(view.job.get("id")), 0.0))

        columns.insert(at, Column("RATE", job_rate, right=True))
        if self.selected:
            mark = Column[JobView](" ", lambda view: ">" if view.job.get("id") == self.selected else "")
            columns.insert(0, mark)
        return columns

    def _totals(self) -> str:
        states = [job.get("state") for job in self._jobs.values()]
        waiting = sum(t.get("state") in ("queued", "waiting") for t in self._transfers.values())
        rates = dict.fromkeys(_DIRECTIONS.values(), 0.0)
        for transfer in self._transfers.values():
            if transfer.get("kind") in _DIRECTIONS:
                rates[_DIRECTIONS[transfer["kind"]]] += rate(transfer)
        moving = ", ".join(f"{size(number)}/s {direction}" for direction, number in rates.items())
        text = (
            f"{plural(states.count('running'), 'job')} running, {states.count('queued')} queued; {moving}; "
            f"{plural(len(self._transfers), 'transfer')}, {waiting} waiting"
        )
        return f"the daemon does not answer; before: {text}" if self._lost else text


def _line(view: JobView) -> str:
    """
    The text of a job that words are looked for in.
    """
    job_id, client = view.job.get("id"), view.job.get("client")
    return f"{job_id} {view.kind} {view.state} {view.title} {client} {view.why}".lower()


def _fitting(rows: Sequence[list[str]], room: int) -> list[list[str]]:
    """
    The first rows that fit into some lines.
    """
    fitting = []
    for lines in rows:
        room -= len(lines)
        if room < 0:
            break
        fitting.append(lines)
    return fitting
