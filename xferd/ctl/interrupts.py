# -*- test-case-name: tests.ctl.test_interrupts -*-
"""
Signals that end a command: SIGINT (Ctrl-C), SIGTERM and SIGHUP.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CommandInterrupted(KeyboardInterrupt):
    """
    A signal interrupted the command; the text reports the state of its work.
    """


class Interrupts:
    """
    Raises L{CommandInterrupted} for a signal, at once or at the end of a block that
    must not be interrupted.

    Signals are left alone until L{install}, for code that runs inside another
    program.
    """

    def __init__(self) -> None:
        self._holding = False
        self._pending = False

    def install(self) -> None:
        """
        Handle the signals, except ignored ones: C{nohup} and shells
        ignore them for background jobs.
        """
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.arrived)

    def arrived(self, *_: object) -> None:
        """
        Handle a signal.  In a L{held} block, the first signal waits for the
        end of the block; the second does not.

        @raise CommandInterrupted: the signal does not wait.
        """
        if self._holding and not self._pending:
            self._pending = True
        else:
            raise CommandInterrupted

    @contextmanager
    def held(self) -> Iterator[None]:
        """
        Postpone a signal until the end of the block.

        @raise CommandInterrupted: at the end, if a signal arrived.
        """
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._pending:
            self._pending = False
            raise CommandInterrupted
