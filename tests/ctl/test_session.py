# -*- test-case-name: tests.ctl.test_session -*-
"""
Tests for L{xferd.ctl.session}.
"""

from __future__ import annotations

import os
import pty
from datetime import UTC, datetime

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.session import Printer


class PrinterTests(SynchronousTestCase):
    """
    Tests for L{Printer} on a terminal.
    """

    def test_width(self) -> None:
        """
        A table fits the terminal's width, if it has one.
        """
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        with open(theirs, "w") as terminal:
            self.assertIsNone(Printer(terminal, datetime.now(UTC), as_json=False).width)
            os.system(f"stty cols 33 < {os.ttyname(theirs)}")
            printer = Printer(terminal, datetime.now(UTC), as_json=False)
            self.assertEqual(printer.width, 33)
            printer.rows([], ("A", "B"), [("x" * 60, "y" * 60)])
            terminal.flush()
            shown = b""
            while shown.count(b"\n") < 2:
                shown += os.read(ours, 4096)
        lines = shown.decode().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertEqual(len(lines[1]), 33)
