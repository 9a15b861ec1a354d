"""
Tests for L{xferd.tree_record}.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from stat import S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG

from twisted.trial.unittest import SynchronousTestCase

from xferd.tree_record import IMPLIED, OPAQUE, RecordWriter, TreeRecord, read_record

OWNER = (1, 2, S_IFREG | 0o4755)
FOLDER = (0, 0, S_IFDIR | 0o755)


def written(write: Callable[[RecordWriter], object]) -> bytes:
    """
    A record, with its root.
    """
    fd = os.memfd_create("record")
    try:
        record = RecordWriter(fd)
        write(record)
        record.directory(b"", FOLDER, 5, 0)
        record.finish()
        return os.pread(fd, 1 << 24, 0)
    finally:
        os.close(fd)


class RecordTests(SynchronousTestCase):
    """
    What is written is read.
    """

    def read(self, write: Callable[[RecordWriter], object]) -> TreeRecord:
        """
        Write a record and read it.
        """
        return read_record(written(write))

    def test_entries(self) -> None:
        """
        Each kind of entry has all its facts.
        """

        def write(record: RecordWriter) -> None:
            record.file(b"", b"f\n\xff", OWNER, 1 << 40, -7, 0xFFFFFFFF)
            record.xattr(b"user.a", b"\0")
            record.file(b"d", b"sparse", OWNER, 100, 0, 9, [(10, 5), (50, 1)])
            record.symlink(b"d", b"s", (0, 0, S_IFLNK | 0o777), 3, b"../x")
            record.node(b"d", b"n", (0, 0, S_IFCHR | 0o600), os.makedev(1, 3), 4)
            record.hard_link(b"", b"h", b"d/n")
            record.whiteout(b"d", b"w")
            record.directory(b"d", FOLDER, 6, OPAQUE | IMPLIED)
            record.xattr(b"user.b", b"c")

        found = self.read(write)
        file = found.files[b""][b"f\n\xff"]
        assert file is not None
        self.assertEqual((file.uid, file.gid, file.mode), OWNER)
        self.assertEqual((file.size, file.mtime, file.crc), (1 << 40, -7, 0xFFFFFFFF))
        self.assertEqual((dict(file.xattrs), file.parts), ({b"user.a": b"\0"}, None))
        below = found.files[b"d"]
        sparse, link, node = below[b"sparse"], below[b"s"], below[b"n"]
        assert sparse is not None
        assert link is not None
        assert node is not None
        self.assertEqual(sparse.parts, ((10, 5), (50, 1)))
        self.assertEqual((link.link, node.size), (b"../x", os.makedev(1, 3)))
        self.assertIs(found.files[b""][b"h"], node)
        self.assertIsNone(below[b"w"])
        folder = found.directories[b"d"]
        self.assertEqual((folder.mtime, folder.opaque, folder.implied), (6, True, True))
        self.assertEqual(dict(folder.xattrs), {b"user.b": b"c"})
        self.assertEqual((found.directories[b""].opaque, found.directories[b""].mtime), (False, 5))

    def test_replaced(self) -> None:
        """
        A later entry replaces an earlier one; a hard link keeps the file that it was made
        of; removed entries are gone, with all below them.
        """

        def write(record: RecordWriter) -> None:
            record.file(b"", b"f", OWNER, 1, 0, 0)
            record.hard_link(b"", b"h", b"f")
            record.removed(b"f")
            record.file(b"", b"f", OWNER, 2, 0, 0)
            record.file(b"d/e", b"g", OWNER, 3, 0, 0)
            for path in (b"d/e/g", b"d/e", b"d"):
                record.removed(path)
            record.file(b"", b"d", OWNER, 4, 0, 0)

        files = self.read(write).files
        self.assertEqual(list(files), [b""])
        sizes = {name: entry.size for name, entry in files[b""].items() if entry is not None}
        self.assertEqual(sizes, {b"h": 1, b"f": 2, b"d": 4})

    def test_large(self) -> None:
        """
        A record of many entries is written in parts, and read as one.
        """

        def write(record: RecordWriter) -> None:
            for number in range(10_000):
                record.file(b"", b"%d" % number, OWNER, number, 0, 0)

        self.assertEqual(len(self.read(write).files[b""]), 10_000)

    def test_damaged(self) -> None:
        """
        A record with any bit flipped, cut off anywhere, or without its end is refused.
        """
        data = written(lambda record: record.file(b"", b"f", OWNER, 1, 0, 0))
        for at in range(len(data)):
            flipped = bytearray(data)
            flipped[at] ^= 1
            self.assertRaises(ValueError, read_record, bytes(flipped))
            self.assertRaises(ValueError, read_record, data[:at])

    def test_contradictory(self) -> None:
        """
        A record whose parts do not fit together is refused, although its checksum is right.
        """
        parts: list[Callable[[RecordWriter], object]] = [
            lambda record: record.hard_link(b"", b"h", b"no/such"),
            lambda record: record.file(b"no", b"f", OWNER, 1, 0, 0),
            lambda record: record.xattr(b"user.a", b"b"),
            lambda record: record._append(b"F"),
            lambda record: record._append(b"W\xff\xff"),
        ]
        for part in parts:
            self.assertRaises(ValueError, read_record, written(part))
