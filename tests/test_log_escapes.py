"""
Tests for L{xferd.log_escapes}.
"""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

from twisted.logger import (
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    Logger,
    LogPublisher,
    textFileLogObserver,
)
from twisted.python import log as legacy
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import provider
from zope.interface.verify import verifyObject

from xferd.log_escapes import MAX_MESSAGE, escape_event

HOSTILE = "latest\x1b]0;owned\x07\n2026-01-01 [xferd] all is well\u202e\x9b2J\ud800"


class EscapeTests(SynchronousTestCase):
    """
    The text of a log file.
    """

    def setUp(self) -> None:
        """
        Log into a text, as C{twistd} does.
        """
        self.written = StringIO()
        self.publisher = LogPublisher(escape_event, textFileLogObserver(self.written))
        self.log = Logger("xferd.test", observer=self.publisher)

    def text(self) -> str:
        """
        The text written so far.
        """
        return self.written.getvalue()

    def assert_harmless(self, text: str, lines: int) -> None:
        """
        The text has no control characters, and this number of lines.
        """
        self.assertEqual([c for c in text if not c.isprintable() and c not in "\n\t"], [])
        self.assertEqual(text.count("\n"), lines, text)

    def test_interface(self) -> None:
        """
        It is an observer.
        """
        verifyObject(ILogObserver, escape_event)

    def test_message(self) -> None:
        """
        An archive's annotation with escape sequences and line breaks is one
        line of printable characters.
        """
        self.log.error("job {number} failed: {why}", number=7, why=HOSTILE)
        self.assert_harmless(self.text(), 1)
        self.assertIn("job 7 failed: latest\\x1b]0;owned\\x07\\n2026-01-01 [xferd]", self.text())
        self.assertIn("\\u202e\\x9b2J\\ud800\n", self.text())

    def test_printable(self) -> None:
        """
        Printable text of any script stays unchanged.
        """
        self.log.info("größer als {what} 容器", what="'\\x1b'")
        self.assertTrue(self.text().endswith(" größer als '\\x1b' 容器\n"), self.text())

    def test_once(self) -> None:
        """
        The fields of an event are formatted once, whatever they are.
        """
        formatted: list[str] = []

        class Noted(str):
            __slots__ = ()

            def __format__(self, spec: str) -> str:
                formatted.append(spec)
                return super().__format__(spec)

        for hostile in (False, True):
            why = "\x1b" * hostile
            self.log.info("{what} of {size} bytes{why}", what=Noted("pull"), size=7, why=why, code=None)
            self.assertEqual(len(formatted), 1)
            self.assertTrue(self.text().endswith(" pull of 7 bytes" + "\\x1b" * hostile + "\n"), self.text())
            formatted.clear()

    def test_repeated(self) -> None:
        """
        The limit counts a field as often as the text has it; and a field is
        checked under any name.
        """
        self.log.info("{text}{text}", text="x" * MAX_MESSAGE)
        self.assertIn(" ... ", self.text())
        self.assertLess(len(self.text()), MAX_MESSAGE + 100)
        self.log.info("{log_text}", log_text=Failure(ValueError(HOSTILE)))
        self.assert_harmless(self.text(), 2)

    def test_error_text(self) -> None:
        """
        An exception's text is escaped in a traceback, too; the lines of the traceback
        stay.
        """
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            self.log.failure("while reading {name}", name="a\x1bb")
        text = self.text()
        self.assertEqual([c for c in text if not c.isprintable() and c not in "\n\t"], [])
        self.assertIn("while reading a\\x1bb\n", text)
        self.assertIn("\tTraceback (most recent call last):\n", text)
        self.assertIn("ValueError: latest\\x1b]0;owned", text)
        # Each line but the first is indented.
        self.assertEqual([line for line in text.splitlines()[1:] if not line.startswith("\t")], [])

    def test_harmless_failure(self) -> None:
        """
        A failure with harmless text reaches later observers unchanged.
        """
        events: list[object] = []

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            events.append(event.get("log_failure"))

        self.publisher.addObserver(observe)
        failure = Failure(ValueError("plain"))
        self.log.failure("oops", failure)
        self.assertEqual(events, [failure])

    def test_length(self) -> None:
        """
        A message stays whole up to the limit, and is truncated in the middle beyond it.
        """
        for length, cut in ((MAX_MESSAGE, False), (MAX_MESSAGE + 1, True)):
            self.setUp()
            self.log.info("{text}", text="x" * length)
            self.assertEqual(" ... " in self.text(), cut)
            self.assertLess(len(self.text()), MAX_MESSAGE + 100)

    def test_long_escapes(self) -> None:
        """
        The limit counts the characters of escapes.
        """
        self.log.info("{text}", text="\x1b" * 1000 * 1000)
        self.assertLess(len(self.text()), MAX_MESSAGE + 100)

    def test_legacy_observer(self) -> None:
        """
        Legacy observers, as for syslog, receive the escaped text.
        """
        lines: list[str] = []

        @provider(legacy.ILogObserver)
        def observe(event: legacy.EventDict) -> None:
            lines.append(legacy.textFromEventDict(event) or "")

        self.publisher.addObserver(LegacyLogObserverWrapper(observe))
        self.log.error("{why}", why=HOSTILE)
        self.log.failure("oops", Failure(ValueError(HOSTILE)))
        legacy.LogPublisher(self.publisher, self.publisher).msg(HOSTILE)
        self.assertEqual(len(lines), 3)
        for line in lines:
            self.assert_harmless(line, line.count("\n"))
            self.assertIn("\\x1b]0;owned\\x07", line)
        self.assertEqual([line.count("\n") for line in lines[::2]], [0, 0])

    def test_legacy_events(self) -> None:
        """
        Legacy events are escaped.
        """
        publisher = legacy.LogPublisher(self.publisher, self.publisher)
        publisher.msg(HOSTILE)
        self.assert_harmless(self.text(), 1)

    def test_nothing_to_say(self) -> None:
        """
        An event without a text stays without one.
        """
        self.publisher({"log_time": 0.0})
        self.assertEqual(self.text(), "")


class TwistdTests(SynchronousTestCase):
    """
    The log of a real daemon.
    """

    def run_daemon(self, *options: str) -> str:
        """
        Run a daemon that cannot start, as its data directory is a file whose
        name has an escape sequence; returns what it printed.
        """
        path = Path(self.mktemp()).resolve()
        path.mkdir()
        (path / "a\x1b[31mb").write_text("")
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
        found = subprocess.run(
            [
                *command,
                *options,
                "xferd",
                "-d",
                str(path / "a\x1b[31mb"),
                "-s",
                "",
                "-l",
                "tcp:0:interface=127.0.0.1",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
            env={**os.environ, "XDG_RUNTIME_DIR": str(path)},
        )
        return found.stdout.decode()

    def assert_escaped(self, text: str) -> None:
        """
        The text has the name in escaped form.
        """
        self.assertIn("a\\x1b[31mb", text)
        self.assertNotIn("\x1b", text)

    def test_stdout(self) -> None:
        """
        The output of C{twistd -n} is escaped.
        """
        self.assert_escaped(self.run_daemon())

    def test_file(self) -> None:
        """
        A log file is escaped.
        """
        path = Path(self.mktemp()).resolve()
        self.run_daemon(f"--logfile={path}")
        self.assert_escaped(path.read_text())
