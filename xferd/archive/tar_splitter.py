# -*- test-case-name: tests.archive.test_tar_splitter -*-
"""
Splits a tar into its files as its bytes arrive.

This module only finds the bounds of headers and data.  L{xferd.unpack.tar}
parses the headers, so that there is one parser with one set of checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import frozen

from xferd.errors import BadArchive, BadLayer
from xferd.unpack.limits import PlainLimits, printable
from xferd.unpack.tar import BLOCK, DIRECTORY, HARD_LINK, REGULAR, SYMLINK, Entry, TarReader

MAX_ENTRIES: Final = 100_000
MAX_HEADER: Final = 64 * 1024
"""Bytes of one entry's extended headers, at most."""

MAX_DEPTH: Final = 16
MAX_NAME: Final = 1024
MAX_NAMES: Final = 16 * 1024 * 1024
"""Bytes of the names and links of all entries, at most: they are kept in memory."""

MAX_FILE: Final = 1 << 40

_LIMITS = PlainLimits(MAX_ENTRIES, MAX_FILE, MAX_HEADER, MAX_DEPTH, 1)
_EXTENSIONS = b"xgLK"
_ZEROS = bytes(BLOCK)
_NOTHING = memoryview(b"")


@frozen
class Member:
    """
    A file in an archive.

    @ivar name: its path, such as C{blobs/sha256/...}: relative, without C{.}
        and C{..}.
    @ivar size: the number of bytes that follow.
    @ivar link: the target of a link, or L{None} for a file with bytes of its
        own.
    """

    name: str
    size: int
    link: str | None = None


class TarSplitter:
    """
    Splits one archive.

    Life cycle: C{feed} any number of times, then C{finish}.
    """

    def __init__(self) -> None:
        self._head = bytearray()
        self._wanted = BLOCK  # bytes of headers to collect
        self._begins = 0  # the newest header's offset in them
        self._left = 0
        self._padding = 0
        self._zeros = 0
        self._entries = 0
        self._names = 0
        self._within = ""

    def feed(self, data: memoryview) -> Iterator[Member | memoryview]:
        """
        Add some bytes of the tar.  Iterate to the end before the next call.

        @return: each file, followed by its bytes in pieces.  A file is complete
            when the next one follows, or after L{finish}.  A header of another
            kind yields an empty piece, so that the caller can count the work.
        @raise BadArchive: this is not a tar, or has entries that an archive of
            images does not have.
        """
        at, end = 0, len(data)
        while at < end:
            if self._left:
                count = min(self._left, end - at)
                self._left -= count
                yield data[at : at + count]
            elif self._padding:
                count = min(self._padding, end - at)
                self._padding -= count
            else:
                count = min(self._wanted - len(self._head), end - at)
                self._head += data[at : at + count]
                if len(self._head) == self._wanted:
                    yield self._header() or _NOTHING
            at += count

    def finish(self) -> None:
        """
        Report that the tar has no further bytes.

        @raise BadArchive: it is truncated.
        """
        if self._left:
            # Padding may be missing, as in layers: the file is whole.
            raise BadArchive(f"the archive is truncated in {printable(self._within.encode())}")
        if self._head:
            raise BadArchive("the archive is truncated in a header, or is no tar")
        if not self._entries:
            raise BadArchive("the archive is empty")

    def _header(self) -> Member | None:
        """
        Handle the headers collected so far: parse them, or collect more.
        """
        block = self._head[self._begins : self._begins + BLOCK]
        if len(self._head) == self._begins + BLOCK:
            if block == _ZEROS:
                self._zero()
                return None
            if self._zeros:
                raise BadArchive("the archive continues after its end; tools differ on what that means")
            if block[156] in _EXTENSIONS:
                self._extend(block)
                return None
        elif block[156] != ord("g"):
            # An extended header is whole, and another one follows.
            self._begins = self._wanted
            self._wanted += BLOCK
            return None
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise BadArchive(f"the archive has more than {MAX_ENTRIES} entries")
        entry = self._parse()
        if entry is not None:
            self._names += len(entry.path) + len(entry.link)
            if self._names > MAX_NAMES:
                raise BadArchive(f"the archive's entries have names of more than {MAX_NAMES} bytes together")
        self._head.clear()
        self._begins, self._wanted = 0, BLOCK
        return None if entry is None else self._member(entry)

    def _zero(self) -> None:
        """
        Handle a block of zeros: two of them are the end, and padding follows.
        """
        if self._begins:
            raise BadArchive("the archive ends between an entry and its own header")
        self._zeros += 1
        self._head.clear()

    def _extend(self, block: bytearray) -> None:
        """
        Handle an extended header: collect its data, too.
        """
        text = bytes(block[124:136]).strip(b" \0")
        size = int(text, 8) if text.isdigit() and not text.strip(b"01234567") else MAX_HEADER + 1
        if len(self._head) + size > MAX_HEADER:
            raise BadArchive(f"an entry of the archive has more than {MAX_HEADER} bytes of headers")
        self._wanted += size + -size % BLOCK
        if not size:
            self._begins = self._wanted
            self._wanted += BLOCK

    def _parse(self) -> Entry | None:
        try:
            return next(iter(TarReader(iter([memoryview(bytes(self._head))]), _LIMITS)), None)
        except BadLayer as e:
            raise BadArchive(f"this is no archive of images, or a damaged one: {e}") from e

    def _member(self, entry: Entry) -> Member | None:
        """
        Convert an entry, and expect its data.
        """
        if entry.sparse is not None:
            raise BadArchive(f"{printable(entry.path)} is a sparse file; make the archive without --sparse")
        name = clean_name(entry.path)
        if entry.kind == REGULAR:
            if not name:
                raise BadArchive("a file in the archive has no name")
            self._within = name
            self._left, self._padding = entry.size, -entry.size % BLOCK
            return Member(name, entry.size)
        if entry.kind == HARD_LINK:
            return Member(name, 0, clean_name(entry.link, below_root=True))
        if entry.kind == SYMLINK:
            folder = b"" if entry.link.startswith(b"/") else name.rpartition("/")[0].encode()
            return Member(name, 0, clean_name(folder + b"/" + entry.link, below_root=True))
        if entry.kind != DIRECTORY:
            raise BadArchive(f"{printable(entry.path)} is a device or a pipe; an archive of images has none")
        return None


def clean_name(path: bytes, *, below_root: bool = False) -> str:
    """
    Normalize a name: C{/a//./x/../b} is C{a/b}.

    Names are compared with each other only, and never used in a file system.

    @param below_root: whether C{..} has no effect in the root, as in the target
        of a link; otherwise a name that leads out by it is refused.
    @raise BadArchive: it leads out of the archive, or is not valid.
    """
    if len(path) > MAX_NAME:
        raise BadArchive(f"{printable(path)} is too long a name for an archive of images")
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError as e:
        raise BadArchive(f"{printable(path)} is no name in UTF-8") from e
    parts: list[str] = []
    for part in text.split("/"):
        if "\0" in part or (part == ".." and not parts and not below_root):
            raise BadArchive(f"the name {printable(path)} leads out of the archive")
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    if len(parts) > MAX_DEPTH:
        raise BadArchive(f"{printable(path)} is too deep for an archive of images")
    return "/".join(parts)
