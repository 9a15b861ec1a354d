# -*- test-case-name: tests.ctl.test_session -*-
"""
What every command gets: the daemon, the output, and the signals.
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
    Prints what a command found.

    @ivar width: the terminal's columns, or L{None} if it is no terminal.
    """

    def __init__(self, stdout: TextIO, now: datetime, *, as_json: bool) -> None:
        """
        @param now: what times are told from.
        @param as_json: objects as they are, one on each line.
        """
        self._stdout = stdout
        self._now = now
        self._json = as_json
        self.width: int | None = None
        if stdout.isatty():
            # A pty that nobody gave a size to says 0.
            self.width = os.get_terminal_size(stdout.fileno()).columns or None

    def rows(
        self,
        items: Sequence[dict[str, Any]],
        heads: Sequence[str],
        rows: Sequence[Sequence[str]],
        right: Sequence[str] = (),
    ) -> None:
        """
        Print a table of things.

        @param items: the things as the API has them.
        @param rows: the same in words.
        """
        lines = [json_line(item) for item in items] if self._json else table(heads, rows, self.width, right)
        for line in lines:
            print(line, file=self._stdout)

    def facts(self, item: dict[str, Any], facts: Sequence[tuple[str, str]], *, width: int = 12) -> bool:
        """
        Print one thing.

        @param facts: what it is in words; empty ones are left out.
        @param width: the columns for the names.
        @return: whether there may be more to say, which JSON has said already.
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
        A time of the API, in words; empty if it has not come.
        """
        return "" if moment is None else ago(moment, self._now)


class Session(NamedTuple):
    """
    One run of C{xferctl}.

    @ivar daemon: whom to ask; not asked anything yet.
    @ivar printer: prints tables and facts.
    @ivar stdout: for what is neither.
    @ivar stderr: for warnings.
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
        Warn of something that does not end the command.
        """
        print(f"xferctl: warning: {text}", file=self.stderr, flush=True)
