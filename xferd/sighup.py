# -*- test-case-name: tests.test_sighup -*-
"""
C{SIGHUP}: the sign to read the settings again.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorFromThreads


class Hangup(Service):
    """
    Calls something in the reactor whenever C{SIGHUP} comes, while it runs.

    twistd leaves the signal alone, in the foreground and as a daemon; without
    this it would end the process.
    """

    def __init__(self, reactor: IReactorFromThreads, call: Callable[[], object]) -> None:
        """
        @param call: is called from a clean turn of the reactor.
        """
        self._reactor = reactor
        self._call = call
        self._before: Any = None

    def startService(self) -> None:
        """
        Listen to the signal.  Only the main thread can.
        """
        if not self.running:
            super().startService()
            self._before = signal.signal(signal.SIGHUP, self._came)

    def stopService(self) -> None:
        """
        Leave it to whoever had it before.
        """
        if self.running:
            super().stopService()
            # None is a handler that Python knows nothing of.
            signal.signal(signal.SIGHUP, signal.SIG_DFL if self._before is None else self._before)

    def _came(self, _number: int, _frame: FrameType | None) -> None:
        """
        Leave the signal's context, in which little is allowed.
        """
        self._reactor.callFromThread(self._call)
