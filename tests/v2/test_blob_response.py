"""
Tests for L{xferd.v2.blob_response}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Request
from twisted.web.test.requesthelper import DummyChannel
from zope.interface import implementer
from zope.interface.verify import verifyObject

from xferd.interfaces.mirror import IBlobReader
from xferd.v2.blob_response import ARRIVING, BlobResponse, RangeNotSatisfiable, Span, span_of


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
