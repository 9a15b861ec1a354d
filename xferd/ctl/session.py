# -*- test-case-name: tests.ctl -*-
"""
What a command needs: the daemon, the output, and the signals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xferd.ctl.client import Daemon
    from xferd.ctl.interrupts import Interrupts
    from xferd.ctl.printer import Printer


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
