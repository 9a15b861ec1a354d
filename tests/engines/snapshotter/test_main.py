"""
Tests for L{xferd.engines.snapshotter.main} and C{command}.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from xferd.engines.snapshotter.command import command, is_running, lock_of_snapshotter, log_of_snapshotter
from xferd.locks import FileLock

LIMIT = 60
"""Seconds for what takes one."""


class MainTests(SynchronousTestCase):
    """
    The command line, in a directory of its own.
    """

    def setUp(self) -> None:
        """
        Make the directory.
        """
        self.data = os.path.abspath(self.mktemp())
        os.makedirs(self.data)

    def run_it(self, *options: str) -> tuple[int, str]:
        """
        Run the command; returns its status and stderr.
        """
        argv = [*self.argv("--stop")[:-3], *options, "--data-dir", self.data]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, env={}, check=False)
        return done.returncode, done.stderr

    def argv(self, option: str) -> Sequence[str]:
        """
        The command line.
        """
        return command(option, self.data)

    def log(self) -> str:
        """
        The log of the process.
        """
        with open(log_of_snapshotter(self.data), encoding="utf-8") as file:
            return file.read()

    def until_running(self) -> None:
        """
        Wait for the process.
        """
        end = time.monotonic() + LIMIT
        while not is_running(self.data) or f"serves {self.data}" not in self.log():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)

    def test_detached(self) -> None:
        """
        A process in the background is one for the directory, has a log, and ends when it is
        told to.
        """
        self.assertFalse(os.path.exists(lock_of_snapshotter(self.data)))
        self.assertEqual(self.run_it("--detach"), (0, ""))
        self.until_running()
        status, errors = self.run_it()
        self.assertEqual(status, 1)
        self.assertIn("another xferd-snapshotter (process ", errors)
        self.assertEqual(self.run_it("--detach"), (0, ""))
        self.assertEqual(self.run_it("--stop"), (0, ""))
        self.assertFalse(is_running(self.data))
        self.assertNotIn("Traceback", self.log())
        self.assertEqual(self.run_it("--stop"), (0, ""))

    def test_in_the_foreground(self) -> None:
        """
        In the foreground it logs to stderr, and ends by SIGTERM.
        """
        argv = [*self.argv("--stop")[:-3], "--data-dir", self.data]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env={}) as process:
            assert process.stderr is not None
            while "serves" not in process.stderr.readline():
                self.assertIsNone(process.poll())
            process.terminate()
            self.assertIn("stopping", process.communicate(timeout=LIMIT)[1])

    def test_cannot_be_ended(self) -> None:
        """
        A process of another machine is named.
        """
        self.run_it("--stop")
        os.makedirs(os.path.dirname(lock_of_snapshotter(self.data)))
        lock = FileLock(lock_of_snapshotter(self.data))
        lock.acquire()
        self.addCleanup(lock.release)
        with open(lock_of_snapshotter(self.data), "w", encoding="ascii") as file:
            file.write("1 elsewhere\n")
        status, errors = self.run_it("--stop")
        self.assertEqual(status, 1)
        self.assertIn("process 1 on elsewhere uses", errors)

    def test_light(self) -> None:
        """
        The process has none of the daemon's registry client, web and unpacker.
        """
        code = (
            "import sys; import xferd.engines.snapshotter.main, xferd.engines.snapshotter.snapshot_server; "
            "print(*sorted(sys.modules))"
        )
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        modules = found.stdout.split()
        heavy = (
            "treq",
            "klein",
            "werkzeug",
            "xferd.registry",
            "xferd.web",
            "xferd.unpack",
            "xferd.v2",
        )
        self.assertEqual([name for name in modules if name.startswith(heavy)], [])
