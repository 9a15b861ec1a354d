"""
Tests for L{xferd.ctl.commands.export_journal}.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

from tests.ctl.fake_daemon import Answer, DaemonTestCase
from tests.ctl.run import Outcome, run
from tests.store.disk.test_file_system import Recorder


class ExportJournalTests(DaemonTestCase):
    """
    A daemon that writes to its journal.
    """

    def setUp(self) -> None:
        """
        Open a database as the daemon does.
        """
        super().setUp()
        self.data = os.path.abspath(self.mktemp())
        os.makedirs(self.data)
        self.target = os.path.abspath(self.mktemp())
        self.database = sqlite3.connect(os.path.join(self.data, "xferd.db"), isolation_level=None)
        self.addCleanup(self.database.close)
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("CREATE TABLE jobs (id)")
        self.database.execute("INSERT INTO jobs VALUES (1)")

    def export(self, path: str | None = None) -> Outcome:
        """
        Export the journal.
        """
        self.fake.on("GET", "/status", Answer({"disk": {"path": self.data}}))
        return run(["--host", self.fake.url, "export-journal", self.target if path is None else path])

    def test_copied(self) -> None:
        """
        The copy has what was committed, also what is only in the log, and nothing that is
        not; it is one file that only its owner may read.
        """
        self.database.execute("BEGIN")
        self.database.execute("INSERT INTO jobs VALUES (2)")
        before = sorted(os.listdir(self.data))
        outcome = self.export()
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.database.execute("COMMIT")
        with closing(sqlite3.connect(self.target)) as copy:
            self.assertEqual(list(copy.execute("SELECT id FROM jobs")), [(1,)])
        self.assertEqual(os.stat(self.target).st_mode & 0o777, 0o600)
        self.assertEqual(sorted(os.listdir(self.data)), before)
        folder, name = os.path.split(self.target)
        self.assertEqual([each for each in os.listdir(folder) if name in each], [name])

    def test_flushed(self) -> None:
        """
        The copy and its name are on the disk when the command ends.
        """
        recorder = Recorder(self, "fsync", "rename")
        self.assertEqual(self.export().status, 0)
        self.assertEqual(recorder.calls, ["fsync file", "rename", "fsync directory"])

    def test_refused(self) -> None:
        """
        A journal that is not there, and a directory that cannot be written to, are errors
        that leave no file.
        """
        outcome = self.export(os.path.join(self.data, "none", "copy"))
        self.assertEqual(outcome.status, 1)
        self.assertIn("No such file", outcome.err)
        with open(os.path.join(self.data, "other"), "wb") as file:
            file.write(b"no database" * 100)
        self.database.close()
        os.rename(os.path.join(self.data, "other"), os.path.join(self.data, "xferd.db"))
        outcome = self.export()
        self.assertEqual(outcome.status, 1)
        self.assertIn("not a database", outcome.err)
        self.assertFalse(os.path.exists(self.target))
