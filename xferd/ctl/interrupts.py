# -*- test-case-name: tests.ctl.test_interrupts -*-
"""
Signals that end a command: Ctrl-C, SIGTERM, and the terminal's going away.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """
    Somebody wants the command to end; the text says what became of its work.
    """


class Interrupts:
    """
    Turns the signals into L{Interrupted}, at once or after what must not be
    torn apart.

    It does nothing until L{install}, so that code which runs inside another
    program leaves that program's signals alone.
    """

    def __init__(self) -> None:
        self._holding = False
        self._pending = False

    def install(self) -> None:
        """
        Answer the signals from now on, but for those that the caller has
        ignored: C{nohup} and a shell's background jobs mean it.
        """
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.arrived)

    def arrived(self, *_: object) -> None:
        """
        A signal is here.  While it is held the first is kept, the second not.

        @raise Interrupted: it is not kept.
        """
        if self._holding and not self._pending:
            self._pending = True
        else:
            raise Interrupted

    @contextmanager
    def held(self) -> Iterator[None]:
        """
        Keep a signal until the end of the block, and raise it there.
        """
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._pending:
            self._pending = False
            raise Interrupted
