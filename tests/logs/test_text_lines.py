"""
Tests for L{xferd.logs.text_lines}.
"""

from __future__ import annotations

from io import StringIO

from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogPublisher,
    formatEventAsClassicLogText,
)
from twisted.python import log as legacy
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.log_escapes import escape_event
from xferd.logs.text_lines import text_lines


class TextLinesTests(SynchronousTestCase):
    """
    The log as lines of text.
    """

    def test_as_twistd(self) -> None:
        """
        Each event is written as twistd writes it, whatever it is: with fields, with braces, with a
        traceback or several lines, of the old kind, without a level, and without a text.
        """
        formatted: list[LogEvent] = []
        ours, theirs = StringIO(), StringIO()
        observer = text_lines(ours)
        verifyObject(ILogObserver, observer)

        def format_event(event: LogEvent) -> str | None:
            formatted.append(event)
            return formatEventAsClassicLogText(event)

        publisher = LogPublisher(escape_event, observer, FileLogObserver(theirs, format_event))
        writer = Logger("xferd.test", observer=publisher)
        writer.info("{a} of {b}", a="{braces}", b=7)
        writer.warn("one\ntwo {why}", why="\x1b")
        writer.failure("oops", Failure(ValueError("plain")))
        writer.failure("oops", Failure(ValueError("\x1b")))
        writer.info("{log_text}", log_text=7)
        legacy.LogPublisher(publisher, publisher).msg("old")
        publisher({"log_format": "no level", "log_time": 1.5})
        publisher({"log_time": 0.0})
        writer.info("")
        self.assertEqual(len(formatted), 9)
        self.assertIn(" [xferd.test#info] {braces} of 7\n", ours.getvalue())
        self.assertEqual(ours.getvalue(), theirs.getvalue())

    def test_times(self) -> None:
        """
        Each line has the time of its event.
        """
        file = StringIO()
        publisher = LogPublisher(escape_event, text_lines(file))
        kind = {"log_format": "at", "log_level": LogLevel.info, "log_namespace": "xferd.test"}
        for moment in (1000.0, 1000.9, 1001.0, 1000.0):
            publisher({**kind, "log_time": moment})
        first, second, third, fourth = [line.split()[0] for line in file.getvalue().splitlines()]
        self.assertEqual((first, first), (second, fourth))
        self.assertNotEqual(second, third)
