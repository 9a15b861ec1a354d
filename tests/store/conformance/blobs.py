"""
Tests for providers of L{IBlobs} and L{IPartial}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from zope.interface.verify import verifyObject

from tests.store.conformance.base import DATA, DIGEST, Conformance
from tests.store.support import Follower, fetch
from xferd.errors import DigestMismatch, NotFound, SizeMismatch, StoreError
from xferd.interfaces.blobs import IAnonymousBlob, IPartial
from xferd.names import Digest
from xferd.oci import MAX_DOCUMENT


class BlobsConformance(Conformance):
    """
    L{IBlobs} and L{IPartial}.
    """

    def partial(self, size: int | None = len(DATA), digest: Digest = DIGEST) -> IPartial:
        """
        Open a partial blob.
        """
        partial: IPartial = self.result(self.store.blobs.partial(digest, size))
        return partial

    def test_absent(self) -> None:
        """
        A blob that is not here has no size and cannot be read.
        """
        self.assertFalse(self.store.blobs.has(DIGEST))
        self.assertIsNone(self.store.blobs.size(DIGEST))
        self.failure(self.store.blobs.read(DIGEST), NotFound)

    def test_put(self) -> None:
        """
        A document is here once it was put, and can be put again.
        """
        for _ in range(2):
            self.result(self.store.blobs.put(DIGEST, DATA))
            self.assertTrue(self.store.blobs.has(DIGEST))
            self.assertEqual(self.store.blobs.size(DIGEST), len(DATA))
            self.assertEqual(self.result(self.store.blobs.read(DIGEST)), DATA)

    def test_preload(self) -> None:
        """
        A part of a blob can be preloaded, also beyond its end, and of a partial one; not
        of one that is not there.
        """
        self.failure(self.store.blobs.preload(DIGEST, 0, 1), NotFound)
        arriving = self.partial()
        arriving.write(DATA[:5])
        self.result(self.store.blobs.preload(DIGEST, 0, 5))
        arriving.close()
        self.result(self.store.blobs.put(DIGEST, DATA))
        for offset, size in ((0, len(DATA)), (1, 2), (len(DATA), 10), (0, 1 << 30)):
            self.result(self.store.blobs.preload(DIGEST, offset, size))

    def test_put_something_else(self) -> None:
        """
        A document with another digest is refused.
        """
        self.failure(self.store.blobs.put(DIGEST, b"other"), DigestMismatch)
        self.assertFalse(self.store.blobs.has(DIGEST))

    def test_read_what_is_too_large(self) -> None:
        """
        A blob that is larger than a document may be is not read.
        """
        data = bytes(MAX_DOCUMENT + 1)
        self.do(fetch(self.store, data))
        self.failure(self.store.blobs.read(Digest.of(data)), StoreError)

    def test_partial(self) -> None:
        """
        A partial blob begins empty, grows, and is a blob when committed, not
        before.
        """
        partial = self.partial()
        verifyObject(IPartial, partial)
        self.assertEqual((partial.digest, partial.size, partial.offset), (DIGEST, len(DATA), 0))
        partial.write(DATA[:5])
        partial.write(DATA[5:])
        self.assertEqual(partial.offset, len(DATA))
        self.assertFalse(self.store.blobs.has(DIGEST))
        self.result(partial.commit())
        self.assertEqual(self.store.blobs.size(DIGEST), len(DATA))
        self.assertEqual(self.result(self.store.blobs.read(DIGEST)), DATA)
        partial.close()

    def test_sha512(self) -> None:
        """
        Blobs may be named by SHA-512.
        """
        digest = Digest.of(DATA, "sha512")
        partial = self.partial(digest=digest)
        partial.write(DATA)
        self.result(partial.commit())
        self.assertTrue(self.store.blobs.has(digest))

    def test_size_unknown(self) -> None:
        """
        Without a size, the digest alone decides.
        """
        partial = self.partial(size=None)
        partial.write(DATA)
        self.result(partial.commit())
        self.assertTrue(self.store.blobs.has(DIGEST))

    def test_empty(self) -> None:
        """
        The empty blob is a blob.
        """
        partial = self.partial(size=0, digest=Digest.of(b""))
        self.result(partial.commit())
        self.assertEqual(self.store.blobs.size(Digest.of(b"")), 0)

    def test_unnamed(self) -> None:
        """
        A blob may come without its digest, and is found under it, also where
        it was here before.
        """
        for _ in range(2):
            unnamed = self.result(self.store.blobs.anonymous())
            verifyObject(IAnonymousBlob, unnamed)
            unnamed.write(DATA[:5])
            unnamed.write(memoryview(DATA)[5:])
            self.assertEqual(unnamed.size, len(DATA))
            self.assertEqual(self.result(unnamed.commit()), DIGEST)
            unnamed.close()
            self.assertEqual(self.result(self.store.blobs.read(DIGEST)), DATA)

    def test_unnamed_closed(self) -> None:
        """
        An anonymous blob that is closed is discarded, and accepts no bytes.
        """
        unnamed = self.result(self.store.blobs.anonymous())
        unnamed.write(DATA)
        unnamed.close()
        unnamed.close()
        self.assertRaises(StoreError, unnamed.write, DATA)
        self.failure(unnamed.commit(), StoreError)
        self.assertFalse(self.store.blobs.has(DIGEST))

    def test_two_at_once(self) -> None:
        """
        A partial blob has one owner at a time; the next one waits until the
        previous one has closed it, and can cancel the wait.
        """
        partial = self.partial()
        second, third = self.store.blobs.partial(DIGEST, None), self.store.blobs.partial(DIGEST, None)
        self.assertNoResult(second)
        second.cancel()
        self.failure(second, CancelledError)
        self.assertNoResult(third)
        partial.close()
        self.result(third).close()
        self.partial().close()

    def test_resume(self) -> None:
        """
        Bytes that were written before a close are there at the next attempt.
        """
        partial = self.partial()
        partial.write(DATA[:7])
        partial.close()
        partial.close()
        again = self.partial()
        self.assertEqual(again.offset, 7)
        again.write(DATA[7:])
        self.result(again.commit())
        self.assertEqual(self.result(self.store.blobs.read(DIGEST)), DATA)

    def test_rest(self) -> None:
        """
        A suspended partial blob refuses bytes; resumed, it continues at its
        offset, with its spans.
        """
        partial, follower = self.partial(), Follower()
        partial.follow(follower)
        partial.write(DATA[:3])
        partial.write_at(5, DATA[5:7])
        partial.suspend()
        partial.suspend()
        self.assertRaises(StoreError, partial.write, DATA[3:])
        partial.resume()
        partial.resume()
        self.assertEqual((partial.offset, [*partial.spans]), (3, [(5, 7)]))
        partial.write(DATA[3:5])
        partial.write(DATA[7:])
        self.result(partial.commit())
        self.assertNotIn(("restarted",), follower.told)
        for call in (partial.suspend, partial.resume, partial.close):
            call()
        self.assertTrue(self.store.blobs.has(DIGEST))

    def test_closed_at_rest(self) -> None:
        """
        Closed at rest, its bytes are there for the next who opens it.
        """
        partial = self.partial()
        partial.write(DATA[:7])
        partial.suspend()
        partial.close()
        partial.resume()
        again = self.partial()
        self.assertEqual(again.offset, 7)
        again.close()

    def test_too_much(self) -> None:
        """
        More bytes than there may be are refused, all of them.
        """
        partial = self.partial()
        partial.write(DATA[:7])
        self.assertRaises(SizeMismatch, partial.write, DATA[7:] + b"!")
        self.assertEqual(partial.offset, 7)
        partial.write(DATA[7:])
        self.result(partial.commit())

    def test_too_little(self) -> None:
        """
        If there are fewer bytes than the size when they are declared complete,
        they are deleted.
        """
        partial = self.partial()
        partial.write(DATA[:7])
        self.failure(partial.commit(), SizeMismatch)
        self.assertEqual(partial.offset, 0)
        partial.write(DATA)
        self.result(partial.commit())

    def test_wrong(self) -> None:
        """
        Wrong bytes are discarded, followers are notified, and the next attempt
        begins at 0.
        """
        partial = self.partial()
        follower = Follower()
        partial.write(DATA[::-1])
        partial.follow(follower)
        self.failure(partial.commit(), DigestMismatch)
        self.assertFalse(self.store.blobs.has(DIGEST))
        self.assertEqual(partial.offset, 0)
        self.assertEqual(follower.told[-1], ("restarted",))
        partial.write(DATA)
        self.result(partial.commit())
        self.assertEqual(follower.told[-1][0], "sealed")
        self.assertEqual(self.result(self.store.blobs.read(DIGEST)), DATA)

    def test_restart(self) -> None:
        """
        A restart discards the bytes and notifies followers.
        """
        partial = self.partial()
        follower = Follower()
        partial.follow(follower)
        self.assertEqual(follower.told, [])
        partial.write(DATA[::-1])
        partial.restart()
        self.assertEqual(partial.offset, 0)
        self.assertEqual(follower.told[-1], ("restarted",))
        partial.write(DATA)
        self.result(partial.commit())
        self.assertTrue(self.store.blobs.has(DIGEST))

    def test_parts(self) -> None:
        """
        Bytes may come behind a gap; followers hear of them when it is filled.
        """
        partial, follower = self.partial(), Follower()
        partial.follow(follower)
        partial.write(DATA[:3])
        partial.write_at(10, DATA[10:12])
        partial.write_at(15, DATA[15:])
        partial.write_at(12, DATA[12:13])
        self.assertEqual((partial.offset, list(partial.spans)), (3, [(10, 13), (15, len(DATA))]))
        self.assertTrue(all(what[-1] <= 3 for what in follower.told))
        partial.write_at(3, DATA[3:10])
        self.assertEqual((partial.offset, list(partial.spans)), (13, [(15, len(DATA))]))
        partial.write_at(13, DATA[13:15])
        self.assertEqual((partial.offset, list(partial.spans)), (len(DATA), []))
        self.result(partial.commit())
        self.assertEqual(self.result(self.store.blobs.read(DIGEST)), DATA)

    def test_parts_over_a_try(self) -> None:
        """
        Bytes after a gap are there at the next attempt, too.
        """
        partial = self.partial()
        partial.write_at(10, DATA[10:])
        partial.close()
        again = self.partial()
        self.assertEqual((again.offset, list(again.spans)), (0, [(10, len(DATA))]))
        again.write(DATA[:10])
        self.result(again.commit())
        self.assertEqual(self.result(self.store.blobs.read(DIGEST)), DATA)

    def test_parts_in_the_wrong_place(self) -> None:
        """
        Bytes that are here already, or lie behind the end, are refused.
        """
        partial = self.partial()
        partial.write(DATA[:3])
        partial.write_at(10, DATA[10:12])
        self.assertRaises(StoreError, partial.write_at, 2, DATA[2:4])
        self.assertRaises(StoreError, partial.write, DATA[3:11])
        self.assertRaises(SizeMismatch, partial.write_at, 15, DATA[15:] + b"!")
        self.assertEqual((partial.offset, list(partial.spans)), (3, [(10, 12)]))

    def test_parts_thrown_away(self) -> None:
        """
        Bytes after a gap can be discarded without the others, or with them.
        """
        partial = self.partial()
        partial.write(DATA[:3])
        for throw, left in ((partial.trim, 3), (partial.restart, 0)):
            partial.write_at(10, DATA[10:12])
            throw()
            throw()
            self.assertEqual((partial.offset, list(partial.spans)), (left, []))
        partial.close()
        self.assertEqual(self.partial().offset, 0)

    def test_parts_missing(self) -> None:
        """
        A blob with a gap is not committed; all its bytes are discarded.
        """
        partial = self.partial()
        partial.write_at(10, DATA[10:])
        self.failure(partial.commit(), SizeMismatch)
        self.assertEqual((partial.offset, list(partial.spans)), (0, []))

    def test_follow(self) -> None:
        """
        A follower gets a report of the present bytes at once, and the blob's
        path at the end; a late follower gets the end.
        """
        partial = self.partial()
        partial.write(DATA[:7])
        early, gone, late = Follower(), Follower(), Follower()
        partial.follow(early)
        partial.follow(gone)
        self.assertEqual([(what[0], what[-1]) for what in early.told], [("grown", 7)])
        partial.unfollow(gone)
        partial.unfollow(gone)
        partial.write(DATA[7:])
        self.result(partial.commit())
        partial.follow(late)
        sealed = ("sealed", self.store.blobs.path(DIGEST), len(DATA))
        self.assertEqual(early.told[-1], sealed)
        self.assertEqual(late.told, [sealed])
        self.assertEqual(len(gone.told), 1)
