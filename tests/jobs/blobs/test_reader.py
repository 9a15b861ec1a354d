"""
Tests for L{xferd.jobs.blobs.reader} and L{xferd.jobs.blobs.growth}.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.errors import Denied, StoreError, XferdError
from xferd.interfaces.blobs import IFollower
from xferd.interfaces.registry import IContent
from xferd.jobs.blobs.growth import Growth
from xferd.jobs.blobs.reader import PATIENCE, BlobReader, Restarted
from xferd.names import Digest
from xferd.oci import Descriptor
from xferd.transfer.attempts import Postponed
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.reason import NO_REASON, Obstacle, Reason
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher

DATA = b"0123456789" * 10
BLOB = Descriptor("application/octet-stream", Digest.of(DATA), len(DATA))


class BlobReaderTests(SynchronousTestCase):
    """
    A blob that is read while it arrives.
    """

    def setUp(self) -> None:
        """
        Make a blob without any bytes.
        """
        self.path = self.mktemp()
        self.feed = Growth()
        self.clock = Clock()
        self.downloads = TransferManager(
            self.clock, wall_clock=self.clock.seconds, slots=None, retry=RetryPolicy(), kind="download"
        )
        self.works: list[Deferred[None]] = []
        self.content = BlobReader(BLOB, self.feed, self.fetch, clock=self.clock)
        self.addCleanup(self.content.close)

    def fetch(self) -> Watcher[None]:
        """
        Begin a download that the test ends.
        """

        async def work(_: Transfer) -> None:
            done: Deferred[None] = Deferred()
            self.works.append(done)
            await done

        watcher = self.downloads.request("key", work, digest=BLOB.digest, turn=Turn("c", 0, 1, 0))
        self.clock.advance(0)
        return watcher

    def grow(self, size: int) -> None:
        """
        Let the file have so many bytes.
        """
        Path(self.path).write_bytes(DATA[:size])
        self.feed.grown(self.path, size)

    def test_interfaces(self) -> None:
        """
        It provides L{IContent} and L{IFollower}.
        """
        verifyObject(IContent, self.content)
        verifyObject(IFollower, self.content)
        verifyObject(IFollower, self.feed)

    def test_nothing_is_fetched_unread(self) -> None:
        """
        The blob is requested when its first byte is read, not before.
        """
        self.content.close()
        self.assertEqual(self.works, [])

    def test_arriving(self) -> None:
        """
        Bytes are returned as they arrive, to many readers, and the empty
        string at the end.
        """
        one, two = self.content.read(0, 1000), self.content.read(50, 10)
        self.assertEqual(len(self.works), 1)
        self.assertNoResult(one)
        self.grow(30)
        self.assertEqual(self.successResultOf(one), DATA[:30])
        self.assertNoResult(two)
        self.assertEqual(self.successResultOf(self.content.read(10, 5)), DATA[10:15])
        self.grow(100)
        self.assertEqual(self.successResultOf(two), DATA[50:60])
        self.assertEqual(self.successResultOf(self.content.read(100, 5)), b"")

    def test_last_byte(self) -> None:
        """
        The last byte is returned when the blob is verified.
        """
        reading = self.content.read(0, 1000)
        self.grow(100)
        self.assertEqual(self.successResultOf(reading), DATA[:99])
        last = self.content.read(99, 1000)
        self.assertNoResult(last)
        self.feed.sealed(self.path, 100)
        self.assertEqual(self.successResultOf(last), DATA[99:])

    def test_verified(self) -> None:
        """
        The last byte is returned when the bytes have the digest, before they are a blob.
        """
        self.successResultOf(self.grown(50))
        last = self.content.read(99, 1000)
        self.grow(99)
        Path(self.path).write_bytes(DATA)
        self.assertNoResult(last)
        self.feed.verified(100)
        self.assertEqual(self.successResultOf(last), DATA[99:])
        self.assertIsNone(self.content.path)
        late = BlobReader(BLOB, self.feed, self.fetch, clock=self.clock)
        self.assertEqual(self.successResultOf(late.read(0, 1000)), DATA)
        late.close()

    def test_lost(self) -> None:
        """
        Where the disk loses them after that, the end of new bytes is held again.
        """
        self.successResultOf(self.grown(100))
        self.feed.verified(100)
        self.feed.restarted()
        self.path = self.mktemp()
        self.grow(100)
        self.failureResultOf(self.content.read(99, 1), Restarted)
        self.assertNoResult(self.content.read(99, 1))

    def test_gone(self) -> None:
        """
        Reading a blob that an operator has removed fails at once.
        """
        self.feed.sealed(self.path, 100)
        self.assertIn("No such file", str(self.failureResultOf(self.content.read(0, 9), StoreError).value))

    def test_whole(self) -> None:
        """
        A blob that is in the store is read without a download.
        """
        Path(self.path).write_bytes(DATA)
        self.feed.sealed(self.path, len(DATA))
        content = BlobReader(BLOB, self.feed, lambda: None, clock=self.clock)
        self.assertEqual(self.successResultOf(content.read(0, 1000)), DATA)
        content.close()

    def test_cancel(self) -> None:
        """
        Cancelling a read ends the wait, and nothing else.
        """
        reading = self.content.read(0, 10)
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.grow(10)
        self.assertEqual(self.successResultOf(self.content.read(0, 10)), DATA[:10])

    def test_wrong_bytes(self) -> None:
        """
        Bytes that were wrong fail one read; the next reads return the right
        ones.
        """
        self.successResultOf(self.grown(10))
        waiting = self.content.read(20, 1)
        self.feed.restarted()
        self.failureResultOf(waiting, Restarted)
        self.path = self.mktemp()
        again = self.content.read(0, 5)
        self.grow(5)
        self.assertEqual(self.successResultOf(again), DATA[:5])

    def grown(self, size: int) -> Deferred[bytes]:
        """
        Read one byte of so many.
        """
        reading = self.content.read(0, 1)
        self.grow(size)
        return reading

    def test_wrong_bytes_unnoticed(self) -> None:
        """
        Where no read waits when the bytes turn out to be wrong, the next read
        fails.
        """
        self.successResultOf(self.grown(10))
        self.feed.restarted()
        self.failureResultOf(self.content.read(5, 5), Restarted)

    def test_download_fails(self) -> None:
        """
        A download that fails fails the reads that wait; a later read requests
        the blob again.
        """
        reading = self.content.read(0, 10)
        self.works[0].errback(Denied("no", host="h"))
        self.clock.advance(0)
        self.failureResultOf(reading, Denied)
        again = self.content.read(0, 10)
        self.assertEqual(len(self.works), 2)
        self.grow(10)
        self.assertEqual(self.successResultOf(again), DATA[:10])

    def test_close(self) -> None:
        """
        Closing the reader ends a download without other watchers.
        """
        reading = self.content.read(0, 10)
        self.content.close()
        self.clock.advance(0)
        self.assertEqual(self.downloads.transfers(), [])
        reading.cancel()
        self.failureResultOf(reading, CancelledError)

    def test_replaced(self) -> None:
        """
        A blob that comes by another way is another file: its bytes are read from the start.
        """
        self.grow(10)
        self.assertEqual(self.successResultOf(self.content.read(0, 5)), DATA[:5])
        other = Path(self.mktemp())
        other.write_bytes(DATA)
        reading = self.content.read(10, 100)
        self.feed.replaced(str(other), len(DATA))
        self.feed.replaced(str(other), len(DATA))
        self.failureResultOf(reading, Restarted)
        self.assertEqual(self.successResultOf(self.content.read(0, 100)), DATA)
        self.assertEqual(self.feed.origins, {""})

    def test_short(self) -> None:
        """
        A file that lost its end is an error, and not an empty piece, after which a reader would ask again.
        """
        reading = self.content.read(0, 10)
        self.grow(10)
        self.successResultOf(reading)
        assert self.content._file is not None
        os.truncate(f"/proc/self/fd/{self.content._file}", 0)
        self.failureResultOf(self.content.read(0, 10), StoreError)

    def test_unreadable(self) -> None:
        """
        A file that cannot be opened fails the read.
        """
        reading = self.content.read(0, 10)
        self.feed.grown("/proc/self/mem/x", 5)
        self.assertIsInstance(self.failureResultOf(reading, StoreError).value, XferdError)

    def ready(self, offset: int, size: int, least: int = 1) -> Deferred[int]:
        """
        Wait for the bytes of a request.
        """
        return self.content.ready(offset, size, least)

    def test_ready(self) -> None:
        """
        A request may begin when its bytes are here, up to the blob's end.
        """
        waiting = self.ready(0, 50)
        self.grow(49)
        self.assertNoResult(waiting)
        self.grow(50)
        self.assertEqual(self.successResultOf(waiting), 50)
        self.assertEqual(self.successResultOf(self.ready(20, 10)), 10)
        last = self.ready(50, 1000)
        self.grow(100)
        self.assertNoResult(last)
        self.feed.sealed(self.path, 100)
        self.assertEqual(self.successResultOf(last), 50)

    def test_ready_with_less(self) -> None:
        """
        After a second it may begin with the bytes that are here, if they
        suffice.
        """
        waiting, enough = self.ready(0, 50), self.ready(0, 50, 20)
        self.grow(10)
        self.clock.advance(PATIENCE)
        self.assertEqual(self.successResultOf(waiting), 10)
        self.failureResultOf(enough, Postponed)

    def test_not_ready(self) -> None:
        """
        Where no byte came for a second, it is postponed until some have.
        """
        waiting = self.ready(0, 50)
        self.clock.advance(PATIENCE)
        postponed = self.failureResultOf(waiting, Postponed).value
        assert isinstance(postponed, Postponed)
        self.assertNoResult(postponed.ready)
        self.grow(1)
        self.successResultOf(postponed.ready)

    def test_not_ready_and_failed(self) -> None:
        """
        An error between two calls fails the next one.
        """
        waiting = self.ready(0, 50)
        self.clock.advance(PATIENCE)
        postponed = self.failureResultOf(waiting, Postponed).value
        assert isinstance(postponed, Postponed)
        self.works[0].errback(Denied("no", host="h"))
        self.clock.advance(0)
        self.failureResultOf(postponed.ready, Denied)
        self.failureResultOf(self.ready(0, 50), Denied)

    def test_slowed(self) -> None:
        """
        While only our own limit slows its download, it is waited for.
        """
        limit = Reason(Obstacle.BANDWIDTH, detail="global")
        waiting = self.ready(0, 50)
        (transfer,) = self.downloads.transfers()
        transfer.activity.limit = lambda: limit
        for _ in range(5):
            self.clock.advance(PATIENCE)
        self.assertNoResult(waiting)
        limit = NO_REASON
        self.clock.advance(PATIENCE)
        self.failureResultOf(waiting, Postponed)

    def test_ready_cancelled(self) -> None:
        """
        A wait that is cancelled leaves nothing.
        """
        waiting = self.ready(0, 50)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.clock.advance(PATIENCE)
        self.grow(50)

    def test_rest(self) -> None:
        """
        At rest it has no descriptor; it is read on where the blob is by then.
        """
        before = len(os.listdir("/proc/self/fd"))
        self.successResultOf(self.grown(50))
        self.content.rest()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        self.assertEqual(self.successResultOf(self.content.read(10, 5)), DATA[10:15])
        self.content.rest()
        os.unlink(self.path)
        waiting = self.content.read(10, 5)
        self.path = self.mktemp()
        Path(self.path).write_bytes(DATA)
        self.feed.sealed(self.path, 100)
        self.assertEqual(self.successResultOf(waiting), DATA[10:15])
