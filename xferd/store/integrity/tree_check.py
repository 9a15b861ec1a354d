# -*- test-case-name: tests.store.integrity.test_tree_check -*-
"""
Compares a tree with its record.

Blocking, for a thread.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from threading import Event
from typing import Final

from attrs import define, field
from isal.isal_zlib import crc32

from xferd.interfaces.integrity import Damage
from xferd.store.integrity.pace import PIECE, Pace, UncachedReader
from xferd.store.trees.implied_directories import OVERLAY, DirectoryMetadata, MetadataByPath
from xferd.store.trees.walk import components, opaque, xattr
from xferd.tree_record import EARLIEST, LATEST, RecordedEntry, TreeRecord

MOST: Final = 1000
"""Damaged entries of one tree that are named."""

ENTRY: Final = 4096
"""Bytes that count for each entry, so that a rate limits trees of small files, too."""

_IGNORED: Final = (*OVERLAY, "user.fuseoverlayfs.", "security.fuseoverlayfs.", "security.selinux", "system.")
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_TYPES: Final = {
    stat.S_IFREG: "a regular file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
}


@define(eq=False)
class TreeCheck:
    """
    The check of one tree.

    @ivar root: the tree's directory.
    @ivar record: its entries.
    @ivar claimed: the metadata of its implied directories; L{None} before it has a layer.
    @ivar default: the metadata that they have if the layers below lack them.
    @ivar linked: whether it is a variant or a copy: those lack directories of
        whiteouts that hide nothing.
    @ivar checked: the files, as device and inode, whose content has been compared: the
        trees of one layer share files.
    @ivar damage: what is damaged.
    """

    root: str
    record: TreeRecord
    claimed: MetadataByPath | None
    default: MetadataByPath
    linked: bool
    pace: Pace
    stop: Event
    checked: dict[tuple[int, int], str] = field(factory=dict)
    damage: list[Damage] = field(factory=list)
    _first: dict[int, tuple[int, int]] = field(factory=dict)
    _buffer: memoryview = field(factory=lambda: memoryview(bytearray(PIECE)))

    def run(self) -> list[Damage]:
        """
        Compare everything.

        @raise StoreError: the work was cancelled.
        """
        try:
            root = os.open(self.root, _DIRECTORY)
        except OSError as e:
            return [Damage(".", f"cannot be opened: {e.strerror}")]
        # The directories that are open: those of one path.
        opened: list[tuple[bytes, int]] = [(b"", root)]
        names: dict[bytes, set[bytes]] = {}
        for path in self.record.directories:
            if path:
                names.setdefault(path.rpartition(b"/")[0], set()).add(path.rpartition(b"/")[2])
        lost: list[bytes] = []
        try:
            for path in sorted(self.record.directories, key=components):
                if self._is_full():
                    break
                if lost and (path + b"/").startswith(lost[-1]):
                    continue
                while opened[-1][0] and not path.startswith(opened[-1][0] + b"/"):
                    os.close(opened.pop()[1])
                if path and not self._enter(path, opened):
                    lost.append(path + b"/")
                    continue
                self._directory(path, opened[-1][1], names.get(path, set()))
        finally:
            for _, fd in opened:
                os.close(fd)
        return self.damage

    def _enter(self, path: bytes, opened: list[tuple[bytes, int]]) -> bool:
        """
        Open a directory.  Its parent is the last one that is open.
        """
        name = path.rpartition(b"/")[2]
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=opened[-1][1])
        except FileNotFoundError:
            if not self._may_lack(path):
                self._found(path, "is missing")
            return False
        except OSError as e:
            wrong = e.errno in (errno.ENOTDIR, errno.ELOOP)
            self._found(path, "is not a directory" if wrong else f"cannot be opened: {e.strerror}")
            return False
        opened.append((path, fd))
        return True

    def _may_lack(self, path: bytes) -> bool:
        """
        Whether a variant lacks a directory: the layers below have none there, and it
        holds only whiteouts and such directories.
        """
        if not self.linked or self.claimed is None or self.claimed.get(path, self) is not None:
            return False
        return not any(self.record.files[path].values())

    def _directory(self, path: bytes, fd: int, directories: set[bytes]) -> None:
        """
        Compare a directory and the entries in it but directories.
        """
        self._metadata(path, fd)
        wanted = self.record.files[path]
        try:
            there = {os.fsencode(name) for name in os.listdir(fd)}
        except OSError as e:
            self._found(path, f"cannot be listed: {e.strerror}")
            return
        for name in sorted(there - wanted.keys() - directories):
            self._found(_join(path, name), "is not part of the layer")
        for name, entry in wanted.items():
            if self._is_full():
                break
            self.pace.take(ENTRY, self.stop)
            below = _join(path, name)
            if name not in there:
                self._found(below, "is missing")
            elif entry is None:
                self._whiteout(below, fd, name)
            else:
                self._entry(below, fd, name, entry)

    def _metadata(self, path: bytes, fd: int) -> None:
        """
        Compare the metadata of a directory.
        """
        entry = self.record.directories[path]
        if opaque(fd) != entry.opaque:
            self._found(path, f"is {'not opaque' if entry.opaque else 'opaque'} for overlayfs")
        if not entry.implied:
            self._status(path, os.fstat(fd), entry)
            self._xattrs(path, fd, entry.xattrs)
            return
        key = path or b"."
        if self.claimed is None or key not in self.claimed:
            return
        wanted = self.claimed[key] or self.default.get(key)
        if wanted is not None:
            found = DirectoryMetadata.of(fd)
            self._values(
                path,
                ((found.uid, found.gid, found.mode), found.mtime),
                ((wanted.uid, wanted.gid, wanted.mode), wanted.mtime),
            )
            xattrs = {os.fsencode(name): value for name, value in wanted.xattrs}
            self._xattrs(path, fd, xattrs)

    def _whiteout(self, path: bytes, here: int, name: bytes) -> None:
        found = os.lstat(name, dir_fd=here)
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
            return
        if stat.S_ISREG(found.st_mode) and not found.st_size:
            at = f"/proc/self/fd/{here}/{os.fsdecode(name)}"
            if any(xattr(at, f"{prefix}whiteout") is not None for prefix in OVERLAY):
                return
        self._found(path, "is not a whiteout")

    def _entry(self, path: bytes, here: int, name: bytes, entry: RecordedEntry) -> None:
        """
        Compare a file, a link, a device or a FIFO.
        """
        found = os.lstat(name, dir_fd=here)
        if not self._status(path, found, entry):
            return
        inode = found.st_dev, found.st_ino
        if self._first.setdefault(id(entry), inode) != inode:
            self._found(path, "is no hard link to the same file")
        kind = stat.S_IFMT(entry.mode)
        if kind == stat.S_IFLNK:
            target = os.readlink(name, dir_fd=here)
            if target != entry.link:
                self._found(path, f"leads to {_text(target)}; it should lead to {_text(entry.link)}")
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            if found.st_rdev != entry.size:
                device = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
                wanted = f"{os.major(entry.size)}:{os.minor(entry.size)}"
                self._found(path, f"is the device {device}; it should be {wanted}")
        elif kind == stat.S_IFREG:
            self._regular(path, here, name, entry, inode)

    def _regular(
        self, path: bytes, here: int, name: bytes, entry: RecordedEntry, inode: tuple[int, int]
    ) -> None:
        """
        Compare the size, content and extended attributes of a regular file.
        """
        known = self.checked.get(inode)
        if known is None:
            try:
                fd = os.open(name, _FILE, dir_fd=here)
            except OSError as e:
                known = f"cannot be opened: {e.strerror}"
            else:
                try:
                    self._xattrs(path, fd, entry.xattrs)
                    known = self._content(fd, entry)
                finally:
                    os.close(fd)
            self.checked[inode] = known
        if known:
            self._found(path, known)

    def _content(self, fd: int, entry: RecordedEntry) -> str:
        """
        Compare the content of a file.

        @return: what is wrong with it.
        """
        size = os.fstat(fd).st_size
        if size != entry.size:
            return f"has {size} bytes; it should have {entry.size}"
        crc, at = 0, 0
        try:
            for start, length in ((0, size),) if entry.parts is None else entry.parts:
                at, end = start, start + length
                reader = UncachedReader(fd, self._buffer, start)
                while at < end and (count := reader.read()):
                    count = min(count, end - at)
                    crc = crc32(self._buffer[:count], crc)
                    at += count
                    self.pace.take(count, self.stop)
        except OSError as e:
            return f"cannot be read at byte {at}: {e.strerror}"
        return "" if crc == entry.crc else "has other content"

    def _status(self, path: bytes, found: os.stat_result, entry: RecordedEntry) -> bool:
        """
        Compare type, owner, mode and time.

        @return: whether the type is right.
        """
        there, wanted = stat.S_IFMT(found.st_mode), stat.S_IFMT(entry.mode)
        if there != wanted:
            self._found(path, f"is {_TYPES.get(there, 'something else')}; it should be {_TYPES[wanted]}")
            return False
        self._values(
            path,
            ((found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)), found.st_mtime_ns),
            ((entry.uid, entry.gid, stat.S_IMODE(entry.mode)), entry.mtime),
        )
        return True

    def _values(
        self,
        path: bytes,
        found: tuple[tuple[int, int, int], int],
        wanted: tuple[tuple[int, int, int], int],
    ) -> None:
        (uid, gid, mode), mtime = found
        (to_uid, to_gid, to_mode), to_mtime = wanted
        if (uid, gid) != (to_uid, to_gid):
            self._found(path, f"belongs to {uid}:{gid}; it should belong to {to_uid}:{to_gid}")
        if mode != to_mode:
            self._found(path, f"has the mode {mode:o}; it should have {to_mode:o}")
        if mtime != to_mtime and EARLIEST <= to_mtime <= LATEST:
            self._found(path, f"was modified at {mtime} ns since 1970; it should be {to_mtime}")

    def _xattrs(self, path: bytes, fd: int, wanted: Mapping[bytes, bytes]) -> None:
        """
        Compare extended attributes.
        """
        try:
            names = os.listxattr(fd)
        except OSError as e:
            if e.errno != errno.ENOTSUP:
                self._found(path, f"has extended attributes that cannot be read: {e.strerror}")
                return
            names = []
        there = {os.fsencode(n) for n in names if not n.startswith(_IGNORED)}
        for name in sorted(there - wanted.keys()):
            self._found(path, f"has the extended attribute {_text(name)}, which the layer has not")
        for name, value in wanted.items():
            if os.fsdecode(name).startswith(_IGNORED):
                continue
            if name not in there:
                self._found(path, f"lacks the extended attribute {_text(name)}")
            elif os.getxattr(fd, name) != value:
                self._found(path, f"has another value of the extended attribute {_text(name)}")

    def _found(self, path: bytes, problem: str) -> None:
        if not self._is_full():
            self.damage.append(Damage(_text(path or b"."), problem))

    def _is_full(self) -> bool:
        return len(self.damage) >= MOST


def _join(above: bytes, name: bytes) -> bytes:
    return b"%b/%b" % (above, name) if above else name


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
