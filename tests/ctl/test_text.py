# -*- test-case-name: tests.ctl.test_text -*-
"""
Tests for L{xferd.ctl.text}.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.text import ago, clean, clock, cut, json_line, portion, short, size, span, table

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


class CleanTests(SynchronousTestCase):
    """
    Tests for L{clean} and L{json_line}.
    """

    def test_harmless(self) -> None:
        """
        Printable text of any script is unchanged.
        """
        self.assertEqual(clean("größe 画像 v1"), "größe 画像 v1")

    def test_harmful(self) -> None:
        """
        Escape sequences, line breaks, C1 controls, direction marks and lone surrogates are
        escaped.
        """
        self.assertEqual(clean("a\x1b[2J\r\n\x9b\u202e\ud800"), r"a\x1b[2J\r\n\x9b\u202e\ud800")

    def test_none(self) -> None:
        """
        L{None} is empty.
        """
        self.assertEqual(clean(None), "")

    @settings(max_examples=50)
    @given(st.text())
    def test_any(self, text: str) -> None:
        """
        The result can always be printed and encoded.
        """
        self.assertTrue(clean(text).isprintable())
        self.assertTrue(json_line({"key": text}).isprintable())
        clean(text).encode()


class NumberTests(SynchronousTestCase):
    """
    Tests for sizes and times.
    """

    def test_size(self) -> None:
        """
        Sizes have decimal units and at most three digits.
        """
        said = {
            0: "0 B",
            999: "999 B",
            1000: "1.0 kB",
            41_200_000: "41.2 MB",
            99_940_000: "99.9 MB",
            99_960_000: "100 MB",
            999_499_999: "999 MB",
            999_500_000: "1.0 GB",
            5 * 10**21: "5000 EB",
        }
        self.assertEqual({count: size(count) for count in said}, said)

    def test_portion(self) -> None:
        """
        A portion has its total if known.
        """
        self.assertEqual(portion(1500, 3000), "1.5 kB of 3.0 kB")
        self.assertEqual((portion(1500, None), portion(1500, 0)), ("1.5 kB", "1.5 kB"))

    def test_span(self) -> None:
        """
        A duration is in its largest unit, rounded down.
        """
        said = {
            0: "0 seconds",
            1.9: "1 second",
            59: "59 seconds",
            60: "1 minute",
            7199: "1 hour",
            86400: "1 day",
            8 * 86400: "1 week",
            40 * 86400: "1 month",
            900 * 86400: "2 years",
            -5: "0 seconds",
        }
        self.assertEqual({seconds: span(seconds) for seconds in said}, said)

    def test_clock(self) -> None:
        """
        A short duration is in minutes and seconds.
        """
        self.assertEqual([clock(n) for n in (7.9, 750, 10921)], ["0:07", "12:30", "3:02:01"])

    def test_ago(self) -> None:
        """
        Times in any form of RFC 3339 are relative to now.
        """
        moment = NOW - timedelta(hours=3)
        for text in (
            moment.isoformat(),
            "2026-01-02T09:00:00Z",
            "2026-01-02T09:00:00.5Z",
            "2026-01-02T09:00:00",
        ):
            self.assertIn(ago(text, NOW), ("3 hours ago", "2 hours ago"))

    def test_no_time(self) -> None:
        """
        Text that is not a time is escaped.
        """
        self.assertEqual(ago("soon\x1b", NOW), r"soon\x1b")


class TableTests(SynchronousTestCase):
    """
    Tests for L{table} and what fills it.
    """

    def test_short(self) -> None:
        """
        A short digest has twelve digits; a missing one is empty.
        """
        self.assertEqual(short("sha256:" + "ab" * 32), "abababababab")
        self.assertEqual(short(None), "")

    def test_cut(self) -> None:
        """
        A cut text ends with an ellipsis.
        """
        self.assertEqual((cut("abcdef", 6), cut("abcdef", 4)), ("abcdef", "abc…"))

    def test_unlimited(self) -> None:
        """
        Without a width nothing is cut; numbers are aligned right, and no line ends with
        spaces.
        """
        lines = table(("NAME", "SIZE", "WHY"), [("x" * 90, "1 B", ""), ("y", "10 kB", "z")], None, ("SIZE",))
        self.assertEqual(lines[0], "NAME".ljust(90) + "   SIZE  WHY")
        self.assertEqual(lines[1], "x" * 90 + "    1 B")
        self.assertEqual(lines[2], "y".ljust(90) + "  10 kB  z")

    def test_empty(self) -> None:
        """
        Without rows the headings are shown.
        """
        self.assertEqual(table(("A", "B"), [], 80), ["A  B"])

    def test_widest_gives(self) -> None:
        """
        The widest columns of a table are cut first.
        """
        lines = table(("NAME", "ID"), [("n" * 50, "12345678")], 40)
        self.assertEqual(lines[1], "n" * 29 + "…  12345678")

    @settings(max_examples=50)
    @given(st.integers(1, 200), st.lists(st.tuples(st.text("ab"), st.text("cd"), st.text("ef")), max_size=4))
    def test_fits(self, width: int, rows: list[tuple[str, str, str]]) -> None:
        """
        No line is wider than the terminal, however narrow.
        """
        for line in table(("ONE", "TWO", "THREE"), rows, width):
            self.assertLessEqual(len(line), width)
