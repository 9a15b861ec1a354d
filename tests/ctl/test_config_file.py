"""
Tests for L{xferd.ctl.config_file}.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.config_file import ConfigFile, show_files
from xferd.ctl.errors import ClientError

WHOLE = ConfigFile("/etc/a/whole.conf", "a = 1\n", note="For a.\nRestart it.")
LINES = ConfigFile("/etc/a/lines.conf", "b = 2\n", is_whole=False)


class ShowTests(SynchronousTestCase):
    """
    Printing and writing files.
    """

    def test_printed(self) -> None:
        """
        Path and note are comments; lines for a file with others say so.
        """
        self.assertEqual(
            show_files([WHOLE, LINES], None),
            "# /etc/a/whole.conf\n# For a.\n# Restart it.\na = 1\n\n"
            "# /etc/a/lines.conf, beside its other settings:\nb = 2\n",
        )

    def test_written(self) -> None:
        """
        Whole files are written once, without their notes; lines are printed.
        """
        directory = self.mktemp()
        path = Path(directory, "etc/a/whole.conf")
        lines = "# /etc/a/lines.conf, beside its other settings:\nb = 2\n"
        self.assertEqual(show_files([WHOLE, LINES], directory), f"wrote {path}\n{lines}")
        self.assertEqual(path.read_text(), "a = 1\n")
        self.assertEqual(show_files([WHOLE, LINES], directory), lines)

    def test_not_replaced(self) -> None:
        """
        A file with other content stays, and then none is written.
        """
        directory = self.mktemp()
        there = Path(directory, "etc/a/whole.conf")
        there.parent.mkdir(parents=True)
        there.write_text("mine")
        other = WHOLE._replace(path="/etc/a/other.conf")
        error = self.assertRaises(ClientError, show_files, [other, WHOLE], directory)
        self.assertIn(f"{there} exists with other content", str(error))
        self.assertEqual([path.name for path in there.parent.iterdir()], ["whole.conf"])
