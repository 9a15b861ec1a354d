"""
Tests for L{xferd.store.blobs.partials} and L{xferd.store.blobs.partial_file}.
"""

from __future__ import annotations

import errno
import os
import subprocess
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SkipTest

from tests.store.conformance.base import DATA, DIGEST
from tests.store.support import Follower, StoreTestCase
from xferd.errors import DiskFull, SizeMismatch, StoreError
from xferd.interfaces.blobs import IFollower, IPartial
from xferd.names import Digest
from xferd.store.blobs import partials, spans
from xferd.store.blobs.spans import Note, read_note
from xferd.testing.descriptors import no_descriptors

MEBI = 1024 * 1024


class PartialTests(StoreTestCase):
    """
    The files of partial blobs.
    """

    def partial(self, size: int | None = len(DATA), digest: Digest = DIGEST) -> IPartial:
        """
        Open a partial blob.
        """
        return self.successResultOf(self.store.blobs.partial(digest, size))

    def file(self, digest: Digest = DIGEST) -> str:
        """
        Where it is.
        """
        return os.path.join(self.path, "ingest", f"sha256-{digest.hex}")

    def test_over_a_restart(self) -> None:
        """
        Written bytes are there after a restart, and are hashed again.
        """
        self.partial().write(DATA[:7])
        self.reopen()
        partial = self.partial()
        self.assertEqual(partial.offset, 7)
        partial.write(DATA[7:])
        self.successResultOf(partial.commit())
        self.assertEqual(os.listdir(os.path.join(self.path, "ingest")), [])

    def test_damaged_over_a_restart(self) -> None:
        """
        Bytes that changed meanwhile are found out at the end.
        """
        partial = self.partial()
        partial.write(DATA[:7])
        partial.close()
        with open(self.file(), "r+b") as file:
            file.write(b"?")
        again = self.partial()
        again.write(DATA[7:])
        self.failureResultOf(again.commit())
        self.assertEqual(again.offset, 0)

    def test_longer_than_the_blob(self) -> None:
        """
        A file with more bytes than the blob has is of no use.
        """
        with open(self.file(), "wb") as file:
            file.write(DATA + b"!")
        self.assertEqual(self.partial().offset, 0)

    def test_empty_file_is_removed(self) -> None:
        """
        An attempt without bytes leaves no file; if that is missing already, it
        is no error.
        """
        self.partial().close()
        self.assertFalse(os.path.exists(self.file()))
        partial = self.partial()
        os.unlink(self.file())
        partial.close()

    def test_no_descriptor_at_rest(self) -> None:
        """
        At rest it has no descriptor, and no file if there is nothing in it.
        """
        before = len(os.listdir("/proc/self/fd"))
        partial = self.partial()
        partial.suspend()
        self.assertFalse(os.path.exists(self.file()))
        partial.resume()
        partial.write(DATA[:7])
        partial.suspend()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        partial.close()
        self.assertEqual(os.path.getsize(self.file()), 7)

    def test_cut_off_at_rest(self) -> None:
        """
        A file that has become shorter, or is missing, starts over.
        """
        for spoil in (lambda: os.truncate(self.file(), 5), lambda: os.unlink(self.file())):
            partial, follower = self.partial(), Follower()
            partial.write(DATA[:7])
            partial.follow(follower)
            partial.suspend()
            spoil()
            partial.resume()
            self.assertEqual((partial.offset, follower.told[-1]), (0, ("restarted",)))
            partial.restart()
            partial.close()

    def test_no_descriptor_to_resume(self) -> None:
        """
        Without a descriptor it stays at rest, and resumes when there is one.
        """
        partial = self.partial()
        partial.write(DATA[:7])
        partial.suspend()
        with no_descriptors():
            self.assertRaises(StoreError, partial.resume)
        partial.resume()
        partial.write(DATA[7:])
        self.successResultOf(partial.commit())

    def test_no_descriptor_to_commit(self) -> None:
        """
        A commit for which there is no descriptor has done nothing: the bytes
        are where they were, and it succeeds later.
        """
        self.result_of_another()
        partial = self.partial()
        partial.write(DATA)
        with no_descriptors():
            self.failureResultOf(partial.commit(), StoreError)
        self.assertFalse(self.store.blobs.has(DIGEST))
        partial.suspend()
        partial.resume()
        self.assertEqual(partial.offset, len(DATA))
        self.successResultOf(partial.commit())

    def result_of_another(self) -> None:
        """
        Have another blob, so that their directory is there.
        """
        another = self.partial(size=1, digest=Digest.of(b"?"))
        another.write(b"?")
        self.successResultOf(another.commit())

    def test_private(self) -> None:
        """
        Other users may read a blob neither before nor when it is whole.
        """
        partial = self.partial()
        partial.write(DATA)
        self.assertEqual(os.stat(self.file()).st_mode & 0o777, 0o600)
        self.successResultOf(partial.commit())
        self.assertEqual(os.stat(self.store.blobs.path(DIGEST)).st_mode & 0o777, 0o600)

    def test_link_in_the_way(self) -> None:
        """
        A link in the file's place is not followed.
        """
        os.symlink("/etc/passwd", self.file())
        self.failureResultOf(self.store.blobs.partial(DIGEST, None), StoreError)
        os.unlink(self.file())
        self.partial()

    def test_cancel_opening(self) -> None:
        """
        Cancelling an opening waits for the thread, and leaves the blob to
        others, with its bytes.
        """
        partial = self.partial()
        partial.write(DATA[:7])
        partial.close()
        self.pools.bulk.held = True
        opening = self.store.blobs.partial(DIGEST, None)
        opening.cancel()
        self.assertNoResult(opening)
        self.pools.bulk.release()
        self.failureResultOf(opening, CancelledError)
        self.assertEqual(self.partial().offset, 7)

    def test_cancel_opening_too_late(self) -> None:
        """
        A file that was opened for a cancelled request is closed.
        """
        self.pools.bulk.held = True
        opening = self.store.blobs.partial(DIGEST, None)
        opening.cancel()
        # An empty file is opened before anything looks at the cancellation.
        self.pools.bulk.release()
        self.failureResultOf(opening, CancelledError)
        self.assertEqual(os.listdir(os.path.join(self.path, "ingest")), [])
        self.partial()

    def test_busy(self) -> None:
        """
        While the disk has it, a partial blob takes nothing; closing waits.
        """
        partial = self.partial()
        partial.write(DATA)
        self.pools.bulk.held = True
        committing = partial.commit()
        self.assertRaises(StoreError, partial.restart)
        self.assertRaises(StoreError, partial.write, b"")
        self.failureResultOf(partial.commit(), StoreError)
        partial.close()
        self.assertNoResult(committing)
        self.pools.bulk.release()
        self.successResultOf(committing)
        self.assertTrue(self.store.blobs.has(DIGEST))

    def test_closed(self) -> None:
        """
        A closed partial blob accepts no bytes.
        """
        partial = self.partial()
        partial.close()
        self.assertRaises(StoreError, partial.write, b"")
        self.failureResultOf(partial.commit(), StoreError)

    def test_cancel_commit(self) -> None:
        """
        A commit that is cancelled waits for the disk, and is done.
        """
        partial = self.partial()
        partial.write(DATA)
        self.pools.bulk.held = True
        committing = partial.commit()
        committing.cancel()
        self.assertNoResult(committing)
        self.pools.bulk.release()
        self.failureResultOf(committing, CancelledError)
        self.assertTrue(self.store.blobs.has(DIGEST))

    def refuse(self, name: str, number: int) -> Any:
        """
        Let a function of the system fail.
        """

        def refuse(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        return self.patch(os, name, refuse)

    def test_unsynced(self) -> None:
        """
        Bytes that the disk did not take are not to be trusted, and fetched
        again.
        """
        partial = self.partial()
        partial.write(DATA)
        patched = self.refuse("fsync", errno.EIO)
        reason = self.failureResultOf(partial.commit(), StoreError)
        self.assertIn("Input/output error", str(reason.value))
        self.assertEqual(partial.offset, 0)
        patched.restore()
        partial.write(DATA)
        self.successResultOf(partial.commit())

    def test_not_renamed(self) -> None:
        """
        A blob that cannot get its name keeps its bytes.
        """
        partial = self.partial()
        partial.write(DATA)
        patched = self.refuse("rename", errno.EROFS)
        self.failureResultOf(partial.commit(), StoreError)
        patched.restore()
        self.assertEqual(partial.offset, len(DATA))
        self.successResultOf(partial.commit())

    def test_closed_while_it_fails(self) -> None:
        """
        A file that is closed while the disk has it is closed when the disk
        refuses it, too.
        """
        for name in ("fsync", "rename"):
            partial = self.partial()
            partial.write(DATA[partial.offset :])
            self.pools.bulk.held = True
            committing = partial.commit()
            partial.close()
            patched = self.refuse(name, errno.EROFS)
            self.pools.bulk.step()
            patched.restore()
            self.pools.bulk.release()
            self.failureResultOf(committing, StoreError)
            self.assertRaises(StoreError, partial.write, b"")

    def test_commit_too_late(self) -> None:
        """
        A commit that comes after the threads are gone fails, and keeps the
        bytes.
        """
        partial = self.partial()
        partial.write(DATA)
        self.run_now(self.store._bulk.stop())
        self.failureResultOf(partial.commit(), StoreError)
        self.assertEqual(partial.offset, len(DATA))
        partial.close()

    def test_nothing_in_its_place(self) -> None:
        """
        When not even an empty file can be had, the partial blob is closed.
        """
        partial = self.partial()
        partial.write(DATA)

        def refuse(path: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch(partials, "create", refuse)
        self.assertRaises(DiskFull, partial.restart)
        self.assertRaises(StoreError, partial.write, b"")
        partial.close()

    def test_short_write(self) -> None:
        """
        A write that the system takes in pieces is written whole; one that it
        breaks off leaves what was there before.
        """
        real = os.pwrite

        def meagre(fd: int, data: memoryview, offset: int) -> int:
            return real(fd, data[:3], offset)

        patched = self.patch(os, "pwrite", meagre)
        partial = self.partial()
        partial.write(DATA[:10])
        self.assertEqual(partial.offset, 10)
        patched.restore()
        given = iter([3])

        def breaking(fd: int, data: memoryview, offset: int) -> int:
            for size in given:
                return real(fd, data[:size], offset)
            raise OSError(errno.EIO, "Input/output error")

        patched = self.patch(os, "pwrite", breaking)
        self.assertRaises(StoreError, partial.write, DATA[10:])
        patched.restore()
        self.assertEqual((partial.offset, os.stat(self.file()).st_size), (10, 10))
        partial.write(DATA[10:])
        self.successResultOf(partial.commit())

    def test_cut_fails(self) -> None:
        """
        A disk that refuses even to take bytes back is only logged: they are
        written over, or hashed.
        """
        partial = self.partial()
        self.refuse("pwrite", errno.EIO)
        self.refuse("ftruncate", errno.EIO)
        self.assertRaises(StoreError, partial.write, DATA)
        self.assertEqual(partial.offset, 0)

    @settings(max_examples=20, deadline=None)
    @given(data=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60)), stops=st.sets(st.integers(0, 9)))
    def test_any_pieces(self, data: bytes, cuts: list[int], stops: set[int]) -> None:
        """
        Pieces of any size over any number of attempts make the blob.
        """
        digest = Digest.of(data)
        bounds = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
        partial = self.partial(len(data), digest)
        for number, end in enumerate(bounds[1:]):
            partial.write(data[partial.offset : end])
            if number in stops:
                partial.close()
                partial = self.partial(len(data), digest)
        self.successResultOf(partial.commit())
        self.assertEqual(self.successResultOf(self.store.blobs.read(digest)), data)


class FollowTests(StoreTestCase):
    """
    The reports to followers, and their frequency.
    """

    def setUp(self) -> None:
        """
        Follow a partial blob of a mebibyte.
        """
        super().setUp()
        self.data = bytes(1024 * 1024)
        self.partial = self.successResultOf(self.store.blobs.partial(Digest.of(self.data), len(self.data)))
        self.follower = Follower()
        self.partial.follow(self.follower)

    def sizes(self) -> list[int]:
        """
        The sizes told so far.
        """
        return [what[2] for what in self.follower.told if what[0] == "grown"]

    def test_small_pieces(self) -> None:
        """
        Of small pieces it hears together, soon.
        """
        for _ in range(3):
            self.partial.write(bytes(1000))
        self.reactor.advance(0)
        self.assertEqual(self.sizes(), [])
        self.reactor.advance(0.05)
        self.assertEqual(self.sizes(), [3000])
        self.reactor.advance(1)
        self.assertEqual(self.sizes(), [3000])

    def test_many_pieces(self) -> None:
        """
        Of many bytes it hears at the end of the turn, once.
        """
        for _ in range(8):
            self.partial.write(bytes(64 * 1024))
        self.assertEqual(self.sizes(), [])
        self.reactor.advance(0)
        self.assertEqual(self.sizes(), [512 * 1024])
        self.partial.write(bytes(256 * 1024))
        self.reactor.advance(0)
        self.assertEqual(self.sizes(), [512 * 1024, 768 * 1024])

    def test_end(self) -> None:
        """
        The end needs no message before it, and none comes after.
        """
        self.partial.write(self.data)
        self.successResultOf(self.partial.commit())
        self.assertEqual(len(self.follower.told), 1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_open_file_stays_valid(self) -> None:
        """
        A descriptor of the growing file reads the blob to its end.
        """
        self.partial.write(self.data[:-5])
        self.reactor.advance(1)
        with open(self.follower.told[0][1], "rb") as file:
            self.partial.write(self.data[-5:])
            self.successResultOf(self.partial.commit())
            self.assertEqual(len(file.read()), len(self.data))

    def test_restart(self) -> None:
        """
        After a restart there is another file, while who reads the old one
        reads on in peace.
        """
        self.partial.write(b"x" * 1000)
        self.reactor.advance(1)
        with open(self.follower.told[0][1], "rb") as file:
            self.partial.restart()
            self.partial.write(b"y" * 2000)
            self.reactor.advance(1)
            self.assertEqual(file.read(), b"x" * 1000)
        self.assertEqual([what[0] for what in self.follower.told], ["grown", "restarted", "grown"])
        with open(self.follower.told[2][1], "rb") as file:
            self.assertEqual(file.read(), b"y" * 2000)

    def test_close(self) -> None:
        """
        After the end of an attempt nothing more is reported.
        """
        self.partial.write(bytes(10))
        self.partial.close()
        self.assertEqual((self.follower.told, self.reactor.getDelayedCalls()), ([], []))

    def test_unfollow(self) -> None:
        """
        A follower that has been removed gets no further reports.
        """
        self.partial.write(bytes(10))
        self.partial.unfollow(self.follower)
        self.reactor.advance(1)
        self.assertEqual(self.follower.told, [])

    def test_broken_follower(self) -> None:
        """
        A follower that fails is logged, and keeps neither the blob nor the
        others.
        """

        class Broken(Follower):
            def grown(self, path: str, size: int) -> None:
                raise RuntimeError("broken")

            def sealed(self, path: str, size: int) -> None:
                raise RuntimeError("broken")

        broken, other = Broken(), Follower()
        followers: list[IFollower] = [broken, other]
        for follower in followers:
            self.partial.follow(follower)
        self.partial.write(self.data)
        self.reactor.advance(0)
        self.successResultOf(self.partial.commit())
        self.assertEqual([what[0] for what in other.told], ["grown", "sealed"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)


class PartsTests(StoreTestCase):
    """
    A blob of a few mebibytes, which comes in parts.
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
        A commit waits for what is being hashed, also when it is cancelled.
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
        A file that is closed while it is being hashed is closed at once; what
        was in it is there for the next try, and a commit fails.
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
        When the disk does not give back what it took, the next step fails with
        the reason, and the one after tries again.
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
        After a daemon's sudden end only what was noted counts; the note was
        there before the first byte behind a gap.
        """
        place = os.path.join(self.path, "ingest")
        real = os.pwrite

        def last(fd: int, data: bytes, offset: int) -> int:
            self.assertEqual(len(os.listdir(place)), 2)
            return real(fd, data, offset)

        patched = self.patch(os, "pwrite", last)
        self.put(MEBI, 2 * MEBI)
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
        Bytes after a gap are noted after some mebibytes.
        """
        self.patch(partials, "_NOTE", MEBI)
        self.put(1001, 5000)
        self.assertEqual(read_note(self.note()), Note(1000))
        self.put(5000, 2 * MEBI)
        self.assertEqual(read_note(self.note()), Note(1000, ((1001, 2 * MEBI),)))

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
        Where no note can be written, no byte goes behind a gap; where it can
        be removed no more, it is only logged, for it is true.
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
        os.mkdir(self.note() + ".new")
        self.partial.close()
        self.partial = self.open_partial()
        self.assertEqual(self.partial.offset, 1000)

    def test_short_write_behind_a_gap(self) -> None:
        """
        A write that breaks off, behind a gap or in it, leaves what was there.
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


class FullDiskTests(StoreTestCase):
    """
    A disk that is full indeed.
    """

    def setUp(self) -> None:
        """
        Make a small file system and a store on it.
        """
        self.mounted = self.mktemp()
        os.mkdir(self.mounted)
        mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", os.path.abspath(self.mounted)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
            raise SkipTest("mounting a small file system takes the rights of root")
        self.addCleanup(subprocess.run, ["umount", "-l", os.path.abspath(self.mounted)], check=True)
        super().setUp()

    def mktemp(self) -> str:
        """
        A directory on the small file system, once there is one.
        """
        if hasattr(self, "mounted"):
            return os.path.join(self.mounted, "store")
        path: str = super().mktemp()
        return path

    def test_write(self) -> None:
        """
        Bytes that do not fit are refused with the reason; earlier bytes stay,
        and the blob resumes when there is free space.
        """
        data = os.urandom(1024 * 1024)
        ballast = os.path.join(self.mounted, "ballast")
        with open(ballast, "wb") as file:
            file.write(bytes(1024 * 1024))
        partial = self.successResultOf(self.store.blobs.partial(Digest.of(data), len(data)))
        with self.assertRaises(DiskFull) as caught:
            while partial.offset < len(data):
                partial.write(data[partial.offset : partial.offset + 65536])
        self.assertIn("no space is left", str(caught.exception))
        kept = partial.offset
        self.assertGreater(kept, 0)
        os.unlink(ballast)
        partial.close()
        partial = self.successResultOf(self.store.blobs.partial(Digest.of(data), len(data)))
        self.assertEqual(partial.offset, kept)
        partial.write(data[kept:])
        self.successResultOf(partial.commit())

    def test_documents_and_journal(self) -> None:
        """
        Nothing else is half-written on a full disk either.
        """
        with open(os.path.join(self.mounted, "ballast"), "wb") as file:
            try:
                while True:
                    os.write(file.fileno(), bytes(4096))
            except OSError as e:
                self.assertEqual(e.errno, errno.ENOSPC)
        data = b"{}" * 50_000
        self.failureResultOf(self.store.blobs.put(Digest.of(data), data), DiskFull)
        self.assertFalse(self.store.blobs.has(Digest.of(data)))
        self.failureResultOf(
            self.store.journal.record_job({"id": "1", "created": "", "state": "", "more": "x" * 500_000}),
            DiskFull,
        )
        self.assertEqual(self.successResultOf(self.store.journal.jobs(1)), [])


class SizeMismatchTests(StoreTestCase):
    """
    The sentence that a wrong size gets.
    """

    def test_sentence(self) -> None:
        """
        It names the blob and both sizes.
        """
        partial = self.successResultOf(self.store.blobs.partial(DIGEST, 30))
        partial.write(DATA)
        reason = self.failureResultOf(partial.commit(), SizeMismatch)
        self.assertEqual(
            str(reason.value), f"blob {DIGEST} arrived with {len(DATA)} bytes, and its image names 30"
        )
