# -*- test-case-name: tests.test_sighup -*-
"""
A handler for C{SIGHUP}, on which the daemon reads its settings again.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorFromThreads


class SignalHandler(Service):
    """
    Calls a function in the reactor on each C{SIGHUP} while it runs.

    twistd does not handle the signal, in the foreground or as a daemon; its
    default action ends the process.
    """

    def __init__(self, reactor: IReactorFromThreads, call: Callable[[], object]) -> None:
        """
        @param call: the function, called in a reactor turn of its own.
        """
        self._reactor = reactor
        self._call = call
        self._before: Any = None

    def startService(self) -> None:
        """
        Install the handler, in the main thread.
        """
        if not self.running:
            super().startService()
            self._before = signal.signal(signal.SIGHUP, self._came)

    def stopService(self) -> None:
        """
        Restore the previous handler.
        """
        if self.running:
            super().stopService()
            # None is a handler that was not installed from Python.
            signal.signal(signal.SIGHUP, signal.SIG_DFL if self._before is None else self._before)

    def _came(self, _number: int, _frame: FrameType | None) -> None:
        # A signal handler may do little: the reactor calls.
        self._reactor.callFromThread(self._call)
