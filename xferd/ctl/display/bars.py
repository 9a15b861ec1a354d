# -*- test-case-name: tests.ctl.display.test_bars -*-
"""
A job on a terminal: a bar for each layer or blob, and a total.

This is the one module of the client that imports C{rich}, which takes longer
to import than all the rest: import it only where bars are drawn.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from xferd.ctl.display.copying import CopyDisplay, fraction
from xferd.ctl.display.progress import PlainEnd
from xferd.ctl.display.saving import Saving
from xferd.ctl.text import clock, plural, portion, size

if TYPE_CHECKING:
    from types import TracebackType

    from xferd.ctl.api import Event
    from xferd.ctl.display.job_view import JobView, RowView
    from xferd.ctl.display.progress import Display
    from xferd.unpack.flatten import Progress

_STATE = len("already exists")
_AMOUNT = len("99.9 MB/99.9 MB")
_WIDE = 60
"""Columns from which on names have their usual length."""

_STYLES = {
    "complete": "green",
    "done": "green",
    "already exists": "dim",
    "already there": "dim",
    "mounted": "dim",
    "failed": "red",
}
_BARE = ("already exists", "already there", "mounted", "failed")
"""The states that have no bar: there was nothing to move, or it did not."""


class Row(NamedTuple):
    """
    One line of the picture.

    @ivar name: the layer or blob, or whose total it is.
    @ivar state: the state in words.
    @ivar done: how much of C{total} is here; bytes.
    @ivar total: the whole, or L{None} while nobody knows.
    @ivar amount: both, in words.
    @ivar note: how fast it is, or why not.
    @ivar ended: whether it will not move again.
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
        A line for a layer or a blob.
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
    def of_job(cls, name: str, view: JobView) -> Row:
        """
        A line for all of them together.
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
    A line for each layer or blob, as many as the terminal has room for, those that
    still move first; and below them one for each whole.

    It is drawn in place, ten times a second, from when it is entered until it
    is left.
    """

    def __init__(self, console: Console) -> None:
        """
        @param console: the terminal.
        """
        self._console = console
        # The picture is drawn in a thread of rich's.
        self._lock = Lock()
        self._rows: dict[int, Row] = {}
        self._totals: dict[str, Row] = {}
        self._live = Live(
            console=console,
            get_renderable=self.table,
            refresh_per_second=10,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Picture:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, rows: list[RowView], name: str, view: JobView) -> None:
        """
        Take over what is new.

        @param rows: the rows that changed.
        @param name: which whole they belong to.
        @param view: the job that is this whole.
        """
        lines = {row.index: Row.of_row(row) for row in rows}
        total = Row.of_job(name, view)
        with self._lock:
            self._rows.update(lines)
            self._totals[name] = total

    def table(self) -> Table:
        """
        The lines as they are now, for a terminal as it is now.
        """
        with self._lock:
            rows = [row for _, row in sorted(self._rows.items())]
            totals = list(self._totals.values())
        room = max(0, self._console.height - 1 - len(totals))
        if len(rows) > room:
            # Those that move; then the newest of those that do not.
            moving = [row for row in rows if not row.ended][:room]
            still = [row for row in rows if row.ended]
            rows = still[len(still) - (room - len(moving)) :] + moving
        width = self._console.width
        name = 12 if width >= _WIDE else 7
        # Widths are fixed, so that nothing jumps when a note comes or goes.
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


class Bars(PlainEnd):
    """
    One job as a L{Picture}.
    """

    def __init__(self, stdout: TextIO) -> None:
        super().__init__(stdout)
        self._picture = Picture(Console(file=stdout, highlight=False))

    def __enter__(self) -> Display:
        self._picture.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._picture.__exit__(kind, error, trace)

    def show(self, view: JobView, event: Event, rows: list[RowView]) -> None:  # noqa: ARG002
        """
        Move the bars.
        """
        self._picture.show(rows, "total", view)


class CopyBar(CopyDisplay):
    """
    One bar for files that are copied.
    """

    def __init__(self, stdout: TextIO) -> None:
        super().__init__(stdout)
        self._progress: Progress | None = None
        self._live = Live(
            console=Console(file=stdout, highlight=False),
            get_renderable=self.line,
            refresh_per_second=10,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )

    def __enter__(self) -> CopyDisplay:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, progress: Progress) -> None:
        """
        Move the bar, when it is drawn next.
        """
        # rich's thread sees the old one or the new one, and each is whole.
        self._progress = progress

    def line(self) -> Table | Text:
        """
        The line as it is now.
        """
        now = self._progress
        if now is None or not now.entries_total:
            return Text("looking at the layers")
        grid = Table.grid(padding=(0, 1), pad_edge=False)
        grid.add_row(
            ProgressBar(total=1.0, completed=fraction(now), width=30),
            Text(f"{now.entries}/{now.entries_total} files"),
            Text(portion(now.size, now.size_total)),
        )
        return grid


class SavingBar(Saving):
    """
    One bar for an archive that is saved.
    """

    def __init__(self, stdout: TextIO) -> None:
        super().__init__(stdout)
        self._progress = (0, 0)
        self._live = Live(
            console=Console(file=stdout, highlight=False),
            get_renderable=self.line,
            refresh_per_second=10,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )

    def __enter__(self) -> Saving:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, done: int, total: int) -> None:
        """
        Move the bar, when it is drawn next.
        """
        # rich's thread sees the old pair or the new one.
        self._progress = (done, total)

    def line(self) -> Table:
        """
        The line as it is now.
        """
        done, total = self._progress
        grid = Table.grid(padding=(0, 1), pad_edge=False)
        grid.add_row(ProgressBar(total=max(total, 1), completed=done, width=30), Text(portion(done, total)))
        return grid


def _bar(row: Row, width: int) -> ProgressBar | Text:
    """
    The bar itself; none for what did not have to move or has failed.
    """
    if row.state in _BARE or row.total is None:
        return Text("")
    return ProgressBar(total=row.total, completed=row.done, width=width)


def _amount(done: int | None, total: int) -> str:
    """
    So many bytes of so many, as short as can be.
    """
    if done is None or not total:
        return size(total) if total else ""
    return f"{size(done)}/{size(total)}"
