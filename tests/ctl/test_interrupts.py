# -*- test-case-name: tests.ctl.test_interrupts -*-
"""
Tests for L{xferd.ctl.interrupts}.
"""

from __future__ import annotations

import os
import signal

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.interrupts import CommandInterrupted, Interrupts

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InterruptsTests(SynchronousTestCase):
    """
    Tests for L{Interrupts}.
    """

    def setUp(self) -> None:
        """
        Set the signals' default handlers, and restore the previous ones at the end.
        """
        for number in SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))
            signal.signal(number, signal.SIG_DFL)
        self.interrupts = Interrupts()

    def test_at_once(self) -> None:
        """
        Each signal interrupts at once.
        """
        self.interrupts.install()
        for number in SIGNALS:
            self.assertRaises(CommandInterrupted, os.kill, os.getpid(), number)

    def test_ignored(self) -> None:
        """
        A signal that the parent process ignores stays ignored.
        """
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self.interrupts.install()
        for number in SIGNALS:
            self.assertIs(signal.getsignal(number), signal.SIG_IGN)

    def test_held(self) -> None:
        """
        A signal in a held block is raised at its end, once.
        """
        steps = []

        def work() -> None:
            with self.interrupts.held():
                self.interrupts.arrived()
                steps.append("done")

        self.assertRaises(CommandInterrupted, work)
        self.assertEqual(steps, ["done"])
        with self.interrupts.held():
            steps.append("again")
        self.assertEqual(steps, ["done", "again"])

    def test_impatient(self) -> None:
        """
        The second signal is raised at once.
        """

        def work() -> None:
            with self.interrupts.held():
                self.interrupts.arrived()
                self.assertRaises(CommandInterrupted, self.interrupts.arrived)

        self.assertRaises(CommandInterrupted, work)

    def test_failure_inside(self) -> None:
        """
        An exception in a held block is not replaced.
        """

        def work() -> None:
            with self.interrupts.held():
                raise ValueError("x")

        self.assertRaises(ValueError, work)
