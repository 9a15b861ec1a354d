# -*- test-case-name: tests.ctl.display.test_progress -*-
"""
Showing work while it runs, and its result: as JSON lines, or the result alone.
L{xferd.ctl.display.plain} prints plain lines, and L{xferd.ctl.display.bars} draws
bars on a terminal.

The work is a job of the daemon, which reports events, or a copy or download
of this process, which reports L{Progress}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from xferd.ctl.client import LOST
from xferd.ctl.display.timing import closing
from xferd.ctl.text import json_line, plural, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from xferd.ctl.api import Event
    from xferd.ctl.display.job_view import JobView, RowView


class Progress(NamedTuple):
    """
    The progress of a copy or download of this process.

    @ivar state: the state in words, C{copying}.
    @ivar done: bytes done.
    @ivar total: bytes in all; 0 while unknown.
    @ivar fraction: the part of the work that is done, from 0 to 1, or L{None}
        while unknown.
    @ivar note: further words.
    @ivar counts: numbers for JSON.
    """

    state: str
    done: int
    total: int
    fraction: float | None
    note: str = ""
    counts: Mapping[str, int] = {}


class Result(NamedTuple):
    """
    The result of the work.

    @ivar name: the one line that scripts need, and the last one printed: a
        reference with its digest, or a path.
    @ivar lines: lines before it, for people.
    @ivar data: the result as JSON; L{None} if events have reported it.
    """

    name: str
    lines: Sequence[str] = ()
    data: Mapping[str, Any] | None = None


class ProgressDisplay:
    """
    Shows work and its result.  This one prints warnings and the result.

    Life cycle: entered; L{show_event} or L{show} is called repeatedly; left;
    L{finish} is called if the work succeeded.

    @cvar brief: whether it shows nothing of a job's layers.
    """

    brief = False

    def __init__(self, stdout: TextIO) -> None:
        self.stdout = stdout
        self._warned: set[str] = set()

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show_event(self, view: JobView, event: Event, rows: list[RowView]) -> None:
        """
        Show an event of a job.

        @param view: the job, updated by the event.
        @param rows: the rows that the event changed.
        """

    def lost(self, view: JobView, rows: list[RowView]) -> None:  # noqa: ARG002
        """
        Show that the daemon does not answer.

        @param rows: all rows of the job.
        """
        self.note(LOST)

    def show(self, progress: Progress) -> None:
        """
        Show the progress of a copy or download.
        """

    def note(self, text: str) -> None:
        """
        Print a sentence about the work itself.
        """
        self._print(text)

    def warn(self, warnings: Sequence[str]) -> None:
        """
        Print those warnings that were not printed before.
        """
        for text in warnings:
            if text not in self._warned:
                self._warned.add(text)
                self._print(f"warning: {text}")

    def report(self, findings: Sequence[str]) -> None:
        """
        Print the damage that a verification found.
        """
        for text in findings:
            self._print(text)

    def finish(self, result: Result) -> None:
        """
        Print the result.
        """
        for line in (*result.lines, result.name):
            self._print(line)

    def _print(self, line: str) -> None:
        print(line, file=self.stdout, flush=True)


class Quiet(ProgressDisplay):
    """
    Prints the result's name alone.
    """

    brief = True

    def note(self, text: str) -> None:
        """
        Print nothing.
        """

    def warn(self, warnings: Sequence[str]) -> None:
        """
        Print nothing.
        """

    def finish(self, result: Result) -> None:
        """
        Print the name.
        """
        self._print(result.name)


class JsonLines(ProgressDisplay):
    """
    Prints one JSON object per line: each event of a job; or the progress in
    steps of a hundredth, and the result.
    """

    def __init__(self, stdout: TextIO, kind: str) -> None:
        """
        @param kind: the C{kind} of progress and result, which is the command.
        """
        super().__init__(stdout)
        self._kind = kind
        self._percent = -1

    def show_event(self, view: JobView, event: Event, rows: list[RowView]) -> None:  # noqa: ARG002
        """
        Print the event.
        """
        self._object(event.kind, event.data, final=event.final)

    def lost(self, view: JobView, rows: list[RowView]) -> None:  # noqa: ARG002
        """
        Print an event, which is not one of the daemon's.
        """
        self._object("lost", {"why": LOST}, final=False)

    def show(self, progress: Progress) -> None:
        """
        Print the progress, if it grew by a hundredth.
        """
        if progress.fraction is not None and int(100 * progress.fraction) > self._percent:
            self._percent = int(100 * progress.fraction)
            self._object(self._kind, {"state": "running", **progress.counts}, final=False)

    def note(self, text: str) -> None:
        """
        Print nothing: a sentence is no JSON.
        """

    def warn(self, warnings: Sequence[str]) -> None:
        """
        Print nothing: the job's events carry its warnings.
        """

    def report(self, findings: Sequence[str]) -> None:
        """
        Print nothing: the job's events carry its findings.
        """

    def finish(self, result: Result) -> None:
        """
        Print the result.
        """
        if result.data is not None:
            self._object(self._kind, {"state": "done", **result.data}, final=True)

    def _object(self, kind: str, data: Mapping[str, Any], *, final: bool) -> None:
        self._print(json_line({"kind": kind, "data": data, "final": final}))


def job_result(view: JobView) -> Result:
    """
    The result of a job that is done: one line of totals, after a second one on what moved and
    one on what bounded it, and its reference.
    """
    if view.kind == "verify":
        return Result(summary(view), closing(view.job))
    return Result(view.pinned, (summary(view), *closing(view.job)))


def summary(view: JobView) -> str:
    """
    A job that is done, in one line.
    """
    rows = view.rows
    parts = [plural(len(rows), view.noun)]
    states = [row.data.get("state") for row in rows]
    here, mounted = states.count("exists"), states.count("mounted")
    if view.sending:
        parts += [f"{mounted} mounted"] if mounted else []
        parts += [f"{here} already there"] if here else []
        parts.append(f"{size(view.sent)} of {size(view.total)} sent")
        return f"{view.title}: {', '.join(parts)}"
    if view.kind == "verify":
        parts += [
            size(view.total),
            f"{view.damaged} damaged and replaced" if view.damaged else "all whole",
        ]
        return f"{view.title}: {', '.join(parts)}"
    if here:
        number = "" if len(rows) == 1 else "all of " if here == len(rows) else f"{here} of "
        parts.append(f"{number}which already existed")
    parts.append(size(view.total))
    return f"{view.title}: {', '.join(parts)}"
