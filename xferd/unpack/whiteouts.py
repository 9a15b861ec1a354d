# -*- test-case-name: tests.unpack.tree_writer.test_whiteouts -*-
"""
Whiteouts: the entries of a layer that hide those of the layers below.

The rules are those of OCI's image-spec, "Applying Changesets":

  - A whiteout C{.wh.x} hides the C{x} of the layers below, never this layer's
    own, in any order of entries.  If this layer has an C{x}, too, a file hides
    the old one by itself, and a directory becomes opaque.
    C{.wh..wh..opq} makes its directory opaque.
  - A whiteout makes nothing visible: it replaces no file, and a directory that
    only whiteouts name is created for overlayfs alone.  If the layers below
    lack that directory, registration removes it.
  - Whiteouts are written after all other entries: as a character device 0/0,
    or, if the kernel refuses that (Linux before 5.8), in overlayfs's other
    form, an empty file with the xattr C{overlay.whiteout} in a directory with
    C{overlay.opaque=x}.

Imports no Twisted: this runs in the worker.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Final

from xferd.errors import BadLayer
from xferd.tree_record import RecordWriter
from xferd.unpack.directories import Directories
from xferd.unpack.limits import printable
from xferd.unpack.metadata import set_own_xattr

WHITEOUT: Final = b".wh."
"""The prefix of their names."""

_OPAQUE: Final = b".wh..wh..opq"
_META: Final = b".wh..wh."
"""The prefix of AUFS's internal files, which old images still contain."""


def is_meta(parts: list[bytes]) -> bool:
    """
    Whether an entry is one of AUFS's internal files.

    @param parts: the components of its path.
    @raise BadLayer: it is in a directory that is itself a whiteout.
    """
    if not any(part.startswith(WHITEOUT) for part in parts):
        return False
    if parts[-1] != _OPAQUE and parts[-1].startswith(_META):
        return True
    for part in parts[:-1]:
        if part.startswith(_META):
            return True
        if part.startswith(WHITEOUT):
            raise BadLayer(f"{printable(b'/'.join(parts))} is below a whiteout")
    return False


class Whiteouts:
    """
    The whiteouts of one layer.

    Life cycle: made; whiteouts are L{add}ed; they are written by L{write}.
    """

    def __init__(self, directories: Directories, overlay: bytes, record: RecordWriter) -> None:
        """
        @param directories: those of the layer.
        @param overlay: the prefix of the xattrs that overlayfs reads.
        @param record: gets each whiteout that is written.
        """
        self._directories = directories
        self._overlay = overlay
        self._record = record
        self._severs = False

    def add(self, above: bytes, name: bytes, path: bytes) -> None:
        """
        Record a whiteout.

        @param above: the directory of the whiteout, as in the entry's path.
        @param name: its name, with the prefix.
        @param path: the entry's path, for errors.
        """
        hidden = name[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise BadLayer(f"{printable(path)} is a whiteout of nothing")
        real = self._directories.locate(above)
        if real is not None:
            self._directories.add_whiteout(real, _OPAQUE if name == _OPAQUE else hidden)

    def write(self, step: Callable[[], object]) -> None:
        """
        Write all of them, and mark the directories that become opaque.

        @param step: called for each directory with whiteouts.
        """
        known, whiteouts = self._directories.known, self._directories.whiteouts
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
        self._severs = any(directory.opaque for directory in known.values())
        for real, names in whiteouts.items():
            # Where the layers below do not show, overlayfs would list the whiteout's name.
            if real in known and not known[real].opaque and not self.is_severed(real):
                for name in names:
                    self._hide(real, name)
            step()

    def is_severed(self, real: bytes) -> bool:
        """
        Whether a directory does not merge with the layers below: it, or one above
        it, hides them.  Known after L{write}.
        """
        if not self._severs or not real:
            return False
        known = self._directories.known
        if known[real].replaces or known[b""].opaque:
            return True
        at = real.find(b"/")
        while at >= 0:
            if known[real[:at]].opaque:
                return True
            at = real.find(b"/", at + 1)
        return False

    def _make_hidden(self, real: bytes) -> None:
        """
        Create the directory of some whiteouts, for overlayfs alone.

        Skip it if this layer has another entry in its place, or hides the
        layers below: then the whiteouts have no effect.
        """
        known, whiteouts = self._directories.known, self._directories.whiteouts
        above, opaque = b"", False
        for name in real.split(b"/"):
            below = b"%b/%b" % (above, name) if above else name
            opaque = opaque or known[above].opaque
            if below not in known:
                if opaque or name in whiteouts.get(above, ()):
                    return
                try:
                    directory = self._directories.imply(above, name)
                except FileExistsError:
                    return
                directory.opaque = _OPAQUE in whiteouts.get(below, ())
            above = below

    def _hide(self, real: bytes, name: bytes) -> None:
        """
        Write one whiteout, unless the layer has a file of its name.
        """
        here = self._directories.descriptor(real)
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=here)
        except FileExistsError:
            return
        except PermissionError:
            if not self._hide_by_xattr(here, name):
                return
        self._record.whiteout(real, name)

    def _hide_by_xattr(self, here: int, name: bytes) -> bool:
        """
        Write a whiteout in the form that unprivileged users can create.

        @return: whether the layer has no file of its name.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            out = os.open(name, flags, 0o600, dir_fd=here)
        except FileExistsError:
            return False
        try:
            set_own_xattr(out, self._overlay + b"whiteout", b"y")
        finally:
            os.close(out)
        set_own_xattr(here, self._overlay + b"opaque", b"x")
        return True
