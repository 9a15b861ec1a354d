"""
Tests for L{xferd.sighup}.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xferd.sighup import SignalHandler


@implementer(IReactorFromThreads)
class Turns:
    """
    A reactor whose turns a test makes.
    """

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:  # noqa: A002
        """
        Queue a call.
        """
        self.waiting.append(lambda: callable(*args, **kwargs))

    def turn(self) -> None:
        """
        Make the queued calls.
        """
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()


class SignalHandlerTests(SynchronousTestCase):
    """
    C{SIGHUP}, sent to the test itself.
    """

    def setUp(self) -> None:
        """
        Make a handler, with another handler before it.
        """
        self.missed: list[int] = []
        before = signal.signal(signal.SIGHUP, lambda number, _: self.missed.append(number))
        self.addCleanup(signal.signal, signal.SIGHUP, before)
        self.calls: list[str] = []
        self.turns = Turns()
        self.handler = SignalHandler(self.turns, lambda: self.calls.append("read"))

    def test_started(self) -> None:
        """
        Between start and stop, each signal is a call; before and after, the previous
        handler is in force.
        """
        self.assertEqual(self.calls, [])
        self.handler.startService()
        self.handler.startService()
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        self.assertEqual((self.calls, self.missed), ([], []))
        self.turns.turn()
        self.assertEqual((self.calls, self.missed), (["read", "read"], []))
        self.handler.stopService()
        self.handler.stopService()
        os.kill(os.getpid(), signal.SIGHUP)
        self.assertEqual((len(self.calls), self.missed), (2, [signal.SIGHUP]))
