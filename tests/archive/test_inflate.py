"""
Tests for L{xferd.archive.inflate}.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable, Mapping
from functools import cache

import zstandard
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.archive.inflate import PIECE, Inflater
from xferd.errors import BadArchive

PACK: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": cache(gzip.compress),
    "zstd": zstandard.ZstdCompressor().compress,
    "xz": cache(lzma.compress),
    "bzip2": cache(bz2.compress),
    "tar": bytes,
}
TAR = b"".join(b"entry %d\n" % n for n in range(60_000)).ljust(700_000, b"\0")


def inflate(data: bytes, step: int = 100_000) -> bytes:
    """
    Push a file through in steps.
    """
    inflater = Inflater()
    pieces: list[bytes] = []
    for at in range(0, len(data), step):
        for piece in inflater.feed(data[at : at + step]):
            assert len(piece) <= PIECE, len(piece)
            pieces.append(bytes(piece))
    pieces += [bytes(piece) for piece in inflater.finish()]
    assert inflater.consumed == len(data)
    assert inflater.members == pieces.count(b"")
    assert inflater.produced == sum(map(len, pieces))
    return b"".join(pieces)


class InflaterTests(SynchronousTestCase):
    """
    Files, packed in each of the ways.
    """

    def test_packings(self) -> None:
        """
        Each compression is detected by the first bytes, in pieces of any size.
        """
        for name, pack in PACK.items():
            for step in (1000, 7777, 10**9):
                self.assertEqual(inflate(pack(TAR), step), TAR, name)

    def test_members(self) -> None:
        """
        Members one after the other are one stream; zeros behind are padding.
        """
        for name, pack in PACK.items():
            if name != "tar":
                packed = pack(TAR[:300_000]) + pack(TAR[300_000:]) + bytes(1000)
                self.assertEqual(inflate(packed, 4099), TAR, name)

    def test_empty_members(self) -> None:
        """
        Empty members, of which megabytes could hold the daemon up for seconds,
        are each a piece of their own, and refused beyond ten thousand.
        """
        for name, pack in PACK.items():
            if name == "tar":
                continue
            empty, tail = pack(b""), pack(TAR)
            self.assertEqual(inflate(empty * 9_999 + tail, 1 << 22), TAR)
            self.assertEqual(inflate(empty * 10_000 + tail, 1 << 22), TAR)
            pieces: list[int] = []
            error = self.assertRaises(BadArchive, self.count, empty * 200_000, pieces)
            self.assertIn(f"10001 {name} streams", str(error))
            self.assertEqual(pieces, [0] * 10_000)

    def count(self, data: bytes, into: list[int]) -> None:
        """
        Note the sizes of all pieces.
        """
        into.extend(len(piece) for piece in Inflater().feed(data))

    def test_small_members(self) -> None:
        """
        Of members with a KiB in them there may be any number.
        """
        for pack in (PACK["gzip"], PACK["zstd"]):
            self.assertEqual(len(inflate(pack(bytes(1024)) * 11_000, 1 << 22)), 1024 * 11_000)
            self.assertEqual(len(inflate(pack(bytes(512)) * 20_000, 1 << 22)), 512 * 20_000)
            self.assertRaises(BadArchive, inflate, pack(bytes(512)) * 20_001, 1 << 22)

    def test_skippable_frames(self) -> None:
        """
        zstd's skippable frames are skipped before, between and after others,
        in pieces of any size; their magic number at the start means zstd, too.
        """
        packed = PACK["zstd"](TAR[:300_000]), PACK["zstd"](TAR[300_000:])
        for size in (0, 4, 5000, 200_000):
            skips = [
                bytes([0x50 + n]) + b"\x2a\x4d\x18" + struct.pack("<I", size) + b"\1" * size
                for n in (0, 7, 15)
            ]
            whole = skips[0] + packed[0] + skips[1] + skips[2] + packed[1] + skips[2]
            for step in (1, 4099) if size < 100 else (7777, 10**9):
                self.assertEqual(inflate(whole, step), TAR)
        self.assertRaises(BadArchive, inflate, b"\x50\x2a\x4d\x18\x04\0\0\0ski")

    @given(st.binary(max_size=200), st.integers(1, 50))
    def test_small(self, data: bytes, step: int) -> None:
        """
        Also the shortest file is inflated.
        """
        for pack in PACK.values():
            if pack is not bytes:
                self.assertEqual(inflate(pack(data), step), data)

    def test_short_file(self) -> None:
        """
        A file that is shorter than any magic is taken for what it is.
        """
        self.assertEqual(inflate(b"ab"), b"ab")
        self.assertEqual(inflate(b""), b"")

    def test_breaks_off(self) -> None:
        """
        A packed file that breaks off is refused.
        """
        for name, pack in PACK.items():
            if name != "tar":
                packed = pack(TAR)
                for cut in (len(packed) - 1, len(packed) // 2, 7):
                    self.assertRaises(BadArchive, inflate, packed[:cut])

    def test_damaged(self) -> None:
        """
        A packed file with wrong bytes is refused.
        """
        for name, pack in PACK.items():
            if name != "tar":
                packed = bytearray(pack(TAR))
                packed[len(packed) // 2 : len(packed) // 2 + 40] = b"\x55" * 40
                error = self.assertRaises(BadArchive, inflate, bytes(packed))
                self.assertIn("cannot be inflated", str(error), name)
                self.assertRaises(BadArchive, inflate, pack(TAR) + b"garbage")

    def test_bomb(self) -> None:
        """
        A file that inflates beyond measure is refused, in small pieces.
        """
        bomb = zstandard.ZstdCompressor().compress(bytes(200 * 1024 * 1024))
        error = self.assertRaises(BadArchive, inflate, bomb)
        self.assertIn("times its size", str(error))

    def test_zeros(self) -> None:
        """
        The most that gzip can make of zeros is taken.
        """
        inflater = Inflater()
        for piece in inflater.feed(gzip.compress(bytes(100_000_000), 9)):
            del piece
        self.assertEqual((list(inflater.finish()), inflater.produced), ([], 100_000_000))
