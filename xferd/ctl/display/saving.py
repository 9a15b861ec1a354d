# -*- test-case-name: tests.ctl.commands.test_archives -*-
"""
The ways to show an archive being saved: a bar, JSON lines, or nothing until
the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from xferd.ctl.display.progress import draws_bars
from xferd.ctl.text import clean, json_line, size

if TYPE_CHECKING:
    from argparse import Namespace
    from types import TracebackType

    from xferd.ctl.session import Session


def choose_saving(args: Namespace, session: Session) -> Saving:
    """
    The way to show it: what was asked for, else a bar on a terminal that can
    draw one, else plain lines.
    """
    if args.json:
        return JsonSaving(session.stdout)
    if args.quiet:
        return QuietSaving(session.stdout)
    if draws_bars(session.stdout, session.environ):
        from xferd.ctl.display.bars import SavingBar  # noqa: PLC0415 - rich is slow to import

        return SavingBar(session.stdout)
    return Saving(session.stdout)


class Saving:
    """
    Shows how an archive is saved, and what came of it; this one tells the end
    in plain lines, the last of which is the path.

    Life cycle: it is entered, C{show} is called, it is left; if it went well,
    C{finish} is called.
    """

    def __init__(self, stdout: TextIO) -> None:
        """
        @param stdout: where to show it.
        """
        self.stdout = stdout

    def __enter__(self) -> Saving:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, done: int, total: int) -> None:
        """
        Show how many bytes of how many are here.
        """

    def finish(self, reference: str, path: str, total: int) -> None:
        """
        Say what it gave.
        """
        print(f"{clean(reference)}: {size(total)} saved", file=self.stdout)
        print(path, file=self.stdout)


class QuietSaving(Saving):
    """
    Only the path.
    """

    def finish(self, reference: str, path: str, total: int) -> None:  # noqa: ARG002
        """
        Print the path.
        """
        print(path, file=self.stdout)


class JsonSaving(Saving):
    """
    A line for each hundredth part, and one for the result.
    """

    def __init__(self, stdout: TextIO) -> None:
        super().__init__(stdout)
        self._part = -1

    def show(self, done: int, total: int) -> None:
        """
        Print it if it is news.
        """
        part = 100 * done // max(1, total)
        if part > self._part:
            self._part = part
            self._print({"state": "running", "bytes_done": done, "bytes_total": total}, final=False)

    def finish(self, reference: str, path: str, total: int) -> None:
        """
        Print the result.
        """
        self._print(
            {
                "state": "done",
                "reference": reference,
                "path": path,
                "bytes_done": total,
                "bytes_total": total,
            },
            final=True,
        )

    def _print(self, data: dict[str, Any], *, final: bool) -> None:
        print(json_line({"kind": "export", "data": data, "final": final}), file=self.stdout, flush=True)
