# -*- test-case-name: tests.ctl.display.test_bars -*-
"""
Bars on a terminal: one for each layer or blob, and a total.

C{rich} takes longer to import than the rest of the client, so this module is
imported only where bars are drawn.
"""

from __future__ import annotations

import termios
from datetime import UTC, datetime
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from xferd.ctl.columns import wrapped
from xferd.ctl.display.job_view import NO_WAIT, Waiting
from xferd.ctl.display.progress import ProgressDisplay
from xferd.ctl.display.screen import Mode
from xferd.ctl.text import amount, cut, cut_reference, plural, size

if TYPE_CHECKING:
    from collections.abc import Sequence
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

_ECHO = len("^C")
"""
Columns that stay free at the right: the terminal writes C{^C} behind the last line, and
a line that it made longer would be drawn twice.
"""

_STYLES = {
    "complete": "green",
    "done": "green",
    "already exists": "dim",
    "already there": "dim",
    "mounted": "dim",
    "failed": "red",
    "cancelled": "red",
    "interrupted": "red",
}
_BARE = ("already exists", "already there", "mounted")
"""The states without a bar."""

_ENDED_BADLY = ("failed", "cancelled", "interrupted")


class Row(NamedTuple):
    """
    One line of the picture, or more if its reason is long.

    @ivar name: the layer's or blob's short digest, or the name of a total.
    @ivar state: the state in words.
    @ivar done: the bar's filled part of C{total}.
    @ivar total: the bar's length, or L{None} while unknown.
    @ivar amount: bytes done and in all, in words.
    @ivar note: the rate, or other words that may be cut.
    @ivar reason: why it waits or failed; never cut.
    @ivar ended: whether the line is final.
    @ivar waiting: what it waits for, as data.
    @ivar made: when the line was made, in seconds of a monotonic clock.
    """

    name: str
    state: str
    done: int
    total: int | None
    amount: str
    note: str
    reason: str
    ended: bool
    waiting: Waiting = NO_WAIT
    made: float = 0.0

    @classmethod
    def of_row(cls, view: RowView) -> Row:
        """
        The line of a layer or a blob.
        """
        partly = not view.in_place and view.done > 0
        return cls(
            view.name,
            view.state,
            view.done,
            view.total or None,
            _amount(view.done if partly else None, view.total),
            ", ".join(filter(None, (f"{size(view.rate)}/s" if view.rate else "", view.sharing))),
            view.why,
            view.ended,
            view.waiting,
            monotonic(),
        )

    @classmethod
    def of_progress(cls, progress: Progress) -> Row:
        """
        The line of a copy or download.
        """
        done = None if progress.fraction is None else int(_UNITS * progress.fraction)
        words = _amount(progress.done, progress.total)
        total = None if done is None else _UNITS
        return cls("total", progress.state, done or 0, total, words, progress.note, "", False)

    @classmethod
    def of_job(cls, name: str, view: JobView) -> Row:
        """
        The line of a job's total.
        """
        rows, done, total = view.rows, view.done, view.total
        note = "" if rows else view.title
        note = ", ".join(view.pace) or note
        ended = sum(row.ended for row in rows)
        state = f"{ended}/{plural(len(rows), view.noun)}" if rows else "waiting" if view.why else view.state
        if view.archive is not None:
            state = "sending"
        if view.state in _ENDED_BADLY:
            state = view.state
        return cls(
            name,
            state,
            done,
            total or None,
            _amount(done, total),
            note,
            view.why,
            view.ended,
            view.waiting,
            monotonic(),
        )

    def now(self) -> Row:
        """
        The line with the seconds of now in its reason, and when the wait began.
        """
        words = self.waiting.words(self.reason, datetime.now(UTC), monotonic() - self.made)
        return self._replace(reason=words)

    def interrupted(self) -> Row:
        """
        The line after the command was interrupted.
        """
        return self if self.ended else self._replace(state="interrupted", note="", reason="", ended=True)


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
        # At Ctrl-C the terminal would discard a part of the picture that it has not read yet,
        # and the next one would be drawn at another place (termios(3), "NOFLSH").
        self._mode = Mode(console.file, add=termios.NOFLSH)
        # rich draws in a thread of its own.
        self._lock = Lock()
        self._rows: dict[int, Row] = {}
        self._totals: dict[str, Row] = {}
        self._live = Live(
            console=console,
            get_renderable=self.text,
            refresh_per_second=10,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=transient,
        )

    def __enter__(self) -> Picture:
        self._mode.__enter__()
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            with self._lock:
                self._rows = {index: row.interrupted() for index, row in self._rows.items()}
                self._totals = {name: row.interrupted() for name, row in self._totals.items()}
        self._live.stop()
        self._mode.__exit__(None, None, None)

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

    def text(self) -> Text:
        """
        The present lines, for the terminal's present size.
        """
        with self._lock:
            rows = [row.now() for _, row in sorted(self._rows.items())]
            totals = [row.now() for row in self._totals.values()]
        layout = _Layout(max(1, self._console.width - _ECHO), bool(self._console.color_system))
        last = [line for row in totals for line in layout.lines(row)]
        room = max(0, self._console.height - 1 - len(last))
        blocks = [(row.ended, layout.lines(row)) for row in rows]
        # Those that have not ended; then the newest of the others.
        moving, room = _fitting([lines for ended, lines in blocks if not ended], room)
        still, _ = _fitting([lines for ended, lines in reversed(blocks) if ended], room)
        chosen = (
            [*reversed(still), *moving] if len(moving) + len(still) < len(blocks) else [b for _, b in blocks]
        )
        return Text("\n", no_wrap=True, overflow="crop").join(
            [line for lines in chosen for line in lines] + last
        )


def _fitting(blocks: Sequence[list[Text]], room: int) -> tuple[list[list[Text]], int]:
    """
    The first blocks that fit into some lines, and the lines that are left.
    """
    fitting = []
    for lines in blocks:
        if len(lines) > room:
            break
        fitting.append(lines)
        room -= len(lines)
    return fitting, room


class _Layout:
    """
    The columns of a picture.
    """

    def __init__(self, width: int, coloured: bool) -> None:
        """
        @param width: the terminal's columns.
        @param coloured: whether the rest of a bar differs from the bar in colour.
        """
        self._width = width
        self._coloured = coloured
        self._name = 12 if width >= _WIDE - _ECHO else 7
        # Fixed widths keep the columns in place when a note appears or disappears.
        left = width - self._name - _STATE - _AMOUNT - 4
        self._bar = min(40, left // 3) if left >= 30 else 0
        self._note = left - self._bar if left >= _STATE else 0

    def lines(self, row: Row) -> list[Text]:
        """
        A row, and the lines of its reason.
        """
        style = _STYLES.get(row.state, "")
        parts = [
            Text(row.name[: self._name].ljust(self._name)),
            Text(cut(row.state, _STATE).ljust(_STATE), style),
        ]
        if self._bar:
            parts.append(self._drawn(row, style))
        parts.append(Text(row.amount.rjust(_AMOUNT)))
        both = ", ".join(filter(None, (row.note, row.reason)))
        fits = len(both) <= self._note
        note = both if fits else cut_reference(row.note, self._note)
        line = Text(" ").join([*parts, Text(note)])
        line.rstrip()
        return [line, *(Text(text) for text in wrapped("" if fits else row.reason, self._width))]

    def _drawn(self, row: Row, style: str) -> Text:
        """
        A row's bar; empty for a row that moved no bytes.
        """
        if row.state in _BARE or row.total is None:
            return Text(" " * self._bar)
        halves = min(2 * self._bar, int(2 * self._bar * row.done / row.total))
        whole, half = divmod(halves, 2)
        done = "━" * whole + "╸" * half
        rest = self._bar - len(done)
        bad = row.state in _ENDED_BADLY
        colour = style if bad else "green" if halves == 2 * self._bar else "cyan"
        return Text(done, colour) + Text("━" * rest if self._coloured else " " * rest, "bright_black")


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

    def lost(self, view: JobView, rows: list[RowView]) -> None:
        """
        Say so above the picture, in which nothing moves any more.
        """
        super().lost(view, rows)
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


def _amount(done: int | None, total: int) -> str:
    if done is None or not total:
        return size(total) if total else ""
    return amount(done, total)
