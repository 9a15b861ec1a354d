"""
Tests for L{xferd.store.blobs.partials}: files that are written in several parts.
"""

from __future__ import annotations

import errno
import os
from itertools import pairwise
from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError

from tests.store.support import Follower, StoreTestCase
from xferd.errors import StoreError
from xferd.interfaces.blobs import IPartial
from xferd.names import Digest
from xferd.store.blobs import partials, spans
from xferd.store.blobs.spans import Note, read_note

KIBI = 1024
MEBI = 1024 * KIBI


class PartsTests(StoreTestCase):
    """
    A blob of a few mebibytes, which arrives in parts.
    """

    def setUp(self) -> None:
        """
        Begin with its first bytes.
        """
        super().setUp()
        self.data = os.urandom(3 * MEBI)
        self.digest = Digest.of(self.data)
        self.partial = self.open_partial()
        self.partial.write(self.data[:1000])

    def open_partial(self) -> IPartial:
        """
        Open its file.
        """
        return self.successResultOf(self.store.blobs.partial(self.digest, len(self.data)))

    def put(self, start: int, stop: int) -> None:
        """
        Let some bytes come.
        """
        self.partial.write_at(start, self.data[start:stop])

    def ingest(self) -> list[str]:
        """
        The content of C{ingest/}.
        """
        return sorted(os.listdir(os.path.join(self.path, "ingest")))

    def note(self) -> str:
        """
        Where the note is.
        """
        return os.path.join(self.path, "ingest", f"sha256-{self.digest.hex}.spans")

    def assert_becomes_blob(self) -> None:
        """
        A complete file becomes the blob, and leaves no other file.
        """
        self.successResultOf(self.partial.commit())
        with open(self.store.blobs.path(self.digest), "rb") as file:
            self.assertEqual(file.read(), self.data)
        self.assertEqual(self.ingest(), [])

    def test_hashed_in_a_thread(self) -> None:
        """
        A large part is hashed in a thread, while others grow, and what has
        joined it meanwhile after it; followers hear of it then.
        """
        follower = Follower()
        self.partial.follow(follower)
        self.put(5000, 2 * MEBI)
        self.pools.bulk.held = True
        self.put(1000, 5000)
        self.assertEqual((self.partial.offset, self.partial.spans), (5000, ((5000, 2 * MEBI),)))
        self.put(2 * MEBI, len(self.data))
        self.reactor.advance(1)
        self.assertEqual(follower.told[-1][2], 5000)
        self.pools.bulk.step()
        self.assertEqual(self.partial.offset, 2 * MEBI)
        self.reactor.advance(1)
        self.assertEqual(follower.told[-1][2], 2 * MEBI)
        self.pools.bulk.release()
        self.assertEqual((self.partial.offset, self.partial.spans), (len(self.data), ()))
        self.assert_becomes_blob()

    def test_commit_waits(self) -> None:
        """
        A commit waits for the hash, also when it is cancelled.
        """
        self.put(5000, len(self.data))
        self.pools.bulk.held = True
        self.put(1000, 5000)
        committing = self.partial.commit()
        self.assertNoResult(committing)
        committing.cancel()
        self.assertNoResult(committing)
        self.pools.bulk.release()
        self.failureResultOf(committing, CancelledError)
        self.assertTrue(self.store.blobs.has(self.digest))

    def test_close_while_hashing(self) -> None:
        """
        A file that is closed during hashing is closed at once; its bytes are
        kept for the next attempt, and a commit fails.
        """
        self.put(5000, 2 * MEBI)
        self.pools.bulk.held = True
        self.put(1000, 5000)
        committing = self.partial.commit()
        self.partial.close()
        self.failureResultOf(committing, StoreError)
        self.pools.bulk.release()
        self.partial = self.open_partial()
        self.assertEqual((self.partial.offset, self.partial.spans), (2 * MEBI, ()))
        self.put(2 * MEBI, len(self.data))
        self.assert_becomes_blob()

    def test_thrown_away_while_hashing(self) -> None:
        """
        Bytes that are discarded while they are hashed do not reappear.
        """
        for throw, left in ((self.partial.trim, 5000), (self.partial.restart, 0)):
            self.put(5000, 2 * MEBI)
            self.pools.bulk.held = True
            self.put(self.partial.offset, 5000)
            throw()
            self.pools.bulk.release()
            self.assertEqual((self.partial.offset, self.partial.spans), (left, ()))
            if left:
                self.partial.restart()
        self.put(0, len(self.data))
        self.assert_becomes_blob()

    def test_descriptors(self) -> None:
        """
        Hashing never leaks a descriptor.
        """
        before = os.listdir("/proc/self/fd")
        self.test_thrown_away_while_hashing()
        self.assertEqual(len(os.listdir("/proc/self/fd")), len(before) - 1)

    def test_unreadable(self) -> None:
        """
        If the disk does not return the written bytes, the next step fails with
        the reason, and the one after retries.
        """
        for size in (2 * MEBI, 100):
            self.put(5000, 5000 + size)
            real = os.pread

            def refuse(*_: object) -> bytes:
                raise OSError(errno.EIO, "Input/output error")

            self.patch(os, "pread", refuse)
            self.put(self.partial.offset, 5000)
            self.patch(os, "pread", real)
            self.assertEqual(self.partial.offset, 5000)
            self.failureResultOf(self.partial.commit(), StoreError)
            self.assertEqual((self.partial.offset, self.partial.spans), (5000 + size, ()))
            self.partial.restart()

    def test_threads_are_gone(self) -> None:
        """
        Where no thread hashes any more, that is what fails.
        """
        self.put(5000, 2 * MEBI)
        self.run_now(self.store._threads.stop())
        self.put(1000, 5000)
        self.assertRaises(StoreError, self.put, 5000, 5001)
        self.partial.close()

    def test_cut_off(self) -> None:
        """
        A file that was cut off is fetched again from there on.
        """
        for stop in (2 * MEBI, 5100):
            self.put(5000, stop)
            os.truncate(self.note().removesuffix(".spans"), 5050)
            self.put(self.partial.offset, 5000)
            self.assertEqual((self.partial.offset, self.partial.spans), (5050, ()))
            self.partial.restart()
        self.put(0, len(self.data))
        self.assert_becomes_blob()

    def test_killed(self) -> None:
        """
        After a daemon was killed only recorded bytes count; the record was
        written before the first byte after a gap.
        """
        place = os.path.join(self.path, "ingest")
        real = os.pwrite

        def last(fd: int, data: bytes, offset: int) -> int:
            self.assertEqual(len(os.listdir(place)), 2)
            return real(fd, data, offset)

        patched = self.patch(os, "pwrite", last)
        self.put(MEBI, MEBI + 64 * KIBI)
        patched.restore()
        names = self.ingest()
        kept = {name: Path(place, name).read_bytes() for name in names}
        self.reopen()
        for name in names:
            Path(place, name).write_bytes(kept[name])
        self.partial = self.open_partial()
        self.assertEqual((self.partial.offset, self.partial.spans), (1000, ()))
        self.assertEqual(os.stat(os.path.join(place, names[0])).st_size, 1000)
        self.assertEqual(self.ingest(), names[:1])

    def test_noted_now_and_then(self) -> None:
        """
        Of a file with gaps, at most 256 KiB are not noted, in front of the gaps and after
        them together.
        """
        self.put(MEBI, MEBI + 5000)
        self.assertEqual(read_note(self.note()), Note(1000))
        for n in range(8):
            self.put(1000 + n * 64 * KIBI, 1000 + (n + 1) * 64 * KIBI)
            self.put(2 * MEBI + n * 64 * KIBI, 2 * MEBI + (n + 1) * 64 * KIBI)
            note = read_note(self.note())
            assert note is not None
            noted = note.prefix + sum(stop - start for start, stop in note.spans)
            arrived = 1000 + 5000 + 2 * (n + 1) * 64 * KIBI
            self.assertLessEqual(arrived - noted, 256 * KIBI)

    def test_another_boot(self) -> None:
        """
        After a restart of the machine, the bytes of a file with gaps are not
        used.
        """
        self.put(MEBI, 2 * MEBI)
        self.partial.close()
        self.patch(spans, "_BOOT", self.mktemp())
        self.partial = self.open_partial()
        self.assertEqual((self.partial.offset, self.partial.spans), (0, ()))
        self.put(0, len(self.data))
        self.assert_becomes_blob()

    def test_orphaned_note(self) -> None:
        """
        A note without a file is swept at the start, and one with a file goes
        with it.
        """
        self.put(MEBI, 2 * MEBI)
        self.partial.close()
        self.reopen()
        self.assertEqual(len(self.ingest()), 2)
        os.utime(self.note().removesuffix(".spans"), (0, 0))
        self.reactor.advance(30 * 24 * 3600)
        self.reopen()
        self.assertEqual(self.ingest(), [])

    def test_note_refused(self) -> None:
        """
        If no record can be written, no byte is written after a gap; if it can
        no longer be removed, this is only logged, because it is true.
        """
        os.mkdir(self.note() + ".new")
        self.assertRaises(StoreError, self.put, 5000, 6000)
        self.assertEqual((self.partial.offset, self.partial.spans), (1000, ()))
        os.rmdir(self.note() + ".new")
        self.put(5000, 6000)

        def refuse(path: str) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        patched = self.patch(partials, "remove_note", refuse)
        self.put(1000, 5000)
        patched.restore()
        self.assertEqual(self.partial.offset, 6000)
        self.put(7000, 8000)
        note = Path(self.note()).read_bytes()
        os.unlink(self.note())
        os.mkdir(self.note())
        self.partial.close()
        os.rmdir(self.note())
        Path(self.note()).write_bytes(note)
        self.partial = self.open_partial()
        self.assertEqual(self.partial.offset, 1000)

    def test_short_write_behind_a_gap(self) -> None:
        """
        A write that is interrupted, after a gap or in it, leaves the earlier
        bytes.
        """
        self.put(5000, 6000)
        real = os.pwrite
        for start, stop in ((6000, 7000), (1000, 2000)):
            given = iter([3])

            def breaking(fd: int, data: memoryview, offset: int) -> int:
                for size in given:  # noqa: B023
                    return real(fd, data[:size], offset)
                raise OSError(errno.EIO, "Input/output error")

            patched = self.patch(os, "pwrite", breaking)
            self.assertRaises(StoreError, self.put, start, stop)
            patched.restore()
            self.assertEqual((self.partial.offset, self.partial.spans), (1000, ((5000, 6000),)))
        self.put(6000, len(self.data))
        self.put(1000, 5000)
        self.assert_becomes_blob()

    @settings(max_examples=40, deadline=None)
    @given(
        cuts=st.sets(st.integers(1, 59), max_size=12),
        order=st.randoms(use_true_random=False),
        stops=st.sets(st.integers(0, 12)),
    )
    def test_any_order(self, cuts: set[int], order: Random, stops: set[int]) -> None:
        """
        Parts in any order over any number of attempts make the blob.
        """
        data = bytes(range(60))
        digest = Digest.of(data)
        bounds = [0, *sorted(cuts), len(data)]
        parts = list(pairwise(bounds))
        order.shuffle(parts)
        partial = self.successResultOf(self.store.blobs.partial(digest, len(data)))
        for number, (start, stop) in enumerate(parts):
            partial.write_at(start, data[start:stop])
            if number in stops:
                partial.close()
                partial = self.successResultOf(self.store.blobs.partial(digest, len(data)))
        self.successResultOf(partial.commit())
        self.assertEqual(self.successResultOf(self.store.blobs.read(digest)), data)
