"""
Tests for L{xferd.v2.blob_response}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.v2.blob_response import RangeNotSatisfiable, Span, span_of


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
