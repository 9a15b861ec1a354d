"""
Tests for L{xferd.v2.blob_response}.
"""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Request
from twisted.web.test.requesthelper import DummyChannel
from zope.interface import implementer
from zope.interface.verify import verifyObject

from xferd.errors import DigestMismatch
from xferd.interfaces.mirror import FilePart, IBlobReader, IFileReader
from xferd.v2.blob_response import ARRIVING, BlobResponse, RangeNotSatisfiable, Span, span_of
from xferd.v2.file_sender import AHEAD, is_cached


@implementer(IBlobReader)
class ArrivingBlob:
    """
    A blob that is not complete, with all of its bytes.

    @ivar most: how much was asked for, each time.
    """

    path = None

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)
        self.most: list[int] = []
        self.closed = False

    def read(self, offset: int, most: int) -> Deferred[bytes]:
        """
        Read what was asked for.
        """
        self.most.append(most)
        return succeed(self._data[offset : offset + most])

    def close(self) -> None:
        """
        Note it.
        """
        self.closed = True


class ArrivingTests(SynchronousTestCase):
    """
    Tests for L{BlobResponse} while a blob arrives.
    """

    def test_pieces(self) -> None:
        """
        The blob is sent in small pieces, since each client has its own in memory.
        """
        clock, channel = Clock(), DummyChannel()
        data = bytes(range(256)) * 300
        reader = ArrivingBlob(data)
        self.assertTrue(verifyObject(IBlobReader, reader))
        request = Request(channel, False)
        response = BlobResponse(request, reader, Span(0, len(data), False), clock, lambda *_: succeed(None))
        done = Deferred.fromCoroutine(response.run())
        clock.pump([0] * 4)
        self.successResultOf(done)
        self.assertEqual(reader.most, [ARRIVING, ARRIVING, len(data) - 2 * ARRIVING])
        self.assertTrue(channel.transport.written.getvalue().endswith(data))
        self.assertTrue(reader.closed)


@implementer(IFileReader)
class GrowingBlob:
    """
    A blob whose file grows as a test wants.
    """

    path = None

    def __init__(self, path: str, size: int) -> None:
        self.size = size
        self.closed = False
        self._file = os.open(path, os.O_RDONLY)
        self.rest = b""
        self._waiting: Deferred[FilePart | None] = Deferred()

    def grow(self, stop: int) -> None:
        """
        Have bytes up to C{stop}.
        """
        waiting, self._waiting = self._waiting, Deferred()
        waiting.callback(FilePart(self._file, stop))

    def fail(self) -> None:
        """
        Have had wrong bytes, and no file any more.
        """
        self.close()
        self._waiting.errback(DigestMismatch("the bytes were wrong"))

    def lose(self, rest: bytes) -> None:
        """
        Have no file for the rest.
        """
        self.rest = rest
        self._waiting.callback(None)

    def part(self, offset: int) -> Deferred[FilePart | None]:
        """
        Wait for the test.
        """
        return succeed(None) if self.rest else self._waiting

    def read(self, offset: int, most: int) -> Deferred[bytes]:
        """
        Read what has no file.
        """
        start = offset - (self.size - len(self.rest))
        return succeed(self.rest[start : start + most])

    def close(self) -> None:
        """
        Close the file, once.
        """
        if not self.closed:
            self.closed = True
            os.close(self._file)


class GrowingTests(SynchronousTestCase):
    """
    Tests for L{BlobResponse} while a blob's file grows.
    """

    data = bytes(range(256)) * (3 * AHEAD // 256)

    def setUp(self) -> None:
        """
        Begin a response.
        """
        path = self.path = self.mktemp()
        with open(path, "wb") as file:
            file.write(self.data)
        self.clock, self.channel = Clock(), DummyChannel()
        self.cuts: list[None] = []
        self.preloaded: list[tuple[int, int]] = []
        self.channel.transport.abortConnection = lambda: self.cuts.append(None)  # type: ignore[attr-defined]
        self.reader = GrowingBlob(path, len(self.data))
        self.addCleanup(self.reader.close)
        self.assertTrue(verifyObject(IFileReader, self.reader))
        self.before = set(os.listdir("/proc/self/fd"))
        span = Span(0, len(self.data), False)
        response = BlobResponse(Request(self.channel, False), self.reader, span, self.clock, self.preload)
        self.done = Deferred.fromCoroutine(response.run())

    def preload(self, offset: int, size: int) -> Deferred[None]:
        """
        Note it.
        """
        self.preloaded.append((offset, size))
        return succeed(None)

    def written(self) -> bytes:
        """
        The body so far.
        """
        self.clock.pump([0] * 200)
        return bytes(self.channel.transport.written.getvalue()).partition(b"\r\n\r\n")[2]

    def test_grows(self) -> None:
        """
        Each part is sent when it is here.
        """
        for stop in (1, 1000, 300_000, len(self.data)):
            self.reader.grow(stop)
            self.assertEqual(len(self.written()), stop)
        self.successResultOf(self.done)
        self.assertEqual(self.written(), self.data)
        self.assertLessEqual(set(os.listdir("/proc/self/fd")), self.before)

    def test_cold(self) -> None:
        """
        Bytes of long ago that the kernel no longer has are read by a thread; those of a
        moment ago are not looked for.
        """
        self.evict()
        self.reader.grow(AHEAD)
        self.assertEqual(len(self.written()), AHEAD)
        self.assertEqual(self.preloaded, [])
        # The kernel has read ahead.
        cold = self.evict()
        self.reader.grow(len(self.data))
        self.assertEqual(self.written(), self.data)
        # Overlayfs and tmpfs cannot tell.
        self.assertEqual(self.preloaded[:1], [(AHEAD, AHEAD)] if cold else [])

    def evict(self) -> bool:
        """
        Drop the file from the page cache.

        @return: whether it is known to be gone.
        """
        with open(self.path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return not is_cached(file.fileno(), AHEAD, 1)

    def test_full_disk(self) -> None:
        """
        What has no file is read.
        """
        self.reader.grow(1000)
        self.written()
        self.reader.lose(self.data[1000:])
        self.assertEqual(self.written(), self.data)
        self.successResultOf(self.done)
        self.assertLessEqual(set(os.listdir("/proc/self/fd")), self.before)

    def test_wrong_bytes(self) -> None:
        """
        Wrong bytes cut the connection, and the file is closed.
        """
        self.reader.grow(1000)
        self.written()
        self.reader.fail()
        self.written()
        self.assertNoResult(self.done)
        self.assertEqual(len(self.cuts), 1)
        self.assertLessEqual(set(os.listdir("/proc/self/fd")), self.before)
        self.done.cancel()
        self.failureResultOf(self.done, CancelledError)


class SpanTests(SynchronousTestCase):
    """
    The bytes that a request asks for.
    """

    def test_ranges(self) -> None:
        """
        One range is understood in its three forms (RFC 9110, section 14.1.2).
        """
        for header, start, stop in (
            ("bytes=500-1499", 500, 1500),
            ("bytes=500-", 500, 2048),
            ("bytes=-500", 1548, 2048),
            ("bytes=2000-5000", 2000, 2048),
            ("bytes=-5000", 0, 2048),
            ("bytes=0-0", 0, 1),
        ):
            self.assertEqual(span_of(header, 2048), Span(start, stop, True), header)

    def test_whole(self) -> None:
        """
        Without a range, with several, and with one that is malformed, the whole blob
        is sent.
        """
        for header in (
            None,
            "",
            "bytes=",
            "bytes=-",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=a-b",
            "bytes=1 -2",
        ):
            self.assertEqual(span_of(header, 2048), Span(0, 2048, False), header)

    def test_unsatisfiable(self) -> None:
        """
        A range without a byte of the blob is an error.
        """
        for header in ("bytes=500-0", "bytes=5000-10000", "bytes=2048-", "bytes=-0"):
            self.assertRaises(RangeNotSatisfiable, span_of, header, 2048)
        self.assertRaises(RangeNotSatisfiable, span_of, "bytes=0-", 0)

    @given(st.integers(0, 50), st.one_of(st.none(), st.integers(0, 60)), st.integers(1, 40))
    def test_within(self, first: int, last: int | None, size: int) -> None:
        """
        What is sent are the bytes of the range that the blob has.
        """
        data = bytes(range(size))
        wanted = data[first:] if last is None else data[first : last + 1]
        header = f"bytes={first}-{'' if last is None else last}"
        if not wanted:
            self.assertRaises(RangeNotSatisfiable, span_of, header, size)
        else:
            span = span_of(header, size)
            self.assertEqual(data[span.start : span.stop], wanted)
