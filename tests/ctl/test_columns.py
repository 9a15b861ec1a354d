# -*- test-case-name: tests.ctl.test_columns -*-
"""
Tests for L{xferd.ctl.columns}.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.columns import Column, lay_out, wrapped
from xferd.ctl.text import cut, cut_front, short

Item = Sequence[str]

NAME = Column[Item]("NAME", itemgetter(0), crop=cut_front)
SIZE = Column[Item]("SIZE", itemgetter(1), right=True)
WHY = Column[Item]("WHY", itemgetter(2), reason=True)


def lines(
    columns: Sequence[Column[Item]], items: Sequence[Item], width: int | None, **more: bool
) -> list[str]:
    """
    A list as lines.
    """
    head, rows = lay_out(columns, items, width, **more)
    return [head, *(line for row in rows for line in row)]


class LayOutTests(SynchronousTestCase):
    """
    Tests for L{lay_out}.
    """

    def test_unlimited(self) -> None:
        """
        Without a width nothing is cut or wrapped; numbers are aligned right, and no line ends
        with spaces.
        """
        found = lines((NAME, SIZE, WHY), [("x" * 90, "1 B", ""), ("y", "10 kB", "z " * 90 + "z")], None)
        self.assertEqual(found[0], "NAME".ljust(90) + "   SIZE  WHY")
        self.assertEqual(found[1], "x" * 90 + "    1 B")
        self.assertEqual(found[2], "y".ljust(90) + "  10 kB  " + "z " * 90 + "z")

    def test_empty(self) -> None:
        """
        Without items the headings are shown.
        """
        self.assertEqual(lines((NAME, SIZE), [], 80), ["NAME  SIZE"])

    def test_reason_has_own_lines(self) -> None:
        """
        Where the terminal is too narrow, reasons move below their items, and names stay whole if
        they fit then.
        """
        found = lines((NAME, SIZE, WHY), [("n" * 20, "1 B", "because of that"), ("m", "2 B", "")], 40)
        self.assertEqual(
            found,
            ["NAME" + " " * 18 + "SIZE", "n" * 20 + "   1 B", "    because of that", "m" + " " * 22 + "2 B"],
        )
        self.assertEqual(len(lines((NAME, SIZE, WHY), [("n" * 20, "1 B", "because of that")], 60)), 2)

    def test_spare_columns_go_before_names(self) -> None:
        """
        Columns that are less important are left out before names are shortened, the last first.
        """
        columns = (
            NAME,
            Column[Item]("ONE", itemgetter(1), spare=True),
            Column[Item]("TWO", itemgetter(1), spare=True),
        )
        item = ("n" * 20, "12345", "")
        self.assertEqual(lines(columns, [item], 34)[1], "n" * 20 + "  12345  12345")
        self.assertEqual(lines(columns, [item], 33)[1], "n" * 20 + "  12345")
        self.assertEqual(lines(columns, [item], 26)[1], "n" * 20)
        self.assertEqual(lines(columns, [item], 19)[1], "…" + "n" * 18)

    def test_widest_gives(self) -> None:
        """
        The widest columns that can be shortened are, and others never.
        """
        columns = (Column[Item]("ID", itemgetter(0)), Column[Item]("A", itemgetter(1), crop=cut), NAME)
        found = lines(columns, [("i" * 12, "a" * 40, "")], 40)
        self.assertTrue(found[1].startswith("i" * 12 + "  " + "a" * 11 + "…"), found)

    def test_wide_and_whole(self) -> None:
        """
        Wide lists have all columns and whole ones whole cells, in one line for each item.
        """
        columns = (
            Column[Item]("D", itemgetter(0), short=short),
            Column[Item]("W", itemgetter(1), wide=True),
            WHY,
        )
        items = [("sha256:" + "ab" * 32, "extra", "r" * 50)]
        self.assertEqual(lines(columns, items, 30)[1:], ["ab" * 6, "    " + "r" * 26, "    " + "r" * 24])
        self.assertEqual(lines(columns, items, 30, wide=True)[1], "ab" * 6 + "  extra  " + "r" * 50)
        self.assertEqual(lines(columns, items, 30, whole=True)[1], items[0][0] + "  " + "r" * 50)

    @settings(max_examples=100)
    @given(st.integers(1, 200), st.lists(st.tuples(st.text("ab"), st.text("cd"), st.text("ef ")), max_size=4))
    def test_fits(self, width: int, items: list[Item]) -> None:
        """
        No line is wider than the terminal, however narrow, and all words of each reason are
        there.
        """
        head, rows = lay_out((NAME, SIZE, WHY), items, width)
        for line in (head, *(line for row in rows for line in row)):
            self.assertLessEqual(len(line), width)
        for item, row in zip(items, rows, strict=True):
            if len(row) > 1 or "WHY" in head:
                self.assertTrue("".join("".join(row).split()).endswith("".join(item[2].split())))
            else:
                self.assertEqual(item[2].strip(), "")

    def test_wrapped(self) -> None:
        """
        Words stay whole where they fit, also those with hyphens.
        """
        self.assertEqual(wrapped("", 40), [])
        self.assertEqual(wrapped("one two-three four", 24), ["    one two-three four"])
        self.assertEqual(wrapped("one two-three four", 20), ["one two-three four"])
        self.assertEqual(wrapped("one two-three", 9), ["one", "two-three"])
