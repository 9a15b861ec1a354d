# -*- test-case-name: tests.store.test_mending -*-
"""
The attributes of directories that a layer's tar needs and does not list.

In an overlay, a directory shows the owner, mode, times and xattrs that it has
in the topmost layer that holds it.  Where a tar only implies a directory,
there is nothing to show but a default, although the image means what lies
below.  So the attributes are copied from below when the layer is registered.

A directory that holds nothing but whiteouts is implied, too: overlayfs needs
it to remove something from below.  Where nothing is below, the whiteouts
remove nothing, and the directory must not appear.

Blocking, for threads.  Every path is walked by descriptors: it may be longer
than the system takes, and nothing in a tree may lead out of it.
"""

from __future__ import annotations

import json
import os
import stat
from base64 import b64decode, b64encode
from collections.abc import Container, Iterable, Mapping, Sequence
from errno import ENODATA, ENOTSUP
from hashlib import sha256
from typing import Any

from attrs import frozen

from xferd.store.disk import DIRECTORY

_OVERLAY = ("trusted.overlay.", "user.overlay.")
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_WHITEOUT = ("trusted.overlay.whiteout", "user.overlay.whiteout")


@frozen
class Attributes:
    """
    What a directory has besides its entries.

    @ivar mode: permission bits.
    @ivar mtime: nanoseconds since the epoch.
    @ivar xattrs: names and values, by name, without those that overlayfs or
        the system itself made.  An unprivileged daemon keeps owners there, in
        C{user.containers.override_stat}.
    """

    uid: int
    gid: int
    mode: int
    mtime: int
    xattrs: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def of(cls, fd: int) -> Attributes:
        """
        Read them from an open directory.
        """
        found = os.fstat(fd)
        xattrs = tuple((name, os.getxattr(fd, name)) for name in _copied(fd))
        return cls(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), found.st_mtime_ns, xattrs)

    def apply(self, fd: int) -> None:
        """
        Give them to an open directory, in the order in which none undoes
        another: chown clears mode bits, an ACL changes them.
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
        A form for JSON.
        """
        xattrs = {name: b64encode(value).decode() for name, value in self.xattrs}
        return [self.uid, self.gid, self.mode, self.mtime, xattrs]

    @classmethod
    def from_json(cls, value: list[Any]) -> Attributes:
        """
        What L{to_json} gave.
        """
        uid, gid, mode, mtime, xattrs = value
        return cls(
            int(uid), int(gid), int(mode), int(mtime), tuple((k, b64decode(v)) for k, v in xattrs.items())
        )


Wanted = Mapping[bytes, Attributes | None]
"""The attributes of implied directories by path; None where nothing is below."""


def wanted_to_json(wanted: Wanted) -> dict[str, Any]:
    """
    A form for JSON.  Paths need not be UTF-8.
    """
    return {_text(path): None if a is None else a.to_json() for path, a in sorted(wanted.items())}


def wanted_from_json(value: Mapping[str, Any]) -> dict[bytes, Attributes | None]:
    """
    What L{wanted_to_json} gave.
    """
    return {_path(text): None if a is None else Attributes.from_json(a) for text, a in value.items()}


def key(wanted: Wanted, rules: int = 0) -> str:
    """
    16 hexadecimal digits that tell these attributes from others.

    @param rules: the version of the rules that the tree was made by.
    """
    text = json.dumps(wanted_to_json(wanted), sort_keys=True) + (f" {rules}" if rules else "")
    return sha256(text.encode()).hexdigest()[:16]


def find(tree: str, implied: Iterable[bytes], below: Sequence[str]) -> dict[bytes, Attributes | None]:
    """
    Look up what implied directories have below.

    @param tree: the tree that implies them.
    @param below: the trees that it stands on, the nearest first.
    """
    return {path: None if _hidden(tree, path) else _nearest(path, below) for path in implied}


def read(tree: str, paths: Iterable[bytes]) -> dict[bytes, Attributes | None]:
    """
    Read the attributes that directories of a tree have.
    """
    found: dict[bytes, Attributes | None] = {}
    for path in paths:
        fd = _walk(tree, path)
        try:
            found[path] = Attributes.of(fd)
        finally:
            os.close(fd)
    return found


def mend(tree: str, wanted: Wanted, default: Wanted, omitted: Iterable[bytes] = ()) -> None:
    """
    Give implied directories their attributes.

    @param default: what to give those that have nothing below.
    @param omitted: those that the tree does not have.
    """
    # The deepest first: a mode may shut an unprivileged daemon out.
    for path in sorted(wanted.keys() - set(omitted), key=_depth, reverse=True):
        attributes = wanted[path] or default[path]
        assert attributes is not None
        fd = _walk(tree, path)
        try:
            attributes.apply(fd)
        finally:
            os.close(fd)


def empty(tree: str, wanted: Wanted) -> list[bytes]:
    """
    The implied directories that must not appear: they hold nothing but
    whiteouts, and nothing is below.

    @return: their paths, each behind those in it.
    """
    found: dict[bytes, None] = {}
    for path in sorted((p for p, a in wanted.items() if a is None), key=_depth, reverse=True):
        if _components(path):
            fd = _walk(tree, path)
            try:
                if _is_empty(fd, path, found):
                    found[path] = None
            finally:
                os.close(fd)
    return list(found)


def prune(tree: str, paths: Iterable[bytes]) -> None:
    """
    Remove directories from a tree, which hold nothing but whiteouts and each
    other.

    @param paths: as L{empty} returned them.
    """
    for path in paths:
        above, _, name = path.rpartition(b"/")
        parent = _walk(tree, above)
        try:
            status = os.fstat(parent)
            fd = os.open(name, DIRECTORY, dir_fd=parent)
            try:
                for whiteout in os.listdir(fd):
                    os.unlink(whiteout, dir_fd=fd)
            finally:
                os.close(fd)
            os.rmdir(name, dir_fd=parent)
            os.utime(parent, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(parent)


def link_tree(source: str, target: str) -> None:
    """
    Make a second tree whose files are the first one's, by hard links, and
    whose directories are its own.

    @param target: an empty directory.
    """
    source_fd, target_fd = os.open(source, DIRECTORY), os.open(target, DIRECTORY)
    try:
        _link(source_fd, target_fd)
    finally:
        os.close(source_fd)
        os.close(target_fd)


def _link(source: int, target: int) -> None:
    with os.scandir(source) as listing:
        entries = list(listing)
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            os.link(entry.name, entry.name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            continue
        os.mkdir(entry.name, 0o700, dir_fd=target)
        inner_source = os.open(entry.name, DIRECTORY, dir_fd=source)
        try:
            inner_target = os.open(entry.name, DIRECTORY, dir_fd=target)
            try:
                _link(inner_source, inner_target)
            finally:
                os.close(inner_target)
        finally:
            os.close(inner_source)
    for name in _listed(source):
        if name.startswith(_OVERLAY):
            os.setxattr(target, name, os.getxattr(source, name))
    Attributes.of(source).apply(target)


def _is_empty(fd: int, path: bytes, known: Container[bytes]) -> bool:
    """
    Whether a directory removes what is below and holds nothing else: it has
    whiteouts, or is opaque, or has directories that are known to be so.
    """
    removes = _opaque(fd)
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
    Whether a file of a tree stands for overlayfs's removal of what is below.
    """
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    if not stat.S_ISREG(status.st_mode) or status.st_size:
        return False
    path = f"/proc/self/fd/{fd}/{entry.name}"
    return any(_xattr(path, name) is not None for name in _WHITEOUT)


def _hidden(tree: str, path: bytes) -> bool:
    """
    Whether a directory above C{path} in its own tree hides what is below.
    """
    fd = os.open(tree, DIRECTORY)
    try:
        for component in _components(path):
            if _opaque(fd):
                return True
            fd = _enter(fd, component)
        return False
    finally:
        os.close(fd)


def _nearest(path: bytes, below: Sequence[str]) -> Attributes | None:
    """
    The attributes of a directory in the nearest tree that has it, or None
    where a whiteout, another file or an opaque directory comes first.
    """
    for tree in below:
        fd = os.open(tree, DIRECTORY)
        try:
            opaque = False
            for component in _components(path):
                opaque = opaque or _opaque(fd)
                try:
                    found = os.stat(component, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    break
                if not stat.S_ISDIR(found.st_mode):
                    # A whiteout is no directory either.
                    return None
                fd = _enter(fd, component)
            else:
                return Attributes.of(fd)
            if opaque:
                return None
        finally:
            os.close(fd)
    return None


def _walk(tree: str, path: bytes) -> int:
    """
    Open a directory of a tree.
    """
    fd = os.open(tree, DIRECTORY)
    try:
        for component in _components(path):
            fd = _enter(fd, component)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _enter(fd: int, component: bytes) -> int:
    """
    Open a directory in a directory, in place of it: the former is closed,
    unless this fails.
    """
    inner = os.open(component, DIRECTORY, dir_fd=fd)
    os.close(fd)
    return inner


def _opaque(fd: int) -> bool:
    """
    Whether a directory hides what lower layers have in it.
    """
    return any(_xattr(fd, name) == b"y" for name in _OPAQUE)


def _xattr(target: int | str, name: str) -> bytes | None:
    """
    An extended attribute, or None if the file does not have it.
    """
    try:
        return os.getxattr(target, name)
    except OSError as e:
        if e.errno not in (ENODATA, ENOTSUP):
            raise
    return None


def _copied(fd: int) -> list[str]:
    """
    The names of the xattrs that belong to the directory as such.
    """
    return [n for n in _listed(fd) if not n.startswith(_OVERLAY) and n != "security.selinux"]


def _listed(fd: int) -> list[str]:
    """
    The names of all xattrs, in order; none where the file system has none.
    """
    try:
        return sorted(os.listxattr(fd))
    except OSError as e:
        if e.errno != ENOTSUP:
            raise
        return []


def _components(path: bytes) -> list[bytes]:
    """
    The names in a relative path; none for the tree's root.
    """
    return [c for c in path.split(b"/") if c not in (b"", b".")]


def _depth(path: bytes) -> int:
    return len(_components(path))


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _path(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
