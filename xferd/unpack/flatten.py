# -*- test-case-name: tests.unpack.test_flatten -*-
"""
Copies a stack of layers' trees into one directory: the root file system.

The layers are merged first (L{xferd.unpack.overlay_merge}), so that each file
is copied once, by reflink where the file system supports it, and no copied file
is removed again.

Trees written by root have native owners and devices; those written by another
user have them in an xattr (L{xferd.unpack.metadata}).  Either form is read, and
the form that this process can write is written.

Imports no Twisted: C{xferctl} uses it, in its user's process.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from fcntl import ioctl
from typing import Final, NamedTuple

from xferd.errors import DiskFull, StoreError
from xferd.unpack import tar
from xferd.unpack.limits import printable
from xferd.unpack.metadata import OVERRIDE, metadata_writer
from xferd.unpack.overlay_merge import MergedDirectory, OpenDirectories, by_descriptor, merge
from xferd.unpack.rights import Rights
from xferd.unpack.tar import Entry

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_FICLONE: Final = 0x40049409
"""C{_IOW(0x94, 9, int)} of C{linux/fs.h}."""

_PIECE: Final = 64 * 1024 * 1024
"""Bytes to copy before the next report of progress."""

_REPORTED: Final = 100
"""Entries to make before the next report of progress."""

_CANNOT = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM, errno.ETXTBSY}
)
"""Errors for a method of copying that these two files do not support."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_KINDS = {
    stat.S_IFREG: tar.REGULAR,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHARACTER,
    stat.S_IFBLK: tar.BLOCK_DEVICE,
    stat.S_IFIFO: tar.FIFO,
    stat.S_IFDIR: tar.DIRECTORY,
}
_DEVICES = {"char": tar.CHARACTER, "block": tar.BLOCK_DEVICE}


class Progress(NamedTuple):
    """
    The progress of L{flatten}.

    @ivar entries: entries made.
    @ivar entries_total: entries to make; 0 until that is known.
    @ivar size: bytes of regular files copied.
    @ivar size_total: bytes to copy.
    """

    entries: int = 0
    entries_total: int = 0
    size: int = 0
    size_total: int = 0


def flatten(
    trees: Sequence[str], target: str, notify: Callable[[Progress], None], *, privileged: bool
) -> Progress:
    """
    Write the root file system of some layers.

    @param trees: the layers' trees, bottom first.
    @param target: an empty directory that no other process writes to; it
        becomes the root.  If this fails, its content so far stays.
    @param notify: called with the progress, at least a few times a second; an
        error that it raises ends the work.
    @param privileged: whether this process can set owners and create devices.
    @return: the final progress.
    @raise DiskFull: no space is left.
    @raise StoreError: a tree cannot be read, or a file cannot be written.
    """
    umask = os.umask(0)
    copy = _Copy(trees, target, notify, privileged)
    try:
        return copy.run()
    finally:
        copy.close()
        os.umask(umask)


def copy_root_metadata(tree: str, target: str) -> None:
    """
    Set a directory's metadata to those of a tree's root.
    """
    source = os.open(tree, _READ | os.O_DIRECTORY)
    try:
        entry = _entry(b"/", source, os.fstat(source), unprivileged=is_unprivileged(tree))
        out = os.open(target, _READ | os.O_DIRECTORY)
        try:
            metadata_writer(Rights.ROOT).directory(out, entry)
        finally:
            os.close(out)
    finally:
        os.close(source)


class _Copy:
    """
    One run of L{flatten}.
    """

    def __init__(
        self, trees: Sequence[str], target: str, notify: Callable[[Progress], None], privileged: bool
    ) -> None:
        self._count = len(trees)
        self._unprivileged = [is_unprivileged(tree) for tree in trees]
        self._source = OpenDirectories(trees)
        self._target = OpenDirectories([target])
        self._notify = notify
        self._metadata = metadata_writer(Rights.ROOT if privileged else Rights.NONE)
        self._linked: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        self._clones = True
        self._ranges = True
        self._progress = Progress()

    def close(self) -> None:
        """
        Close all descriptors.
        """
        self._source.close()
        self._target.close()

    def run(self) -> Progress:
        merged = merge(self._source, self._count, lambda: self._notify(self._progress))
        self._progress = Progress(0, merged.entries, 0, merged.size)
        for directory in merged.directories:
            self._guarded(self._fill, directory, directory.path)
        # The deepest first, so that a directory's times do not change afterwards.
        for directory in reversed(merged.directories):
            self._guarded(self._finish, directory, directory.path)
        if not merged.directories:
            self._guarded(self._finish_empty, MergedDirectory(b"", 0, []), b"")
        self._notify(self._progress)
        return self._progress

    def _guarded(
        self, step: Callable[[MergedDirectory], None], directory: MergedDirectory, path: bytes
    ) -> None:
        try:
            step(directory)
        except OSError as e:
            raise _explained(e, path) from e

    def _fill(self, directory: MergedDirectory) -> None:
        """
        Make a directory and its files.
        """
        path = directory.path
        if path:
            above, _, name = path.rpartition(b"/")
            os.mkdir(name, 0o700, dir_fd=self._target.at(0, above))
            self._advance(0)
        for name, tree in directory.files:
            try:
                self._file(path, name, tree)
            except OSError as e:
                raise _explained(e, b"%b/%b" % (path, name) if path else name) from e
            self._advance(0)

    def _finish(self, directory: MergedDirectory) -> None:
        source = self._source.at(directory.tree, directory.path)
        entry = _entry(
            directory.path, source, os.fstat(source), unprivileged=self._unprivileged[directory.tree]
        )
        self._metadata.directory(self._target.at(0, directory.path), entry)

    def _finish_empty(self, root: MergedDirectory) -> None:
        """
        Set the metadata of the root of an image without layers, as for a layer
        without an entry for the root.
        """
        entry = Entry(root.path, tar.DIRECTORY, 0o755, 0, 0, 0, 0)
        self._metadata.directory(self._target.at(0, root.path), entry)

    def _advance(self, size: int) -> None:
        """
        Count an entry, or bytes of one.
        """
        done = self._progress
        if size:
            self._progress = done._replace(size=done.size + size)
        else:
            self._progress = done._replace(entries=done.entries + 1)
            if done.entries % _REPORTED == 0:
                self._notify(self._progress)

    # ---------------------------------------------------------------- entries

    def _file(self, path: bytes, name: bytes, tree: int) -> None:
        """
        Copy a file of any kind but a directory.
        """
        here, there = self._source.at(tree, path), self._target.at(0, path)
        status = os.lstat(name, dir_fd=here)
        if status.st_nlink > 1:
            # Links within a tree are the image's; inodes that trees share in the store are not.
            first = self._linked.setdefault((tree, status.st_ino), (path, name))
            if first != (path, name):
                self._link(first, path, name)
                return
        if stat.S_ISREG(status.st_mode):
            self._regular(name, here, there, tree)
            return
        entry = _entry(name, by_descriptor(here, name), status, unprivileged=self._unprivileged[tree])
        if entry.kind == tar.SYMLINK:
            os.symlink(os.readlink(name, dir_fd=here), name, dir_fd=there)
            self._metadata.link(name, there, entry)
        else:
            self._metadata.node(name, there, entry)

    def _link(self, first: tuple[bytes, bytes], path: bytes, name: bytes) -> None:
        """
        Make a hard link to a file that has been copied.
        """
        # A duplicate: in deep trees, opening the second directory closes the first.
        old = os.dup(self._target.at(0, first[0]))
        try:
            there = self._target.at(0, path)
            os.link(first[1], name, src_dir_fd=old, dst_dir_fd=there, follow_symlinks=False)
        finally:
            os.close(old)

    def _regular(self, name: bytes, here: int, there: int, tree: int) -> None:
        """
        Copy a regular file, or make the device that it represents.
        """
        source = os.open(name, _READ, dir_fd=here)
        try:
            status = os.fstat(source)
            entry = _entry(name, source, status, unprivileged=self._unprivileged[tree])
            if entry.kind != tar.REGULAR:
                self._metadata.node(name, there, entry)
                return
            out = self._metadata.create(name, there, entry)
            try:
                self._data(source, out, status)
                self._metadata.regular(out, entry)
            finally:
                os.close(out)
        finally:
            os.close(source)

    # ------------------------------------------------------------------- data

    def _data(self, source: int, out: int, status: os.stat_result) -> None:
        """
        Copy a file's bytes, and keep its holes.
        """
        size = status.st_size
        if not size:
            return
        if self._clones and self._clone(source, out):
            self._advance(size)
            return
        if status.st_blocks * 512 >= size:
            self._range(source, out, 0, size)
            return
        at = 0
        while at < size:
            try:
                start = os.lseek(source, at, os.SEEK_DATA)
            except OSError as e:
                if e.errno != errno.ENXIO:
                    raise
                start = size  # only a hole follows
            if start > at:
                self._advance(start - at)
            if start == size:
                break
            at = os.lseek(source, start, os.SEEK_HOLE)
            self._range(source, out, start, at)
        os.ftruncate(out, size)

    def _clone(self, source: int, out: int) -> bool:
        """
        Share the blocks of both files.

        @return: false if the file system does not support it.
        """
        try:
            ioctl(out, _FICLONE, source)
        except OSError as e:
            if e.errno not in _CANNOT:
                raise
            self._clones = False
            return False
        return True

    def _range(self, source: int, out: int, start: int, end: int) -> None:
        """
        Copy a part of a file, in the kernel.
        """
        while start < end:
            length = min(_PIECE, end - start)
            copied = self._piece(source, out, start, length)
            if not copied:
                raise OSError(errno.EIO, "the file has become shorter")
            start += copied
            self._advance(copied)
            if length == _PIECE:
                self._notify(self._progress)

    def _piece(self, source: int, out: int, start: int, length: int) -> int:
        """
        Copy some bytes.

        @return: their number.
        """
        if self._ranges:
            try:
                return os.copy_file_range(source, out, length, start, start)
            except OSError as e:
                if e.errno not in _CANNOT:
                    raise
                self._ranges = False
        os.lseek(out, start, os.SEEK_SET)
        return os.sendfile(out, source, start, length)


def is_unprivileged(tree: str) -> bool:
    """
    Whether a tree was written by a daemon without root.  Its files belong to
    that user; those without an xattr for another owner count as root's.
    """
    return os.stat(os.path.dirname(tree)).st_uid != 0


def _entry(name: bytes, target: int | bytes, status: os.stat_result, *, unprivileged: bool) -> Entry:
    """
    A file of a layer's tree, as the layer's tar described it.

    @param target: its descriptor, or its path if it cannot be opened.
    @param unprivileged: whether its tree L{is_unprivileged}.
    """
    mode, mtime = stat.S_IMODE(status.st_mode), status.st_mtime_ns
    uid, gid = (0, 0) if unprivileged else (status.st_uid, status.st_gid)
    device = (os.major(status.st_rdev), os.minor(status.st_rdev))
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    xattrs = _xattrs(target)
    override = _override(xattrs.pop(OVERRIDE, b""))
    if override is not None:
        uid, gid, mode, wanted = override
        word, *numbers = wanted.split("-")
        if kind == tar.REGULAR and word in _DEVICES and len(numbers) == 2:
            kind, device = _DEVICES[word], (int(numbers[0]), int(numbers[1]))
    return Entry(name, kind, mode, uid, gid, status.st_size, mtime, device=device, xattrs=xattrs)


def _xattrs(target: int | bytes) -> dict[bytes, bytes]:
    """
    A file's extended attributes.
    """
    follow = isinstance(target, int)
    try:
        names = os.listxattr(target, follow_symlinks=follow)
    except OSError as e:
        if e.errno != errno.ENOTSUP:
            raise
        return {}
    return {os.fsencode(name): os.getxattr(target, name, follow_symlinks=follow) for name in names}


def _override(value: bytes) -> tuple[int, int, int, str] | None:
    """
    Owner, group, mode and type in the value of the override xattr; L{None} if
    it is not valid.
    """
    parts = value.decode("ascii", "replace").split(":")
    try:
        uid, gid, mode = int(parts[0]), int(parts[1]), int(parts[2], 8)
    except (ValueError, IndexError):
        return None
    return uid, gid, mode & 0o7777, parts[3] if len(parts) > 3 else ""


def _explained(error: OSError, path: bytes) -> StoreError:
    """
    The error to report for an error of the kernel.
    """
    name = printable(path or b"/")
    if error.errno in _FULL:
        return DiskFull(f"no space is left for {name}")
    return StoreError(f"cannot copy {name}: {error.strerror or error}")
