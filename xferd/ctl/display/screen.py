# -*- test-case-name: tests.ctl.commands.test_watch -*-
"""
The terminal's alternate screen, and its keys.
"""

from __future__ import annotations

import os
import re
import select
import termios
from typing import IO, TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""The alternate screen, without a cursor and without wrapping (xterm's control sequences)."""

_LEAVE: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"

_SEQUENCES: Final = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
}


_KEY: Final = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z~]|O[A-Za-z])?|.", re.DOTALL)
"""A key, or the control sequence by which a terminal sends it (ECMA-48, 5.4)."""


class Screen:
    """
    Draws lines on the alternate screen, from entering to leaving.
    """

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout

    def __enter__(self) -> Screen:
        self._write(_ENTER)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write(_LEAVE)

    @property
    def size(self) -> tuple[int, int]:
        """
        The terminal's present columns and lines.
        """
        columns, lines = os.get_terminal_size(self._stdout.fileno())
        # A pty without a size reports 0.
        return columns or 80, lines or 24

    def draw(self, lines: Sequence[str]) -> None:
        """
        Replace the picture.
        """
        self._write("\x1b[H" + "\r\n".join(f"\x1b[K{line}" for line in lines) + "\x1b[J")

    def _write(self, text: str) -> None:
        self._stdout.write(text)
        self._stdout.flush()


class Mode:
    """
    Changes the mode of a terminal, from entering to leaving.  Without a terminal it does
    nothing.
    """

    def __init__(self, file: IO[str] | None, *, add: int = 0, remove: int = 0) -> None:
        """
        @param add: local modes of C{termios} to add.
        @param remove: local modes of C{termios} to remove.
        """
        self.fd = file.fileno() if file is not None and file.isatty() else None
        self._add = add
        self._remove = remove

    def __enter__(self) -> Mode:
        if self.fd is not None:
            self._before = termios.tcgetattr(self.fd)
            mode = termios.tcgetattr(self.fd)
            mode[3] = mode[3] & ~self._remove | self._add
            termios.tcsetattr(self.fd, termios.TCSADRAIN, mode)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.fd is not None:
            termios.tcsetattr(self.fd, termios.TCSADRAIN, self._before)


class Keys(Mode):
    """
    The keys that are pressed, from entering to leaving.  Without a terminal there are none.
    """

    def __init__(self, stdin: TextIO | None) -> None:
        # Each key at once, without echo; Ctrl-C stays a signal.
        super().__init__(stdin, remove=termios.ICANON | termios.ECHO)

    def __enter__(self) -> Keys:
        super().__enter__()
        return self

    def wait(self, seconds: float) -> list[str]:
        """
        Wait for keys.

        @return: the keys that were pressed: characters, C{up}, C{down}, C{enter},
            C{escape} and C{backspace}.
        """
        ready, _, _ = select.select([] if self.fd is None else [self.fd], [], [], seconds)
        if not ready or self.fd is None:
            return []
        pressed = os.read(self.fd, 1024)
        if not pressed:
            # The terminal is gone; its SIGHUP ends the command.
            self.fd = None
        return list(read_keys(pressed.decode("utf-8", "replace")))


def read_keys(text: str) -> Iterator[str]:
    """
    The keys that a terminal has sent; those without a meaning here are left out.
    """
    for key in _KEY.findall(text):
        if key in _SEQUENCES:
            yield _SEQUENCES[key]
        elif key.isprintable():
            yield key
