# -*- test-case-name: tests.test_tree_record -*-
"""
The record of a tree: a file with each entry as it was unpacked, so that damage can be
found later.

The process that unpacks a layer appends to it, which costs less than a microsecond for
each file: the record is in the order of the tar, and a later part of it replaces an
earlier one.  L{read_record} sorts it into the order of the tree.

Contents have a CRC-32: that finds damage by a disk, not by an attacker, who could
change the record as well.  A SHA-256 of each file would cost a tenth of the time of
unpacking.

The record ends with the CRC-32 of all of it.

Pure, but for reading and writing the file.  Imports no Twisted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from struct import Struct
from struct import error as struct_error
from typing import Any, Final

from attrs import field, frozen
from isal.isal_zlib import crc32

NAME: Final = "entries"
"""The name of the file, beside the tree's directory."""

_MAGIC: Final = b"xferd tree 1\n"
_FLUSH: Final = 64 * 1024
"""Bytes that are collected before they are written."""

_ENTRY: Final = Struct("<cHIIHQqI")
"""Kind, length of the name, owner, group, mode with type, size or device, mtime, CRC-32 or flags."""

_PATH: Final = Struct("<cH")
_LINK: Final = Struct("<cHH")
_XATTR: Final = Struct("<cHI")
_PARTS: Final = Struct("<cI")
_PART: Final = Struct("<QQ")
_END: Final = Struct("<cI")

_IN, _FILE, _SYMLINK, _NODE, _HARD_LINK, _DIRECTORY = b"I", b"F", b"S", b"N", b"H", b"D"
_WHITEOUT, _REMOVED, _ATTRIBUTE, _SPARSE, _LAST = b"W", b"R", b"X", b"P", b"E"

OPAQUE: Final = 1
"""The flag of a directory that hides those of the layers below."""

IMPLIED: Final = 2
"""The flag of a directory whose metadata come from the layers below."""


EARLIEST: Final = -(1 << 31) * 10**9
"""The first time that each file system can store, in nanoseconds since 1970: in 1901."""

LATEST: Final = ((1 << 31) - 1) * 10**9
"""The last one, in 2038; a file system stores other times as the nearest that it can."""

_MOST_TIME: Final = (1 << 63) - 1


@frozen(eq=False)
class RecordedEntry:
    """
    One entry, as it was unpacked.  Hard links to one file have one object.

    @ivar mode: permission bits and type.
    @ivar size: the size of a regular file; the number of a device.
    @ivar mtime: nanoseconds since the epoch; before L{EARLIEST} or after L{LATEST} the file
        system may show another time.
    @ivar crc: the CRC-32 of a regular file's content: of a sparse one of its parts.
    @ivar link: the target of a symbolic link.
    @ivar xattrs: extended attributes of a regular file or a directory, without those that
        overlayfs reads.
    @ivar parts: the parts of a sparse file that have data, as offset and length.
    @ivar opaque: whether a directory hides those of the layers below.
    @ivar implied: whether a directory's metadata come from the layers below.
    """

    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    crc: int = 0
    link: bytes = b""
    xattrs: Mapping[bytes, bytes] = field(factory=dict)
    parts: tuple[tuple[int, int], ...] | None = None
    opaque: bool = False
    implied: bool = False


@frozen(eq=False)
class TreeRecord:
    """
    All entries of a tree.

    @ivar directories: the directories by their paths, C{b""} for the root.
    @ivar files: other entries by their names, by the paths of their directories; L{None}
        for a whiteout.
    """

    directories: dict[bytes, RecordedEntry]
    files: dict[bytes, dict[bytes, RecordedEntry | None]]


def _fitted(mtime: int) -> int:
    """
    A time as the record can hold it.
    """
    return max(-_MOST_TIME, min(_MOST_TIME, mtime))


class RecordWriter:
    """
    Writes the record of a tree.

    Life cycle: made; entries are added; L{finish}ed.
    """

    def __init__(self, fd: int) -> None:
        """
        @param fd: an empty file; the caller closes it.
        """
        self._fd = fd
        self._buffer = bytearray(_MAGIC)
        self._crc = 0
        self._in: bytes | None = None

    def file(
        self,
        above: bytes,
        name: bytes,
        owner: tuple[int, int, int],
        size: int,
        mtime: int,
        crc: int,
        parts: Iterable[tuple[int, int]] | None = None,
    ) -> None:
        """
        Add a regular file.

        @param above: the path of its directory.
        @param owner: user, group, and mode with type.
        @param parts: the parts of a sparse file.
        """
        if above is not self._in:
            self._enter(above)
        uid, gid, mode = owner
        self._buffer += _ENTRY.pack(_FILE, len(name), uid, gid, mode, size, _fitted(mtime), crc)
        self._buffer += name
        if parts is not None:
            parts = list(parts)
            self._buffer += _PARTS.pack(_SPARSE, len(parts))
            for part in parts:
                self._buffer += _PART.pack(*part)
        if len(self._buffer) >= _FLUSH:
            self._flush()

    def symlink(
        self, above: bytes, name: bytes, owner: tuple[int, int, int], mtime: int, link: bytes
    ) -> None:
        """
        Add a symbolic link.
        """
        self._enter(above)
        uid, gid, mode = owner
        self._append(
            _ENTRY.pack(_SYMLINK, len(name), uid, gid, mode, len(link), _fitted(mtime), 0) + name + link
        )

    def node(self, above: bytes, name: bytes, owner: tuple[int, int, int], device: int, mtime: int) -> None:
        """
        Add a device or a FIFO.
        """
        self._enter(above)
        uid, gid, mode = owner
        self._append(_ENTRY.pack(_NODE, len(name), uid, gid, mode, device, _fitted(mtime), 0) + name)

    def hard_link(self, above: bytes, name: bytes, target: bytes) -> None:
        """
        Add another name of a file.

        @param target: the path of its first name.
        """
        self._enter(above)
        self._append(_LINK.pack(_HARD_LINK, len(name), len(target)) + name + target)

    def directory(self, path: bytes, owner: tuple[int, int, int], mtime: int, flags: int) -> None:
        """
        Add a directory, with its last metadata.

        @param flags: L{OPAQUE} and L{IMPLIED}.
        """
        uid, gid, mode = owner
        self._append(_ENTRY.pack(_DIRECTORY, len(path), uid, gid, mode, 0, _fitted(mtime), flags) + path)

    def whiteout(self, above: bytes, name: bytes) -> None:
        """
        Add a whiteout.
        """
        self._enter(above)
        self._append(_PATH.pack(_WHITEOUT, len(name)) + name)

    def removed(self, path: bytes) -> None:
        """
        Remove an entry; of a directory, the entries in it are removed before.
        """
        self._append(_PATH.pack(_REMOVED, len(path)) + path)

    def xattr(self, name: bytes, value: bytes) -> None:
        """
        Add an extended attribute to the file or directory that was added last.
        """
        self._append(_XATTR.pack(_ATTRIBUTE, len(name), len(value)) + name + value)

    def finish(self) -> None:
        """
        Write the end.
        """
        self._flush()
        self._buffer += _END.pack(_LAST, self._crc)
        self._flush()

    def _enter(self, above: bytes) -> None:
        if above != self._in:
            self._buffer += _PATH.pack(_IN, len(above))
            self._buffer += above
        # The same object, so that the next comparison is one of identities.
        self._in = above

    def _append(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= _FLUSH:
            self._flush()

    def _flush(self) -> None:
        self._crc = crc32(self._buffer, self._crc)
        rest = memoryview(self._buffer)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        rest.release()
        self._buffer = bytearray()


def read_record(data: bytes) -> TreeRecord:
    """
    Read a record.

    @raise ValueError: it is damaged, or its parts do not fit together.
    """
    end = len(data) - _END.size
    if not data.startswith(_MAGIC) or end < len(_MAGIC):
        raise ValueError("it is no record of a tree")
    last, crc = _END.unpack_from(data, end)
    if last != _LAST or crc != crc32(memoryview(data)[:end]):
        raise ValueError("its checksum is wrong")
    reading = _Reading(data, end)
    try:
        while reading.at < end:
            reading.step()
    except (KeyError, struct_error) as e:
        raise ValueError("its parts do not fit together") from e
    return reading.finish()


class _Reading:
    """
    A record that is being read, whose checksum is right.
    """

    def __init__(self, data: bytes, end: int) -> None:
        self.at = len(_MAGIC)
        self._data, self._end = data, end
        self._directories: dict[bytes, RecordedEntry] = {}
        self._files: dict[bytes, dict[bytes, RecordedEntry | None]] = {}
        self._above = b""

    def step(self) -> None:
        """
        Read one part.
        """
        kind = self._data[self.at : self.at + 1]
        if kind in (_FILE, _SYMLINK, _NODE, _DIRECTORY):
            self._entry(kind)
        elif kind == _IN:
            self._above = self._path()
        elif kind == _HARD_LINK:
            _, length, other = self._unpack(_LINK)
            name, target = self._take(length), self._take(other)
            above, _, linked = target.rpartition(b"/")
            self._names()[name] = self._files[above][linked]
        elif kind == _WHITEOUT:
            self._names()[self._path()] = None
        elif kind == _REMOVED:
            self._remove(self._path())
        else:
            raise ValueError(f"it has a part of the unknown kind {kind!r}")

    def finish(self) -> TreeRecord:
        """
        Return all entries.
        """
        for path in self._directories:
            self._files.setdefault(path, {})
        if self._files.keys() != self._directories.keys():
            raise ValueError("an entry has no directory")
        return TreeRecord(self._directories, self._files)

    def _entry(self, kind: bytes) -> None:
        _, length, uid, gid, mode, size, mtime, last = self._unpack(_ENTRY)
        name = self._take(length)
        link = self._take(size) if kind == _SYMLINK else b""
        parts: tuple[tuple[int, int], ...] | None = None
        xattrs: dict[bytes, bytes] = {}
        while self.at < self._end:
            following = self._data[self.at : self.at + 1]
            if following == _ATTRIBUTE:
                _, named, valued = self._unpack(_XATTR)
                attribute = self._take(named)
                xattrs[attribute] = self._take(valued)
            elif following == _SPARSE:
                _, count = self._unpack(_PARTS)
                parts = tuple(_PART.iter_unpack(self._take(count * _PART.size)))
            else:
                break
        if kind == _DIRECTORY:
            self._directories[name] = RecordedEntry(
                mode,
                uid,
                gid,
                0,
                mtime,
                xattrs=xattrs,
                opaque=bool(last & OPAQUE),
                implied=bool(last & IMPLIED),
            )
        else:
            self._names()[name] = RecordedEntry(mode, uid, gid, size, mtime, last, link, xattrs, parts)

    def _remove(self, path: bytes) -> None:
        above, _, name = path.rpartition(b"/")
        self._files.get(above, {}).pop(name, None)
        self._files.pop(path, None)

    def _names(self) -> dict[bytes, RecordedEntry | None]:
        return self._files.setdefault(self._above, {})

    def _path(self) -> bytes:
        _, length = self._unpack(_PATH)
        return self._take(length)

    def _unpack(self, structure: Struct) -> tuple[Any, ...]:
        found = structure.unpack_from(self._data, self.at)
        self.at += structure.size
        return found

    def _take(self, length: int) -> bytes:
        taken = self._data[self.at : self.at + length]
        self.at += length
        return taken
