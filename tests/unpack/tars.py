"""
Makes tars byte by byte, which no tool would write; and ways to read the result.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import stat
from collections.abc import Callable, Iterator
from tempfile import TemporaryFile
from threading import Event
from typing import Any, TypeVar

from tests.forks import bounded, fork
from xferd.interfaces.integrity import Damage
from xferd.interfaces.unpack import UnpackLimits
from xferd.store.integrity.pace import Pace
from xferd.store.integrity.tree_check import TreeCheck
from xferd.tree_record import RecordWriter, read_record
from xferd.unpack.metadata import metadata_writer
from xferd.unpack.rights import Rights
from xferd.unpack.tar import Entry, TarReader
from xferd.unpack.tree_writer import TreeWriter

T = TypeVar("T")

LIMITS = UnpackLimits()
END = bytes(1024)
IS_ROOT = os.geteuid() == 0
NOBODY = 65534


def header(
    name: bytes = b"f",
    kind: bytes = b"0",
    size: int | bytes = 0,
    *,
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 0,
    link: bytes = b"",
    device: tuple[int | bytes, int | bytes] = (0, 0),
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    checksum: int | None = None,
) -> bytes:
    """
    One header block.  Numbers are octal; bytes stand as they are.
    """

    def number(value: int | bytes, width: int) -> bytes:
        if isinstance(value, bytes):
            return value.ljust(width, b"\0")
        return b"%0*o\0" % (width - 1, value)

    fields = [
        name.ljust(100, b"\0"),
        number(mode, 8),
        number(uid, 8),
        number(gid, 8),
        number(size, 12),
        number(mtime, 12),
        b" " * 8,
        kind,
        link.ljust(100, b"\0"),
        magic.ljust(8, b"\0"),
        bytes(64),
        number(device[0], 8),
        number(device[1], 8),
        prefix.ljust(167, b"\0"),
    ]
    block = b"".join(fields)
    assert len(block) == 512, len(block)
    total = sum(block) if checksum is None else checksum
    return block[:148] + b"%06o\0 " % total + block[156:]


def resum(block: bytes) -> bytes:
    """
    A header that was changed, with its checksum put right.
    """
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(blank) + block[156:]


def padded(data: bytes) -> bytes:
    """
    Data as it stands in a tar.
    """
    return data + bytes(-len(data) % 512)


def file(name: bytes, data: bytes = b"", **fields: Any) -> bytes:
    """
    A regular file.
    """
    return header(name, b"0", len(data), **fields) + padded(data)


def folder(name: bytes, **fields: Any) -> bytes:
    """
    A directory.
    """
    return header(name, b"5", mode=fields.pop("mode", 0o755), **fields)


def symlink(name: bytes, target: bytes) -> bytes:
    """
    A symbolic link.
    """
    return header(name, b"2", link=target, mode=0o777)


def hard_link(name: bytes, target: bytes) -> bytes:
    """
    A hard link.
    """
    return header(name, b"1", link=target)


def record(key: bytes, value: bytes) -> bytes:
    """
    One PAX record.
    """
    body = b" %b=%b\n" % (key, value)
    size = len(body)
    while size != len(body) + len(str(size)):
        size = len(body) + len(str(size))
    return b"%d%b" % (size, body)


def pax(records: dict[bytes, bytes], kind: bytes = b"x") -> bytes:
    """
    An extended header.
    """
    data = b"".join(record(key, value) for key, value in records.items())
    return header(b"pax", kind, len(data)) + padded(data)


def blocks(data: bytes, size: int = 4096) -> Iterator[memoryview]:
    """
    Bytes in buffers.
    """
    for at in range(0, len(data), size):
        yield memoryview(data)[at : at + size]


def read(data: bytes, limits: UnpackLimits = LIMITS, size: int = 4096) -> list[tuple[Entry, bytes]]:
    """
    All entries of a tar with their data.
    """
    reader = TarReader(blocks(data, size), limits)
    found = []
    for entry in reader:
        parts = []
        while piece := reader.read(1 << 20):
            parts.append(bytes(piece))
        found.append((entry, b"".join(parts)))
    return found


def make(
    path: str,
    data: bytes,
    limits: UnpackLimits = LIMITS,
    privileged: bool = IS_ROOT,
    rights: Rights | None = None,
) -> tuple[int, Any]:
    """
    Make a tree of a tar below a directory.  Its record describes it.

    @param rights: those to make it with; by default those of C{privileged}.
    @return: the bytes in its files, and the implied directories.
    """
    os.makedirs(path, exist_ok=True)
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    # Some tests write into what an earlier layer, which was refused, has left.
    fresh = not os.listdir(root)
    mask = os.umask(0)
    usual = Rights.ROOT if privileged else Rights.NONE
    with TemporaryFile() as written:
        try:
            reader = TarReader(blocks(data), limits)
            record = RecordWriter(written.fileno())
            tree = TreeWriter(root, limits, metadata_writer(rights or usual), record)
            for entry in reader:
                tree.add(entry, reader.read)
            implied = tree.finish()
            record.finish()
        finally:
            os.umask(mask)
            os.close(root)
        written.seek(0)
        damage = damage_of(path, written.read())
    assert not fresh or not damage, damage
    return tree.size, implied


def damage_of(path: str, record: bytes) -> list[Damage]:
    """
    What differs between a tree and its record.
    """
    return TreeCheck(path, read_record(record), None, {}, False, Pace(), Event()).run()


def listing(path: str, xattrs: bool = True) -> dict[str, tuple[Any, ...]]:
    """
    Everything below a directory, without its root: type, mode, owner, time,
    size or device or target, number of links, contents, xattrs.
    """
    found = {}
    for above, folders, files in os.walk(path):
        for name in folders + files:
            full = os.path.join(above, name)
            info = os.lstat(full)
            kind = stat.S_IFMT(info.st_mode)
            what: Any = None
            if kind == stat.S_IFREG:
                with open(full, "rb") as f:
                    what = (info.st_size, info.st_nlink, hash(f.read()))
            elif kind == stat.S_IFLNK:
                what = os.readlink(full)
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                what = info.st_rdev
            kept = (
                {
                    x: os.getxattr(full, x, follow_symlinks=False)
                    for x in os.listxattr(full, follow_symlinks=False)
                }
                if xattrs
                else {}
            )
            found[os.path.relpath(full, path)] = (
                kind,
                stat.S_IMODE(info.st_mode),
                info.st_uid,
                info.st_gid,
                info.st_mtime_ns // 1000,
                what,
                kept,
            )
    return found


def in_child(work: Callable[[], T], uid: int | None = None) -> T:
    """
    Call a function in a forked process, possibly as another user, and return
    its result or raise its error.
    """
    out, into = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            os.close(out)
            if uid is not None:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            try:
                result: tuple[bool, Any] = (True, work())
            except BaseException as e:
                result = (False, (type(e), str(e)))
            with open(into, "wb") as f:
                pickle.dump(result, f)
        finally:
            os._exit(0)
    os.close(into)
    with bounded(lambda: [pid]):
        with open(out, "rb") as f:
            data = f.read()
        _, status = os.waitpid(pid, 0)
    if not data:
        raise AssertionError(f"the forked process ended with {os.waitstatus_to_exitcode(status)}")
    done, value = pickle.loads(data)
    if not done:
        raise value[0](value[1])
    given: T = value
    return given


def died(work: Callable[[], object]) -> int | None:
    """
    Run a function in a forked process, and return the signal that ended it.
    """
    pid = fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    with bounded(lambda: [pid]):
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return -status if status < 0 else None


def gzipped(*members: bytes) -> bytes:
    """
    Several gzip members.
    """
    return b"".join(gzip.compress(member, 1, mtime=0) for member in members)


class Bytes(io.BytesIO):
    """
    A source of bytes, a few at a time.
    """

    def __init__(self, data: bytes, most: int = 1 << 20) -> None:
        super().__init__(data)
        self._most = most

    def readinto(self, buffer: Any, /) -> int:
        """
        See L{xferd.unpack.inflate.Readable}.
        """
        return super().readinto(memoryview(buffer)[: self._most])
