"""
Tests for L{xferd.unpack.protocol}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.unpack import protocol


class WireTests(SynchronousTestCase):
    """
    Tests for L{protocol}.
    """

    @given(st.integers(0, 10**9), st.text(), st.integers(), st.integers(1, 9))
    def test_round_trip(self, number: int, text: str, value: int, step: int) -> None:
        """
        A message is decoded unchanged, in pieces of any size.
        """
        line = protocol.address(number, protocol.encode("verb", text=text, value=value))
        lines = protocol.Lines()
        found = [
            each for at in range(0, 2 * len(line), step) for each in lines.feed((line + line)[at : at + step])
        ]
        self.assertEqual(len(found), 2)
        for each in found:
            got, rest = protocol.split(each)
            self.assertEqual((got, protocol.decode(rest)), (number, ("verb", {"text": text, "value": value})))

    def test_endless(self) -> None:
        """
        A line that has no end is refused.
        """
        self.assertRaises(ValueError, protocol.Lines().feed, b"x" * (protocol.MAX_LINE + 1))
