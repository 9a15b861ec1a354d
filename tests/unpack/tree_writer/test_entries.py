"""
Tests for L{xferd.unpack.tree_writer}: entries, and those that replace others.
"""

from __future__ import annotations

import os
import stat
from unittest import SkipTest

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unpack.tars import (
    IS_ROOT,
    file,
    folder,
    hard_link,
    header,
    listing,
    pax,
    symlink,
)
from tests.unpack.tree_writer.case import TreeCase
from xferd.errors import BadLayer
from xferd.unpack import directories


class EntryTests(TreeCase):
    """
    The files that entries are written to.
    """

    def test_kinds(self) -> None:
        """
        Files, directories, links and FIFOs get their modes and times.
        """
        if not IS_ROOT:
            raise SkipTest("modes are kept in xattrs")
        size, implied = self.make(
            folder(b"./", mode=0o711, mtime=5),
            folder(b"d/", mode=0o1777, mtime=7),
            file(b"d/f", b"hello", mode=0o640, mtime=8),
            hard_link(b"d/h", b"./d/f"),
            symlink(b"s", b"/nowhere/at/all"),
            header(b"p", b"6", mode=0o604, mtime=9),
        )
        self.assertEqual((size, implied), (5, ()))
        found = listing(self.path)
        self.assertEqual(found["d"][:2] + found["d"][4:5], (stat.S_IFDIR, 0o1777, 7_000_000))
        self.assertEqual(found["d/f"], found["d/h"])
        self.assertEqual(found["d/f"][1:6], (0o640, 0, 0, 8_000_000, (5, 2, hash(b"hello"))))
        self.assertEqual((found["s"][0], found["s"][4:6]), (stat.S_IFLNK, (0, "/nowhere/at/all")))
        self.assertEqual((found["p"][:2], found["p"][4]), ((stat.S_IFIFO, 0o604), 9_000_000))
        info = os.stat(self.path)
        self.assertEqual((stat.S_IMODE(info.st_mode), info.st_mtime), (0o711, 5))

    def test_names(self) -> None:
        """
        Names are bytes; leading slashes and dots, double and trailing
        slashes mean nothing.
        """
        self.make(
            file(b"/abs", b"1"),
            file(b"./dot", b"2"),
            file(b"a//.//b", b"3"),
            folder(b"caf\xe9//"),
            file(b"caf\xe9/\xff\x01\n", b"4"),
            file(b"trailing/", b"5"),
            file(b".hidden", b"6"),
            file(b"..fine", b"7"),
            file(b" ", b"8"),
        )
        found = {os.fsencode(name) for name in self.names()}
        wanted = {b"abs", b"dot", b"a", b"a/b", b"caf\xe9", b"caf\xe9/\xff\x01\n", b"trailing"}
        self.assertEqual(found, wanted | {b".hidden", b"..fine", b" "})

    def test_slash_behind_a_file(self) -> None:
        """
        A slash or a dot after the name of a file does not affect the next
        entries.
        """
        for name in (b"d/f/", b"d/f/.", b"d/f//", b"d/f/./", b"d/./f/"):
            for first in (
                file(name, b"1"),
                symlink(name, b"x"),
                header(name, b"6"),
                file(b"d/g", b"2") + hard_link(name, b"d/g"),
            ):
                for second in (b"d/f/e", b"d/f/./e"):
                    if first[156:157] != b"2":
                        self.assertIn("leads over 'd/f'", self.refused(folder(b"d"), first, file(second)))
                self.empty()
                self.make(folder(b"d"), first, file(b"d/e", b"3"), file(b"e", b"4"))
                self.assertEqual([self.text("d/e"), self.text("e")], ["3", "4"])

    def test_implied(self) -> None:
        """
        Directories that the tar does not list are created with mode 0755 and
        reported; one that it lists later is not.
        """
        _, implied = self.make(file(b"a/b/c/f"), folder(b"a/b/"), file(b"a/g"))
        self.assertEqual(sorted(implied), [b".", b"a", b"a/b/c"])
        self.assertEqual(stat.S_IMODE(os.stat(self.at("a")).st_mode), 0o755)

    def test_times_survive_children(self) -> None:
        """
        A directory has its own time, also if files are added later.
        """
        self.make(folder(b"d/", mtime=1), folder(b"d/e", mtime=2), file(b"d/e/f"), file(b"d/g"))
        self.assertEqual([os.stat(self.at(n)).st_mtime for n in ("d", "d/e")], [1, 2])

    def test_fine_times(self) -> None:
        """
        Times have nanoseconds, and may lie before 1970.
        """
        self.make(pax({b"mtime": b"-1.25"}), file(b"f"), pax({b"mtime": b"3.000000007"}), symlink(b"s", b"f"))
        self.assertEqual(os.stat(self.at("f")).st_mtime_ns, -1_250_000_000)
        self.assertEqual(os.lstat(self.at("s")).st_mtime_ns, 3_000_000_007)

    def test_sparse(self) -> None:
        """
        A sparse file has its data where it belongs, and holes elsewhere.
        """
        records = {b"GNU.sparse.size": b"10000000", b"GNU.sparse.map": b"5,3,9000000,2"}
        size, _ = self.make(pax(records), file(b"s", b"abcde"))
        self.assertEqual(size, 10_000_000)
        with open(self.at("s"), "rb") as f:
            data = f.read()
        self.assertEqual(len(data), 10_000_000)
        self.assertEqual((data[5:8], data[9_000_000:9_000_002], data.count(0)), (b"abc", b"de", 9_999_995))
        self.assertLess(os.stat(self.at("s")).st_blocks * 512, 1_000_000)

    def test_large_file(self) -> None:
        """
        A file of many buffers is whole.
        """
        data = os.urandom(50_000)
        self.make(file(b"f", data), file(b"g", b"x"))
        with open(self.at("f"), "rb") as f:
            self.assertEqual(f.read(), data)

    def test_many_directories(self) -> None:
        """
        More directories than descriptors are kept, deep and wide, and hard
        links across them.
        """
        count = directories._MOST_OPEN + 40
        deep = b"/".join([b"d"] * 200)
        parts = [file(b"w%d/f" % n, b"x") for n in range(count)]
        parts += [pax({b"path": deep + b"/f"}), file(b"f", b"x")]
        parts += [
            pax({b"path": b"w%d/l" % n, b"linkpath": deep + b"/f"}) + hard_link(b"x", b"y")
            for n in range(count)
        ]
        parts += [file(b"w0/g", b"y"), folder(b"w1/", mtime=3)]
        before = len(os.listdir("/proc/self/fd"))
        _, implied = self.make(*parts)
        self.assertEqual(os.stat(self.at("w7/l")).st_nlink, count + 1)
        self.assertEqual(len(implied), 1 + (count - 1) + 200)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_deep_hard_links(self) -> None:
        """
        A hard link between two directories that are each deeper than the
        number of descriptors that are kept gets its own target, not a file
        of that name in a directory whose descriptor has the same number.
        """
        self.assertLess(directories._MOST_OPEN, 254)
        for depth in (directories._MOST_OPEN - 1, directories._MOST_OPEN, directories._MOST_OPEN + 1, 254):
            self.empty()
            parts = []
            for top, data in ((b"a", b"right"), (b"b", b"wrong")):
                paths = [top + b"/d" * n + b"/f" for n in range(depth)]
                parts += [pax({b"path": path}) + file(b"f", data) for path in paths]
            ends = {
                b"path": b"b" + b"/d" * (depth - 1) + b"/l",
                b"linkpath": b"a" + b"/d" * (depth - 1) + b"/f",
            }
            before = len(os.listdir("/proc/self/fd"))
            self.make(*parts, pax(ends) + hard_link(b"x", b"y"))
            self.assertEqual(self.text(ends[b"path"].decode()), "right", depth)
            self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(
                    [
                        b"a",
                        b"b",
                        b"a/c",
                        b"a/c/d",
                        b"b/e",
                        b"l/x",
                        b"l",
                        b"m/y",
                        b"a/",
                        b"a/c/.",
                        b"../a/e",
                        b"l/../b",
                        b".wh..wh.plnk/1.2",
                        b"b/../../../secret",
                    ]
                ),
                st.sampled_from(["file", "folder", "link", "up", "hard", "plnk", "whiteout", "opaque"]),
            ),
            max_size=12,
        )
    )
    def test_any_order(self, steps: list[tuple[bytes, str]]) -> None:
        """
        With any entries that replace and cross one another, the tree is
        written or refused with L{BadLayer}, its size is right, and nothing
        outside changes.
        """
        self.empty()
        parts = []
        for name, kind in steps:
            above, _, last = name.rpartition(b"/")
            parts.append(
                {
                    "file": file(name, name),
                    "folder": folder(name),
                    "link": symlink(name, b"/a"),
                    "up": symlink(name, b"../../../secret"),
                    "hard": hard_link(name, b"../a/"),
                    "plnk": hard_link(name, b".wh..wh.plnk/1.2"),
                    "whiteout": file(above + b"/.wh." + last),
                    "opaque": file(name + b"/.wh..wh..opq"),
                }[kind]
            )
        try:
            size, implied = self.make(*parts)
        except BadLayer as e:
            self.assertTrue(str(e))
            return
        seen = {}
        for above_, _, names in os.walk(self.path):
            for each in names:
                info = os.lstat(os.path.join(above_, each))
                if stat.S_ISREG(info.st_mode):
                    seen[info.st_ino] = info.st_size
        self.assertEqual(size, sum(seen.values()))
        for path in implied:
            self.assertTrue(stat.S_ISDIR(os.lstat(os.path.join(os.fsencode(self.path), path)).st_mode))


class ReplaceTests(TreeCase):
    """
    Entries over entries.
    """

    def test_last_wins(self) -> None:
        """
        Of two files with one name the later stands, and only it counts.
        """
        size, _ = self.make(file(b"f", b"first"), file(b"f", b"2nd"))
        self.assertEqual((size, self.text("f")), (3, "2nd"))

    def test_not_through_links(self) -> None:
        """
        A file over a hard link leaves the other name alone, one over a
        symbolic link leaves its target alone.
        """
        self.make(
            file(b"a", b"old"),
            hard_link(b"b", b"a"),
            file(b"b", b"new"),
            symlink(b"s", b"../secret"),
            file(b"s", b"mine"),
            symlink(b"t", b"a"),
            file(b"t", b"mine too"),
        )
        self.assertEqual([self.text(n) for n in "abst"], ["old", "new", "mine", "mine too"])

    def test_types(self) -> None:
        """
        Each type replaces each other one; directories are removed with their
        content, and are forgotten.
        """
        self.make(
            folder(b"d"),
            file(b"d/e/f", b"12345"),
            file(b"d/.wh.gone"),
            symlink(b"d/l", b"e"),
            file(b"d/l/g"),
            file(b"d", b"x"),
            file(b"x"),
            folder(b"x"),
            symlink(b"y", b"x"),
            folder(b"y"),
            file(b"z"),
            symlink(b"z", b"x"),
            file(b"p"),
            header(b"p", b"6"),
            file(b"h"),
            hard_link(b"h", b"d"),
        )
        kinds = {name: found[0] for name, found in listing(self.path).items()}
        self.assertEqual(
            kinds,
            {
                "d": stat.S_IFREG,
                "x": stat.S_IFDIR,
                "y": stat.S_IFDIR,
                "z": stat.S_IFLNK,
                "p": stat.S_IFIFO,
                "h": stat.S_IFREG,
            },
        )
        self.assertEqual(os.stat(self.at("d")).st_nlink, 2)

    def test_size(self) -> None:
        """
        Removed files do not count, and a file with two names is removed only
        with both.
        """
        size, _ = self.make(
            file(b"d/a", b"12345"), hard_link(b"k", b"d/a"), file(b"d/b", b"123"), file(b"d", b"1")
        )
        self.assertEqual(size, 6)

    def test_directory_again(self) -> None:
        """
        A directory over a directory sets its metadata and keeps its entries.
        """
        self.make(
            pax({b"SCHILY.xattr.user.old": b"1"}),
            folder(b"d", mtime=1),
            file(b"d/f", b"x"),
            pax({b"SCHILY.xattr.user.new": b"2"}),
            folder(b"d", mtime=2),
        )
        self.assertEqual((self.text("d/f"), os.stat(self.at("d")).st_mtime), ("x", 2))
        self.assertEqual(
            [x for x in os.listxattr(self.at("d")) if x in ("user.old", "user.new")], ["user.new"]
        )

    def test_file_in_the_way(self) -> None:
        """
        A file is not made a directory because a path leads over it.
        """
        self.assertIn("'f', which is not a directory", self.refused(file(b"f"), file(b"f/g")))

    def test_stale_parent(self) -> None:
        """
        A directory that was replaced between two of its entries is resolved
        again.
        """
        self.make(file(b"d/e/a"), file(b"d", b"x"), folder(b"d"), file(b"d/e/b"))
        self.assertEqual(self.names(), ["d", "d/e", "d/e/b"])
        self.refused(file(b"q/a"), file(b"q"), file(b"q/b"))
