# -*- test-case-name: tests.unpack.tree_writer.test_metadata -*-
"""
Writes the owner, mode, extended attributes and times of an entry to a file.

L{NativeMetadata} is for root: files get the metadata of their entries.  The
order is the kernel's: C{chown} clears setuid bits and C{security.capability},
so it comes first; times come last (OCI image-spec, "Applying Changesets").

L{NamespaceMetadata} is the same for root of a user namespace with several users.

L{OverrideMetadata} is for all other users.  Files belong to the user that runs
xferd, who can always read them.  The metadata of the entry is stored in the
xattr C{user.containers.override_stat}, in the format of containers/storage and
fuse-overlayfs: C{uid:gid:mode:type}, the mode in octal.  Devices become empty
files with this xattr.  Symbolic links and FIFOs cannot have it.

Imports no Twisted: this runs in the worker.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Protocol

from xferd.errors import BadLayer, StoreError
from xferd.unpack.limits import printable
from xferd.unpack.rights import Rights
from xferd.unpack.tar import BLOCK_DEVICE, CHARACTER, FIFO, Entry

OVERRIDE: Final = b"user.containers.override_stat"

_FOREIGN = (
    # These control overlayfs and fuse-overlayfs, or are written by this module: a layer must not set them.
    b"trusted.overlay.",
    b"user.overlay.",
    b"user.fuseoverlayfs.",
    b"security.fuseoverlayfs.",
    b"user.containers.override_stat",
    # A label belongs to the machine's policy, not to the image.
    b"security.selinux",
)

_REFUSED = frozenset({errno.ENOTSUP, errno.EPERM, errno.EACCES})
"""Errors of C{setxattr} for a name that this process may not set, or that the file system lacks."""

_NONE: Mapping[bytes, bytes] = {}
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TYPES = {CHARACTER: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO}


class MetadataWriter(Protocol):
    """
    Makes files with the metadata of their entries, for
    L{xferd.unpack.tree_writer.TreeWriter}.  The process's umask is 0.
    """

    overlay: bytes
    """The prefix of the xattrs that overlayfs reads."""

    def owner(self, entry: Entry, kind: int, least: int = 0) -> tuple[int, int, int]:
        """
        User, group and mode that the file system shows for an entry.

        @param kind: the type bits of the mode.
        @param least: permission bits that an unprivileged daemon needs itself.
        """

    def create(self, name: bytes, here: int, entry: Entry) -> int:
        """
        Create a regular file.

        @return: a descriptor for writing.
        @raise FileExistsError: the name is taken.
        """

    def regular(self, descriptor: int, entry: Entry) -> Mapping[bytes, bytes]:
        """
        Set the metadata of an open regular file, after its data.

        @return: the extended attributes that were set.
        """

    def directory(self, descriptor: int, entry: Entry) -> Mapping[bytes, bytes]:
        """
        Set the metadata of an open directory, after its entries.

        @return: the extended attributes that were set.
        """

    def node(self, name: bytes, here: int, entry: Entry) -> tuple[int, Mapping[bytes, bytes]] | None:
        """
        Create a device or a FIFO.

        @return: the type bits and the extended attributes of the file that stands for it;
            L{None} if it is left out.
        @raise FileExistsError: the name is taken.
        """

    def link(self, name: bytes, here: int, entry: Entry) -> None:
        """
        Set the metadata of a symbolic link.
        """


class NativeMetadata(MetadataWriter):
    """
    Sets owner, mode, xattrs and times on the file itself.
    """

    overlay = b"trusted.overlay."

    def owner(self, entry: Entry, kind: int, least: int = 0) -> tuple[int, int, int]:  # noqa: ARG002
        return entry.uid, entry.gid, kind | entry.mode

    def create(self, name: bytes, here: int, entry: Entry) -> int:
        return os.open(name, _CREATE, entry.mode & 0o777, dir_fd=here)

    def regular(self, descriptor: int, entry: Entry) -> Mapping[bytes, bytes]:
        if entry.uid or entry.gid:
            self._own(descriptor, None, entry)
        if entry.mode & 0o7000:
            os.fchmod(descriptor, entry.mode)
        xattrs = _set_xattrs(descriptor, entry) if entry.xattrs else _NONE
        os.utime(descriptor, ns=(entry.mtime, entry.mtime))
        return xattrs

    def directory(self, descriptor: int, entry: Entry) -> Mapping[bytes, bytes]:
        self._own(descriptor, None, entry)
        os.fchmod(descriptor, entry.mode)
        xattrs = _set_xattrs(descriptor, entry) if entry.xattrs else _NONE
        os.utime(descriptor, ns=(entry.mtime, entry.mtime))
        return xattrs

    def node(self, name: bytes, here: int, entry: Entry) -> tuple[int, Mapping[bytes, bytes]] | None:
        os.mknod(name, _TYPES[entry.kind] | entry.mode & 0o777, os.makedev(*entry.device), dir_fd=here)
        self._named(name, here, entry)
        if entry.mode & 0o7000:
            os.chmod(name, entry.mode, dir_fd=here)
        return _TYPES[entry.kind], _NONE

    def link(self, name: bytes, here: int, entry: Entry) -> None:
        self._named(name, here, entry)

    def _named(self, name: bytes, here: int, entry: Entry) -> None:
        """
        Set owner, xattrs and times of a file that cannot be opened.
        """
        if entry.uid or entry.gid:
            self._own(name, here, entry)
        if entry.xattrs:
            with _working_directory(here):
                _set_xattrs(name, entry)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=here, follow_symlinks=False)

    def _own(self, target: int | bytes, here: int | None, entry: Entry) -> None:
        """
        Set the owner.

        @param target: a descriptor, or a name in C{here}.
        """
        if isinstance(target, int):
            os.fchown(target, entry.uid, entry.gid)
        else:
            os.chown(target, entry.uid, entry.gid, dir_fd=here, follow_symlinks=False)


class NamespaceMetadata(NativeMetadata):
    """
    The same in a user namespace, where overlayfs reads other xattrs.  Devices are left
    out, as by podman: the kernel refuses them.
    """

    overlay = b"user.overlay."

    def node(self, name: bytes, here: int, entry: Entry) -> tuple[int, Mapping[bytes, bytes]] | None:
        return super().node(name, here, entry) if entry.kind == FIFO else None

    def _own(self, target: int | bytes, here: int | None, entry: Entry) -> None:
        """
        @raise BadLayer: the namespace has no such user or group.
        """
        try:
            super()._own(target, here, entry)
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
            raise BadLayer(
                f"{printable(entry.path)} belongs to user {entry.uid} and group {entry.gid}, which this user "
                "namespace does not have; give the daemon's user more in /etc/subuid and /etc/subgid"
            ) from e


class OverrideMetadata(MetadataWriter):
    """
    Stores the metadata in an xattr of the file, which belongs to this user.
    """

    overlay = b"user.overlay."

    def __init__(self) -> None:
        self._user, self._group = os.geteuid(), os.getegid()

    def owner(self, entry: Entry, kind: int, least: int = 0) -> tuple[int, int, int]:
        return self._user, self._group, kind | entry.mode & 0o777 | least

    def create(self, name: bytes, here: int, entry: Entry) -> int:  # noqa: ARG002
        return os.open(name, _CREATE, 0o600, dir_fd=here)

    def regular(self, descriptor: int, entry: Entry) -> Mapping[bytes, bytes]:
        return self._opened(descriptor, entry, "file", 0o400)

    def directory(self, descriptor: int, entry: Entry) -> Mapping[bytes, bytes]:
        return self._opened(descriptor, entry, "dir", 0o700)

    def node(self, name: bytes, here: int, entry: Entry) -> tuple[int, Mapping[bytes, bytes]] | None:
        if entry.kind == FIFO:
            os.mkfifo(name, entry.mode & 0o777, dir_fd=here)
            self.link(name, here, entry)
            return stat.S_IFIFO, _NONE
        major, minor = entry.device
        kind = "char" if entry.kind == CHARACTER else "block"
        descriptor = self.create(name, here, entry)
        try:
            xattrs = self._opened(descriptor, entry, f"{kind}-{major}-{minor}", 0o400)
        finally:
            os.close(descriptor)
        return stat.S_IFREG, xattrs

    def link(self, name: bytes, here: int, entry: Entry) -> None:
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=here, follow_symlinks=False)

    def _opened(self, descriptor: int, entry: Entry, kind: str, least: int) -> Mapping[bytes, bytes]:
        """
        Store the metadata, and set the mode without setuid and setgid bits,
        which would grant this user's rights, and with C{least}, the bits that
        the daemon needs itself.
        """
        value = f"{entry.uid}:{entry.gid}:0{entry.mode:o}:{kind}".encode()
        set_own_xattr(descriptor, OVERRIDE, value)
        xattrs = {OVERRIDE: value, **(_set_xattrs(descriptor, entry) if entry.xattrs else _NONE)}
        os.fchmod(descriptor, entry.mode & 0o777 | least)
        os.utime(descriptor, ns=(entry.mtime, entry.mtime))
        return xattrs


def metadata_writer(rights: Rights) -> MetadataWriter:
    """
    Choose by the rights of this process.
    """
    if rights is Rights.ROOT:
        return NativeMetadata()
    return NamespaceMetadata() if rights is Rights.NAMESPACE else OverrideMetadata()


def set_own_xattr(target: int | bytes, name: bytes, value: bytes) -> None:
    """
    Set an xattr that the tree depends on.

    @raise StoreError: the file system does not support it.
    """
    try:
        os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
    except OSError as e:
        if e.errno != errno.ENOTSUP:
            raise
        raise StoreError(
            f"the file system cannot keep the extended attribute {name.decode()}; "
            "use one that can, such as ext4, XFS or btrfs"
        ) from e


def _set_xattrs(target: int | bytes, entry: Entry) -> Mapping[bytes, bytes]:
    """
    Set an entry's extended attributes, without those that a layer must not
    set.  An attribute that the kernel refuses is skipped, as docker and
    containerd do.

    @return: those that were set.
    """
    written = {}
    for name, value in (entry.xattrs or {}).items():
        if name.startswith(_FOREIGN):
            continue
        try:
            os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
        except OSError as e:
            if e.errno in _REFUSED:
                continue
            if e.errno in (errno.E2BIG, errno.ERANGE, errno.ENOSPC, errno.EINVAL):
                # File systems also return ENOSPC when a file's own space for xattrs is full.
                raise BadLayer(
                    f"{printable(entry.path)} has an extended attribute {printable(name)} of "
                    f"{len(value)} bytes, which the file system refuses: {e.strerror}"
                ) from e
            raise
        written[name] = value
    return written


@contextmanager
def _working_directory(here: int) -> Iterator[None]:
    """
    Change the working directory for one block: there is no C{setxattrat}
    before Linux 6.13.
    """
    before = os.open(b".", os.O_PATH | os.O_CLOEXEC)
    try:
        os.fchdir(here)
        yield
    finally:
        os.fchdir(before)
        os.close(before)
