"""
Tests for L{xferd.store.blobs.partials} and L{xferd.store.blobs.partial_file}: files
that are written in order.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError

from tests.store.conformance.base import DATA, DIGEST
from tests.store.support import Follower, StoreTestCase
from xferd.errors import DiskFull, SizeMismatch, StoreError
from xferd.interfaces.blobs import IPartial
from xferd.names import Digest
from xferd.store.blobs import partials
from xferd.testing.descriptors import no_descriptors


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
        Bytes that changed on the disk are detected at the end.
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
        Store another blob, so that its directory exists.
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
        During a disk operation, a partial blob accepts no bytes; closing waits.
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
        A file that is closed during a disk operation is closed also if the
        operation fails.
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
        A write that the system executes in pieces is complete; a write that it
        interrupts leaves the earlier bytes.
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
