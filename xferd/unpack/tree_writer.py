# -*- test-case-name: tests.unpack.tree_writer -*-
"""
Writes the entries of a tar as a directory tree, ready to be a lowerdir of
overlayfs.

An entry replaces an earlier one of its name, unless both are directories; then the
later one's metadata apply (OCI's image-spec, "Applying Changesets").  Nothing is written
through an old inode or an old link.  L{xferd.unpack.whiteouts} has the rules of whiteouts.

Nothing else may change the tree meanwhile.  Imports no Twisted: this runs in
the worker.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Final

from isal.isal_zlib import crc32

from xferd.errors import BadLayer, DiskFull, StoreError, XferdError
from xferd.tree_record import IMPLIED, OPAQUE, RecordWriter
from xferd.unpack import tar
from xferd.unpack.directories import LONGEST, Directories
from xferd.unpack.limits import Limits, printable
from xferd.unpack.metadata import MetadataWriter, set_own_xattr
from xferd.unpack.tar import Entry
from xferd.unpack.whiteouts import WHITEOUT, Whiteouts, is_meta
from xferd.unpack.writeback import SMALLEST, Begin, Writeback, begin

_LINKED: Final = b".wh..wh.plnk"
"""
The directory in the root where AUFS kept the first names of hard links.  Its
files exist until L{TreeWriter.finish}, so that other entries can link to them.
"""

_IMPLIED: Final = 16 * 1024 * 1024
"""Bytes of the paths of all implied directories, at most: they are sent to the daemon."""

_MOST_IMPLIED: Final = 50_000
"""Implied directories, at most: each is looked up in the layers below."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_LAYERS_FAULT = frozenset(
    {
        errno.ENAMETOOLONG,
        errno.EINVAL,
        errno.EFBIG,
        errno.EMLINK,
        errno.EOVERFLOW,
        errno.EILSEQ,
    }
)

Read = Callable[[int], memoryview]


class TreeWriter:
    """
    Writes a tree below a directory.

    @ivar size: bytes of the regular files so far, each counted once.
    """

    def __init__(
        self,
        root: int,
        limits: Limits,
        metadata: MetadataWriter,
        record: RecordWriter,
        other_memory: Callable[[], int] = lambda: 0,
        begin: Begin = begin,
    ) -> None:
        """
        @param root: a descriptor of an empty directory.
        @param record: gets each entry as it was written.
        @param other_memory: returns the bytes of memory that this layer needs
            besides.
        @param begin: begins to write a part of a file to the disk.
        """
        self._limits, self._metadata = limits, metadata
        self._begin = begin
        self._record = record
        self._directories = Directories(root, limits, other_memory, record.removed)
        self._whiteouts = Whiteouts(self._directories, metadata.overlay, record)
        self._parent: bytes | None = None  # as in the last entry's path
        self._real = b""  # the real path of that
        self._here = -1  # its descriptor
        self.size = 0
        self._makers = {
            tar.REGULAR: self._regular,
            tar.HARD_LINK: self._hard_link,
            tar.SYMLINK: self._symlink,
            tar.CHARACTER: self._node,
            tar.BLOCK_DEVICE: self._node,
            tar.FIFO: self._node,
        }

    def add(self, entry: Entry, read: Read) -> None:
        """
        Write an entry.

        @param read: returns the entry's data, as L{xferd.unpack.tar.TarReader.read}.
        @raise BadLayer: the entry is invalid.
        @raise DiskFull: no space is left.
        @raise StoreError: the file system refuses for another reason.
        """
        try:
            self._add(entry, read)
        except OSError as e:
            raise _explained(e, entry.path) from e

    def check_memory(self) -> None:
        """
        @raise BadLayer: the layer needs too much memory.
        """
        self._directories.check_memory()

    def finish(self, step: Callable[[], object] = lambda: None) -> tuple[bytes, ...]:
        """
        Write whiteouts and the metadata of directories, after all entries.

        @param step: called for each directory: there may be millions.
        @return: the implied directories that merge with those of the layers
            below, the root as C{.}.
        """
        try:
            if _LINKED in self._directories.known:
                self.size -= self._directories.remove(b"", _LINKED)
            return self._finish(step)
        except OSError as e:
            raise _explained(e, b"the directories") from e
        finally:
            self._directories.close()

    # ---------------------------------------------------------------- entries

    def _add(self, entry: Entry, read: Read) -> None:
        """
        Find the entry's directory, and write the entry to it.
        """
        above, _, name = entry.path.rpartition(b"/")
        if above != self._parent or not name or name[0] == 0x2E:
            # The fast path is for a further file in the same directory, with an ordinary name.
            parts = _components(entry.path, self._limits)
            if not parts:
                self._root(entry)
                return
            if is_meta(parts) and not (parts[0] == _LINKED and len(parts) == 2 and entry.kind == tar.REGULAR):
                return
            last = parts.pop()
            directory = b"/".join(parts)
            self._parent = None
            if last.startswith(WHITEOUT):
                self._whiteouts.add(directory, last, entry.path)
                return
            real = self._directories.resolve(directory, make=True)
            assert real is not None
            self._real, self._here = real, self._directories.descriptor(real)
            if entry.kind == tar.DIRECTORY:
                self._directory(last, entry)
                return
            # For a path such as "a/" or "a/.", C{above} is not the directory that was resolved.
            self._parent = above if last == name else None
            name = last
        elif entry.kind == tar.DIRECTORY:
            self._parent = None
            self._directory(name, entry)
            return
        try:
            self._makers[entry.kind](name, entry, read)
        except FileExistsError:
            self._replace(name)
            self._makers[entry.kind](name, entry, read)

    def _replace(self, name: bytes) -> None:
        self.size -= self._directories.remove(self._real, name)
        self._here = self._directories.descriptor(self._real)

    def _root(self, entry: Entry) -> None:
        """
        Record the metadata of the root, which must be a directory
        (CVE-2021-29136).
        """
        if entry.kind != tar.DIRECTORY:
            raise BadLayer(
                f"{printable(entry.path)} would make something else of the tree's root than a directory"
            )
        self._directories.record(b"", entry)

    def _directory(self, name: bytes, entry: Entry) -> None:
        """
        Create a directory, or replace its metadata.
        """
        real = b"%b/%b" % (self._real, name) if self._real else name
        directory = self._directories.known.get(real)
        if directory is None:
            try:
                directory = self._directories.make(self._real, name)
            except FileExistsError:
                self._replace(name)
                directory = self._directories.make(self._real, name)
                # It replaces this layer's file, which hides the layers below.
                directory.opaque = True
        self._directories.record(real, entry)

    def _regular(self, name: bytes, entry: Entry, read: Read) -> None:
        out = self._metadata.create(name, self._here, entry)
        crc = 0
        try:
            if entry.sparse is None:
                writeback = Writeback(out, self._begin) if entry.size >= SMALLEST else None
                while piece := read(entry.size):
                    _write(out, piece)
                    crc = crc32(piece, crc)
                    if writeback is not None:
                        writeback.added(len(piece))
                if writeback is not None:
                    writeback.end()
            else:
                for start, length in entry.sparse:
                    offset = os.lseek(out, start, os.SEEK_SET)
                    end = start + length
                    while offset < end:
                        piece = read(end - offset)
                        _write(out, piece)
                        crc = crc32(piece, crc)
                        offset += len(piece)
                os.ftruncate(out, entry.size)
            xattrs = self._metadata.regular(out, entry)
        finally:
            os.close(out)
        owner = self._metadata.owner(entry, stat.S_IFREG, 0o400)
        self._record.file(self._real, name, owner, entry.size, entry.mtime, crc, entry.sparse)
        for attribute, value in xattrs.items():
            self._record.xattr(attribute, value)
        self.size += entry.size

    def _hard_link(self, name: bytes, entry: Entry, _read: Read) -> None:
        parts = _components(entry.link, self._limits)
        target = parts.pop() if parts else b""
        above = self._directories.resolve(b"/".join(parts), make=False)
        # A duplicate: in deep trees, opening the second directory closes the first.
        there = None if above is None else os.dup(self._directories.descriptor(above))
        try:
            self._here = self._directories.descriptor(self._real)
            if there is None or stat.S_ISDIR(os.lstat(target, dir_fd=there).st_mode):
                raise FileNotFoundError
            if (above, target) == (self._real, name):
                return
            os.link(target, name, src_dir_fd=there, dst_dir_fd=self._here, follow_symlinks=False)
        except FileNotFoundError:
            raise BadLayer(
                f"{printable(entry.path)} is a hard link to {printable(entry.link)}, "
                "which is no file of this layer"
            ) from None
        finally:
            if there is not None:
                os.close(there)
        self._record.hard_link(self._real, name, b"%b/%b" % (above, target) if above else target)

    def _symlink(self, name: bytes, entry: Entry, _read: Read) -> None:
        # The target is kept verbatim, wherever it leads.
        if not entry.link:
            raise BadLayer(f"{printable(entry.path)} is a symbolic link to nothing")
        os.symlink(entry.link, name, dir_fd=self._here)
        self._metadata.link(name, self._here, entry)
        uid, gid, _ = self._metadata.owner(entry, stat.S_IFLNK)
        self._record.symlink(self._real, name, (uid, gid, stat.S_IFLNK | 0o777), entry.mtime, entry.link)

    def _node(self, name: bytes, entry: Entry, _read: Read) -> None:
        major, minor = entry.device
        if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
            raise BadLayer(f"{printable(entry.path)} is a device {major}:{minor}, which Linux does not have")
        made = self._metadata.node(name, self._here, entry)
        if made is None:
            return
        kind, xattrs = made
        if kind == stat.S_IFREG:
            owner = self._metadata.owner(entry, kind, 0o400)
            self._record.file(self._real, name, owner, 0, entry.mtime, 0)
            for attribute, value in xattrs.items():
                self._record.xattr(attribute, value)
        else:
            device = os.makedev(major, minor) if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
            self._record.node(self._real, name, self._metadata.owner(entry, kind), device, entry.mtime)

    # -------------------------------------------------------------- the end

    def _finish(self, step: Callable[[], object]) -> tuple[bytes, ...]:
        self._whiteouts.write(step)
        known, is_severed = self._directories.known, self._whiteouts.is_severed
        for real in sorted(known):
            step()
            descriptor = self._directories.descriptor(real)
            directory = known[real]
            if directory.opaque:
                set_own_xattr(descriptor, self._metadata.overlay + b"opaque", b"y")
            entry = directory.entry(real)
            if entry is None and is_severed(real):
                # There is no directory below to copy metadata from.
                entry = Entry(real, tar.DIRECTORY, 0o755, 0, 0, 0, 0)
            flags = OPAQUE if directory.opaque else 0
            if entry is None:
                self._record.directory(real, (0, 0, stat.S_IFDIR), 0, flags | IMPLIED)
                continue
            xattrs = self._metadata.directory(descriptor, entry)
            self._record.directory(real, self._metadata.owner(entry, stat.S_IFDIR, 0o700), entry.mtime, flags)
            for attribute, value in xattrs.items():
                self._record.xattr(attribute, value)
        implied = tuple(
            real or b"."
            for real, directory in known.items()
            if directory.attributes is None and not is_severed(real)
        )
        if len(implied) > _MOST_IMPLIED:
            raise BadLayer(
                f"the tar implies {len(implied)} directories; it has to list all but {_MOST_IMPLIED} of them"
            )
        if sum(map(len, implied)) > _IMPLIED:
            raise BadLayer(
                f"the tar implies {len(implied)} directories whose paths have more than "
                f"{_IMPLIED} bytes together"
            )
        return implied


def _components(path: bytes, limits: Limits) -> list[bytes]:
    """
    The components of a path, relative to the tree's root.

    C{..} removes the component before it, and has no effect in the root, as in
    Go's C{path.Clean}.

    @raise BadLayer: it has too many components.
    """
    if len(path) > LONGEST:
        raise BadLayer(f"{printable(path)} is longer than {LONGEST} bytes")
    parts = [part for part in path.split(b"/") if part and part != b"."]
    if b".." in parts:
        named, parts = parts, []
        for part in named:
            if part != b"..":
                parts.append(part)
            elif parts:
                parts.pop()
    if len(parts) > limits.depth:
        raise BadLayer(f"{printable(path)} is deeper than {limits.depth} directories")
    return parts


def _write(out: int, piece: memoryview) -> None:
    """
    Write all of a piece, also if the kernel accepts less at once.
    """
    written = os.write(out, piece)
    while written < len(piece):
        written += os.write(out, piece[written:])


def _explained(error: OSError, path: bytes) -> XferdError:
    """
    The error to report for an error of the kernel.
    """
    if error.errno in FULL:
        return DiskFull(
            f"no space is left for {printable(path)}; free some space on the disk of the data directory"
        )
    if error.errno in _LAYERS_FAULT:
        return BadLayer(f"{printable(path)} cannot be made: {error.strerror}")
    return StoreError(f"the disk refuses {printable(path)}: {error.strerror or error}")
