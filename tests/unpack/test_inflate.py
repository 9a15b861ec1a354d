"""
Tests for L{xferd.unpack.inflate} and L{xferd.unpack.limits}.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from hashlib import sha256, sha512

import zstandard
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.unpack.tars import LIMITS, Bytes, gzipped
from xferd.errors import BadLayer
from xferd.interfaces.unpack import UnpackLimits
from xferd.unpack.inflate import BUFFER_SIZE, Blocks
from xferd.unpack.limits import printable

SKIPPABLE = b"\x50\x2a\x4d\x18\x05\0\0\0abcde"


def zstd(*frames: bytes) -> bytes:
    """
    Several zstd frames.
    """
    return b"".join(zstandard.ZstdCompressor(write_checksum=True).compress(frame) for frame in frames)


class BlocksTests(SynchronousTestCase):
    """
    Tests for L{Blocks}.
    """

    def inflate(
        self, blob: bytes, compression: str = "gzip", limits: UnpackLimits = LIMITS, most: int = 1 << 20
    ) -> bytes:
        """
        The inflated bytes, after their facts were checked.
        """
        blocks = Blocks(Bytes(blob, most), compression, limits)
        self.addCleanup(blocks.close)
        parts = [bytes(block) for block in blocks]
        self.assertTrue(all(len(part) == BUFFER_SIZE for part in parts[:-1]))
        whole = b"".join(parts)
        self.assertEqual(blocks.size, len(whole))
        self.assertEqual(blocks.diff_id, f"sha256:{sha256(whole).hexdigest()}")
        self.assertEqual(blocks.consumed, len(blob))
        return whole

    def test_sha512(self) -> None:
        """
        The diff ID has the requested algorithm.
        """
        blocks = Blocks(Bytes(gzipped(b"tar"), 7), "gzip", LIMITS, "sha512")
        self.addCleanup(blocks.close)
        self.assertEqual(b"".join(bytes(block) for block in blocks), b"tar")
        self.assertEqual(blocks.diff_id, f"sha512:{sha512(b'tar').hexdigest()}")

    def fails(self, blob: bytes, compression: str = "gzip", limits: UnpackLimits = LIMITS) -> str:
        """
        The error for an invalid blob.
        """
        return str(self.assertRaises(BadLayer, self.inflate, blob, compression, limits))

    @settings(max_examples=25, deadline=None)
    @given(
        parts=st.lists(st.binary(max_size=3000), min_size=1, max_size=5),
        zeros=st.integers(0, 600),
        most=st.sampled_from([1, 7, 4096]),
    )
    def test_gzip(self, parts: list[bytes], zeros: int, most: int) -> None:
        """
        Several members are one stream, and zeros behind them are padding,
        however few bytes come at a time.
        """
        blob = gzipped(*parts) + bytes(zeros)
        self.assertEqual(self.inflate(blob, most=most), b"".join(parts))

    @settings(max_examples=25, deadline=None)
    @given(
        parts=st.lists(st.binary(max_size=3000), min_size=1, max_size=5),
        first=st.booleans(),
        most=st.sampled_from([1, 7, 4096]),
    )
    def test_zstd(self, parts: list[bytes], first: bool, most: int) -> None:
        """
        Several frames are one stream, and skippable ones between them, at the
        begin and at the end are skipped.
        """
        blob = SKIPPABLE * first + SKIPPABLE.join(zstd(part) for part in parts) + SKIPPABLE
        self.assertEqual(self.inflate(blob, "zstd", most=most), b"".join(parts))

    def test_large(self) -> None:
        """
        More bytes than all buffers hold are inflated in order.
        """
        whole = b"".join(b"%0511d\n" % n for n in range(20_000))
        for blob, compression in ((gzipped(whole), "gzip"), (zstd(whole), "zstd"), (whole, "tar")):
            self.assertEqual(self.inflate(blob, compression), whole)

    def test_magic_wins(self) -> None:
        """
        The magic number has precedence over the media type.
        """
        tar = b"a tar" * 200
        for said in ("tar", "gzip", "zstd"):
            for blob in (tar, gzipped(tar), zstd(tar)):
                self.assertEqual(self.inflate(blob, said), tar)

    def test_short(self) -> None:
        """
        An empty blob is an empty tar if its media type is one, and an invalid
        gzip file; a short blob is read unchanged.
        """
        self.assertEqual(self.inflate(b"", "tar"), b"")
        self.assertEqual(self.inflate(b"abc", "tar"), b"abc")
        self.assertIn("empty", self.fails(b"", "gzip"))

    def test_foreign(self) -> None:
        """
        Compressions that OCI does not know are named.
        """
        self.assertIn("bzip2", self.fails(bz2.compress(b"x")))
        self.assertIn("xz", self.fails(lzma.compress(b"x")))
        self.assertIn("zip", self.fails(b"PK\x03\x04xxxx"))

    def test_garbage(self) -> None:
        """
        Trailing garbage, truncation, a wrong checksum and a broken stream are
        refused, for gzip and for zstd.
        """
        one, frame = gzipped(b"hello" * 50), zstd(b"hello" * 50)
        for blob in (
            one + b"garbage, garbage",
            one + bytes(10) + b"garbage, garbage",
            one[:-3],
            one[:12],
            one[:5],
            one[:-8] + bytes(4) + one[-4:],
            one[:-4] + bytes(4),
            one[:10] + b"\xff" * 50,
            frame + b"garbage",
            frame[:-1] + bytes([frame[-1] ^ 1]),
            frame[:6] + b"\xff" * 40,
        ):
            self.assertIn("cannot be inflated", self.fails(blob))

    def test_size(self) -> None:
        """
        One byte above the limit is too much.
        """
        small = evolve(LIMITS, size=1000)
        self.assertEqual(len(self.inflate(gzipped(bytes(1000)), limits=small)), 1000)
        self.assertIn("more than 1000 bytes", self.fails(gzipped(bytes(1001)), limits=small))

    def test_bomb(self) -> None:
        """
        Above 64 MiB, a blob that inflates beyond the ratio is a bomb, and is
        stopped there.
        """
        bomb = zstd(bytes(100 << 20))
        blocks = Blocks(Bytes(bomb), "zstd", LIMITS)
        self.addCleanup(blocks.close)
        error = self.assertRaises(BadLayer, list, blocks)
        self.assertIn("1100 times", str(error))
        self.assertLessEqual(blocks.size, (64 << 20) + BUFFER_SIZE)
        few = evolve(LIMITS, ratio=400)
        self.assertIn("400 times", self.fails(gzip.compress(bytes(100 << 20)), limits=few))
        self.assertEqual(len(self.inflate(zstd(bytes(60 << 20)))), 60 << 20)

    def test_zeros(self) -> None:
        """
        The most that gzip can make of zeros is no bomb.
        """
        size = 100_000_000
        packed = gzip.compress(bytes(size), 9)
        self.assertGreater(size / len(packed), 1000)
        self.assertEqual(len(self.inflate(packed)), size)

    def test_window(self) -> None:
        """
        The window of a zstd frame is limited to 128 MiB.
        """
        # RFC 8878, 3.1.1.1.2: exponent 17, so a window of 2 ** 27 bytes, and mantissa 1, an eighth more.
        begin, empty = b"\x28\xb5\x2f\xfd\x00", b"\x01\0\0"
        self.assertEqual(self.inflate(begin + bytes([17 << 3]) + empty), b"")
        for wide in (17 << 3 | 1, 18 << 3):
            message = self.fails(begin + bytes([wide]) + empty)
            self.assertIn("a zstd frame has a window above 134217728 bytes", message)

    def test_other_errors(self) -> None:
        """
        An error of the source is raised unchanged, and again on the next read.
        """

        class Failing(Bytes):
            def readinto(self, buffer: object, /) -> int:
                raise PermissionError("no")

        blocks = Blocks(Failing(b""), "gzip", LIMITS)
        self.assertEqual(blocks.consumed, 0)
        self.assertRaises(PermissionError, next, blocks)
        self.assertRaises(PermissionError, next, blocks)

    def test_close(self) -> None:
        """
        A reader that leaves early lets the threads end.
        """
        blocks = Blocks(Bytes(os.urandom(BUFFER_SIZE * 20)), "tar", LIMITS)
        next(blocks)
        blocks.close()
        for thread in blocks._threads:
            thread.join(10)
            self.assertFalse(thread.is_alive())


class ShowTests(SynchronousTestCase):
    """
    Tests for L{printable}.
    """

    def test_show(self) -> None:
        """
        Names in errors have no control characters and an end.
        """
        self.assertEqual(printable(b"a\x1b[31m\n\xff"), r"'a\x1b[31m\n\\xff'")
        self.assertLess(len(printable(b"x" * 5000)), 201)
