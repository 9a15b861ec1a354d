"""
Tests for L{xferd.store.integrity.tree_check}.  Those of L{xferd.unpack.tree_writer} check each
tree that they make, too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from threading import Event

from twisted.trial.unittest import SynchronousTestCase

from tests.unpack.tars import END, IS_ROOT, LIMITS, blocks, file, folder, header, pax, symlink
from xferd.errors import StoreError
from xferd.interfaces.integrity import Damage
from xferd.store.integrity.pace import Pace
from xferd.store.integrity.tree_check import MOST, TreeCheck
from xferd.store.trees.implied_directories import DirectoryMetadata, MetadataByPath
from xferd.tree_record import RecordWriter, TreeRecord, read_record
from xferd.unpack.metadata import metadata_writer
from xferd.unpack.rights import own_rights
from xferd.unpack.tar import TarReader
from xferd.unpack.tree_writer import TreeWriter

TAR = b"".join(
    (
        folder(b"d/", mtime=5),
        file(b"d/f", b"hello"),
        header(b"d/h", b"1", link=b"d/f"),
        header(b"d/s", b"2", link=b"../target"),
        header(b"d/p", b"6"),
        file(b"d/sub/g", b"world"),
        file(b"d/.wh.gone"),
        END,
    )
)


class TreeCheckTests(SynchronousTestCase):
    """
    A small tree, in which one thing is changed.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        self.path = self.mktemp()
        self.record = self.make(TAR)
        self.times = {
            os.path.join(above, name): os.stat(os.path.join(above, name)).st_mtime_ns
            for above, names, _ in os.walk(self.path)
            for name in names
        }

    def make(self, tar: bytes) -> TreeRecord:
        """
        Make a tree; returns its record.
        """
        os.makedirs(self.path)
        root, fd = os.open(self.path, os.O_RDONLY), os.memfd_create("record")
        mask = os.umask(0)
        try:
            reader, record = TarReader(blocks(tar), LIMITS), RecordWriter(fd)
            tree = TreeWriter(root, LIMITS, metadata_writer(own_rights()), record)
            for entry in reader:
                tree.add(entry, reader.read)
            tree.finish()
            record.finish()
            return read_record(os.pread(fd, 1 << 24, 0))
        finally:
            os.umask(mask)
            os.close(root)
            os.close(fd)

    def check(self, claimed: MetadataByPath | None = None, *, linked: bool = False) -> list[Damage]:
        """
        Check the tree.
        """
        return TreeCheck(self.path, self.record, claimed, {}, linked, Pace(), Event()).run()

    def at(self, path: str) -> str:
        """
        The path of an entry.
        """
        return os.path.join(self.path, path)

    def changed(self, change: Callable[[], object], *paths: str) -> str:
        """
        Make a change that damages these entries, besides the times of directories.

        @return: the problem of the first one.
        """
        change()
        for path, mtime in self.times.items():
            if os.path.isdir(path) and not os.path.islink(path):
                os.utime(path, ns=(mtime, mtime))
        found = self.check()
        self.assertEqual([damage.path for damage in found], list(paths), found)
        return found[0].problem

    def test_whole(self) -> None:
        """
        Nothing is found in a whole tree.
        """
        self.assertEqual(self.check(), [])

    def test_far_times(self) -> None:
        """
        Times that the file system cannot store, or not exactly, are no damage.
        """
        entries = []
        for seconds in (-(10**13), -(10**10), -(2**31) - 1, 2**31, 10**10, 10**13):
            time, name = pax({b"mtime": b"%d" % seconds}), b"%d" % seconds
            entries += [time, file(b"f" + name), time, symlink(b"s" + name, b"x"), time]
            entries += [header(b"p" + name, b"6"), time, folder(b"d" + name + b"/")]
        self.path = self.mktemp()
        self.record = self.make(b"".join((*entries, END)))
        self.assertEqual(self.check(), [])

    def test_content(self) -> None:
        """
        Another content is found by its checksum or its size, under each name of the file.
        """
        status = os.stat(self.at("d/f"))

        def write(data: bytes) -> None:
            with open(self.at("d/f"), "wb") as out:
                out.write(data)
            os.utime(self.at("d/f"), ns=(status.st_atime_ns, status.st_mtime_ns))

        self.assertEqual(self.changed(lambda: write(b"hellp"), "d/f", "d/h"), "has other content")
        self.assertEqual(self.changed(lambda: write(b"hell"), "d/f", "d/h"), "has 4 bytes; it should have 5")

    def test_names(self) -> None:
        """
        Missing and additional entries are named; of a missing directory, not those in it.
        """
        self.assertEqual(self.changed(lambda: os.unlink(self.at("d/s")), "d/s"), "is missing")
        os.symlink("../target", self.at("d/s"))
        os.utime(self.at("d/s"), ns=(0, 0), follow_symlinks=False)

        def add() -> None:
            os.mkdir(self.at("d/new"))
            os.mkdir(self.at("d/new/inner"))

        self.assertEqual(self.changed(add, "d/new"), "is not part of the layer")
        os.rmdir(self.at("d/new/inner"))
        os.rmdir(self.at("d/new"))

        def remove() -> None:
            os.unlink(self.at("d/sub/g"))
            os.rmdir(self.at("d/sub"))

        self.assertEqual(self.changed(remove, "d/sub"), "is missing")

    def test_types(self) -> None:
        """
        An entry of another type is named; nothing is read through a link or a FIFO.
        """

        def replace(path: str, make: Callable[[str], object]) -> Callable[[], None]:
            def change() -> None:
                os.unlink(self.at(path))
                make(self.at(path))

            return change

        self.assertEqual(
            self.changed(replace("d/sub/g", lambda path: os.symlink("/etc/passwd", path)), "d/sub/g"),
            "is a symbolic link; it should be a regular file",
        )
        self.changed(replace("d/sub/g", os.mkfifo), "d/sub/g")

        def break_directory() -> None:
            os.rename(self.at("d/sub"), self.path + ".away")
            os.symlink(self.path + ".away", self.at("d/sub"))

        self.assertEqual(self.changed(break_directory, "d/sub"), "is not a directory")

    def test_links(self) -> None:
        """
        A symbolic link elsewhere, and a hard link that is a file of its own, are named.
        """

        def copy() -> None:
            status = os.stat(self.at("d/h"))
            os.unlink(self.at("d/h"))
            with open(self.at("d/h"), "wb") as out:
                out.write(b"hello")
            os.chown(self.at("d/h"), status.st_uid, status.st_gid)
            os.chmod(self.at("d/h"), stat.S_IMODE(status.st_mode))
            for name in os.listxattr(self.at("d/f")):
                os.setxattr(self.at("d/h"), name, os.getxattr(self.at("d/f"), name))
            os.utime(self.at("d/h"), ns=(status.st_atime_ns, status.st_mtime_ns))

        self.assertEqual(self.changed(copy, "d/h"), "is no hard link to the same file")
        os.unlink(self.at("d/h"))
        os.link(self.at("d/f"), self.at("d/h"))

        def lead() -> None:
            os.unlink(self.at("d/s"))
            os.symlink("/etc", self.at("d/s"))
            os.utime(self.at("d/s"), ns=(0, 0), follow_symlinks=False)

        self.assertEqual(self.changed(lead, "d/s"), "leads to /etc; it should lead to ../target")

    def test_metadata(self) -> None:
        """
        Another mode, time, owner and extended attribute is named, of files and directories.
        """
        self.assertIn("has the mode 4755", self.changed(lambda: os.chmod(self.at("d"), 0o4755), "d"))
        os.chmod(self.at("d"), 0o755)
        self.assertIn(
            "modified at 7 ns", self.changed(lambda: os.utime(self.at("d/sub/g"), ns=(7, 7)), "d/sub/g")
        )
        os.utime(self.at("d/sub/g"), ns=(0, 0))
        self.assertIn("user.x", self.changed(lambda: os.setxattr(self.at("d"), "user.x", b"1"), "d"))
        os.removexattr(self.at("d"), "user.x")
        if IS_ROOT:
            problem = self.changed(lambda: os.chown(self.at("d/sub/g"), 1, 2), "d/sub/g")
            self.assertEqual(problem, "belongs to 1:2; it should belong to 0:0")

    def test_whiteout(self) -> None:
        """
        A lost whiteout, and a file in its place, are named.
        """
        gone = self.at("d/gone")
        self.assertEqual(self.changed(lambda: os.unlink(gone), "d/gone"), "is missing")

        def write() -> None:
            with open(gone, "wb"):
                pass

        self.assertEqual(self.changed(write, "d/gone"), "is not a whiteout")

    def test_claimed(self) -> None:
        """
        An implied directory has the metadata that its layer has claimed, and is not
        compared before there are any.
        """
        os.chmod(self.at("d/sub"), 0o700)
        os.utime(self.at("d/sub"), ns=(3, 3))
        status = os.stat(self.at("d/sub"))
        self.assertEqual(self.check(), [])
        claimed = DirectoryMetadata(status.st_uid, status.st_gid, 0o700, 3)
        self.assertEqual(self.check({b"d/sub": claimed}), [])
        os.chmod(self.at("d/sub"), 0o711)
        self.assertEqual([each.path for each in self.check({b"d/sub": claimed})], ["d/sub"])

    def test_omitted(self) -> None:
        """
        A variant may lack a directory that only has whiteouts and that no layer below has;
        the tree itself may not.
        """
        self.path = self.mktemp()
        self.record = self.make(folder(b"d/") + file(b"d/e/.wh.x") + END)
        os.unlink(self.at("d/e/x"))
        os.rmdir(self.at("d/e"))
        os.utime(self.at("d"), ns=(0, 0))
        self.assertEqual(self.check({b"d/e": None}, linked=True), [])
        for found in (self.check({b"d/e": None}), self.check({}, linked=True)):
            self.assertEqual([each.path for each in found], ["d/e"])

    def test_many(self) -> None:
        """
        A lost tree is one damage, and not more than a thousand entries are named.
        """
        for number in range(MOST + 500):
            os.mkdir(self.at(f"d/sub/{number}"))
        self.assertEqual(len(self.check()), MOST)
        os.rename(self.path, self.path + ".away")
        self.assertEqual([each.path for each in self.check()], ["."])

    def test_cancelled(self) -> None:
        """
        A check that is cancelled ends at its first entry.
        """
        stop = Event()
        stop.set()
        with self.assertRaises(StoreError):
            TreeCheck(self.path, self.record, None, {}, False, Pace(), stop).run()
