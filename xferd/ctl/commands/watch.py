# -*- test-case-name: tests.ctl.commands.test_watch -*-
"""
C{xferctl watch}: all jobs and transfers, as they change.
"""

from __future__ import annotations

import sys
from threading import Event as Flag
from threading import Thread
from typing import TYPE_CHECKING, Final

from xferd.ctl.client import LOST
from xferd.ctl.commands.arguments import Command, add_json
from xferd.ctl.commands.filters import JOB_KINDS, JOB_STATES, Filter, add_filters
from xferd.ctl.display.board import Board
from xferd.ctl.display.choose import can_draw
from xferd.ctl.text import clean, json_line

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping

    from xferd.ctl.client import Daemon
    from xferd.ctl.session import Session

_REDRAW: Final = 0.25
"""Seconds from one picture to the next."""


def _arguments(parser: ArgumentParser) -> None:
    add_filters(parser, JOB_STATES, JOB_KINDS)
    add_json(parser, "print each event as one line of JSON")


def watch(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl watch}, until it is interrupted.
    """
    chosen = Filter.of(args, session)
    board = Board(None if chosen == Filter() else chosen.selects_job)
    try:
        if not args.json and can_draw(session.stdout, session.environ):
            _draw(session, board)
        else:
            _print(args, session, board)
    except KeyboardInterrupt:
        # The usual end of this command.
        return


class _Feed(Thread):
    """
    Passes the daemon's events to a board.

    @ivar ended: set at the end.
    @ivar error: the reason of the end.
    """

    def __init__(self, daemon: Daemon, board: Board) -> None:
        super().__init__(daemon=True)
        self._daemon = daemon
        self._board = board
        self.ended = Flag()
        self.error: BaseException | None = None

    def run(self) -> None:
        """
        Read events until the daemon refuses, or cannot be reached any more.
        """
        try:
            for event in self._daemon.watch():
                self._board.update(event)
        except BaseException as e:
            # The main thread raises it.
            self.error = e
        self.ended.set()


def _draw(session: Session, board: Board) -> None:
    """
    Draw the board until the user leaves.
    """
    # These three are for terminals alone.
    from xferd.ctl.display.controls import Controls  # noqa: PLC0415
    from xferd.ctl.display.screen import Keys, Screen  # noqa: PLC0415

    feed, controls = _Feed(session.daemon, board), Controls(board, session.daemon)
    with Screen(session.stdout) as screen, Keys(sys.stdin) as keys:
        feed.start()
        while not feed.ended.is_set():
            screen.draw(board.lines(*screen.size, controls.footer))
            for key in keys.wait(_REDRAW):
                if not controls.press(key):
                    return
        # The last events.
        screen.draw(board.lines(*screen.size, controls.footer))
    if feed.error is not None:
        raise feed.error


def _print(args: Namespace, session: Session, board: Board) -> None:
    """
    Print each event, or a line for each change of a job's state.

    In JSON, C{lost} reports that the daemon does not answer, and C{begin} precedes the present
    state of everything where a stream starts over: what was known before is void.
    """
    begun = False
    for event in session.daemon.watch():
        changed = board.update(event)
        if args.json:
            if begun or event.kind != "begin":
                line = {"kind": event.kind, "data": event.data, "final": event.final}
                print(json_line(line), file=session.stdout, flush=True)
            begun = True
        elif event.kind == "lost":
            print(LOST, file=session.stdout, flush=True)
        elif changed is not None:
            words = [clean(changed.job.get("id")), changed.kind, changed.state, changed.title, changed.error]
            print(" ".join(filter(None, words)), file=session.stdout, flush=True)


COMMANDS: Final[Mapping[str, Command]] = {
    "watch": Command(
        "",
        _arguments,
        watch,
        "On a terminal it fills the screen until q or Ctrl-C.  The arrow keys select a job, c cancels it, "
        "p pauses it or lets it continue, + and - change its priority, and / filters by words.  Elsewhere "
        "it prints a line when a job changes its state.  It continues after a restart of the daemon, and "
        "reports no change twice.",
        ("xferctl watch", "xferctl watch --mine", "xferctl watch --json --kind pull"),
    )
}
