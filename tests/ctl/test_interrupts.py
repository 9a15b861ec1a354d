# -*- test-case-name: tests.ctl.test_interrupts -*-
"""
Tests for L{xferd.ctl.interrupts}.
"""

from __future__ import annotations

import os
import signal

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.interrupts import Interrupted, Interrupts

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InterruptsTests(SynchronousTestCase):
    """
    Tests for L{Interrupts}.
    """

    def setUp(self) -> None:
        """
        Have the signals as a program in the foreground has them, and put them
        back in the end.
        """
        for number in SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))
            signal.signal(number, signal.SIG_DFL)
        self.interrupts = Interrupts()

    def test_at_once(self) -> None:
        """
        Each of the signals interrupts.
        """
        self.interrupts.install()
        for number in SIGNALS:
            self.assertRaises(Interrupted, os.kill, os.getpid(), number)

    def test_ignored(self) -> None:
        """
        A signal that the caller has ignored stays ignored.
        """
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self.interrupts.install()
        for number in SIGNALS:
            self.assertIs(signal.getsignal(number), signal.SIG_IGN)

    def test_held(self) -> None:
        """
        A signal that comes while it is held comes at the end of the block,
        once.
        """
        steps = []

        def work() -> None:
            with self.interrupts.held():
                self.interrupts.arrived()
                steps.append("done")

        self.assertRaises(Interrupted, work)
        self.assertEqual(steps, ["done"])
        with self.interrupts.held():
            steps.append("again")
        self.assertEqual(steps, ["done", "again"])

    def test_impatient(self) -> None:
        """
        The second signal is not held.
        """

        def work() -> None:
            with self.interrupts.held():
                self.interrupts.arrived()
                self.assertRaises(Interrupted, self.interrupts.arrived)

        self.assertRaises(Interrupted, work)

    def test_failure_inside(self) -> None:
        """
        What fails while a signal is held fails as it is.
        """

        def work() -> None:
            with self.interrupts.held():
                raise ValueError("x")

        self.assertRaises(ValueError, work)
