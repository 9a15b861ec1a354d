# -*- test-case-name: tests.ctl.image.test_unpack -*-
"""
The ways to show files being copied: a bar, JSON lines, or nothing until the
end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from xferd.ctl.display.progress import draws_bars
from xferd.ctl.text import json_line

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from types import TracebackType

    from xferd.ctl.session import Session
    from xferd.unpack.flatten import Progress


def choose_display(kind: str, args: Namespace, session: Session) -> CopyDisplay:
    """
    The way to show it: what was asked for, else a bar on a terminal that can
    draw one, else plain lines.

    @param kind: the command.
    """
    if args.json:
        return JsonCopy(session.stdout, kind)
    if args.quiet:
        return QuietCopy(session.stdout)
    if draws_bars(session.stdout, session.environ):
        from xferd.ctl.display.bars import CopyBar  # noqa: PLC0415 - rich is slow to import

        return CopyBar(session.stdout)
    return CopyDisplay(session.stdout)


class CopyDisplay:
    """
    Shows a copy while it runs, and what came of it; this one tells the end in
    plain lines, the last of which is the path.

    Life cycle: it is entered, C{show} is called with each progress, it is
    left; if it went well, C{finish} is called.  Where nothing is copied,
    C{finish} alone is called.
    """

    def __init__(self, stdout: TextIO) -> None:
        """
        @param stdout: where to show it.
        """
        self.stdout = stdout

    def __enter__(self) -> CopyDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, progress: Progress) -> None:
        """
        Show how far it is.
        """

    def finish(self, said: str, result: dict[str, Any], notes: Sequence[str]) -> None:
        """
        Say what it gave.

        @param said: in words.
        @param result: in JSON; C{path} is where it is.
        @param notes: what its user should know.
        """
        for line in (*(f"note: {note}" for note in notes), said, result["path"]):
            print(line, file=self.stdout)


class QuietCopy(CopyDisplay):
    """
    Only the path.
    """

    def finish(self, said: str, result: dict[str, Any], notes: Sequence[str]) -> None:  # noqa: ARG002
        """
        Print the path.
        """
        print(result["path"], file=self.stdout)


class JsonCopy(CopyDisplay):
    """
    A line for each hundredth part, and one for the result.
    """

    def __init__(self, stdout: TextIO, kind: str) -> None:
        """
        @param kind: the command.
        """
        super().__init__(stdout)
        self._kind = kind
        self._part = -1

    def show(self, progress: Progress) -> None:
        """
        Print it if it is news.
        """
        part = int(100 * fraction(progress))
        if part > self._part and progress.entries_total:
            self._part = part
            self._print({"state": "running", **counts(progress)}, final=False)

    def finish(self, said: str, result: dict[str, Any], notes: Sequence[str]) -> None:  # noqa: ARG002
        """
        Print the result.
        """
        self._print({"state": "done", **result}, final=True)

    def _print(self, data: dict[str, Any], *, final: bool) -> None:
        print(json_line({"kind": self._kind, "data": data, "final": final}), file=self.stdout, flush=True)


def counts(progress: Progress) -> dict[str, int]:
    """
    The numbers by the names that the API has for such.
    """
    return {
        "entries_done": progress.entries,
        "entries_total": progress.entries_total,
        "bytes_done": progress.size,
        "bytes_total": progress.size_total,
    }


def fraction(progress: Progress) -> float:
    """
    How much of the work is done, between 0 and 1: a file is some work even if
    it is empty.
    """
    each = 16 * 1024
    total = progress.entries_total * each + progress.size_total
    return (progress.entries * each + progress.size) / total if total else 0.0
