"""
Tests for L{xferd.engines.containers_storage.record_lock}.
"""

from __future__ import annotations

import os
import subprocess
import sys
from threading import Event

from twisted.trial.unittest import SynchronousTestCase

from xferd.engines.containers_storage.record_lock import locked, mark_changed
from xferd.errors import StoreError

_HOLDER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.lockf(fd, fcntl.LOCK_EX if sys.argv[2] == "exclusive" else fcntl.LOCK_SH)
print("held", flush=True)
sys.stdin.read()
"""
"""A program that holds a POSIX record lock, as engines do, until its input ends."""


class RecordLockTests(SynchronousTestCase):
    """
    Locks that engines respect.
    """

    def setUp(self) -> None:
        """
        Choose a lock file.
        """
        self.path = os.path.abspath(self.mktemp())
        self.stop = Event()

    def engine(self, kind: str) -> subprocess.Popen[bytes]:
        """
        Start a process that holds the lock.
        """
        argv = [sys.executable, "-c", _HOLDER, self.path, kind]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(process.communicate)
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), b"held\n")
        return process

    def hold(self, exclusive: bool) -> None:
        """
        Acquire the lock and release it, after a short wait at most.
        """
        with locked(self.path, exclusive=exclusive, stop=self.stop, patience=0.05):
            pass

    def test_excluded(self) -> None:
        """
        A lock that an engine holds is waited for, for a while, and then named.
        """
        self.engine("exclusive")
        for exclusive in (True, False):
            error = self.assertRaises(StoreError, self.hold, exclusive)
            self.assertIn(self.path, str(error))

    def test_shared(self) -> None:
        """
        Readers do not exclude each other; they exclude a writer.
        """
        self.engine("shared")
        self.hold(False)
        self.assertRaises(StoreError, self.hold, True)

    def test_released(self) -> None:
        """
        The wait ends when the engine releases the lock.
        """
        process = self.engine("exclusive")
        process.kill()
        with locked(self.path, exclusive=True, stop=self.stop, patience=60):
            pass

    def test_stopped(self) -> None:
        """
        The wait can be ended.
        """
        self.engine("exclusive")
        self.stop.set()
        error = self.assertRaises(StoreError, self.hold, True)
        self.assertIn("was ended", str(error))

    def test_excludes(self) -> None:
        """
        An engine cannot acquire a lock that is held, also after another descriptor of the
        file was closed.
        """
        with locked(self.path, exclusive=True, stop=self.stop):
            os.close(os.open(self.path, os.O_RDONLY))
            self.assertRaises(StoreError, self.hold, False)
            attempt = "import fcntl, sys; fcntl.lockf(open(sys.argv[1]), fcntl.LOCK_SH | fcntl.LOCK_NB)"
            argv = [sys.executable, "-c", attempt, self.path]
            self.assertNotEqual(subprocess.run(argv, stderr=subprocess.DEVNULL, check=False).returncode, 0)

    def test_mode(self) -> None:
        """
        A writer makes the file, which every user may read; a reader does not make it.
        """
        self.assertRaises(FileNotFoundError, self.hold, False)
        mask = os.umask(0o022)
        self.addCleanup(os.umask, mask)
        self.hold(True)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o644)

    def test_mark(self) -> None:
        """
        A mark changes the first 64 bytes each time.
        """
        marks = set()
        for _ in range(2):
            with locked(self.path, exclusive=True, stop=self.stop) as lock:
                mark_changed(lock)
            with open(self.path, "rb") as file:
                marks.add(file.read())
        self.assertEqual([len(mark) for mark in marks], [64, 64])
