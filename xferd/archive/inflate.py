# -*- test-case-name: tests.archive.test_inflate -*-
"""
Inflates an archive into its tar, as its bytes arrive.

The first bytes decide: gzip, zstd, xz, bzip2, or no compression.  Several
members are one stream, as C{cat a.gz b.gz} makes it; zeros after the last
member are padding.

The output comes in small pieces, however large the input, with an empty piece
after each member, so that a caller in the reactor can yield in between.
"""

from __future__ import annotations

from bz2 import BZ2Decompressor
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from lzma import FORMAT_XZ, LZMADecompressor, LZMAError
from typing import TYPE_CHECKING, Any, Final, Protocol

from isal.igzip_lib import DECOMP_GZIP, IgzipDecompressor, IsalError
from zstandard import ZstdDecompressor, ZstdError

from xferd.compression import HEAD_SIZE, MAX_RATIO, MAX_WINDOW, RATIO_FROM, compression_of
from xferd.errors import BadArchive

if TYPE_CHECKING:
    from zstandard import ZstdDecompressionObj

PIECE: Final = 64 * 1024
"""Bytes of a piece, at most."""

MEMBERS: Final = 10_000
"""Members of a file, at most, besides one for each L{MEMBER_SIZE} bytes of its tar."""

MEMBER_SIZE: Final = 1024
_NOTHING = memoryview(b"")
_SLICE = 1024
"""Bytes that zstd gets at once: each four of them inflate to 128 KiB at most."""

_BAD: Any = (EOFError, IsalError, LZMAError, OSError, OverflowError, ZstdError)  # isal's stubs hide its base


class _Decompressor(Protocol):
    """
    The common part of the decompressors of the standard library and isal.
    """

    @property
    def eof(self) -> bool:
        """
        Whether the member has ended.
        """

    @property
    def needs_input(self) -> bool:
        """
        Whether there is no output without further input.
        """

    @property
    def unused_data(self) -> bytes:
        """
        The bytes after the member's end.
        """

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """
        Add some bytes.

        @return: at most C{max_length} bytes of output.
        """


class _Zstd:
    """
    The same for zstd, whose decompressor returns all output at once.
    """

    def __init__(self, decompressor: ZstdDecompressor) -> None:
        """
        @param decompressor: shared by all frames of a file: creating it takes
            longer than inflating a small frame.
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


_Make = Callable[[], _Decompressor]
_MAKERS: Final[Mapping[str, Callable[[], _Make]]] = {
    "gzip": lambda: partial(IgzipDecompressor, flag=DECOMP_GZIP),
    "zstd": lambda: partial(_Zstd, ZstdDecompressor(max_window_size=MAX_WINDOW)),
    "xz": lambda: partial(LZMADecompressor, FORMAT_XZ, memlimit=MAX_WINDOW),
    "bzip2": lambda: BZ2Decompressor,
}
"""For each format, a function that returns the factory of one file's decompressors, one per member."""


class Inflater:
    """
    Inflates one archive.

    Life cycle: C{feed} any number of times, then C{finish}.

    @ivar consumed: bytes of the archive so far.
    @ivar produced: bytes of the tar so far.
    @ivar members: completed members so far.
    """

    def __init__(self) -> None:
        self.consumed = 0
        self.produced = 0
        self.members = 0
        self._head: bytes | None = b""
        self._compression = ""
        self._make: _Make | None = None
        self._member: _Decompressor | None = None

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """
        Add some bytes of the archive.  Iterate to the end before the next call.

        @return: the inflated bytes in pieces of at most L{PIECE} bytes; an
            empty piece at the end of a member.
        @raise BadArchive: the bytes cannot be inflated, or to too many.
        """
        self.consumed += len(data)
        if self._head is not None:
            self._head += data
            if len(self._head) < HEAD_SIZE:
                return
            data = self._sniffed()
        for at in range(0, len(data), PIECE):
            yield from self._inflate(data[at : at + PIECE])

    def finish(self) -> Iterator[memoryview]:
        """
        Report that the archive has no further bytes.

        @return: the remaining inflated bytes, as L{feed}.
        @raise BadArchive: the archive ends inside a member.
        """
        if self._head is not None:
            yield from self._inflate(self._sniffed())
        if self._member is not None:
            raise BadArchive(f"the archive is truncated: its {self._compression} stream has no end")

    def _sniffed(self) -> bytes:
        """
        Choose a decompressor by the magic number.

        @return: the bytes that were held back until then.
        """
        head, self._head = self._head or b"", None
        self._compression = compression_of(head)
        maker = _MAKERS.get(self._compression)
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
                f"the archive cannot be inflated after {self.produced} bytes: {str(e) or self._compression}"
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
                if self.produced > RATIO_FROM and self.produced > MAX_RATIO * self.consumed:
                    raise BadArchive(f"the archive inflates to more than {MAX_RATIO} times its size")
                yield memoryview(piece)
            if member.eof:
                data, self._member = member.unused_data, None
                self._count_member()
                yield _NOTHING
            elif member.needs_input and len(piece) < PIECE:
                return

    def _count_member(self) -> None:
        """
        @raise BadArchive: there are too many members for their size.
        """
        self.members += 1
        if self.members > MEMBERS + self.produced // MEMBER_SIZE:
            raise BadArchive(
                f"the archive has {self.members} {self._compression} streams one behind the other, of less "
                f"than {MEMBER_SIZE} bytes on average: at most {MEMBERS} of those may be in it"
            )
