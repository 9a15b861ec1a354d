# -*- test-case-name: tests.unpack.tree_writer -*-
"""
The directories of a tree that is being written.

The kernel never gets a whole path from a layer.  A directory is opened from its
parent's descriptor, one component at a time and never through a symbolic link
(C{O_NOFOLLOW}).  Where a layer's path leads over a link, the link is read and
its target resolved here, with the tree's root as C{/}, so that neither C{..} nor
an absolute target leads out.  C{chroot} and C{openat2}'s C{RESOLVE_IN_ROOT} do
the same, but need privileges or a newer kernel.

Imports no Twisted: this runs in the worker.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from struct import Struct
from typing import Final

from attrs import define

from xferd.errors import BadLayer
from xferd.unpack.limits import Limits, printable
from xferd.unpack.tar import DIRECTORY, Entry

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_MOST_OPEN: Final = 128
"""Descriptors to keep open."""

_MOST_LINKS: Final = 40
"""Links to follow in one path, as in Linux."""

LONGEST: Final = 4095
"""Bytes of a path, as in Linux."""

MOST_MEMORY: Final = 168 * 1024 * 1024
"""
Bytes of memory that a layer may take in its process: for directories, their
extended attributes, whiteouts, and the window of its compression.  Together
with the memory of an idle process, that is less than 256 MB.
"""

_DIRECTORY: Final = 330
_WHITEOUTS: Final = 400
_WHITEOUT: Final = 160
_XATTRS: Final = 250
_XATTR: Final = 150
"""
Approximate bytes of Python objects, besides names and values: for a directory,
for its set of whiteouts, for each whiteout, for its extended attributes, and
for each of these.
"""

_PACKED: Final = Struct("=HIIqI")


@define(weakref_slot=False)
class Directory:
    """
    The metadata of a directory, which are written after all its entries.

    There may be hundreds of thousands, so this is small.

    @ivar attributes: mode, owner, group and time of the entry that lists it,
        packed; L{None} if it is only implied.
    @ivar xattrs: the extended attributes of that entry.
    @ivar opaque: whether it hides the entries that the layers below have in it.
    @ivar replaces: whether it also hides the directory of the layers below with
        its metadata; it is opaque then.
    """

    attributes: bytes | None = None
    xattrs: dict[bytes, bytes] | None = None
    opaque: bool = False
    replaces: bool = False

    def entry(self, real: bytes) -> Entry | None:
        """
        The entry that lists it; L{None} if it is only implied.

        @param real: its real path.
        """
        if self.attributes is None:
            return None
        mode, uid, gid, seconds, fraction = _PACKED.unpack(self.attributes)
        mtime = seconds * 10**9 + fraction
        return Entry(real, DIRECTORY, mode, uid, gid, 0, mtime, xattrs=self.xattrs)


class Directories:
    """
    Finds and creates directories below a root, and keeps their metadata.

    Paths here are I{real}: relative to the root, without C{.}, C{..}, links or
    slashes at the ends; the root is the empty path.

    @ivar known: every directory of the tree, by its real path.
    @ivar whiteouts: the names that this layer hides, by the real path of their
        directory, which need not exist.
    """

    def __init__(
        self, root: int, limits: Limits, other_memory: Callable[[], int], removed: Callable[[bytes], object]
    ) -> None:
        """
        @param root: a descriptor of the empty root; the caller closes it.
        @param removed: called with the real path of each entry that is removed, the
            directory after its entries.
        @param other_memory: returns the bytes of L{MOST_MEMORY} that are used
            elsewhere.
        """
        self._root, self._limits = root, limits
        self.known: dict[bytes, Directory] = {b"": Directory()}
        self.whiteouts: dict[bytes, set[bytes]] = {}
        self._aliases: dict[bytes, bytes] = {}
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._other_memory = other_memory
        self._removed = removed
        self._memory = 0
        self._implied = 0

    def close(self) -> None:
        """
        Close all descriptors but the root's.
        """
        while self._open:
            os.close(self._open.popitem()[1])

    def descriptor(self, real: bytes) -> int:
        """
        A descriptor of a known directory, valid until the next call here.
        """
        if not real:
            return self._root
        found = self._open.get(real)
        if found is not None:
            self._open.move_to_end(real)
            return found
        above, _, name = real.rpartition(b"/")
        found = os.open(name, _OPEN, dir_fd=self.descriptor(above))
        self._open[real] = found
        if len(self._open) > _MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return found

    def resolve(self, path: bytes, *, make: bool) -> bytes | None:
        """
        Resolve a path of the layer to the real path of a directory.

        @param path: a relative path, without C{.} and C{..}.
        @param make: whether to create missing directories, as implied ones.
        @return: the real path, or L{None} if a directory is missing.
        @raise BadLayer: it leads over too many links, or over a file where a
            directory is to be created.
        """
        if path in self.known:
            return path
        real = self._aliases.get(path)
        if real is None:
            try:
                real = self._walk(path, make)
            except NotADirectoryError:
                return None
            if real not in self.known:
                return None
            if real != path and len(self._aliases) < _MOST_OPEN:
                self._aliases[path] = real
        return real

    def locate(self, path: bytes) -> bytes | None:
        """
        The real path that a directory of the layer has, or would have.

        @param path: as for L{resolve}.
        @return: the real path, or L{None} if it leads over a file.
        @raise BadLayer: it leads over too many links.
        """
        if path in self.known:
            return path
        try:
            return self._walk(path, make=False)
        except NotADirectoryError:
            return None

    def _walk(self, path: bytes, make: bool) -> bytes:
        """
        Resolve one component at a time, and links within the root.

        @raise NotADirectoryError: it leads over a file, and C{make} is false.
        """
        todo = path.split(b"/")[::-1]
        real, links = b"", 0
        while todo:
            name = todo.pop()
            if name == b"..":
                real = real.rpartition(b"/")[0]
                continue
            below = b"%b/%b" % (real, name) if real else name
            if below in self.known or real not in self.known:
                # The entries of a missing directory are missing, too.
                real = below
                continue
            here = self.descriptor(real)
            try:
                mode = os.lstat(name, dir_fd=here).st_mode
            except FileNotFoundError:
                if make:
                    self.imply(real, name)
                real = below
                continue
            if not stat.S_ISLNK(mode):
                if not make:
                    raise NotADirectoryError
                raise BadLayer(f"{printable(path)} leads over {printable(below)}, which is not a directory")
            links += 1
            if links > _MOST_LINKS:
                raise BadLayer(f"{printable(path)} leads over more than {_MOST_LINKS} symbolic links")
            target = os.readlink(name, dir_fd=here)
            if target.startswith(b"/"):
                real = b""
            todo += [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]
        return real

    def imply(self, above: bytes, name: bytes) -> Directory:
        """
        Create a directory that no entry lists.

        @raise FileExistsError: the name is taken.
        @raise BadLayer: it is too deep, or there are too many.
        """
        self._implied += 1
        if self._implied > self._limits.entries:
            raise BadLayer(f"the tar implies more than {self._limits.entries} directories")
        return self.make(above, name)

    def make(self, above: bytes, name: bytes) -> Directory:
        """
        Create a directory, which is implied until L{record}.

        @raise FileExistsError: the name is taken.
        @raise BadLayer: it is too deep, or there are too many.
        """
        real = b"%b/%b" % (above, name) if above else name
        if len(real) > LONGEST:
            raise BadLayer(f"{printable(real)} is longer than {LONGEST} bytes")
        if real.count(b"/") >= self._limits.depth:
            raise BadLayer(f"{printable(real)} is deeper than {self._limits.depth} directories")
        self._charge(len(real) + _DIRECTORY)
        # Readable, writable and searchable until all its entries are written; then its own mode is set.
        os.mkdir(name, 0o755, dir_fd=self.descriptor(above))
        directory = self.known[real] = Directory()
        return directory

    def remove(self, above: bytes, name: bytes) -> int:
        """
        Remove the file or directory of a name, with all its entries.

        @return: the bytes of regular files removed.
        """
        here = self.descriptor(above)
        found = os.lstat(name, dir_fd=here)
        real = b"%b/%b" % (above, name) if above else name
        if not stat.S_ISDIR(found.st_mode):
            if stat.S_ISLNK(found.st_mode):
                self._aliases.clear()
            os.unlink(name, dir_fd=here)
            self._removed(real)
            return found.st_size if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 else 0
        self._aliases.clear()
        size = 0
        while True:
            # One name at a time, without a list: there may be millions.
            with os.scandir(self.descriptor(real)) as listing:
                for inner in listing:
                    size += self.remove(real, os.fsencode(inner.name))
            descriptor = self._open.pop(real, None)
            if descriptor is not None:
                os.close(descriptor)
            try:
                os.rmdir(name, dir_fd=self.descriptor(above))
                break
            except OSError as e:
                # Some file systems skip names in a listing while others are removed.
                if e.errno != errno.ENOTEMPTY:
                    raise
        self._removed(real)
        self._memory -= len(real) + _DIRECTORY + _size(self.known.pop(real).xattrs)
        return size

    def record(self, real: bytes, entry: Entry) -> None:
        """
        Keep the metadata of a directory, in place of those of an earlier entry.

        @raise BadLayer: it needs too much memory.
        """
        directory = self.known[real]
        self._charge(_size(entry.xattrs) - _size(directory.xattrs))
        directory.attributes = _PACKED.pack(entry.mode, entry.uid, entry.gid, *divmod(entry.mtime, 10**9))
        directory.xattrs = entry.xattrs

    def add_whiteout(self, real: bytes, name: bytes) -> None:
        """
        Keep a whiteout.

        @param real: the real path of its directory, which need not exist.
        @raise BadLayer: it needs too much memory.
        """
        names = self.whiteouts.get(real)
        if names is None:
            self._charge(len(real) + _WHITEOUTS)
            names = self.whiteouts[real] = set()
        if name not in names:
            self._charge(len(name) + _WHITEOUT)
            names.add(name)

    def check_memory(self) -> None:
        """
        @raise BadLayer: the layer needs more memory than L{MOST_MEMORY}.
        """
        if self._memory + self._other_memory() > MOST_MEMORY:
            raise BadLayer(
                f"the layer needs more than {MOST_MEMORY} bytes of memory for its directories, "
                "their extended attributes, its whiteouts and its compression's window"
            )

    def _charge(self, size: int) -> None:
        """
        Count memory, before it is used.
        """
        self._memory += size
        self.check_memory()


def _size(xattrs: dict[bytes, bytes] | None) -> int:
    """
    Approximate bytes of memory of extended attributes.
    """
    if not xattrs:
        return 0
    return _XATTRS + sum(len(name) + len(value) + _XATTR for name, value in xattrs.items())
