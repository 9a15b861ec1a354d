# -*- test-case-name: tests.store.trees.test_implied_directories -*-
"""
The metadata of implied directories, which a layer's tar needs and does not list.

In an overlay, a directory has the owner, mode, times and xattrs of the topmost
layer that has it.  A tar that only implies a directory gives it no metadata;
the image means those of the layers below.  So they are copied from there when
the layer is registered.

A directory that only holds whiteouts is implied, too: overlayfs needs it to hide
entries of the layers below.  If these lack the directory, the whiteouts have no
effect, and the directory must not appear.

Blocking, for threads.
"""

from __future__ import annotations

import json
import os
import stat
from base64 import b64decode, b64encode
from collections.abc import Container, Iterable, Mapping
from hashlib import sha256
from threading import Event
from typing import Any

from attrs import frozen

from xferd.store.disk.file_system import DIRECTORY
from xferd.store.trees.walk import TreeWalk, check, components, opaque, xattr, xattr_names

OVERLAY = ("trusted.overlay.", "user.overlay.")
"""The prefixes of overlayfs's xattrs."""

_WHITEOUT = ("trusted.overlay.whiteout", "user.overlay.whiteout")


@frozen
class DirectoryMetadata:
    """
    Owner, mode, time and extended attributes of a directory.

    @ivar mode: permission bits.
    @ivar mtime: nanoseconds since the epoch.
    @ivar xattrs: names and values, by name, without those of overlayfs and
        SELinux.  An unprivileged daemon stores owners there, in
        C{user.containers.override_stat}.
    """

    uid: int
    gid: int
    mode: int
    mtime: int
    xattrs: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def of(cls, fd: int) -> DirectoryMetadata:
        """
        Read them from an open directory.
        """
        found = os.fstat(fd)
        xattrs = tuple((name, os.getxattr(fd, name)) for name in _copied(fd))
        return cls(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), found.st_mtime_ns, xattrs)

    def apply(self, fd: int) -> None:
        """
        Set them on an open directory, in an order in which none undoes another:
        C{chown} clears mode bits, and an ACL changes them.
        """
        if os.geteuid() == 0:
            os.fchown(fd, self.uid, self.gid)
        wanted = dict(self.xattrs)
        for name in _copied(fd):
            if name not in wanted:
                os.removexattr(fd, name)
        for name, value in self.xattrs:
            os.setxattr(fd, name, value)
        os.fchmod(fd, self.mode)
        os.utime(fd, ns=(self.mtime, self.mtime))

    def to_json(self) -> list[Any]:
        """
        Convert to JSON.
        """
        xattrs = {name: b64encode(value).decode() for name, value in self.xattrs}
        return [self.uid, self.gid, self.mode, self.mtime, xattrs]

    @classmethod
    def from_json(cls, value: list[Any]) -> DirectoryMetadata:
        """
        Convert the result of L{to_json}.
        """
        uid, gid, mode, mtime, xattrs = value
        return cls(
            int(uid), int(gid), int(mode), int(mtime), tuple((k, b64decode(v)) for k, v in xattrs.items())
        )


MetadataByPath = Mapping[bytes, DirectoryMetadata | None]
"""The metadata of implied directories by path; L{None} if the layers below lack the directory."""


def metadata_to_json(wanted: MetadataByPath) -> dict[str, Any]:
    """
    Convert to JSON.  Paths need not be UTF-8.
    """
    return {_text(path): None if a is None else a.to_json() for path, a in sorted(wanted.items())}


def metadata_from_json(value: Mapping[str, Any]) -> dict[bytes, DirectoryMetadata | None]:
    """
    Convert the result of L{metadata_to_json}.
    """
    return {_path(text): None if a is None else DirectoryMetadata.from_json(a) for text, a in value.items()}


def variant_key(wanted: MetadataByPath, rules: int = 0, number: int = 0) -> str:
    """
    The key of the variant with these metadata: 16 hexadecimal digits.

    @param rules: the version of the rules that the tree was unpacked by.
    @param number: how many damaged variants have these metadata.
    """
    text = json.dumps(metadata_to_json(wanted), sort_keys=True) + (f" {rules}" if rules else "")
    text += f" damaged {number}" if number else ""
    return sha256(text.encode()).hexdigest()[:16]


def read_metadata(tree: str, paths: Iterable[bytes]) -> dict[bytes, DirectoryMetadata | None]:
    """
    Read the metadata of some directories of a tree.
    """
    with TreeWalk(tree) as walk:
        return {path: DirectoryMetadata.of(walk.open(path)) for path in sorted(paths, key=components)}


def apply_metadata(
    tree: str, wanted: MetadataByPath, default: MetadataByPath, omitted: Iterable[bytes] = (), *, stop: Event
) -> None:
    """
    Set the metadata of implied directories.

    @param default: the metadata of those that the layers below lack.
    @param omitted: directories that were removed from the tree.
    @param stop: ends the work when it is set.
    """
    with TreeWalk(tree) as walk:
        # The deepest first: a mode may lock out an unprivileged daemon.
        for path in sorted(wanted.keys() - set(omitted), key=components, reverse=True):
            check(stop)
            attributes = wanted[path] or default[path]
            assert attributes is not None
            attributes.apply(walk.open(path))


def find_empty(tree: str, wanted: MetadataByPath, stop: Event) -> list[bytes]:
    """
    Find the implied directories that must not appear: they only hold whiteouts,
    and the layers below lack them.

    @param stop: ends the work when it is set.
    @return: their paths, each after those in it.
    """
    found: dict[bytes, None] = {}
    with TreeWalk(tree) as walk:
        for path in sorted((p for p, a in wanted.items() if a is None), key=components, reverse=True):
            check(stop)
            if components(path) and _is_empty(walk.open(path), path, found):
                found[path] = None
    return list(found)


def remove_empty(tree: str, paths: Iterable[bytes]) -> None:
    """
    Remove directories that only hold whiteouts and each other.

    @param paths: the result of L{find_empty}.
    """
    with TreeWalk(tree) as walk:
        for path in paths:
            above, _, name = path.rpartition(b"/")
            parent = walk.open(above)
            status = os.fstat(parent)
            fd = os.open(name, DIRECTORY, dir_fd=parent)
            try:
                for whiteout in os.listdir(fd):
                    os.unlink(whiteout, dir_fd=fd)
            finally:
                os.close(fd)
            os.rmdir(name, dir_fd=parent)
            os.utime(parent, ns=(status.st_atime_ns, status.st_mtime_ns))


def _is_empty(fd: int, path: bytes, known: Container[bytes]) -> bool:
    """
    Whether a directory only hides entries of the layers below: it has
    whiteouts, is opaque, or has directories that are known to be so.
    """
    removes = opaque(fd)
    with os.scandir(fd) as listing:
        for entry in listing:
            if entry.is_dir(follow_symlinks=False):
                if b"%b/%b" % (path, os.fsencode(entry.name)) not in known:
                    return False
            elif not _is_whiteout(fd, entry):
                return False
            removes = True
    return removes


def _is_whiteout(fd: int, entry: os.DirEntry[str]) -> bool:
    """
    Whether a file is a whiteout of overlayfs.
    """
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    if not stat.S_ISREG(status.st_mode) or status.st_size:
        return False
    path = f"/proc/self/fd/{fd}/{entry.name}"
    return any(xattr(path, name) is not None for name in _WHITEOUT)


def _copied(fd: int) -> list[str]:
    """
    The names of a directory's xattrs, without those of overlayfs and SELinux.
    """
    return [n for n in xattr_names(fd) if not n.startswith(OVERLAY) and n != "security.selinux"]


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _path(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
