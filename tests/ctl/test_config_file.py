"""
Tests for L{xferd.ctl.config_file}.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.config_file import ConfigFile, show_files, without_present
from xferd.ctl.errors import ClientError

WHOLE = ConfigFile("/etc/a/whole.conf", "a = 1\n", note="For a.\nRestart it.")
LINES = ConfigFile("/etc/a/lines.conf", "b = 2\n", is_whole=False)


class PresentTests(SynchronousTestCase):
    """
    Lines for a file that may have them.
    """

    def test_there(self) -> None:
        """
        Lines that the file has are left out: tables with the same settings among others, lists with
        more elements, JSON, and other text.
        """
        for present, text in (
            ("b = 2\n", "b = 2\n"),
            ("c = 1\n[x.y]\nb=2\nd=3\n", "[x]\n  [x.y]\n  b = 2\n"),
            ('a = ["/other", "/v"]\n', 'a = ["/v"]\n'),
            ("[[u]]\nn = 1\n[[u]]\nn = 2\nm = 3\n", "[[u]]\nn = 2\n"),
            ('{"s": "x", "t": 1}', '{\n  "s": "x"\n}\n'),
            ("kind: Y\nsnapshotter: xferd\n", "snapshotter: xferd\n"),
        ):
            left = without_present(LINES._replace(text=text), present)
            self.assertEqual((left.text, left.note), ("", "It has these lines already."), text)
            self.assertIn("# It has these lines already.\n", show_files([left], None))

    def test_missing(self) -> None:
        """
        If one of them differs or the file cannot be read, all are shown.
        """
        for present in (None, "", "b = 3\n", "[t]\nb = 2\n", "b = [2]\n", "= 1\n", "[b]\n"):
            self.assertEqual(without_present(LINES, present), LINES)
        self.assertEqual(without_present(LINES._replace(text='{"b": 2}\n'), "b = 2\n").text, '{"b": 2}\n')

    def test_whole(self) -> None:
        """
        A whole file is shown in any case.
        """
        self.assertEqual(without_present(WHOLE, WHOLE.text), WHOLE)


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
