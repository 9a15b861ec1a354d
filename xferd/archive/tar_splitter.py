# -*- test-case-name: tests.archive.test_tar_splitter -*-
"""
A tar taken apart as its bytes come.

This only frames: it finds where headers and data begin and end.  What a header
says is read by L{xferd.unpack.tar}, so that there is one reader of them, with
one set of refusals.
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
"""Bytes of one entry's extended headers."""

MAX_DEPTH: Final = 16
MAX_NAME: Final = 1024
MAX_NAMES: Final = 16 * 1024 * 1024
"""Bytes of the names and links of all entries, which are kept."""

MAX_FILE: Final = 1 << 40

_LIMITS = PlainLimits(MAX_ENTRIES, MAX_FILE, MAX_HEADER, MAX_DEPTH, 1)
_EXTENSIONS = b"xgLK"
_ZEROS = bytes(BLOCK)
_NOTHING = memoryview(b"")


@frozen
class Member:
    """
    A file in an archive.

    @ivar name: where it is, C{blobs/sha256/...}: relative, without C{.} and
        C{..}.
    @ivar size: the bytes that follow.
    @ivar link: what it is another name of, or L{None} if it has bytes of its
        own.
    """

    name: str
    size: int
    link: str | None = None


class Splitter:
    """
    One archive's bytes on their way.

    Life cycle: C{feed} any number of times, then C{finish}.
    """

    def __init__(self) -> None:
        self._head = bytearray()
        self._wanted = BLOCK  # of the headers, as far as they are known
        self._begins = 0  # the newest header's place in them
        self._left = 0
        self._padding = 0
        self._zeros = 0
        self._entries = 0
        self._names = 0
        self._within = ""

    def feed(self, data: memoryview) -> Iterator[Member | memoryview]:
        """
        Take some bytes of the tar; iterate to the end before the next.

        @return: each file, followed by its bytes in pieces, as many as its
            size says.  A file is whole when the next one comes, or after
            L{finish}.  Nothing at all where a header was read that is of no
            file: so much work was done.
        @raise BadArchive: this is no tar, or holds what an archive of images
            has no use for.
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
        That was all.

        @raise BadArchive: it breaks off.
        """
        if self._left:
            # Padding may be missing, as in layers: the file is whole.
            raise BadArchive(f"the archive breaks off in {printable(self._within.encode())}")
        if self._head:
            raise BadArchive("the archive breaks off in a header, or is no tar")
        if not self._entries:
            raise BadArchive("the archive is empty")

    def _header(self) -> Member | None:
        """
        So much of the headers is here as was wanted: read them, or want more.
        """
        block = self._head[self._begins : self._begins + BLOCK]
        if len(self._head) == self._begins + BLOCK:
            if block == _ZEROS:
                self._zero()
                return None
            if self._zeros:
                raise BadArchive("the archive goes on behind its end; tools differ on what that means")
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
        A block of zeros: the end, two of them by rights, and then padding.
        """
        if self._begins:
            raise BadArchive("the archive ends between an entry and its own header")
        self._zeros += 1
        self._head.clear()

    def _extend(self, block: bytearray) -> None:
        """
        An extended header begins: want its data too.
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
        """
        Have the headers read.
        """
        try:
            return next(iter(TarReader(iter([memoryview(bytes(self._head))]), _LIMITS)), None)
        except BadLayer as e:
            raise BadArchive(f"this is no archive of images, or a damaged one: {e}") from e

    def _member(self, entry: Entry) -> Member | None:
        """
        Look at an entry, and be ready for its data.
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
    A name without what does not matter in it: C{/a//./x/../b} is C{a/b}.

    Names are looked up among each other, and never in a file system.

    @param below_root: whether C{..} means nothing in the root, as in the
        target of a link; a name that leads out by it is refused.
    @raise BadArchive: it leads out of the archive, or is no name.
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
