"""
Tests for L{xferd.testing.__main__}.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import cast

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, readBody

import xferd
from xferd.interfaces.reactor import IReactor
from xferd.testing.__main__ import parse

reactor = cast(IReactor, installed)


class ParseTests(SynchronousTestCase):
    """
    The command line.
    """

    def test_defaults(self) -> None:
        """
        By default it is in memory, fast, empty and on any port.
        """
        options = parse([])
        self.assertEqual((0, None, None, False), (options.port, options.dir, options.rate, options.sample))
        self.assertEqual((3, 1024 * 1024), (options.layers, options.size))

    def test_all(self) -> None:
        """
        All options are parsed.
        """
        options = parse(
            ["--port", "80", "--dir", "d", "--rate", "1e3", "--sample", "--layers", "1", "--size", "9"]
        )
        self.assertEqual(
            (80, "d", 1000.0, True), (options.port, str(options.dir), options.rate, options.sample)
        )
        self.assertEqual((1, 9), (options.layers, options.size))


class _Child(ProcessProtocol):
    """
    Wait for a child's first line and for its end.
    """

    def __init__(self) -> None:
        self.line: Deferred[str] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self._output = self._errors = b""

    def outReceived(self, data: bytes) -> None:
        """
        Collect the first line.
        """
        self._output += data
        if b"\n" in self._output and not self.line.called:
            self.line.callback(self._output.decode().splitlines()[0])

    def errReceived(self, data: bytes) -> None:
        """
        Collect the errors.
        """
        self._errors += data

    def processEnded(self, reason: Failure) -> None:
        """
        Report the end.
        """
        reason.trap(ProcessDone, ProcessTerminated)
        if not self.line.called:
            self.line.errback(Exception(self._errors.decode()))
        self.ended.callback(None)


class MainTests(TestCase):
    """
    C{python -m xferd.testing}.
    """

    async def test_runs(self) -> None:
        """
        It prints its address, serves, and ends on a signal.
        """
        child = _Child()
        arguments = [sys.executable, "-m", "xferd.testing", "--sample"]
        environment = {**os.environ, "PYTHONPATH": str(Path(xferd.__file__).parents[1])}
        process = reactor.spawnProcess(child, sys.executable, arguments, environment)
        try:
            url = await child.line
            response = await Agent(reactor).request(b"GET", f"{url}/v2/sample/tags/list".encode())
            self.assertIn(b"latest", await readBody(response))
        finally:
            if not child.ended.called:
                process.signalProcess("INT")
            await child.ended
