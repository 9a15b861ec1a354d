"""
Tests for L{xferd.locks}.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.locks import FileLock, Held, is_held


class FileLockTests(SynchronousTestCase):
    """
    L{FileLock}.
    """

    def setUp(self) -> None:
        """
        Make a path, and a lock on it.
        """
        self.path = os.path.abspath(self.mktemp())
        self.lock = FileLock(self.path)
        self.addCleanup(self.lock.release)

    def test_one_holder(self) -> None:
        """
        A second holder is refused; the error names the first one.
        """
        self.lock.acquire()
        error = self.assertRaises(Held, FileLock(self.path).acquire)
        self.assertEqual(error.holder, f" (process {os.getpid()})")
        self.assertIn(self.path, str(error))

    def test_released(self) -> None:
        """
        A lock that was released can be acquired again; releasing is idempotent.
        """
        self.lock.acquire()
        self.lock.release()
        self.lock.release()
        FileLock(self.path).acquire()

    def test_content_decides_nothing(self) -> None:
        """
        A file with the ID of a living process, or other content, is not a lock.
        """
        for content in ("1\n", f"{os.getpid()}\n", "1 elsewhere\n", "what\n", ""):
            Path(self.path).write_text(content)
            self.lock.acquire()
            self.lock.release()

    def test_link_of_twisted(self) -> None:
        """
        A lock of Twisted, a link to the ID of a living process, is replaced.
        """
        os.symlink("1", self.path)
        self.lock.acquire()
        self.assertFalse(os.path.islink(self.path))
        self.assertFalse(os.path.exists(os.path.join(os.path.dirname(self.path), "1")))

    def test_holder_elsewhere(self) -> None:
        """
        The error names the host of a holder on another host or in a container; without
        content, it names no holder.
        """
        self.lock.acquire()
        for content, holder in (
            ("7 c0ffee\n", " (process 7 on c0ffee)"),
            ("7\n", " (process 7)"),
            ("\n", ""),
            ("what", ""),
        ):
            Path(self.path).write_text(content)
            self.assertEqual(self.assertRaises(Held, FileLock(self.path).acquire).holder, holder)

    def test_ends_with_the_process(self) -> None:
        """
        A holder that was killed, and is a zombie, holds no lock.
        """
        script = """if True:
            import sys
            from xferd.locks import FileLock
            lock = FileLock(sys.argv[1])
            lock.acquire()
            print(flush=True)
            sys.stdin.read()
        """
        with subprocess.Popen(
            [sys.executable, "-c", script, self.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            holder.kill()
            # Wait for its end without reaping it.
            os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
            self.assertIn(f"{holder.pid} ", Path(self.path).read_text())
            self.lock.acquire()

    def test_checked(self) -> None:
        """
        A check whether a lock is held keeps no process from acquiring it, and leaves the ID of
        its holder in the file.
        """
        self.assertFalse(is_held(self.path))
        script = """if True:
            import sys
            from xferd.locks import is_held
            while True:
                if is_held(sys.argv[1]):
                    print(flush=True)
        """
        with subprocess.Popen(
            [sys.executable, "-c", script, self.path],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as checking:
            assert checking.stdout is not None
            try:
                for _ in range(500):
                    self.lock.acquire()
                    # The other process checks all the time.
                    checking.stdout.readline()
                    self.assertTrue(is_held(self.path))
                    self.assertEqual(Path(self.path).read_text().split()[0], str(os.getpid()))
                    self.lock.release()
            finally:
                checking.kill()

    def test_not_inherited(self) -> None:
        """
        A program that the holder runs does not hold the lock.
        """
        self.lock.acquire()
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False):
            self.lock.release()
            FileLock(self.path).acquire()

    def test_refused(self) -> None:
        """
        If the file cannot be created, the error is the system's, and no descriptor stays
        open.
        """
        self.assertRaises(OSError, FileLock(os.path.join(self.path, "no")).acquire)
