# -*- test-case-name: tests.ctl.commands.test_watch -*-
"""
The board of C{xferctl watch} on a whole terminal, which is as it was before
when it is left.

This imports C{rich}, as L{xferd.ctl.display.bars} does: only where it is used.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from types import TracebackType

    from xferd.ctl.api import Event
    from xferd.ctl.commands.watch import Board


class Screen:
    """
    Draws a board four times a second, from when it is entered until it is
    left.
    """

    def __init__(self, stdout: TextIO, board: Board) -> None:
        self._board = board
        # The picture is drawn in a thread of rich's.
        self._lock = Lock()
        self._console = Console(file=stdout, highlight=False)
        self._live = Live(
            console=self._console,
            screen=True,
            get_renderable=self.picture,
            refresh_per_second=4,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What came last is to be seen, however briefly.
        self._live.refresh()
        self._live.stop()

    def take(self, event: Event) -> None:
        """
        Have an event drawn, when it is time.
        """
        with self._lock:
            self._board.take(event)

    def picture(self) -> Text:
        """
        The board as it is now, for a terminal as it is now.
        """
        with self._lock:
            lines = self._board.lines(self._console.width, self._console.height)
        return Text("\n".join(lines), no_wrap=True, overflow="crop")
