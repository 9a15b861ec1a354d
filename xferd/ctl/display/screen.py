# -*- test-case-name: tests.ctl.commands.test_watch -*-
"""
The board of C{xferctl watch} on the terminal's alternate screen.

Like L{xferd.ctl.display.bars} this imports C{rich}, and is imported only where
it is used.
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
    from xferd.ctl.display.board import Board


class Screen:
    """
    Draws a board four times a second, from entering to leaving.
    """

    def __init__(self, stdout: TextIO, board: Board) -> None:
        self._board = board
        # rich draws in a thread of its own.
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
        # Draw the last events before the screen closes.
        self._live.refresh()
        self._live.stop()

    def update(self, event: Event) -> None:
        """
        Apply an event to the board.
        """
        with self._lock:
            self._board.update(event)

    def picture(self) -> Text:
        """
        The present board, for the terminal's present size.
        """
        with self._lock:
            lines = self._board.lines(self._console.width, self._console.height)
        return Text("\n".join(lines), no_wrap=True, overflow="crop")
