"""
Tests for L{xferd.compression}.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zstandard import ZstdCompressor

from xferd.compression import HEAD_SIZE, compression_of

DATA = b"data" * 100


def zipped() -> bytes:
    """
    C{DATA} as the only member of a zip file.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as writer:
        writer.writestr("data", DATA)
    return file.getvalue()


class CompressionOfTests(SynchronousTestCase):
    """
    Tests for L{compression_of}.
    """

    def test_formats(self) -> None:
        """
        Each format is recognized by the first bytes of a file.
        """
        for name, data in {
            "gzip": gzip.compress(DATA),
            "zstd": ZstdCompressor().compress(DATA),
            "xz": lzma.compress(DATA),
            "bzip2": bz2.compress(DATA),
            "lzma": lzma.compress(DATA, lzma.FORMAT_ALONE),
            "zip": zipped(),
            # LZ4 frame format, "Magic Number".
            "lz4": (0x184D2204).to_bytes(4, "little") + DATA,
        }.items():
            self.assertEqual(compression_of(data[:HEAD_SIZE]), name)

    @given(st.integers(0x184D2A50, 0x184D2A5F), st.binary(max_size=2))
    def test_skippable_frame(self, magic: int, rest: bytes) -> None:
        """
        A skippable frame is a part of a zstd file (RFC 8878, 3.1.2).
        """
        self.assertEqual(compression_of(magic.to_bytes(4, "little") + rest), "zstd")

    def test_none(self) -> None:
        """
        A tar, a short file and an empty one have no compression.
        """
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as writer:
            writer.addfile(tarfile.TarInfo("name"))
        for head in (file.getvalue()[:HEAD_SIZE], b"\x1f", b""):
            self.assertEqual(compression_of(head), "")
