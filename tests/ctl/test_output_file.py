"""
Tests for L{xferd.ctl.output_file}.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.interrupts import CommandInterrupted, Interrupts
from xferd.ctl.output_file import output_file


class OutputFileTests(SynchronousTestCase):
    """
    A file that a command writes.
    """

    def setUp(self) -> None:
        """
        Make a directory with a file.
        """
        self.place = Path(self.mktemp())
        self.place.mkdir()
        self.path = self.place / "out"
        self.path.write_bytes(b"old")
        self.interrupts = Interrupts()

    def test_written(self) -> None:
        """
        The file has its old content until the end of the block.
        """
        with output_file(str(self.path), self.interrupts) as file:
            file.write(b"new")
            self.assertEqual(self.path.read_bytes(), b"old")
        self.assertEqual(self.path.read_bytes(), b"new")
        self.assertEqual(os.listdir(self.place), ["out"])

    def test_relative(self) -> None:
        """
        A name without a directory is one in the present directory.
        """
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.place)
        with output_file("other", self.interrupts) as file:
            file.write(b"new")
        self.assertEqual(sorted(os.listdir()), ["other", "out"])

    def test_interrupted(self) -> None:
        """
        A block that is interrupted leaves the old file and nothing else.
        """

        def write() -> None:
            with output_file(str(self.path), self.interrupts) as file:
                file.write(b"new")
                self.interrupts.arrived(signal.SIGINT)

        self.assertRaises(CommandInterrupted, write)
        self.assertEqual((os.listdir(self.place), self.path.read_bytes()), (["out"], b"old"))

    def test_not_named(self) -> None:
        """
        If the name cannot be set, no temporary file stays.
        """
        directory = self.place / "directory"
        directory.mkdir()

        def write() -> None:
            with output_file(str(directory), self.interrupts) as file:
                file.write(b"new")

        self.assertRaises(OSError, write)
        self.assertEqual(sorted(os.listdir(self.place)), ["directory", "out"])
