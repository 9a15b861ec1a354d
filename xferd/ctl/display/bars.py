# -*- test-case-name: tests.ctl.display.test_bars -*-
"""
Bars on a terminal: one for each layer or blob, and a total.

C{rich} takes longer to import than the rest of the client, so this module is
imported only where bars are drawn.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from xferd.ctl.display.progress import ProgressDisplay
from xferd.ctl.text import clock, plural, size

if TYPE_CHECKING:
    from types import TracebackType

    from xferd.ctl.api import Event
    from xferd.ctl.display.job_view import JobView, RowView
    from xferd.ctl.display.progress import Progress

_UNITS = 1000
"""The length of a bar that shows a fraction."""

_STATE = len("already exists")
_AMOUNT = len("99.9 MB/99.9 MB")
_WIDE = 60
"""The terminal width, in columns, from which names have their full length."""

_STYLES = {
    "complete": "green",
    "done": "green",
    "already exists": "dim",
    "already there": "dim",
    "mounted": "dim",
    "failed": "red",
}
_BARE = ("already exists", "already there", "mounted", "failed")
"""The states without a bar."""


class Row(NamedTuple):
    """
    One line of the picture.

    @ivar name: the layer's or blob's short digest, or the name of a total.
    @ivar state: the state in words.
    @ivar done: the bar's filled part of C{total}.
    @ivar total: the bar's length, or L{None} while unknown.
    @ivar amount: bytes done and in all, in words.
    @ivar note: the rate, or the reason for waiting.
    @ivar ended: whether the line is final.
    """

    name: str
    state: str
    done: int
    total: int | None
    amount: str
    note: str
    ended: bool

    @classmethod
    def of_row(cls, view: RowView) -> Row:
        """
        The line of a layer or a blob.
        """
        partly = not view.ended and view.done > 0
        rate = f"{size(view.rate)}/s" if view.rate else ""
        return cls(
            view.name,
            view.state,
            view.done,
            view.total or None,
            _amount(view.done if partly else None, view.total),
            ", ".join(filter(None, (rate, view.why, view.sharing))),
            view.ended,
        )

    @classmethod
    def of_progress(cls, progress: Progress) -> Row:
        """
        The line of a copy or download.
        """
        done = None if progress.fraction is None else int(_UNITS * progress.fraction)
        amount = _amount(progress.done, progress.total)
        return cls(
            "total", progress.state, done or 0, None if done is None else _UNITS, amount, progress.note, False
        )

    @classmethod
    def of_job(cls, name: str, view: JobView) -> Row:
        """
        The line of a job's total.
        """
        rows, done, total, rate = view.rows, view.done, view.total, view.rate
        note = "" if rows else view.title
        if rate and not view.ended:
            left = f", {clock((total - done) / rate)} left" if total > done else ""
            note = f"{size(rate)}/s{left}"
        ended = sum(row.ended for row in rows)
        state = f"{ended}/{plural(len(rows), view.noun)}" if rows else view.state
        if view.archive is not None:
            state = "sending"
        return cls(name, state, done, total or None, _amount(done, total), note, view.ended)


class Picture:
    """
    A line for each layer or blob, and below them one for each total.  Where
    the terminal has too few lines, those that have not ended are kept.

    The picture is drawn in place ten times a second, from entering to leaving.
    """

    def __init__(self, console: Console, *, transient: bool = False) -> None:
        """
        @param console: the terminal.
        @param transient: whether the picture disappears when it is left.
        """
        self._console = console
        # rich draws in a thread of its own.
        self._lock = Lock()
        self._rows: dict[int, Row] = {}
        self._totals: dict[str, Row] = {}
        self._live = Live(
            console=console,
            get_renderable=self.table,
            refresh_per_second=10,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=transient,
        )

    def __enter__(self) -> Picture:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, progress: Progress) -> None:
        """
        Show a copy or download.
        """
        with self._lock:
            self._totals["total"] = Row.of_progress(progress)

    def note(self, text: str) -> None:
        """
        Print a sentence above the lines.
        """
        self._console.print(Text(text))

    def show_job(self, name: str, view: JobView, rows: list[RowView]) -> None:
        """
        Show a job.

        @param name: the name of its total.
        @param rows: the rows that changed.
        """
        lines = {row.index: Row.of_row(row) for row in rows}
        total = Row.of_job(name, view)
        with self._lock:
            self._rows.update(lines)
            self._totals[name] = total

    def table(self) -> Table:
        """
        The present lines, for the terminal's present size.
        """
        with self._lock:
            rows = [row for _, row in sorted(self._rows.items())]
            totals = list(self._totals.values())
        room = max(0, self._console.height - 1 - len(totals))
        if len(rows) > room:
            # Those that have not ended; then the newest of the others.
            moving = [row for row in rows if not row.ended][:room]
            still = [row for row in rows if row.ended]
            rows = still[len(still) - (room - len(moving)) :] + moving
        width = self._console.width
        name = 12 if width >= _WIDE else 7
        # Fixed widths keep the columns in place when a note appears or disappears.
        left = width - name - _STATE - _AMOUNT - 4
        bar = min(40, left // 3) if left >= 30 else 0
        grid = Table.grid(padding=(0, 1), pad_edge=False)
        grid.add_column(width=name, no_wrap=True, overflow="crop")
        grid.add_column(width=_STATE, no_wrap=True)
        if bar:
            grid.add_column(width=bar)
        grid.add_column(width=_AMOUNT, no_wrap=True, justify="right")
        if left >= _STATE:
            grid.add_column(width=left - bar, no_wrap=True, overflow="ellipsis")
        for row in (*rows, *totals):
            cells: list[Text | ProgressBar] = [Text(row.name), Text(row.state, _STYLES.get(row.state, ""))]
            cells += [_bar(row, bar)] if bar else []
            cells += [Text(row.amount)]
            cells += [Text(row.note)] if left >= _STATE else []
            grid.add_row(*cells)
        return grid


class Bars(ProgressDisplay):
    """
    Draws a job, or a copy or download, as a L{Picture}.
    """

    def __init__(self, stdout: TextIO, *, transient: bool = False) -> None:
        """
        @param transient: whether the picture disappears at the end.
        """
        super().__init__(stdout)
        self._picture = Picture(Console(file=stdout, highlight=False), transient=transient)

    def __enter__(self) -> ProgressDisplay:
        self._picture.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._picture.__exit__(kind, error, trace)

    def show_event(self, view: JobView, event: Event, rows: list[RowView]) -> None:  # noqa: ARG002
        """
        Draw the rows that changed, and the total.
        """
        self._picture.show_job("total", view, rows)

    def note(self, text: str) -> None:
        """
        Print a sentence above the picture.
        """
        self._picture.note(text)

    def show(self, progress: Progress) -> None:
        """
        Draw one bar.
        """
        self._picture.show(progress)


def _bar(row: Row, width: int) -> ProgressBar | Text:
    """
    A row's bar; empty for a row that moved no bytes or failed.
    """
    if row.state in _BARE or row.total is None:
        return Text("")
    return ProgressBar(total=row.total, completed=row.done, width=width)


def _amount(done: int | None, total: int) -> str:
    if done is None or not total:
        return size(total) if total else ""
    return f"{size(done)}/{size(total)}"
