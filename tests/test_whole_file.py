"""
Tests for L{xferd.whole_file}.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.whole_file import write_whole


class WholeFileTests(SynchronousTestCase):
    """
    A file that is replaced.
    """

    def setUp(self) -> None:
        """
        Make a directory.
        """
        self.place = Path(self.mktemp())
        self.place.mkdir()

    def test_replaced(self) -> None:
        """
        A file is made, and replaced by another one that only its owner may read: a reader of
        the old one is not disturbed.  Nothing else stays in the directory.
        """
        path = self.place / "file"
        write_whole(str(path), b"old")
        path.chmod(0o644)
        with path.open("rb") as reader:
            write_whole(str(path), b"new")
            self.assertEqual(reader.read(), b"old")
        self.assertEqual(path.read_bytes(), b"new")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(os.listdir(self.place), ["file"])

    def test_relative(self) -> None:
        """
        A name without a directory is one in the present directory.
        """
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.place)
        write_whole("file", b"here")
        self.assertEqual(Path("file").read_bytes(), b"here")

    def test_refused(self) -> None:
        """
        If the name cannot be set, the error is raised, and no temporary file stays.
        """
        path = self.place / "file"
        path.mkdir()
        self.assertRaises(OSError, write_whole, str(path), b"new")
        self.assertEqual(os.listdir(self.place), ["file"])
