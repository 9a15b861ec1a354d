# -*- test-case-name: tests.ctl.display.test_progress -*-
"""
The ways to show a job that need no terminal: JSON lines, plain lines, and
silence.  L{xferd.ctl.display.bars} has the one that does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from xferd.ctl.text import json_line, plural, portion, size

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from xferd.ctl.api import Event
    from xferd.ctl.display.job_view import JobView, RowView


_MOVING = ("downloading", "uploading")
"""The states in which it matters how much it will be."""


def draws_bars(stdout: TextIO, environ: Mapping[str, str]) -> bool:
    """
    Whether this is a terminal that can draw in place.
    """
    return stdout.isatty() and environ.get("TERM", "dumb") != "dumb"


class Display:
    """
    Shows a job while it runs, and what came of it; this one shows nothing.

    Life cycle: it is entered, C{show} is called with each event, it is left,
    and if the job was done, C{finish} is called.
    """

    def __init__(self, stdout: TextIO) -> None:
        """
        @param stdout: where to show it.
        """
        self.stdout = stdout

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, view: JobView, event: Event, rows: list[RowView]) -> None:
        """
        Show what an event brought.

        @param view: the job, which knows the event already.
        @param rows: those that the event says something of.
        """

    def warn(self, view: JobView) -> None:
        """
        Show what registries warn of, if that was not shown yet.
        """

    def finish(self, view: JobView) -> None:
        """
        Say what the job gave.
        """


class Quiet(Display):
    """
    Only the digest of what was moved, as a reference.
    """

    def finish(self, view: JobView) -> None:
        """
        Print the reference.
        """
        print(view.pinned, file=self.stdout)


class JsonLines(Display):
    """
    Every event as it came, one JSON object on each line.
    """

    def show(self, view: JobView, event: Event, rows: list[RowView]) -> None:  # noqa: ARG002
        """
        Print the event.
        """
        line: dict[str, Any] = {"kind": event.kind, "data": event.data, "final": event.final}
        print(json_line(line), file=self.stdout, flush=True)


class PlainEnd(Display):
    """
    What people are told at the end.
    """

    def __init__(self, stdout: TextIO) -> None:
        super().__init__(stdout)
        self._warned: set[str] = set()

    def warn(self, view: JobView) -> None:
        """
        Print each warning once.
        """
        for text in view.warnings:
            if text not in self._warned:
                self._warned.add(text)
                print(f"warning: {text}", file=self.stdout, flush=True)

    def finish(self, view: JobView) -> None:
        """
        Print the sum, and the reference on the last line.
        """
        print(summary(view), file=self.stdout)
        print(view.pinned, file=self.stdout)


class PlainLines(PlainEnd):
    """
    One line for each change of a row's state, each new attempt, and when
    others begin to share it: fit for a log.
    """

    def __init__(self, stdout: TextIO) -> None:
        super().__init__(stdout)
        self._said: dict[int, tuple[str, int, bool]] = {}
        self._tenths = 0

    def show(self, view: JobView, event: Event, rows: list[RowView]) -> None:  # noqa: ARG002
        """
        Print what is new.
        """
        if view.archive is not None and view.total and view.done * 10 // view.total > self._tenths:
            self._tenths = view.done * 10 // view.total
            print(f"archive: {portion(view.done, view.total)} sent", file=self.stdout, flush=True)
        self.warn(view)
        for row in rows:
            old_state, old_attempt, old_shared = self._said.get(row.index, ("", 1, False))
            shared = old_shared or bool(row.sharing)
            self._said[row.index] = (row.state, row.attempt, shared)
            total = ""
            if row.state != old_state:
                said, total = row.state, size(row.total) if row.state in _MOVING else ""
            elif row.attempt > old_attempt:
                said = f"attempt {row.attempt}"
            elif shared > old_shared:
                said = row.state
            else:
                continue
            detail = ", ".join(filter(None, (total, row.why, row.sharing)))
            line = f"{row.name}: {said} ({detail})" if detail else f"{row.name}: {said}"
            print(line, file=self.stdout, flush=True)


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
    if here:
        number = "" if len(rows) == 1 else "all of " if here == len(rows) else f"{here} of "
        parts.append(f"{number}which already existed")
    parts.append(size(view.total))
    return f"{view.title}: {', '.join(parts)}"
