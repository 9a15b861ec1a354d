# -*- test-case-name: tests.archive.test_inflate -*-
"""
From the bytes of a file to the bytes of the tar in it, pushed piece by piece.

The first bytes say how the file is packed: gzip, zstd, xz, bzip2, or not at
all.  zstd may begin with a skippable frame (RFC 8878, 3.1.2).  Several members
are one stream, as C{cat a.gz b.gz} makes it; zeros behind the last one are
padding.

What comes out is handed on in pieces that are small whatever went in, and an
empty piece behind each member, so that who inflates in the reactor may let
others have their turn in between.
"""

from __future__ import annotations

from bz2 import BZ2Decompressor
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from lzma import FORMAT_XZ, LZMADecompressor, LZMAError
from typing import TYPE_CHECKING, Any, Final, Protocol

from isal.igzip_lib import DECOMP_GZIP, IgzipDecompressor, IsalError
from zstandard import ZstdDecompressor, ZstdError

from xferd.errors import BadArchive

if TYPE_CHECKING:
    from zstandard import ZstdDecompressionObj

PIECE: Final = 64 * 1024
"""Bytes of a piece, at most."""

RATIO: Final = 1100
"""
Bytes of tar for each byte of the file, at most; looked at above L{RATIO_FROM}.
gzip reaches 1,032 with zeros.
"""

RATIO_FROM: Final = 64 * 1024 * 1024
MAX_WINDOW: Final = 128 * 1024 * 1024
"""The memory, in bytes, that a zstd frame or an xz stream may ask for."""

MEMBERS: Final = 10_000
"""Members of a file, besides one for each L{MEMBER_SIZE} bytes of its tar."""

MEMBER_SIZE: Final = 1024

_MAGIC = 6
_NOTHING = memoryview(b"")
_SLICE = 1024
"""Bytes that zstd is given at once: at most 128 KiB come out for each four of them."""

_BAD: Any = (EOFError, IsalError, LZMAError, OSError, OverflowError, ZstdError)  # isal's stubs hide its base


class _Decompressor(Protocol):
    """
    What those of Python's own have in common.
    """

    @property
    def eof(self) -> bool:
        """
        Whether the member has ended.
        """

    @property
    def needs_input(self) -> bool:
        """
        Whether more has to come before more comes out.
        """

    @property
    def unused_data(self) -> bytes:
        """
        What came behind the member's end.
        """

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """
        Take some bytes; give at most so many.
        """


class _Zstd:
    """
    The same for zstd, whose own gives all that there is at once.
    """

    def __init__(self, decompressor: ZstdDecompressor) -> None:
        """
        @param decompressor: what all frames of a file share: to make it takes
            longer than to inflate a small frame.
        """
        self._inner: ZstdDecompressionObj = decompressor.decompressobj()
        self._in = b""
        self._out = b""
        self.unused_data = b""

    @property
    def eof(self) -> bool:
        return self._inner.eof and not self._out

    @property
    def needs_input(self) -> bool:
        return not self._in and not self._out

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        self._in += data
        while self._in and not self._out and not self._inner.eof:
            self._out = self._inner.decompress(self._in[:_SLICE])
            self._in = self._in[_SLICE:]
            if self._inner.eof:
                self.unused_data, self._in = self._inner.unused_data + self._in, b""
        piece, self._out = self._out[:max_length], self._out[max_length:]
        return piece


_MAGICS: Final[Mapping[bytes, str]] = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
}
_Make = Callable[[], _Decompressor]
_MAKERS: Final[Mapping[str, Callable[[], _Make]]] = {
    "gzip": lambda: partial(IgzipDecompressor, flag=DECOMP_GZIP),
    "zstd": lambda: partial(_Zstd, ZstdDecompressor(max_window_size=MAX_WINDOW)),
    "xz": lambda: partial(LZMADecompressor, FORMAT_XZ, memlimit=MAX_WINDOW),
    "bzip2": lambda: BZ2Decompressor,
}
"""What makes the decompressors of one file, one for each member."""


def packing_of(head: bytes) -> str:
    """
    How a file is packed: C{gzip}, C{zstd}, C{xz}, C{bzip2}, or not, which is
    the empty string.

    @param head: its first six bytes, or all if it has fewer.
    """
    if head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:
        return "zstd"
    return next((name for magic, name in _MAGICS.items() if head.startswith(magic)), "")


class Inflater:
    """
    One file's bytes on their way.

    Life cycle: C{feed} any number of times, then C{finish}.

    @ivar consumed: bytes of the file so far.
    @ivar produced: bytes of the tar so far.
    @ivar members: members that have ended so far.
    """

    def __init__(self) -> None:
        self.consumed = 0
        self.produced = 0
        self.members = 0
        self._head: bytes | None = b""
        self._packing = ""
        self._make: _Make | None = None
        self._member: _Decompressor | None = None

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """
        Take some bytes of the file; iterate to the end before the next.

        @return: what they inflate to, in pieces of at most L{PIECE} bytes; an
            empty one where a member has ended.
        @raise BadArchive: they do not, or to too much.
        """
        self.consumed += len(data)
        if self._head is not None:
            self._head += data
            if len(self._head) < _MAGIC:
                return
            data = self._sniffed()
        for at in range(0, len(data), PIECE):
            yield from self._inflate(data[at : at + PIECE])

    def finish(self) -> Iterator[memoryview]:
        """
        That was all.

        @return: the rest.
        @raise BadArchive: the file breaks off.
        """
        if self._head is not None:
            yield from self._inflate(self._sniffed())
        if self._member is not None:
            raise BadArchive(f"the archive breaks off: its {self._packing} stream has no end")

    def _sniffed(self) -> bytes:
        """
        Choose by magic; gives the bytes that were looked at.
        """
        head, self._head = self._head or b"", None
        self._packing = packing_of(head)
        maker = _MAKERS.get(self._packing)
        self._make = None if maker is None else maker()
        return head

    def _inflate(self, data: bytes) -> Iterator[memoryview]:
        if self._make is None:
            self.produced += len(data)
            if data:
                yield memoryview(data)
            return
        try:
            yield from self._members(data, self._make)
        except _BAD as e:
            raise BadArchive(
                f"the archive cannot be inflated after {self.produced} bytes: {str(e) or self._packing}"
            ) from e

    def _members(self, data: bytes, make: _Make) -> Iterator[memoryview]:
        while True:
            if self._member is None:
                data = data.lstrip(b"\0")
                if not data:
                    return
                self._member = make()
            member = self._member
            piece = member.decompress(data, PIECE)
            data = b""
            if piece:
                self.produced += len(piece)
                if self.produced > RATIO_FROM and self.produced > RATIO * self.consumed:
                    raise BadArchive(f"the archive inflates to more than {RATIO} times its size")
                yield memoryview(piece)
            if member.eof:
                data, self._member = member.unused_data, None
                self._count_member()
                yield _NOTHING
            elif member.needs_input and len(piece) < PIECE:
                return

    def _count_member(self) -> None:
        """
        A member has ended.

        @raise BadArchive: there are too many for what is in them.
        """
        self.members += 1
        if self.members > MEMBERS + self.produced // MEMBER_SIZE:
            raise BadArchive(
                f"the archive has {self.members} {self._packing} streams one behind the other, of less than "
                f"{MEMBER_SIZE} bytes on average: at most {MEMBERS} of those may be in it"
            )
