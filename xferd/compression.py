# -*- test-case-name: tests.test_compression -*-
"""
Compression formats by their magic numbers, and the limits of what inflates.

Layers are inflated by L{xferd.unpack.inflate} in worker processes, and
archives by L{xferd.archive.inflate} in the reactor; both have these limits.

Imports no Twisted: the unpacking worker uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MAX_RATIO: Final = 1100
"""
Uncompressed bytes for each compressed byte, at most; checked above
L{RATIO_FROM}.  gzip reaches 1,032 with zeros.
"""

RATIO_FROM: Final = 64 * 1024 * 1024
"""Uncompressed bytes above which the ratio is checked."""

MAX_WINDOW: Final = 128 * 1024 * 1024
"""Bytes of memory that a zstd frame or an xz stream may ask for."""

HEAD_SIZE: Final = 6
"""Bytes of the longest magic number."""

_MAGIC_NUMBERS: Final[Mapping[bytes, str]] = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"\x5d\x00\x00": "lzma",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
}


def compression_of(head: bytes) -> str:
    """
    The compression format of a file: C{gzip}, C{zstd}, C{xz}, C{bzip2},
    C{lzma}, C{lz4}, C{zip}, or the empty string for any other content.

    A zstd file may begin with a skippable frame (RFC 8878, 3.1.2).

    @param head: its first L{HEAD_SIZE} bytes, or all if it has fewer.
    """
    if head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:
        return "zstd"
    return next((name for magic, name in _MAGIC_NUMBERS.items() if head.startswith(magic)), "")
