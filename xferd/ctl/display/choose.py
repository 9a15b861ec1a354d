# -*- test-case-name: tests.ctl.display.test_progress -*-
"""
The display for a command: its options and the terminal decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from xferd.ctl.display.progress import JsonLines, PlainLines, ProgressDisplay, Quiet

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
    The display that C{--json} or C{--quiet} selects; otherwise bars on a
    terminal that can draw them, and plain lines elsewhere.

    @param transient: whether bars disappear at the end.
    """
    if args.json:
        return JsonLines(session.stdout, args.command)
    if getattr(args, "quiet", False):
        return Quiet(session.stdout)
    if can_draw(session.stdout, session.environ):
        from xferd.ctl.display.bars import Bars  # noqa: PLC0415 - rich is slow to import

        return Bars(session.stdout, transient=transient)
    return PlainLines(session.stdout)
