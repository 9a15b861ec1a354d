# -*- test-case-name: tests.unpack.test_tree_writer -*-
"""
Entries of a tar become a directory tree, ready to be a lowerdir of overlayfs.

The rules are those of OCI's image-spec, "Applying Changesets":

  - An entry replaces what an earlier one made, unless both are directories;
    then the later one's attributes stand.  Nothing is written through an old
    inode or an old link.
  - A whiteout C{.wh.x} hides the C{x} of the layers below, never this layer's
    own, in whatever order they stand.  Where this layer has an C{x} of its
    own, that hides the old one if it is a file, and is made opaque if it is
    a directory.  C{.wh..wh..opq} makes its directory opaque.
  - A whiteout makes nothing visible: it replaces no file, and a directory that
    only whiteouts name is made here for overlayfs alone.  If the layers below
    do not have that directory, registration leaves it out.
  - Whiteouts are written when all else is there: as a character device 0/0,
    or, where the kernel does not let us make one (Linux before 5.8), in
    overlayfs's other form, an empty file with the xattr C{overlay.whiteout} in a
    directory that is marked C{overlay.opaque=x}.

The tree must belong to nobody else while it is made.  Imports no Twisted:
this runs in the worker.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from typing import Final

from xferd.errors import BadLayer, DiskFull, StoreError, XferdError
from xferd.unpack import tar
from xferd.unpack.directories import LONGEST, Directories, Directory
from xferd.unpack.limits import Limits, printable
from xferd.unpack.metadata import MetadataWriter, set_own_xattr
from xferd.unpack.tar import Entry

_WHITEOUT: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"
_META: Final = b".wh..wh."
"""The prefix of AUFS's own files, which old images still contain."""

_LINKED: Final = b".wh..wh.plnk"
"""
The directory in the root where AUFS kept the first names of hard links.  Its
files exist here until the end, so that other entries can link to them.
"""

_IMPLIED: Final = 16 * 1024 * 1024
"""Bytes of the paths of all implied directories, which the daemon gets."""

_MOST_IMPLIED: Final = 50_000
"""How many directories may be implied: each is looked up in the layers below."""

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
    A tree that is being made below a directory.

    @ivar size: bytes of the regular files so far, each counted once.
    """

    def __init__(
        self, root: int, limits: Limits, attributes: MetadataWriter, others: Callable[[], int] = lambda: 0
    ) -> None:
        """
        @param root: a descriptor of an empty directory.
        @param others: tells how many bytes of memory this layer needs besides.
        """
        self._limits, self._attributes = limits, attributes
        self._folders = Directories(root, limits, others)
        self._parent: bytes | None = None  # as the last entry wrote it, and what that is
        self._real = b""
        self._here = -1
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
        Make what an entry describes.

        @param read: gives the entry's data, as L{xferd.unpack.tar.TarReader.read}.
        @raise BadLayer: the entry leads out, or cannot be.
        @raise DiskFull: no space is left.
        @raise StoreError: the disk refuses for another reason.
        """
        try:
            self._add(entry, read)
        except OSError as e:
            raise _explained(e, entry.path) from e

    def check_memory(self) -> None:
        """
        Make sure that the layer does not need too much memory.

        @raise BadLayer: it does.
        """
        self._folders.check_memory()

    def finish(self, step: Callable[[], object] = lambda: None) -> tuple[bytes, ...]:
        """
        Write whiteouts and give the directories their attributes, now that
        nothing more is put into them.

        @param step: called for each directory: there may be millions.
        @return: the directories that are implied and show through to those
            below, the root as C{.}.
        """
        try:
            if _LINKED in self._folders.known:
                self.size -= self._folders.remove(b"", _LINKED)
            return self._finish(step)
        except OSError as e:
            raise _explained(e, b"the directories") from e
        finally:
            self._folders.close()

    # ---------------------------------------------------------------- entries

    def _add(self, entry: Entry, read: Read) -> None:
        """
        Find the entry's directory and make it there.
        """
        above, _, name = entry.path.rpartition(b"/")
        if above != self._parent or not name or name[0] == 0x2E:
            # The fast way is for the next file in the same directory, with a name of no special meaning.
            parts = _components(entry.path, self._limits)
            if not parts:
                self._root(entry)
                return
            if _is_meta(parts) and not (
                parts[0] == _LINKED and len(parts) == 2 and entry.kind == tar.REGULAR
            ):
                return
            last = parts.pop()
            folder = b"/".join(parts)
            self._parent = None
            if last.startswith(_WHITEOUT):
                self._whiteout(folder, last, entry)
                return
            real = self._folders.resolve(folder, make=True)
            assert real is not None
            self._real, self._here = real, self._folders.descriptor(real)
            if entry.kind == tar.DIRECTORY:
                self._directory(last, entry)
                return
            # Behind a name such as "a/" or "a/.", C{above} is not the directory that was resolved.
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
        """
        Remove what is in the way.
        """
        self.size -= self._folders.remove(self._real, name)
        self._here = self._folders.descriptor(self._real)

    def _root(self, entry: Entry) -> None:
        """
        The root's own entry gives attributes, and cannot be anything else
        (CVE-2021-29136).
        """
        if entry.kind != tar.DIRECTORY:
            raise BadLayer(
                f"{printable(entry.path)} would make something else of the tree's root than a directory"
            )
        self._folders.list(b"", entry)

    def _directory(self, name: bytes, entry: Entry) -> None:
        """
        Make a directory, or take new attributes for one.
        """
        real = b"%b/%b" % (self._real, name) if self._real else name
        folder = self._folders.known.get(real)
        if folder is None:
            try:
                folder = self._folders.make(self._real, name)
            except FileExistsError:
                self._replace(name)
                folder = self._folders.make(self._real, name)
                # It replaces this layer's file, and so also what the file replaced.
                folder.opaque = True
        self._folders.list(real, entry)

    def _regular(self, name: bytes, entry: Entry, read: Read) -> None:
        """
        Make a file with its data.
        """
        out = self._attributes.create(name, self._here, entry)
        try:
            if entry.sparse is None:
                while piece := read(entry.size):
                    _write(out, piece)
            else:
                for start, length in entry.sparse:
                    offset = os.lseek(out, start, os.SEEK_SET)
                    end = start + length
                    while offset < end:
                        piece = read(end - offset)
                        _write(out, piece)
                        offset += len(piece)
                os.ftruncate(out, entry.size)
            self._attributes.regular(out, entry)
        finally:
            os.close(out)
        self.size += entry.size

    def _hard_link(self, name: bytes, entry: Entry, _read: Read) -> None:
        """
        Link to a file that this layer has already.
        """
        parts = _components(entry.link, self._limits)
        target = parts.pop() if parts else b""
        above = self._folders.resolve(b"/".join(parts), make=False)
        # A copy: in deep trees, opening the second directory closes the first.
        there = None if above is None else os.dup(self._folders.descriptor(above))
        try:
            self._here = self._folders.descriptor(self._real)
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

    def _symlink(self, name: bytes, entry: Entry, _read: Read) -> None:
        """
        Make a link; its target is kept to the letter, wherever it leads.
        """
        if not entry.link:
            raise BadLayer(f"{printable(entry.path)} is a symbolic link to nothing")
        os.symlink(entry.link, name, dir_fd=self._here)
        self._attributes.link(name, self._here, entry)

    def _node(self, name: bytes, entry: Entry, _read: Read) -> None:
        """
        Make a device or a FIFO.
        """
        major, minor = entry.device
        if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
            raise BadLayer(f"{printable(entry.path)} is a device {major}:{minor}, which Linux does not have")
        self._attributes.node(name, self._here, entry)

    # -------------------------------------------------------------- whiteouts

    def _whiteout(self, above: bytes, name: bytes, entry: Entry) -> None:
        """
        Note what the layer removes.

        @param above: the directory of the whiteout, as the layer names it.
        """
        hidden = name[len(_WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise BadLayer(f"{printable(entry.path)} is a whiteout of nothing")
        real = self._folders.locate(above)
        if real is not None:
            self._folders.note(real, _OPAQUE if name == _OPAQUE else hidden)

    def _finish(self, step: Callable[[], object]) -> tuple[bytes, ...]:
        known, whiteouts = self._folders.known, self._folders.whiteouts
        for real, names in whiteouts.items():
            if real not in known:
                continue
            known[real].opaque = known[real].opaque or _OPAQUE in names
            for name in names:
                below = known.get(b"%b/%b" % (real, name) if real else name)
                if below is not None:
                    below.opaque = below.replaces = True
        for real in sorted(whiteouts):
            self._make_hidden(real)
        severs = any(folder.opaque for folder in known.values())

        def is_severed(real: bytes) -> bool:
            return severs and _is_severed(real, known)

        for real, names in whiteouts.items():
            # Where nothing below shows there is nothing to hide, and overlayfs would list the name.
            if real in known and not known[real].opaque and not is_severed(real):
                for name in names:
                    self._hide(real, name)
            step()
        for real in sorted(known):
            step()
            descriptor = self._folders.descriptor(real)
            folder = known[real]
            if folder.opaque:
                set_own_xattr(descriptor, self._attributes.overlay + b"opaque", b"y")
            entry = folder.entry(real)
            if entry is not None:
                self._attributes.directory(descriptor, entry)
            elif is_severed(real):
                # It has nothing below to take its attributes from.
                self._attributes.directory(descriptor, Entry(real, tar.DIRECTORY, 0o755, 0, 0, 0, 0))
        implied = tuple(
            real or b"."
            for real, folder in known.items()
            if folder.attributes is None and not is_severed(real)
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

    def _make_hidden(self, real: bytes) -> None:
        """
        Make the directory of some whiteouts, for overlayfs alone.

        It is not made where this layer has something else in its place, or
        hides all that is below: then the whiteouts hide nothing.
        """
        known, whiteouts = self._folders.known, self._folders.whiteouts
        above, opaque = b"", False
        for name in real.split(b"/"):
            below = b"%b/%b" % (above, name) if above else name
            opaque = opaque or known[above].opaque
            if below not in known:
                if opaque or name in whiteouts.get(above, ()):
                    return
                try:
                    folder = self._folders.imply(above, name)
                except FileExistsError:
                    return
                folder.opaque = _OPAQUE in whiteouts.get(below, ())
            above = below

    def _hide(self, real: bytes, name: bytes) -> None:
        """
        Write one whiteout, unless the layer has a file of that name.
        """
        here = self._folders.descriptor(real)
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=here)
        except FileExistsError:
            pass
        except PermissionError:
            self._hide_by_xattr(here, name)

    def _hide_by_xattr(self, here: int, name: bytes) -> None:
        """
        The same with what every user may make.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            out = os.open(name, flags, 0o600, dir_fd=here)
        except FileExistsError:
            return
        try:
            set_own_xattr(out, self._attributes.overlay + b"whiteout", b"y")
        finally:
            os.close(out)
        set_own_xattr(here, self._attributes.overlay + b"opaque", b"x")


def _components(path: bytes, limits: Limits) -> list[bytes]:
    """
    The components of a path, seen from the tree's root.

    C{..} takes away the component before it, whatever that is, and means
    nothing in the root, as Go's C{path.Clean} has it.  None is left.

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


def _is_meta(parts: list[bytes]) -> bool:
    """
    Whether an entry is of AUFS's own, and nobody else's business.

    @raise BadLayer: it would be in a directory that is itself a whiteout.
    """
    if not any(part.startswith(_WHITEOUT) for part in parts):
        return False
    if parts[-1] != _OPAQUE and parts[-1].startswith(_META):
        return True
    for part in parts[:-1]:
        if part.startswith(_META):
            return True
        if part.startswith(_WHITEOUT):
            raise BadLayer(f"{printable(b'/'.join(parts))} is below a whiteout")
    return False


def _is_severed(real: bytes, known: Mapping[bytes, Directory]) -> bool:
    """
    Whether a directory replaces the one of the layers below, or is in one
    that hides what they have in it.
    """
    if not real:
        return False
    if known[real].replaces or known[b""].opaque:
        return True
    at = real.find(b"/")
    while at >= 0:
        if known[real[:at]].opaque:
            return True
        at = real.find(b"/", at + 1)
    return False


def _write(out: int, piece: memoryview) -> None:
    """
    Write all of a piece, however little the kernel takes at a time.
    """
    written = os.write(out, piece)
    while written < len(piece):
        written += os.write(out, piece[written:])


def _explained(error: OSError, path: bytes) -> XferdError:
    """
    What an error of the kernel's means.
    """
    if error.errno in FULL:
        return DiskFull(f"no space is left for {printable(path)}; make room below the data directory")
    if error.errno in _LAYERS_FAULT:
        return BadLayer(f"{printable(path)} cannot be made: {error.strerror}")
    return StoreError(f"the disk refuses {printable(path)}: {error.strerror or error}")
