"""
Tests for L{xferd.registry.transport.response_head}.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis.strategies import integers, lists, sampled_from
from twisted.trial.unittest import SynchronousTestCase

from xferd.registry.transport.response_head import (
    MAX_HEAD_BYTES,
    MAX_HEAD_LINES,
    MAX_INTERIM,
    MAX_LINE,
    HeadLimit,
    HeadTooLong,
)

_FINAL = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
_INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


def _feed(*pieces: bytes) -> HeadLimit:
    """
    Count some bytes.
    """
    limit = HeadLimit("h:1")
    for piece in pieces:
        limit.feed(piece)
    return limit


class HeadLimitTests(SynchronousTestCase):
    """
    L{HeadLimit} counts the head of a response, and nothing after it.
    """

    def test_ordinary(self) -> None:
        """
        A head is over at its empty line, and the body is not counted.
        """
        self.assertFalse(_feed(_FINAL[:-1]).over)
        limit = _feed(_FINAL)
        self.assertTrue(limit.over)
        limit.feed(b"x\n" * MAX_HEAD_BYTES)
        self.assertTrue(_feed(_FINAL + b"x\n" * MAX_HEAD_BYTES).over)

    def test_interim(self) -> None:
        """
        Ten interim responses may come before the final one, and no more.
        """
        self.assertTrue(_feed(_INTERIM * MAX_INTERIM + _FINAL).over)
        error = self.assertRaises(HeadTooLong, _feed, _INTERIM * (MAX_INTERIM + 1))
        self.assertIn("more than 10 interim (1xx) responses", str(error))
        self.assertIn("h:1", str(error))

    def test_interim_spelling(self) -> None:
        """
        A status counts as interim where twisted.web takes it for one, however
        it is spelled.
        """
        for status in (b"1_00", b"+100", b"0100"):
            for rest in (b" \r\n\r\n", b"\r\nA: b c\r\n\r\n"):
                head = b"HTTP/1.1 " + status + rest
                self.assertRaises(HeadTooLong, _feed, head * (MAX_INTERIM + 1))

    def test_lines(self) -> None:
        """
        A head of 256 lines is taken, one of 257 refused, and interim heads
        count.
        """
        field = b"a: b\r\n"
        most = b"HTTP/1.1 200 OK\r\n" + field * (MAX_HEAD_LINES - 2) + b"\r\n"
        self.assertTrue(_feed(most).over)
        for head in (_INTERIM + most, most.replace(field, field * 2, 1)):
            error = self.assertRaises(HeadTooLong, _feed, head)
            self.assertIn("more than 256 lines", str(error))

    def test_folded(self) -> None:
        """
        Folded lines, and lines without a carriage return, are lines.
        """
        self.assertRaises(HeadTooLong, _feed, b"HTTP/1.1 200 OK\na: b\n" + b" c\n" * MAX_HEAD_LINES)

    def test_almost_empty(self) -> None:
        """
        A line of a carriage return more is not the end of the head.
        """
        limit = _feed(b"HTTP/1.1 200 OK\r\n\r\r\n")
        self.assertFalse(limit.over)

    def test_bytes(self) -> None:
        """
        A head has at most 256 KiB.
        """
        field = b"a: " + b"b" * 4000 + b"\r\n"
        head = b"HTTP/1.1 200 OK\r\n" + field * 200
        error = self.assertRaises(HeadTooLong, _feed, head)
        self.assertIn("more than 262144 bytes", str(error))

    def test_line(self) -> None:
        """
        A line has at most 16 KiB, in whatever pieces it comes.
        """
        self.assertRaises(HeadTooLong, _feed, b"a" * (MAX_LINE + 1))
        error = self.assertRaises(HeadTooLong, _feed, *[b"a" * 1000] * 17)
        self.assertIn("a line of more than 16384 bytes", str(error))

    def test_left_out(self) -> None:
        """
        Interim responses, each of which twisted.web would log, are left out,
        and all other bytes are unchanged.
        """
        for rest in (b"", b"body\r\n\r\n", _INTERIM):
            self.assertEqual(HeadLimit("h:1").feed(_INTERIM * MAX_INTERIM + _FINAL + rest), _FINAL + rest)
        for other in (b"no HTTP\n", b"\r\n", b"HTTP/1.1 2", b"HTTP/1.1 99 \r\na: b"):
            limit = HeadLimit("h:1")
            self.assertEqual(limit.feed(other) + limit.feed(b"\n"), other + b"\n")

    @given(
        lists(sampled_from([b"HTTP/1.1 ", b"103", b"200", b" ", b"a: b", b"\r", b"\n", b"\r\n", b"\r\n\r\n"]))
    )
    def test_at_once(self, parts: list[bytes]) -> None:
        """
        A head that arrives at once is read as one that arrives byte by byte.
        """
        data = b"".join(parts)
        at_once, slowly = HeadLimit("h:1"), HeadLimit("h:1")
        self.assertEqual(at_once.feed(data), b"".join(slowly.feed(bytes([byte])) for byte in data))
        self.assertEqual(at_once.over, slowly.over)

    @given(lists(integers(1, len(_INTERIM + _FINAL) - 1), max_size=6))
    def test_pieces(self, cuts: list[int]) -> None:
        """
        How the bytes are cut changes nothing.
        """
        data = _INTERIM + _FINAL
        edges = [0, *sorted(cuts), len(data)]
        pieces = [data[a:b] for a, b in pairwise(edges)]
        limit = HeadLimit("h:1")
        self.assertEqual(b"".join(limit.feed(piece) for piece in pieces), _FINAL)
        self.assertTrue(limit.over)
