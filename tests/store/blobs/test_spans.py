"""
Tests for L{xferd.store.blobs.spans}.
"""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.store.blobs import spans
from xferd.store.blobs.spans import Note, Spans, boot_id, read_note, remove_note, write_note

pairs = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted).map(lambda pair: (pair[0], pair[1]))


class SpansTests(SynchronousTestCase):
    """
    Parts of a file.
    """

    @given(st.lists(pairs, max_size=8), st.integers(0, 30))
    def test_any(self, parts: list[tuple[int, int]], offset: int) -> None:
        """
        Bytes in any order make the fewest possible parts, in order; those
        before an offset can be removed.
        """
        made = Spans.of(parts)
        expected = {n for start, stop in parts for n in range(start, stop)}
        for _ in range(2):
            self.assertEqual({n for start, stop in made.all() for n in range(start, stop)}, expected)
            bounds = [bound for span in made.all() for bound in span]
            self.assertEqual(bounds, sorted(set(bounds)))
            self.assertEqual(bool(made), bool(expected))
            if made:
                self.assertEqual(made.first, made.all()[0])
            made.drop_before(offset)
            expected = {n for n in expected if n >= offset}
        made.clear()
        self.assertEqual(made.all(), ())


class NoteTests(SynchronousTestCase):
    """
    The notes of a file.
    """

    def setUp(self) -> None:
        """
        Choose a place.
        """
        self.path = self.mktemp()

    def write(self, **changes: Any) -> None:
        """
        Write a note by hand.
        """
        told = {"boot": boot_id(), "prefix": 5, "spans": [[7, 9]], **changes}
        with open(self.path, "w") as file:
            json.dump(told, file)

    def test_written(self) -> None:
        """
        A record is read as it was written, has the mode of a private file, and
        can be replaced and removed.
        """
        for note in (Note(5, ((7, 9), (20, 30)), ((3, "f"), (5, "0"))), Note(8, whole=True), Note(0)):
            write_note(self.path, note)
            self.assertEqual(read_note(self.path), note)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
        self.assertEqual(os.listdir(os.path.dirname(os.path.abspath(self.path))).count(self.path + ".new"), 0)
        remove_note(self.path)
        remove_note(self.path)
        self.assertIsNone(read_note(self.path))

    def test_damaged(self) -> None:
        """
        An invalid note counts as an empty one.
        """
        self.write()
        self.assertEqual(read_note(self.path), Note(5, ((7, 9),)))
        for changes in (
            {"spans": [[9, 7]]},
            {"spans": [[3, 9]]},
            {"spans": [[7]]},
            {"spans": [[20, 30], [7, 9]]},
            {"spans": None},
            {"prefix": -1},
            {"prefix": "many"},
            {"marks": [[7, "f"], [5, "f"]]},
            {"marks": [7]},
            {"marks": None},
        ):
            self.write(**changes)
            self.assertEqual(read_note(self.path), Note(0, current=False), changes)
        for text in ("", "{", "[]", "{}", "7"):
            with open(self.path, "w") as file:
                file.write(text)
            self.assertEqual(read_note(self.path), Note(0, current=False), text)

    def test_another_boot(self) -> None:
        """
        Of a note from before a restart of the machine only the marks are used, since its
        bytes may not have been flushed; nor is any note if boots cannot be
        distinguished.
        """
        self.write(boot="another", marks=[[4, "f"]])
        self.assertEqual(read_note(self.path), Note(0, marks=((4, "f"),), current=False))
        self.patch(spans, "_BOOT", self.mktemp())
        self.write(boot="")
        self.assertEqual((boot_id(), read_note(self.path)), ("", Note(0, current=False)))

    def test_overwritten(self) -> None:
        """
        A note replaces a longer and a shorter one; it is written into the same file, unless one of
        them needs more than a page.
        """
        large = Note(1, tuple((n, n + 1) for n in range(2, 2000, 2)))
        inodes = []
        for note in (Note(5, ((7, 9), (20, 30))), Note(6), large, Note(7)):
            write_note(self.path, note)
            self.assertEqual(read_note(self.path), note)
            inodes.append(os.stat(self.path).st_ino)
        self.assertEqual(inodes[0], inodes[1])

    def test_within(self) -> None:
        """
        Of a file that is shorter than its note only so much counts.
        """
        note = Note(5, ((7, 9), (20, 30)))
        self.assertEqual(note.within(30), note)
        self.assertEqual(note.within(29), Note(5, ((7, 9),)))
        self.assertEqual(note.within(5), Note(5))
        self.assertEqual(note.within(4), Note(0))
        self.assertEqual(Note(5, whole=True).within(8), Note(8, whole=True))
