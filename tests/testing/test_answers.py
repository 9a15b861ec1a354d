"""
Tests for L{xferd.testing.answers}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.testing.answers import Answer, Problem, byte_range
from xferd.testing.layers import Blob


class ByteRangeTests(SynchronousTestCase):
    """
    Range headers (RFC 9110, 14.1.2).
    """

    def test_ignored(self) -> None:
        """
        Other units and invalid syntax are ignored.
        """
        for header in ("bytes=-", "bytes=1-2,4-5", "lines=1-2", "bytes=5-2", "", "bytes=x-"):
            self.assertIsNone(byte_range(header, 10), header)

    def test_unsatisfiable(self) -> None:
        """
        A range outside of the content is a 416 with the size.
        """
        for header in ("bytes=10-", "bytes=10-20", "bytes=-0"):
            answer = self.assertRaises(Problem, byte_range, header, 10).answer
            self.assertEqual((416, "bytes */10"), (answer.status, answer.headers["Content-Range"]))
        self.assertRaises(Problem, byte_range, "bytes=0-", 0)

    @given(st.integers(0, 100), st.integers(0, 100), st.binary(min_size=1, max_size=60))
    def test_as_slices(self, first: int, length: int, data: bytes) -> None:
        """
        A range is the slice of its bytes.
        """
        if first < len(data):
            for header in (f"bytes={first}-{first + length}", f"bytes={first}-"):
                found = byte_range(header, len(data))
                assert found is not None
                wanted = data[first : first + length + 1] if header[-1] != "-" else data[first:]
                self.assertEqual(wanted, data[slice(*found)])
        if length:
            self.assertEqual(
                (max(0, len(data) - length), len(data)), byte_range(f"bytes=-{length}", len(data))
            )


class AnswerTests(SynchronousTestCase):
    """
    The lengths of answers.
    """

    def test_length(self) -> None:
        """
        The length is that of the sent part.
        """
        blob = Blob.of("x/y", b"0123456789")
        for body in (blob, blob.read()):
            self.assertEqual((10, 10), ((whole := Answer(body=body)).total, whole.length))
            part = Answer(body=body, start=2, stop=5)
            self.assertEqual((10, 3), (part.total, part.length))
            with part.open() as opened:
                self.assertEqual(b"234", opened.read(part.length))
