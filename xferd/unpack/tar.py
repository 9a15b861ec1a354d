# -*- test-case-name: tests.unpack.test_tar,tests.unpack.test_sparse -*-
"""
A streaming tar reader: it takes buffers and yields entries and their data
without copying it.

It reads ustar, GNU (long names, base-256 numbers, sparse files) and PAX
(POSIX.1-2001 C{pax}, "pax Interchange Format"), with names as bytes.  Where
tools differ, it follows Go's C{archive/tar}, which docker, containerd, podman
and umoci use; where that is unsafe, it refuses:

  - PAX's C{size} wins over the header's (CVE-2025-62518).
  - Links, devices, FIFOs and directories have no data, whatever size they state.
  - GNU's long names win over PAX's C{path} and C{linkpath}.
  - Bytes 345 to 500 are a prefix of the name if the magic is POSIX's, in any
    version; 131 of them if star's mark is at the end.  With GNU's magic they
    are times and a sparse map, unless the times are not numbers: Go's own
    writer put a prefix there before 2017.  Any other magic belongs to older
    tars, which have no prefix.
  - A global header changes nothing; one that sets names or sizes is refused.

Pure, and imports no Twisted: this runs in the worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import define

from xferd.errors import BadLayer
from xferd.unpack import pax
from xferd.unpack.limits import Limits, printable
from xferd.unpack.tar_header import (
    GNU_MAGIC,
    HEADER,
    POSIX_MAGIC,
    Fields,
    number_of,
    path_of,
    text_of,
    verify_checksum,
)

BLOCK: Final = 512

REGULAR: Final = b"0"
HARD_LINK: Final = b"1"
SYMLINK: Final = b"2"
CHARACTER: Final = b"3"
BLOCK_DEVICE: Final = b"4"
DIRECTORY: Final = b"5"
FIFO: Final = b"6"

_KINDS = {kind: kind for kind in (REGULAR, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO)}
_KINDS |= {b"\0": REGULAR, b"7": REGULAR, b"S": REGULAR}
_LINKS = frozenset({HARD_LINK, SYMLINK})
_DEVICES = frozenset({CHARACTER, BLOCK_DEVICE})
_EXTENSIONS = frozenset({b"x", b"g", b"L", b"K"})

_ZEROS = bytes(BLOCK)
_NOTHING = memoryview(b"")

_UNCHANGED = 0xFFFFFFFF
"""For C{chown}, this ID means "unchanged"."""

_TIMES = (1 << 46) * 10**9
"""Times are clamped to this many nanoseconds around 1970; file systems clamp further."""


@define
class Entry:
    """
    One entry of a tar.

    @ivar path: its name, as in the tar.
    @ivar kind: one of this module's constants.
    @ivar mode: permission bits, C{0o7777} at most.
    @ivar size: bytes of a regular file, holes included.
    @ivar mtime: nanoseconds since 1970.
    @ivar link: the target of a link.
    @ivar device: major and minor number.
    @ivar xattrs: extended attributes by name.
    @ivar sparse: for a sparse file, the parts that have data, as offset and
        length; else L{None}.
    """

    path: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] | None = None
    sparse: list[tuple[int, int]] | None = None


class TarReader:
    """
    Iterates over the entries; L{read} returns the data of the current one.

    @ivar entries: headers read so far, extended ones included.
    """

    def __init__(self, blocks: Iterator[memoryview], limits: Limits) -> None:
        """
        @param blocks: the tar in buffers of a whole number of blocks, except the
            last; each may become invalid when the next is requested.
        """
        self._blocks, self._limits = blocks, limits
        self._buffer = memoryview(b"")
        self._at = 0
        self._left = 0  # of the current entry's data
        self._padding = 0  # after it
        self.entries = 0

    def __iter__(self) -> Iterator[Entry]:
        """
        @raise BadLayer: this is not a tar, is truncated, or exceeds a limit.
        """
        while True:
            self._skip()
            header = self._block()
            if header is None:
                return
            if header[0] == 0 and header == _ZEROS:
                # A single block of zeros is an end, too, if nothing follows.
                second = self._block()
                if second is not None and second != _ZEROS:
                    raise BadLayer(
                        "the tar continues after a block of zeros; tools differ on what that means"
                    )
                return
            entry = self._entry(header)
            if entry is not None:
                yield entry

    def read(self, most: int) -> memoryview:
        """
        Read from the current entry's data, without a copy.

        @param most: bytes, at most.
        @return: a view that is valid until the next call; empty at the end.
        @raise BadLayer: the tar is truncated.
        """
        count = min(most, self._left)
        if not count:
            return _NOTHING
        at = self._at
        have = len(self._buffer) - at
        if not have:
            self._refill("in the middle of a file")
            at, have = 0, len(self._buffer)
        if have < count:
            count = have
        self._at = at + count
        self._left -= count
        return self._buffer[at : at + count]

    # ------------------------------------------------------------- the stream

    def _refill(self, where: str) -> None:
        self._buffer = next(self._blocks, _NOTHING)
        self._at = 0
        if self._buffer:
            return
        raise BadLayer(f"the tar ends {where}")

    def _block(self) -> memoryview | None:
        """
        The next block, or L{None} at the end of the stream.
        """
        at = self._at
        end = at + BLOCK
        if at == len(self._buffer):
            self._buffer = next(self._blocks, _NOTHING)
            at, end = 0, BLOCK
            if not self._buffer:
                self._at = 0
                return None
        if end > len(self._buffer):
            raise BadLayer("the tar ends in the middle of a header")
        self._at = end
        return self._buffer[at:end]

    def _skip(self) -> None:
        """
        Skip the rest of the current entry, and its padding.  The stream may
        end before the last padding: Go accepts this, and such layers exist.
        """
        left, padding = self._left, self._padding
        self._left = self._padding = 0
        while left:
            count = min(left, len(self._buffer) - self._at)
            self._at += count
            left -= count
            if left:
                self._refill("in the middle of an entry")
        while padding:
            count = min(padding, len(self._buffer) - self._at)
            self._at += count
            padding -= count
            if padding:
                self._buffer, self._at = next(self._blocks, _NOTHING), 0
                if not self._buffer:
                    return

    def _collect(self, size: int) -> bytes:
        """
        Read the whole data of an extended header.
        """
        self._expect(size)
        parts = []
        while piece := self.read(size):
            parts.append(bytes(piece))
        self._skip()
        return b"".join(parts)

    def _expect(self, size: int) -> None:
        self._left = size
        self._padding = -size % BLOCK

    # ---------------------------------------------------------------- headers

    def _entry(self, header: memoryview) -> Entry | None:
        """
        Read one entry with its extended headers; L{None} for a global header.
        """
        records: pax.Records | None = None
        name = link = None
        extended = 0
        while True:
            self.entries += 1
            if self.entries > self._limits.entries:
                raise BadLayer(f"the tar has more than {self._limits.entries} entries")
            fields: Fields = HEADER.unpack(header)
            verify_checksum(header, fields[6])
            kind = fields[7]
            if kind not in _EXTENSIONS:
                return self._plain(header, fields, records, name, link)
            size = number_of(fields[4], "size")
            extended += size
            if extended > self._limits.header:
                raise BadLayer(f"an entry has more than {self._limits.header} bytes of extended headers")
            data = self._collect(size)
            if kind == b"g":
                if extended != size:
                    raise BadLayer("a global PAX header stands between an entry and its own header")
                pax.check_global(data)
                return None
            if kind == b"x":
                records = pax.parse(data)
            elif kind == b"L":
                name = data.partition(b"\0")[0]
            else:
                link = data.partition(b"\0")[0]
            following = self._block()
            if following is None or following == _ZEROS:
                raise BadLayer("the tar ends behind an extended header")
            header = following

    def _plain(
        self,
        header: memoryview,
        fields: Fields,
        records: pax.Records | None,
        name: bytes | None,
        link: bytes | None,
    ) -> Entry:
        """
        The entry that a header describes, amended by its extended headers.
        """
        records = records or {}
        path = name or records.get(b"path") or path_of(header, fields)
        flag = fields[7]
        kind = _KINDS.get(flag)
        if kind is None:
            raise BadLayer(f"{printable(path)} is of a type, {printable(flag)}, that no container image has")
        if flag == b"\0" and path.endswith(b"/"):
            kind = DIRECTORY  # in the format before 1988
        entry = Entry(
            path,
            kind,
            number_of(fields[1], "mode") & 0o7777,
            number_of(fields[2], "owner"),
            number_of(fields[3], "group"),
            number_of(fields[4], "size"),
            number_of(fields[5], "time", signed=True) * 10**9,
        )
        if kind in _LINKS:
            entry.link = link or records.get(b"linkpath") or text_of(fields[8])
        elif kind in _DEVICES:
            if not fields[9].startswith(POSIX_MAGIC) and fields[9] != GNU_MAGIC:
                raise BadLayer(
                    f"{printable(path)} is a device in a tar of a format that has no device numbers"
                )
            entry.device = number_of(fields[10], "device"), number_of(fields[11], "device")
        if records:
            _amend(entry, records)
        if entry.uid >= _UNCHANGED or entry.gid >= _UNCHANGED:
            raise BadLayer(f"{printable(entry.path)} belongs to {entry.uid}:{entry.gid}, which no file can")
        if b"\0" in entry.path or b"\0" in entry.link:
            raise BadLayer(f"{printable(entry.path)} has a NUL in its name")
        entry.mtime = max(-_TIMES, min(_TIMES, entry.mtime))
        self._expect(entry.size if kind == REGULAR else 0)
        if kind == REGULAR:
            if flag == b"S":
                self._old_sparse(entry, header)
            elif records:
                self._pax_sparse(entry, records)
            if entry.size > self._limits.size:
                raise BadLayer(f"{printable(entry.path)} is larger than {self._limits.size} bytes")
        return entry

    # ----------------------------------------------------------------- sparse

    def _old_sparse(self, entry: Entry, header: memoryview) -> None:
        """
        Read the map of GNU's type S: four parts in the header, then blocks of
        21 each.
        """
        if bytes(header[257:265]) != GNU_MAGIC:
            raise BadLayer(f"{printable(entry.path)} is sparse in a format that is not GNU's")
        parts = bytes(header[386:482])
        more, real = header[482], bytes(header[483:495])
        numbers: list[int] = []
        left = self._limits.header
        while True:
            for at in range(0, len(parts) - 23, 24):
                if not parts[at]:
                    break
                numbers.append(number_of(parts[at : at + 12], "sparse map"))
                numbers.append(number_of(parts[at + 12 : at + 24], "sparse map"))
            if not more:
                break
            block = self._block()
            left -= BLOCK
            if block is None or left < 0:
                raise BadLayer(f"{printable(entry.path)} has a sparse map without an end")
            parts, more = bytes(block[:504]), block[504]
        entry.size = number_of(real, "size")
        self._map(entry, numbers)

    def _pax_sparse(self, entry: Entry, records: pax.Records) -> None:
        """
        Read the map of a sparse file in GNU's PAX formats: 0.0 and 0.1 have it
        in the header, 1.0 before the data.
        """
        version = records.get(b"GNU.sparse.major", b""), records.get(b"GNU.sparse.minor", b"")
        text = records.get(b"GNU.sparse.map", b"")
        if version == (b"", b"") and not text:
            return
        entry.path = records.get(b"GNU.sparse.name") or entry.path
        if version in ((b"", b""), (b"0", b"0"), (b"0", b"1")):
            numbers = pax.sparse_numbers(text)
        elif version == (b"1", b"0"):
            numbers = self._leading_map(entry)
        else:
            raise BadLayer(f"{printable(entry.path)} is sparse in an unknown format")
        size = pax.number(records, b"GNU.sparse.realsize", entry.size)
        entry.size = pax.number(records, b"GNU.sparse.size", size)
        self._map(entry, numbers)

    def _leading_map(self, entry: Entry) -> list[int]:
        """
        Read the map of format 1.0: decimal lines, the first their number, padded
        to a block.
        """
        lines: list[bytes] = []
        rest, wanted, used = b"", 1, 0
        while len(lines) < wanted:
            # The data is a whole number of blocks up to here, so this never straddles buffers.
            piece = bytes(self.read(BLOCK))
            used += len(piece)
            if len(piece) < BLOCK or used > self._limits.header:
                raise BadLayer(f"{printable(entry.path)} has a sparse map without an end")
            *found, rest = (rest + piece).split(b"\n")
            lines += found
            if lines and wanted == 1:
                wanted = 1 + 2 * _decimal(lines[0])
        return [_decimal(line) for line in lines[1:wanted]]

    def _map(self, entry: Entry, numbers: list[int]) -> None:
        """
        Check and set a map: ascending, without overlap, within the file, and of
        as many bytes as the entry's data.
        """
        parts = list(zip(numbers[::2], numbers[1::2], strict=True))
        at = total = 0
        for offset, length in parts:
            if offset < at:
                raise BadLayer(f"{printable(entry.path)} has a sparse map whose parts overlap")
            at = offset + length
            total += length
        if at > entry.size or total != self._left:
            raise BadLayer(f"{printable(entry.path)} has a sparse map that does not fit its data")
        entry.sparse = [part for part in parts if part[1]]


def _amend(entry: Entry, records: pax.Records) -> None:
    """
    Replace values of the header by those of PAX records.
    """
    entry.size = pax.number(records, b"size", entry.size)
    entry.uid = pax.number(records, b"uid", entry.uid)
    entry.gid = pax.number(records, b"gid", entry.gid)
    entry.mtime = pax.time(records, b"mtime", entry.mtime)
    entry.xattrs = pax.xattrs(records)


def _decimal(text: bytes) -> int:
    """
    A number in a sparse map of format 1.0.
    """
    if not text.isdigit() or len(text) > 19:
        raise BadLayer(f"a sparse file has {printable(text)} in its map")
    return int(text)
