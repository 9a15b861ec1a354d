# -*- test-case-name: tests.ctl.commands.test_watch -*-
"""
C{xferctl watch}: all jobs and transfers, as they change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xferd.ctl.commands.arguments import Command, add_json
from xferd.ctl.display.board import Board
from xferd.ctl.display.choose import can_draw
from xferd.ctl.text import clean, json_line

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping

    from xferd.ctl.session import Session


def _arguments(parser: ArgumentParser) -> None:
    add_json(parser, "print each event as one line of JSON")


def watch(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl watch}, until it is interrupted.
    """
    board = Board()
    try:
        if not args.json and can_draw(session.stdout, session.environ):
            from xferd.ctl.display.screen import Screen  # noqa: PLC0415 - rich is slow to import

            with Screen(session.stdout, board) as screen:
                for event in session.daemon.watch():
                    screen.update(event)
        else:
            _print(args, session, board)
    except KeyboardInterrupt:
        # The usual end of this command.
        return


def _print(args: Namespace, session: Session, board: Board) -> None:
    """
    Print each event, or a line for each change of a job's state.
    """
    for event in session.daemon.watch():
        changed = board.update(event)
        if args.json:
            if event.kind != "begin":
                line = {"kind": event.kind, "data": event.data, "final": event.final}
                print(json_line(line), file=session.stdout, flush=True)
        elif changed is not None:
            words = [clean(changed.job.get("id")), changed.kind, changed.state, changed.title, changed.error]
            print(" ".join(filter(None, words)), file=session.stdout, flush=True)


COMMANDS: Final[Mapping[str, Command]] = {
    "watch": Command(
        "Show all jobs and transfers as they change",
        "",
        _arguments,
        watch,
        "On a terminal it fills the screen until Ctrl-C.  Elsewhere it prints a line when a job changes its "
        "state.",
    )
}
