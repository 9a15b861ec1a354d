"""
Tests for L{xferd.transfer.attempt_record}.
"""

from __future__ import annotations

from tests.transfer.case import ONE, Attempt, EngineTests
from xferd.errors import ConnectionFailed
from xferd.testing.fake_wall_clock import BEGIN


class RecordTests(EngineTests):
    """
    The records of attempts.
    """

    def test_records(self) -> None:
        """
        Each attempt is recorded when it has ended, with stamps of the wall
        clock.
        """
        attempt = Attempt(ConnectionFailed("cut"))
        watcher = self.request("a", attempt.work(), ONE)
        self.clock.advance(1)
        watcher.transfer.report(bytes_done=25, moved=5)
        self.clock.advance(2)
        attempt.ends[0].callback(None)
        facts = {
            "transfer": watcher.transfer.id,
            "kind": "download",
            "digest": "sha256:a",
            "source": ONE.label,
        }
        self.assertEqual(
            self.records,
            [
                facts
                | {
                    "attempt": 1,
                    "started": BEGIN,
                    "finished": BEGIN,
                    "bytes_done": 0,
                    "bytes_moved": 0,
                    "code": "CONNECTION_FAILED",
                    "error": "cut",
                },
                facts
                | {
                    "attempt": 2,
                    "started": BEGIN + 1,
                    "finished": BEGIN + 3,
                    "bytes_done": 25,
                    "bytes_moved": 5,
                    "code": None,
                    "error": None,
                },
            ],
        )

    def test_record_of_a_cancelled_attempt(self) -> None:
        """
        An attempt that was cancelled is recorded, too.
        """
        watcher = self.request("a", Attempt().work(), ONE)
        watcher.release()
        self.turn()
        self.assertEqual([(r["code"], r["error"]) for r in self.records], [("CANCELLED", "cancelled")])
        self.assert_idle()

    def test_record_of_an_unexpected_error(self) -> None:
        """
        An unexpected error has the code of all such errors.
        """
        watcher = self.request("a", Attempt(ZeroDivisionError()).work(), ONE)
        self.failureResultOf(watcher.result(), ZeroDivisionError)
        (record,) = self.records
        self.assertEqual(
            (record["code"], record["error"]), ("INTERNAL", "internal error; see the daemon's log")
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_record_that_fails(self) -> None:
        """
        A recorder that raises does not affect the attempt.
        """
        self.records = []
        self.patch(self.manager, "_on_attempt", lambda record, turns: 1 / 0)
        watcher = self.request("a", Attempt("blob").work(), ONE)
        self.assertEqual(self.successResultOf(watcher.result()), "blob")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_no_recorder(self) -> None:
        """
        Attempts need no recorder.
        """
        self.patch(self.manager, "_on_attempt", None)
        watcher = self.request("a", Attempt("blob").work(), ONE)
        self.assertEqual(self.successResultOf(watcher.result()), "blob")
