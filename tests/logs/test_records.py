"""
Tests for L{xferd.logs.records}.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import LogEvent, Logger, LogLevel, capturedLogs
from twisted.python import log
from twisted.trial.unittest import SynchronousTestCase

from xferd.logs.records import MAX_TEXT, record_of, to_json
from xferd.names import Digest

DIGEST = Digest.parse(f"sha256:{1:064x}")


class RecordTests(SynchronousTestCase):
    """
    The records of events.
    """

    def logged(self, form: str, level: LogLevel = LogLevel.info, **values: Any) -> LogEvent:
        """
        Log something, and return the event.
        """
        with capturedLogs() as events:
            Logger("xferd.test").emit(level, form, **values)
        return events[0]

    def test_fields(self) -> None:
        """
        A record has the text, and each value of the event as JSON knows it.
        """
        event = self.logged(
            "{kind} of {digest}",
            LogLevel.warn,
            kind="pull",
            digest=DIGEST,
            size=3,
            code=None,
            jobs=["a", "b"],
        )
        event["log_time"] = 1_767_323_045.5
        self.assertEqual(
            to_json(record_of(event)),
            {
                "time": "2026-01-02T03:04:05.500Z",
                "level": "warn",
                "logger": "xferd.test",
                "message": f"pull of {DIGEST}",
                "kind": "pull",
                "digest": str(DIGEST),
                "size": 3,
                "code": None,
                "jobs": ["a", "b"],
            },
        )

    def test_own_names(self) -> None:
        """
        A value of an event does not replace what every record has.
        """
        found = to_json(record_of(self.logged("{level}", level_name="x", logger="mine", time=3)))
        self.assertEqual((found["logger"], found["level"], found["level_name"]), ("xferd.test", "info", "x"))

    def test_long(self) -> None:
        """
        A long value is cut.
        """
        found = record_of(self.logged("it", text="x" * 2 * MAX_TEXT))
        self.assertEqual(len(found.fields["text"]), MAX_TEXT)

    def test_failure(self) -> None:
        """
        The traceback of a failure is beside the text.
        """
        with capturedLogs() as events:
            try:
                raise ZeroDivisionError("by zero")
            except ZeroDivisionError:
                Logger("xferd.test").failure("it {what}", what="broke")
        self.flushLoggedErrors(ZeroDivisionError)
        found = record_of(events[0])
        self.assertEqual((found.message, found.level), ("it broke", "critical"))
        self.assertIn("test_failure", found.traceback)
        self.assertTrue(found.traceback.endswith("ZeroDivisionError: by zero"), found.traceback)
        self.assertEqual(to_json(found)["traceback"], found.traceback)

    def test_legacy(self) -> None:
        """
        An event of C{twisted.python.log} is a text.
        """
        with capturedLogs() as events:
            log.msg("Site starting", "on 80")
        found = record_of(events[0])
        self.assertEqual((found.message, found.level, found.fields), ("Site starting on 80", "info", {}))
