"""
Tests for L{xferd.registry.transport.ranges}.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.registry.transport.ranges import (
    ContentRange,
    check_rest,
    chunk_range,
    parse_content_range,
    parse_session_range,
    parse_unsatisfied,
    range_from,
)

_SIZES = st.integers(1, 10**15)


class ParseTests(SynchronousTestCase):
    """
    C{Content-Range} is read by its grammar.
    """

    def test_read(self) -> None:
        """
        With and without a total, in any case.
        """
        self.assertEqual(parse_content_range("bytes 5-9/10"), ContentRange(5, 9, 10))
        self.assertEqual(parse_content_range(" Bytes  5-9/* "), ContentRange(5, 9, None))
        self.assertEqual(ContentRange(5, 9, 10).length, 5)

    def test_refused(self) -> None:
        """
        What names no bytes, or impossible ones, is refused.
        """
        for text in (
            "",
            "bytes */10",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes=5-9/10",
            "items 0-1/2",
            "bytes -5/9",
        ):
            self.assertRaises(ValueError, parse_content_range, text)

    def test_unsatisfied(self) -> None:
        """
        A 416 may have the size.
        """
        self.assertEqual(parse_unsatisfied("bytes */1234"), 1234)
        for text in ("", "bytes */*", "bytes 0-1/2", "*/5"):
            self.assertIsNone(parse_unsatisfied(text))

    @given(st.text(max_size=40))
    @settings(max_examples=60, deadline=None)
    def test_anything(self, text: str) -> None:
        """
        No text is taken for a range by accident, and none raises anything
        but ValueError.
        """
        try:
            found = parse_content_range(text)
        except ValueError:
            return
        self.assertLessEqual(found.first, found.last)


class CheckRestTests(SynchronousTestCase):
    """
    A 206 must have the range that was requested.
    """

    def test_asked(self) -> None:
        """
        The request names the first byte, and the last one where it is not the
        blob's.
        """
        self.assertEqual(range_from(7), "bytes=7-")
        self.assertEqual(range_from(0, 100), "bytes=0-99")

    @given(_SIZES, st.data())
    @settings(max_examples=60, deadline=None)
    def test_right(self, total: int, data: st.DataObject) -> None:
        """
        The rest of any blob from any offset is accepted, with its total
        or without.
        """
        offset = data.draw(st.integers(0, total - 1))
        for told in (str(total), "*"):
            found = check_rest([f"bytes {offset}-{total - 1}/{told}"], offset, total - offset)
            self.assertEqual((found.first, found.length), (offset, total - offset))

    @given(_SIZES, st.data())
    @settings(max_examples=60, deadline=None)
    def test_part(self, total: int, data: st.DataObject) -> None:
        """
        A part is accepted up to the end that was requested, or the
        blob's if that comes first, and no other.
        """
        offset = data.draw(st.integers(0, total - 1))
        end = data.draw(st.integers(offset + 1, total + 5))
        stop = min(end, total)
        found = check_rest([f"bytes {offset}-{stop - 1}/{total}"], offset, stop - offset, end)
        self.assertEqual((found.first, found.length, found.total), (offset, stop - offset, total))
        found = check_rest([f"bytes {offset}-{end - 1}/*"], offset, None, end)
        self.assertEqual((found.length, found.total), (end - offset, None))
        other = data.draw(st.integers(offset + 1, total))
        if other != stop:
            self.assertRaises(
                ValueError, check_rest, [f"bytes {offset}-{other - 1}/{total}"], offset, None, end
            )

    @given(_SIZES, st.data())
    @settings(max_examples=60, deadline=None)
    def test_wrong(self, total: int, data: st.DataObject) -> None:
        """
        Any other part is refused.
        """
        first = data.draw(st.integers(0, total - 1))
        last = data.draw(st.integers(first, total - 1))
        offset = data.draw(st.integers(0, total))
        if first == offset and last == total - 1:
            offset += 1
        self.assertRaises(ValueError, check_rest, [f"bytes {first}-{last}/{total}"], offset, None)

    def test_reasons(self) -> None:
        """
        The message names the fault.
        """
        for headers, length, why in (
            ([], None, "0 Content-Range"),
            (["bytes 5-9/10", "bytes 5-9/10"], None, "2 Content-Range"),
            (["bytes 4-9/10"], None, "from 4 on instead of 5"),
            (["bytes 5-8/10"], None, "up to 8 of 10"),
            (["bytes 5-9/10"], 6, "body of 6 bytes"),
        ):
            error = self.assertRaises(ValueError, check_rest, headers, 5, length)
            self.assertIn(why, str(error))


class SessionRangeTests(SynchronousTestCase):
    """
    Upload sessions have ranges of their own form.
    """

    def test_confirmed(self) -> None:
        """
        The bytes that a session has; zero bytes are written like one byte.
        """
        for text, confirmed in (
            ("0-99", 100),
            (" bytes=0-99 ", 100),
            ("bytes 0-1", 2),
            ("0-0", 0),
            ("0--1", 0),
            ("", None),
            ("5-99", None),
            ("0-", None),
            ("x", None),
            ("0-99/100", None),
        ):
            self.assertEqual(parse_session_range(text), confirmed, text)

    @given(start=st.integers(0, 1 << 40), length=st.integers(1, 1 << 30))
    @settings(max_examples=20)
    def test_chunk(self, start: int, length: int) -> None:
        """
        The range of a chunk is inclusive; the session's, if it began at 0,
        reports what it has confirmed.
        """
        first, last = chunk_range(start, length).split("-")
        self.assertEqual((int(first), int(last)), (start, start + length - 1))
        if start == 0 and length > 1:
            self.assertEqual(parse_session_range(chunk_range(0, length)), length)
