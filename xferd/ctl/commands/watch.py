# -*- test-case-name: tests.ctl.commands.test_watch -*-
"""
C{xferctl watch}: everything that the daemon does, as it happens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xferd.ctl.client import ENDED
from xferd.ctl.display.job_view import JobView, count
from xferd.ctl.display.progress import draws_bars
from xferd.ctl.text import clean, json_line, plural, portion, short, size, table

if TYPE_CHECKING:
    from argparse import Namespace

    from xferd.ctl.api import Event
    from xferd.ctl.session import Session

RECENT: Final = 5
"""How many jobs that have ended stay in sight."""

_OVER: Final = frozenset({"done", "failed", "cancelled"})
_DIRECTIONS: Final = {"download": "in", "upload": "out"}
_JOB_HEADS: Final = ("ID", "KIND", "STATE", "REFERENCE", "PROGRESS", "RATE", "CLIENT")
_TRANSFER_HEADS: Final = ("KIND", "DIGEST", "STATE", "PROGRESS", "RATE", "SHARED", "SOURCE", "WHY")


class Board:
    """
    The jobs and transfers of the moment, put together from events.
    """

    def __init__(self) -> None:
        self._jobs: dict[str, dict[str, Any]] = {}
        self._transfers: dict[str, dict[str, Any]] = {}

    def take(self, event: Event) -> JobView | None:
        """
        Learn from an event.

        @return: the job, where it is in another state than it was.
        """
        key = str(event.data.get("id"))
        if event.kind == "begin":
            self._jobs, self._transfers = {}, {}
        elif event.kind == "transfer":
            self._transfers.pop(key, None)
            if event.data.get("state") not in _OVER:
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
        The board as text, in so many columns and lines.

        What there is no room for is counted on the last line.
        """
        transfers = [t for t in self._transfers.values() if t.get("state") in ("running", "backing-off")]
        transfers += [t for t in self._transfers.values() if t not in transfers]
        jobs = sorted(self._jobs.values(), key=lambda job: job.get("state") in ENDED)
        # The heads, the sums, two gaps and the last line.
        room = max(2, height - 6)
        jobs_shown = jobs[: max(room // 2, room - len(transfers))]
        transfers_shown = transfers[: room - len(jobs_shown)]
        lines = [self._sums()[:width], ""]
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

    def _sums(self) -> str:
        """
        All together in one line.
        """
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
        """
        A job in words.
        """
        view = JobView(job)
        rate = sum(
            _rate(transfer)
            for transfer in self._transfers.values()
            if transfer.get("kind") in _DIRECTIONS and job.get("id") in (transfer.get("jobs") or ())
        )
        what = clean(job["error"].get("code")) if isinstance(job.get("error"), dict) else ""
        return (
            clean(job.get("id")),
            view.kind,
            view.state,
            view.title,
            what or (portion(view.done, view.total) if view.total else ""),
            f"{size(rate)}/s" if rate and not view.ended else "",
            clean(job.get("client")),
        )


def watch(args: Namespace, session: Session) -> None:
    """
    Show all until the user has seen enough: on a terminal as a picture that
    changes, else one line for each change of a job's state, or each event as
    it comes.
    """
    board = Board()
    try:
        if not args.json and draws_bars(session.stdout, session.environ):
            from xferd.ctl.display.screen import Screen  # noqa: PLC0415 - rich is slow to import

            with Screen(session.stdout, board) as screen:
                for event in session.daemon.watch():
                    screen.take(event)
        else:
            _print(args, session, board)
    except KeyboardInterrupt:
        # This is how watching ends.
        return


def _print(args: Namespace, session: Session, board: Board) -> None:
    """
    Print lines.
    """
    for event in session.daemon.watch():
        changed = board.take(event)
        if args.json:
            if event.kind != "begin":
                line = {"kind": event.kind, "data": event.data, "final": event.final}
                print(json_line(line), file=session.stdout, flush=True)
        elif changed is not None:
            words = [clean(changed.job.get("id")), changed.kind, changed.state, changed.title, changed.error]
            print(" ".join(filter(None, words)), file=session.stdout, flush=True)


def _transfer(transfer: dict[str, Any]) -> tuple[str, ...]:
    """
    A transfer in words.
    """
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
    """
    The bytes a second.
    """
    rate = transfer.get("rate")
    return float(rate) if isinstance(rate, int | float) else 0.0
