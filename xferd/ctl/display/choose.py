# -*- test-case-name: tests.ctl.display.test_progress -*-
"""
The display for a command: its options and the terminal decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from xferd.ctl.display.progress import JsonLines, ProgressDisplay, Quiet
from xferd.ctl.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from xferd.ctl.session import Session


def can_draw(stdout: TextIO, environ: Mapping[str, str]) -> bool:
    """
    Whether the output is a terminal whose cursor can move.
    """
    return stdout.isatty() and environ.get("TERM", "dumb") != "dumb"


def choose_display(args: Namespace, session: Session, *, transient: bool = False) -> ProgressDisplay:
    """
    The display that C{--json}, C{--quiet} or C{--progress} selects; otherwise bars on a
    terminal that can draw them, and plain lines elsewhere.

    @param transient: whether bars disappear at the end.
    @raise UsageError: bars are wanted, and there is no terminal for them.
    """
    if getattr(args, "json", False) or getattr(args, "form", None) == "json":
        return JsonLines(session.stdout, args.command)
    if getattr(args, "quiet", False):
        return Quiet(session.stdout)
    able = can_draw(session.stdout, session.environ)
    wanted = getattr(args, "progress", None) or ("bars" if able else "plain")
    if wanted == "none":
        return ProgressDisplay(session.stdout)
    if wanted == "plain":
        from xferd.ctl.display.plain import PlainLines  # noqa: PLC0415 - other displays need no thread

        return PlainLines(session.stdout)
    if not able:
        raise UsageError("--progress bars needs a terminal; use --progress plain")
    from xferd.ctl.display.bars import Bars  # noqa: PLC0415 - rich is slow to import

    return Bars(session.stdout, transient=transient)
