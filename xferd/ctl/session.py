# -*- test-case-name: tests.ctl.test_session -*-
"""
What a command needs: the daemon, the output, and the signals.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from xferd.ctl.text import ago, json_line, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from xferd.ctl.client import Daemon
    from xferd.ctl.interrupts import Interrupts


class Printer:
    """
    Prints objects of the API, as tables or as JSON.

    @ivar width: the terminal's columns; L{None} if stdout is not a terminal.
    """

    def __init__(self, stdout: TextIO, now: datetime, *, as_json: bool) -> None:
        """
        @param now: the time that "3 hours ago" counts from.
        @param as_json: whether to print one JSON object per line.
        """
        self._stdout = stdout
        self._now = now
        self._json = as_json
        self.width: int | None = None
        if stdout.isatty():
            # A pty without a size reports 0.
            self.width = os.get_terminal_size(stdout.fileno()).columns or None

    def rows(
        self,
        items: Sequence[dict[str, Any]],
        heads: Sequence[str],
        rows: Sequence[Sequence[str]],
        right: Sequence[str] = (),
    ) -> None:
        """
        Print objects, one in each row.

        @param items: the objects, for JSON.
        @param rows: the cells of each object's row.
        @param right: the headings of the columns to align right.
        """
        lines = [json_line(item) for item in items] if self._json else table(heads, rows, self.width, right)
        for line in lines:
            print(line, file=self._stdout)

    def facts(self, item: dict[str, Any], facts: Sequence[tuple[str, str]], *, width: int = 12) -> bool:
        """
        Print one object.

        @param facts: names and texts; those with an empty text are left out.
        @param width: the width of the column of names.
        @return: whether text was printed, to which the caller may add.
        """
        if self._json:
            print(json_line(item), file=self._stdout)
            return False
        for name, text in facts:
            if text:
                print(f"{name + ':':<{width}}{text}", file=self._stdout)
        return True

    def ago(self, moment: object) -> str:
        """
        A time of the API in words; empty for L{None}.
        """
        return "" if moment is None else ago(moment, self._now)


class Session(NamedTuple):
    """
    One run of C{xferctl}.

    @ivar daemon: the daemon; no connection has been made.
    @ivar printer: prints objects of the API.
    @ivar stdout: receives all other output.
    @ivar stderr: receives warnings.
    @ivar environ: the environment.
    @ivar interrupts: the signals.
    """

    daemon: Daemon
    printer: Printer
    stdout: TextIO
    stderr: TextIO
    environ: Mapping[str, str]
    interrupts: Interrupts

    def warn(self, text: str) -> None:
        """
        Print a warning; the command continues.
        """
        print(f"xferctl: warning: {text}", file=self.stderr, flush=True)
