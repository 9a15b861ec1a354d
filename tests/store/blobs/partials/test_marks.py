"""
Tests for L{xferd.store.blobs.partials}: the bytes that count after a restart of the machine.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

from tests.store.support import StoreTestCase
from xferd.interfaces.blobs import IPartial
from xferd.names import Digest
from xferd.store.blobs import spans
from xferd.store.blobs.spans import MOST_MARKS, read_note

KIBI = 1024
MEBI = 1024 * KIBI


class MarksTests(StoreTestCase):
    """
    A blob of 20 MiB.
    """

    data = Random(0).randbytes(20 * MEBI)
    digest = Digest.of(data)

    def setUp(self) -> None:
        """
        Begin in one boot of the machine.
        """
        self.boot = Path(self.mktemp())
        self.boot.write_text("one\n")
        self.patch(spans, "_BOOT", str(self.boot))
        super().setUp()

    def open_partial(self) -> IPartial:
        """
        Open its file.
        """
        return self.successResultOf(self.store.blobs.partial(self.digest, len(self.data)))

    def arrive(self, size: int) -> None:
        """
        Let bytes arrive, and the daemon die.
        """
        partial = self.open_partial()
        for offset in range(partial.offset, size, MEBI):
            partial.write(self.data[offset : min(offset + MEBI, size)])
        self.die()

    def die(self) -> None:
        """
        Open a new store with the files that a killed daemon leaves.
        """
        place = Path(self.path, "ingest")
        kept = {file.name: file.read_bytes() for file in place.iterdir()}
        self.close(self.store)
        for file in place.iterdir():
            file.unlink()
        for name, data in kept.items():
            (place / name).write_bytes(data)

    def path_of(self, suffix: str = "") -> Path:
        """
        Where the file is, or its note.
        """
        return Path(self.path, "ingest", f"sha256-{self.digest.hex}{suffix}")

    def here(self, *, restarted: bool = True) -> int:
        """
        The bytes that the next daemon uses.  They have to be right, and enough for the blob.
        """
        if restarted:
            self.boot.write_text("two\n")
        self.store = self.open()
        partial = self.open_partial()
        self.assertEqual(partial.spans, ())
        found = partial.offset
        self.assertEqual(self.path_of().read_bytes(), self.data[:found])
        partial.write(self.data[found:])
        self.successResultOf(partial.commit())
        self.assertEqual(os.listdir(self.path_of().parent), [])
        return found

    def zero(self, offset: int) -> None:
        """
        Lose a page of the file.
        """
        with self.path_of().open("r+b") as file:
            file.seek(offset)
            file.write(bytes(4096))

    def test_same_boot(self) -> None:
        """
        Without a restart of the machine, all bytes count.
        """
        self.arrive(17 * MEBI + 5)
        self.assertEqual(self.here(restarted=False), 17 * MEBI + 5)

    def test_restarted(self) -> None:
        """
        After one, those count that have a mark.
        """
        self.arrive(17 * MEBI)
        self.assertEqual(self.here(), 16 * MEBI)

    def test_zeros(self) -> None:
        """
        A page that the power cut has lost is found, and the bytes before it are used.
        """
        self.arrive(17 * MEBI)
        self.zero(9 * MEBI)
        self.assertEqual(self.here(), 8 * MEBI)

    def test_zeros_at_once(self) -> None:
        """
        Where the first page is lost, nothing is used.
        """
        self.arrive(17 * MEBI)
        self.zero(0)
        self.assertEqual(self.here(), 0)

    def test_short(self) -> None:
        """
        A file that has lost its end is used up to a mark.
        """
        self.arrive(17 * MEBI)
        os.truncate(self.path_of(), 15 * MEBI)
        self.assertEqual(self.here(), 8 * MEBI)

    def test_no_note(self) -> None:
        """
        Without a note, nothing is used: it may be the note that was lost.
        """
        self.arrive(17 * MEBI)
        self.path_of(".spans").unlink()
        self.assertEqual(self.here(), 0)

    def test_older_version(self) -> None:
        """
        A daemon of a version without marks has not recorded the boot: its files are used.
        """
        self.arrive(9 * MEBI)
        self.path_of(".spans").unlink()
        Path(self.path, "boot").unlink()
        self.assertEqual(self.here(), 9 * MEBI)

    def test_damaged_note(self) -> None:
        """
        A note that is damaged counts as none.
        """
        self.arrive(17 * MEBI)
        self.path_of(".spans").write_bytes(bytes(4096))
        self.assertEqual(self.here(), 0)

    def test_two_restarts(self) -> None:
        """
        Marks count after any number of restarts, together with later ones.
        """
        self.arrive(9 * MEBI)
        self.boot.write_text("two\n")
        self.store = self.open()
        self.arrive(17 * MEBI)
        self.boot.write_text("three\n")
        self.zero(12 * MEBI)
        self.assertEqual(self.here(restarted=False), 8 * MEBI)

    def test_killed_after_a_restart(self) -> None:
        """
        A daemon that is killed in the new boot has lost nothing, whatever the note was before.
        """
        self.arrive(9 * MEBI)
        self.boot.write_text("two\n")
        self.store = self.open()
        self.arrive(10 * MEBI)
        self.assertEqual(self.here(restarted=False), 10 * MEBI)

    def test_stopped(self) -> None:
        """
        A daemon that was stopped has marked all bytes.
        """
        partial = self.open_partial()
        partial.write(self.data[: 3 * MEBI + 5])
        self.close(self.store)
        self.assertEqual(self.here(), 3 * MEBI + 5)

    def test_gaps(self) -> None:
        """
        Of a file with gaps, the bytes before the first one count up to the last mark.
        """
        partial = self.open_partial()
        partial.write_at(11 * MEBI, self.data[11 * MEBI : 12 * MEBI])
        partial.write(self.data[: 9 * MEBI])
        partial.write(self.data[9 * MEBI : 10 * MEBI])
        self.die()
        self.assertEqual(self.here(), 9 * MEBI)

    def test_gap_filled(self) -> None:
        """
        When the gaps of a file are filled, its bytes have a mark.
        """
        partial = self.open_partial()
        partial.write_at(9 * MEBI, self.data[9 * MEBI : 10 * MEBI])
        partial.write(self.data[: 9 * MEBI])
        self.assertEqual(partial.offset, 10 * MEBI)
        self.die()
        self.assertEqual(self.here(), 10 * MEBI)

    def test_gap_after_a_mark(self) -> None:
        """
        A gap behind a mark leaves the mark.
        """
        partial = self.open_partial()
        partial.write(self.data[: 9 * MEBI])
        partial.write_at(11 * MEBI, self.data[11 * MEBI : 12 * MEBI])
        self.die()
        self.assertEqual(self.here(), 9 * MEBI)

    def test_begun_again(self) -> None:
        """
        A file that begins again has no mark of the discarded bytes.
        """
        partial = self.open_partial()
        partial.write(bytes(9 * MEBI))
        partial.restart()
        self.assertFalse(self.path_of(".spans").exists())
        partial.write(self.data[:MEBI])
        self.die()
        self.assertEqual(self.here(), 0)

    def test_many_marks(self) -> None:
        """
        A note has room for the marks of a large file: every other one goes.
        """
        self.patch(spans, "MOST_MARKS", 4)
        for size in range(1, 20):
            self.arrive_and_close(size * MEBI)
        note = read_note(str(self.path_of(".spans")))
        assert note is not None
        self.assertLessEqual(len(note.marks), 4)
        self.assertEqual(note.marks[-1][0], 19 * MEBI)
        self.close(self.store)
        self.zero(18 * MEBI)
        self.assertEqual(self.here(), note.marks[-2][0])

    def arrive_and_close(self, size: int) -> None:
        """
        Let bytes arrive, and the transfer end.
        """
        partial = self.open_partial()
        partial.write(self.data[partial.offset : size])
        partial.close()

    def test_page(self) -> None:
        """
        A note with all its marks, of the largest files, has one page.
        """
        marks = tuple((10**15 + n, "f" * 32) for n in range(MOST_MARKS))
        path = self.mktemp()
        spans.write_note(path, spans.Note(10**15, ((10**15 + 1, 10**15 + 2),) * 16, marks))
        self.assertEqual(os.path.getsize(path), 4096)
