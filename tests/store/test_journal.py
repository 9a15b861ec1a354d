"""
Tests for L{xferd.store.journal}.
"""

from __future__ import annotations

import json
import os
import sqlite3
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from tests.store.conformance.base import DIGEST
from tests.store.conformance.journal import JournalConformance, job
from tests.store.support import StoreTestCase
from xferd.errors import DiskFull, StoreError
from xferd.interfaces.journal import HostRecord, IdempotencyKey, UnfinishedJob
from xferd.names import Digest, Repository
from xferd.store import journal
from xferd.store.journal import LAG
from xferd.store.journal_schema import MIGRATIONS

T = TypeVar("T")


class JournalTests(JournalConformance, StoreTestCase):
    """
    The journal in SQLite.
    """

    def result(self, waiting: Deferred[T]) -> T:
        """
        Wait for a result, as long as a record may wait for others.
        """
        self.reactor.advance(LAG)
        return super().result(waiting)

    @property
    def file(self) -> str:
        """
        Where it is.
        """
        return os.path.join(self.path, "xferd.db")

    def query(self, text: str) -> list[Any]:
        """
        Look into the database from outside.
        """
        database = sqlite3.connect(self.file)
        try:
            return database.execute(text).fetchall()
        finally:
            database.close()

    def test_over_a_restart(self) -> None:
        """
        Jobs are recorded over a restart; unfinished ones are interrupted, until
        another record of them is written.
        """
        states = ["queued", "running", "done", "failed", "cancelled"]
        for number, state in enumerate(states):
            self.successResultOf(self.store.journal.record_job(job(number, state)))
        again = self.reopen().journal
        self.assertEqual(len(self.successResultOf(again.jobs(9))), len(states))
        unfinished = [UnfinishedJob(job(0, "queued"), None), UnfinishedJob(job(1), None, crashes=1)]
        self.assertEqual(self.successResultOf(again.interrupted()), unfinished)
        self.successResultOf(again.record_job(job(0, "failed")))
        self.successResultOf(again.record_job(job(1)))
        self.assertEqual(self.successResultOf(again.interrupted()), [])
        # One that has ended meanwhile does not begin.
        self.successResultOf(again.record_begun({"job-0": 0}))
        ended = self.reopen().journal
        self.assertEqual(self.successResultOf(ended.interrupted()), [UnfinishedJob(job(1), None, crashes=1)])

    def test_attempts(self) -> None:
        """
        Attempts are rows, which other programs can read in the database.
        """
        self.result(
            self.store.journal.record_attempt(
                {"transfer": "t1", "kind": "download", "attempt": 2, "code": "TIMED_OUT", "bytes_done": 5}
            )
        )
        self.assertEqual(
            self.query("SELECT transfer, attempt, code, bytes_done, error FROM attempt"),
            [("t1", 2, "TIMED_OUT", 5, None)],
        )

    def test_on_the_disk(self) -> None:
        """
        A record is on the disk when its Deferred fires: in a write-ahead log,
        with full synchronisation.
        """
        self.assertEqual(self.query("PRAGMA journal_mode"), [("wal",)])
        database = self.store.journal._database
        assert database is not None
        self.assertEqual(database.execute("PRAGMA synchronous").fetchone(), (2,))

    def test_together(self) -> None:
        """
        Records that come while the disk is busy share a transaction.
        """
        self.pools.database.held = True
        waiting = [self.store.journal.record_job(job(number)) for number in range(9)]
        self.pools.database.step()
        self.successResultOf(waiting[0])
        self.assertNoResult(waiting[1])
        self.pools.database.step()
        for each in waiting[1:]:
            self.successResultOf(each)
        self.assertEqual(self.pools.database.waiting, [])

    def test_attempts_together(self) -> None:
        """
        Records that no client waits for share a transaction, also where the disk
        is idle: with the next job, or when the first one has waited for long enough.
        """
        attempt = {"transfer": "t", "kind": "download", "attempt": 1}
        app = Repository("r.example", "app")
        self.pools.database.held = True
        for ends in (lambda: self.store.journal.record_job(job(0)), lambda: self.reactor.advance(LAG / 2)):
            waiting = [self.store.journal.record_attempt(attempt)]
            self.reactor.advance(LAG / 2)
            waiting.append(self.store.journal.record_holder(app, DIGEST))
            self.assertEqual(self.pools.database.waiting, [])
            ends()
            self.pools.database.step()
            for each in waiting:
                self.successResultOf(each)

    def test_cancel(self) -> None:
        """
        A record is written, though who asked is cancelled.
        """
        self.pools.database.held = True
        waiting: list[Deferred[Any]] = [self.store.journal.record_job(job(1)), self.store.journal.jobs(1)]
        for each in waiting:
            each.cancel()
            self.assertNoResult(each)
        self.pools.database.release()
        for each in waiting:
            self.failureResultOf(each, CancelledError)
        self.assertEqual(self.successResultOf(self.store.journal.jobs(9)), [job(1)])

    def test_end(self) -> None:
        """
        Records that were requested before the close are written before it.
        """
        self.pools.database.held = True
        waiting = [self.store.journal.record_job(job(number)) for number in range(3)]
        stopping = self.store.stop()
        self.assertNoResult(stopping)
        self.pools.database.release()
        self.successResultOf(stopping)
        for each in waiting:
            self.successResultOf(each)
        self.failureResultOf(self.store.journal.record_job(job(9)), StoreError)
        self.failureResultOf(self.store.journal.jobs(1), StoreError)
        self.reopen()
        self.assertEqual(len(self.successResultOf(self.store.journal.jobs(9))), 3)

    def test_one_bad_record(self) -> None:
        """
        A record that the database refuses is not half-written, and the next
        one is fine.
        """
        bad = self.store.journal.record_attempt({"transfer": None})
        self.reactor.advance(LAG)
        self.failureResultOf(bad, StoreError)
        self.successResultOf(self.store.journal.record_job(job(1)))
        self.assertEqual(self.query("SELECT count(*) FROM attempt"), [(0,)])

    def test_bad_record_among_others(self) -> None:
        """
        A record that SQLite cannot hold fails alone: the others of its
        transaction are written.
        """
        attempt = {"transfer": "t", "kind": "download", "attempt": 1}
        self.pools.database.held = True
        first = self.store.journal.record_job(job(0))
        bad = [
            self.store.journal.record_attempt({**attempt, "error": "half \ud800 of a character"}),
            self.store.journal.record_attempt({**attempt, "bytes_done": 1 << 63}),
            self.store.journal.record_attempt({**attempt, "kind": None}),
        ]
        others = [self.store.journal.record_job(job(number)) for number in range(1, 9)]
        self.pools.database.release()
        for each in (first, *others):
            self.successResultOf(each)
        for each in bad:
            self.assertIn("cannot write to", str(self.failureResultOf(each, StoreError).value))
        self.assertEqual(len(self.successResultOf(self.reopen().journal.jobs(99))), 9)

    def test_full_for_one(self) -> None:
        """
        A record that does not fit fails alone, although it ends the transaction
        of the others.
        """
        database = self.store.journal._database
        assert database is not None
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages + 4}")
        self.pools.database.held = True
        first = self.store.journal.record_job(job(0))
        before = self.store.journal.record_job(job(1))
        large = self.store.journal.record_job({**job(2), "more": "x" * 100_000})
        after = self.store.journal.record_job(job(3))
        self.pools.database.release()
        for each in (first, before, after):
            self.successResultOf(each)
        self.failureResultOf(large, DiskFull)
        self.assertEqual(self.successResultOf(self.store.journal.jobs(9)), [job(3), job(1), job(0)])

    def test_pruned(self) -> None:
        """
        The oldest records go while the daemon runs, but for jobs that have not
        ended.
        """
        for table in ("JOBS", "ATTEMPTS", "HOLDERS", "KEYS", "HOSTS"):
            self.patch(journal, f"KEPT_{table}", 2)
        attempt = {"transfer": "t", "kind": "download", "attempt": 1}
        app = Repository("r.example", "app")
        running = job(0)
        self.successResultOf(self.store.journal.record_job(running))
        for number in range(1, 30):
            self.successResultOf(self.store.journal.record_job(job(number, "done")))
            self.result(self.store.journal.record_attempt({**attempt, "bytes_done": number}))
            self.result(self.store.journal.record_holder(app, Digest.of(b"%d" % number)))
            key = IdempotencyKey("ci", f"k{number}", b"", "job", 1.0)
            self.successResultOf(self.store.journal.record_key(key))
            self.successResultOf(self.store.journal.record_host(HostRecord(f"h{number}", "", 1.0, {})))
        self.assertEqual(
            self.successResultOf(self.store.journal.jobs(9)), [job(29, "done"), job(28, "done"), running]
        )
        self.assertEqual(self.query("SELECT bytes_done FROM attempt"), [(28,), (29,)])
        self.assertEqual(self.query("SELECT count(*) FROM holder"), [(2,)])
        self.assertEqual(self.query("SELECT key FROM idempotency_key"), [("k28",), ("k29",)])
        self.assertEqual(self.query("SELECT host FROM host"), [("h28",), ("h29",)])

    def test_pruned_in_steps(self) -> None:
        """
        Where there are many records too many, each transaction removes some.
        """
        attempt = {"transfer": "t", "kind": "download", "attempt": 1}
        self.pools.database.held = True
        waiting = [self.store.journal.record_attempt(attempt) for _ in range(200)]
        self.pools.database.release()
        self.reactor.advance(LAG)
        for each in waiting:
            self.successResultOf(each)
        self.patch(journal, "KEPT_ATTEMPTS", 1)
        left = [200]
        while left[-1] > 1:
            self.result(self.store.journal.record_attempt(attempt))
            left += [self.query("SELECT count(*) FROM attempt")[0][0]]
            self.assertLess(left[-2] - left[-1], 20)
        self.assertGreater(len(left), 5)

    def test_older_version(self) -> None:
        """
        Jobs in a database of an earlier version are kept.
        """
        self.close(self.store)
        os.unlink(self.file)
        database = sqlite3.connect(self.file)
        for script in MIGRATIONS[:3]:
            database.executescript(script)
        for number in (2, 1):
            values = (f"job-{number}", number, job(number)["created"], "running", json.dumps(job(number)))
            database.execute("INSERT INTO job VALUES (?, ?, ?, ?, 0, ?)", values)
        database.execute("PRAGMA user_version = 3")
        database.commit()
        database.close()
        self.store = self.open()
        self.assertEqual(self.successResultOf(self.store.journal.jobs(9)), [job(2), job(1)])
        unfinished = self.successResultOf(self.store.journal.interrupted())
        self.assertEqual([each.record for each in unfinished], [job(1), job(2)])

    def test_hosts_in_an_older_version(self) -> None:
        """
        A database without records of hosts gets their table and a salt, and
        loses nothing.
        """
        self.close(self.store)
        os.unlink(self.file)
        database = sqlite3.connect(self.file)
        database.executescript("".join(MIGRATIONS[:8]))
        values = ("job-1", job(1)["created"], "running", json.dumps(job(1)))
        database.execute("INSERT INTO job (id, created, state, run, record) VALUES (?, ?, ?, 0, ?)", values)
        database.execute("PRAGMA user_version = 8")
        database.commit()
        database.close()
        self.store = self.open()
        record = HostRecord("r.example", "", 1.0, {"failures": 1})
        self.successResultOf(self.store.journal.record_host(record))
        self.assertEqual(self.successResultOf(self.store.journal.hosts()), [record])
        self.assertEqual(self.successResultOf(self.store.journal.jobs(9)), [job(1)])
        self.assertEqual(len(self.store.journal.salt), 32)

    def test_salt_is_kept(self) -> None:
        """
        Each journal has another salt, and keeps it over restarts.
        """
        salt = self.store.journal.salt
        self.assertEqual(self.reopen().journal.salt, salt)
        self.close(self.store)
        os.unlink(self.file)
        self.store = self.open()
        self.assertNotEqual(self.store.journal.salt, salt)

    def refused(self) -> str:
        """
        Open the store and return the error.
        """
        return str(self.assertRaises(StoreError, self.make().open))

    def test_damaged(self) -> None:
        """
        A damaged database stops the start with a sentence that names a remedy,
        and the remedy works.
        """
        self.close(self.store)
        with open(self.file, "wb") as file:
            file.write(b"no database" * 1000)
        self.assertIn("xferd.db is damaged; move it away", self.refused())
        os.rename(self.file, self.file + ".damaged")
        self.store = self.open()

    def test_newer(self) -> None:
        """
        The same for a database of a later version.
        """
        self.close(self.store)
        database = sqlite3.connect(self.file)
        database.execute("PRAGMA user_version = 99")
        database.close()
        self.assertIn("made by a newer xferd", self.refused())

    def test_no_file(self) -> None:
        """
        The same for a path that is not a file.
        """
        self.close(self.store)
        os.unlink(self.file)
        os.mkdir(self.file)
        self.assertIn("cannot open", self.refused())

    def test_full(self) -> None:
        """
        A full disk is reported as such.
        """
        database = self.store.journal._database
        assert database is not None
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        reason = self.failureResultOf(
            self.store.journal.record_job({**job(1), "more": "x" * 100_000}), DiskFull
        )
        self.assertIn("no space is left", str(reason.value))
        self.assertEqual(self.successResultOf(self.store.journal.jobs(1)), [])
