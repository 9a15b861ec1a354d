"""
Tests for L{xferd.fleet.frames}.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.fleet.frames import MOST, Damaged, FrameReader, frame_facts, make_frame
from xferd.names import Digest

DIGEST = Digest.of(b"a blob")


def proof_of(offset: int, data: bytes) -> str:
    """
    A proof, without a secret.
    """
    return Digest.of("\n".join(frame_facts(DIGEST, offset, data)).encode()).hex


def framed(pieces: list[bytes], offset: int = 0) -> bytes:
    """
    Some pieces, in frames.
    """
    found = b""
    for piece in pieces:
        found += make_frame(piece, proof_of(offset, piece))
        offset += len(piece)
    return found


def reader(offset: int = 0) -> FrameReader:
    """
    A reader that expects such proofs.
    """
    return FrameReader(offset, lambda start, data, proof: proof == proof_of(start, data), "n1")


class FramesTests(SynchronousTestCase):
    """
    Frames are made and read.
    """

    @given(
        st.lists(st.binary(min_size=1, max_size=300), max_size=5),
        st.integers(0, 1 << 60),
        st.lists(st.integers(0, 2000)),
    )
    def test_any_pieces(self, pieces: list[bytes], offset: int, cuts: list[int]) -> None:
        """
        However they arrive, the bytes are those that were sent.
        """
        data, found, reading = framed(pieces, offset), b"", reader(offset)
        places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        for start, stop in pairwise(places):
            found += b"".join(reading.read(data[start:stop]))
        self.assertEqual(found, b"".join(pieces))

    @given(st.binary(min_size=1, max_size=300), st.data())
    def test_changed(self, piece: bytes, data: st.DataObject) -> None:
        """
        Whatever bit is changed, no byte of that frame is used, and those before it are.
        """
        sent = bytearray(framed([b"first", piece]))
        first = len(framed([b"first"]))
        place = data.draw(st.integers(first, len(sent) - 1))
        sent[place] ^= 1 << data.draw(st.integers(0, 7))
        found, reading = b"", reader()
        try:
            for got in reading.read(bytes(sent)):
                found += got
        except Damaged as e:
            self.assertEqual(e.host, "n1")
        self.assertEqual(found, b"first")

    def test_elsewhere(self) -> None:
        """
        A frame proves its place in the blob, too.
        """
        with self.assertRaises(Damaged):
            list(reader(7).read(framed([b"some bytes"])))

    def test_too_long(self) -> None:
        """
        A frame that is too long is refused by its head, as is an empty one.
        """
        self.assertEqual(len(b"".join(reader().read(framed([bytes(MOST)])))), MOST)
        for size in (0, MOST + 1):
            with self.assertRaises(Damaged):
                list(reader().read(size.to_bytes(4)))
