"""
Tests for L{xferd.engines.snapshotter.directories}.
"""

from __future__ import annotations

import os
import stat
import tracemalloc
from threading import Event
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.store.disk.test_file_system import nest
from xferd.engines.snapshotter import directories
from xferd.engines.snapshotter.directories import DEPTH, Directories, file_system_of
from xferd.errors import StoreError
from xferd.store.disk.file_system import remove


class DirectoryTests(SynchronousTestCase):
    """
    The files of snapshots.
    """

    def setUp(self) -> None:
        """
        Make the directories.
        """
        self.data = os.path.abspath(self.mktemp())
        os.makedirs(f"{self.data}/trees")
        self.made = Directories(f"{self.data}/engines/main")
        self.made.prepare()

    def owner(self, path: str) -> tuple[int, int, int]:
        """
        Owner and mode.
        """
        found = os.stat(path)
        return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)

    def test_private(self) -> None:
        """
        Only the daemon may look into its directories.
        """
        for name in ("engines", "engines/main", "engines/main/snapshots", "engines/main/l"):
            self.assertEqual(self.owner(f"{self.data}/{name}")[2], 0o700)

    def test_make(self) -> None:
        """
        A snapshot without a parent has an ordinary root directory; a view has nothing to
        work in.
        """
        self.made.make(1, True, None, None)
        self.made.make(2, False, None, None)
        own = (os.geteuid(), os.getegid())
        self.assertEqual(self.owner(f"{self.made.of(1)}/fs"), (*own, 0o755))
        self.assertEqual(self.owner(f"{self.made.of(1)}/work")[2], 0o711)
        self.assertEqual(os.listdir(self.made.of(2)), ["fs"])
        self.assertRaises(StoreError, self.made.make, 1, True, None, None)

    def test_owner(self) -> None:
        """
        The root directory has owner and mode of the one below, or is of the root user of
        a user namespace.
        """
        if os.geteuid() != 0:
            raise SkipTest("owners are set by root")
        top = f"{self.data}/trees/top"
        os.mkdir(top)
        os.chown(top, 5, 6)
        os.chmod(top, 0o1777)
        self.made.make(1, True, top, None)
        self.assertEqual(self.owner(f"{self.made.of(1)}/fs"), (5, 6, 0o1777))
        self.made.make(2, True, top, (100000, 200000))
        self.assertEqual(self.owner(f"{self.made.of(2)}/fs"), (100000, 200000, 0o1777))

    def test_present(self) -> None:
        """
        All directories and short names are listed; short names can be removed.
        """
        for number in (1, 2):
            self.made.make(number, True, None, None)
            self.made.shorten([(number, f"{self.made.of(number)}/fs"), (9, "/t")])
        os.mkdir(f"{self.data}/engines/main/snapshots/new-x")
        self.assertEqual([sorted(names) for names in self.made.present()], [["1", "2", "new-x"], ["1", "2"]])
        self.made.remove_links(["2"])
        self.assertEqual(os.listdir(f"{self.data}/engines/main/l"), ["1"])

    def test_short_names(self) -> None:
        """
        Short names lead to the directories from within the data directory, wherever that
        is mounted; the bottom one keeps its own.  A directory that has moved gets another.
        """
        for name in ("a", "b", "c"):
            os.mkdir(f"{self.data}/trees/{name}")
        lowers = [(7, f"{self.data}/trees/a"), (6, f"{self.data}/trees/b"), (5, f"{self.data}/trees/c")]
        short = self.made.shorten(lowers)
        links = f"{self.data}/engines/main/l"
        self.assertEqual(short, [f"{links}/7", f"{links}/6", f"{self.data}/trees/c"])
        self.assertEqual(os.path.commonpath(short), self.data)
        self.assertEqual(os.readlink(short[0]), "../../../trees/a")
        self.assertEqual(self.made.shorten(lowers), short)
        os.rename(f"{self.data}/trees/a", f"{self.data}/trees/d")
        moved = [(7, f"{self.data}/trees/d"), *lowers[1:]]
        for _ in range(2):
            self.assertEqual(self.made.shorten(moved), [f"{links}/7-1", *short[1:]])
        self.assertEqual(os.path.realpath(f"{links}/7-1"), os.path.realpath(f"{self.data}/trees/d"))
        # Mounts have the older one, by which the garbage collector finds what they use.
        self.assertEqual(os.readlink(short[0]), "../../../trees/a")
        self.assertEqual(sorted(os.listdir(links)), ["6", "7", "7-1"])

    def test_usage(self) -> None:
        """
        Usage counts each inode once, with the blocks that it has on the disk.
        """
        self.made.make(1, True, None, None)
        top = f"{self.made.of(1)}/fs"
        os.makedirs(f"{top}/a/b")
        with open(f"{top}/a/file", "wb") as file:
            file.write(b"x" * 100_000)
        os.link(f"{top}/a/file", f"{top}/a/b/again")
        with open(f"{top}/sparse", "wb") as file:
            file.truncate(50_000_000)
        os.symlink("nowhere", f"{top}/link")
        usage = self.made.usage(1)
        self.assertEqual(usage.inodes, 6)
        self.assertTrue(100_000 <= usage.size < 200_000, usage.size)
        self.assertEqual(self.made.usage(2).inodes, 0)

    def test_usage_of_a_deep_tree(self) -> None:
        """
        A container that makes directories within each other without end does not break the
        measurement: the first ones are counted.
        """
        self.made.make(1, True, None, None)
        nest(f"{self.made.of(1)}/fs", "n", 3000)
        self.assertEqual(self.made.usage(1).inodes, DEPTH + 2)
        remove(self.made.of(1), Event())

    def test_usage_of_many_files(self) -> None:
        """
        The measurement of many files does not keep them all in memory.
        """
        self.made.make(1, True, None, None)
        top = f"{self.made.of(1)}/fs"
        for number in range(20_000):
            os.symlink("x", f"{top}/{number}")
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertEqual(self.made.usage(1).inodes, 20_001)
        self.assertLess(tracemalloc.get_traced_memory()[1], 1_000_000)

    def test_bad_path(self) -> None:
        """
        A path that the options of a mount cannot have is refused.
        """
        for character in ",:":
            made = Directories(os.path.abspath(f"{self.mktemp()}{character}/engines/main"))
            os.makedirs(os.path.dirname(os.path.dirname(made.root)))
            error = self.assertRaises(StoreError, made.prepare)
            self.assertIn(f"{character!r}; choose another data directory", str(error))

    def test_on_an_overlay(self) -> None:
        """
        A data directory on an overlay is refused with a remedy.
        """
        self.patch(directories, "file_system_of", lambda _: "overlay")
        error = self.assertRaises(StoreError, self.made.prepare)
        self.assertIn("keep the data directory on a volume", str(error))

    def test_file_system(self) -> None:
        """
        The type of the file system of a directory.
        """
        device = os.stat(self.data).st_dev
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("22 1 0:0 / /other rw - ext4 /dev/x rw\n")
            file.write(
                f"23 1 {os.major(device)}:{os.minor(device)} / /data rw shared:1 - overlay overlay rw\n"
            )
        self.assertEqual(file_system_of(self.data, path), "overlay")
        self.assertEqual(file_system_of(self.data, os.devnull), "")
        self.assertEqual(file_system_of(self.data, "/nowhere"), "")
        self.assertEqual(file_system_of("/proc"), "proc")
