"""
Tests for L{tests.forks}.
"""

from __future__ import annotations

import os
import signal

from twisted.trial.unittest import SynchronousTestCase

from tests.forks import bounded, fork


class BoundedTests(SynchronousTestCase):
    """
    Tests for L{bounded}.
    """

    def test_hangs(self) -> None:
        """
        A process that does not end is aborted.
        """
        pid = fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where its stack goes
            signal.pause()
        with bounded(lambda: [pid], 0.01):
            _, status = os.waitpid(pid, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), -signal.SIGABRT)

    def test_ends(self) -> None:
        """
        A process that ends in time is left alone.
        """
        pid = fork()
        if pid == 0:
            os._exit(3)
        with bounded(lambda: [pid]):
            _, status = os.waitpid(pid, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), 3)
