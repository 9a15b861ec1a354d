"""
Tests for L{xferd.unpack.tree_writer}, L{xferd.unpack.directories} and
L{xferd.unpack.metadata}.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, permutations
from typing import Any
from unittest import SkipTest

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.unpack.stack import fitted_trees, root_file_system
from tests.unpack.tars import (
    END,
    IS_ROOT,
    LIMITS,
    NOBODY,
    file,
    folder,
    hard_link,
    header,
    in_child,
    listing,
    make,
    pax,
    symlink,
)
from xferd.errors import BadLayer, DiskFull, StoreError
from xferd.interfaces.unpack import UnpackLimits
from xferd.unpack import directories, tree_writer
from xferd.unpack.tree_writer import TreeWriter

CAPABILITY = b"\x01\0\0\x02\0\x20\0\0" + bytes(12)


class TreeCase(SynchronousTestCase):
    """
    A scratch directory whose insides are for the tree, and whose outsides
    must stay as they are.
    """

    def setUp(self) -> None:
        """
        Put a secret beside the tree.
        """
        # Not below trial's own folder: that one may be on a file system without xattrs.
        self.outside = os.path.realpath(tempfile.mkdtemp(prefix="xferd-tree-"))
        self.addCleanup(shutil.rmtree, self.outside)
        os.chmod(self.outside, 0o755)
        self.secret = os.path.join(self.outside, "secret")
        with open(self.secret, "w") as f:
            f.write("secret")
        os.utime(self.secret, (1, 1))
        self.path = os.path.join(self.outside, "tree")
        os.mkdir(self.path)

        self.addCleanup(self.check)

    def check(self) -> None:
        """
        Nothing was done outside.
        """
        self.assertEqual(sorted(os.listdir(self.outside)), ["secret", "tree"])
        info = os.stat(self.secret)
        self.assertEqual((info.st_mtime, info.st_nlink, stat.S_IMODE(info.st_mode) & 0o7022), (1, 1, 0))
        with open(self.secret) as f:
            self.assertEqual(f.read(), "secret")

    def make(self, *parts: bytes, limits: UnpackLimits = LIMITS) -> tuple[int, tuple[bytes, ...]]:
        """
        Make the tree.
        """
        size, implied = make(self.path, b"".join(parts) + END, limits)
        return size, implied

    def refused(self, *parts: bytes, limits: UnpackLimits = LIMITS) -> str:
        """
        The error for an invalid tar, in an empty directory.
        """
        self.empty()
        return str(self.assertRaises(BadLayer, self.make, *parts, limits=limits))

    def empty(self) -> None:
        """
        Empty the tree.
        """
        info = os.stat(self.path)
        shutil.rmtree(self.path)
        os.mkdir(self.path)
        if IS_ROOT:
            os.chown(self.path, info.st_uid, info.st_gid)

    def at(self, name: str) -> str:
        """
        A path in the tree.
        """
        return os.path.join(self.path, name)

    def text(self, name: str) -> str:
        """
        A file's contents.
        """
        with open(self.at(name)) as f:
            return f.read()

    def names(self) -> list[str]:
        """
        All paths in the tree.
        """
        return sorted(listing(self.path))


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
        Each type replaces each other one; directories go with all that is in
        them, and are forgotten.
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


class EscapeTests(TreeCase):
    """
    Nothing leads out (oci-spec attack cases, tarfile's CVEs among them).
    """

    def test_dotdot(self) -> None:
        """
        C{..} removes the component before it and has no effect in the root, in
        names and in the targets of hard links (CVE-2007-4559).
        """
        up = b"../" * 20 + os.fsencode(self.outside)[1:]
        self.make(
            file(b"../secret", b"1"),
            file(b"a/../../b/c", b"2"),
            file(b"/../d", b"3"),
            file(b"./x/y/.././../e", b"4"),
            file(up + b"/secret", b"5"),
            file(b"f/g", b"6"),
            file(b"f/../h", b"7"),
            file(b"f/i", b"8"),
            hard_link(b"j", b"../../f/../d"),
            folder(b"k/.."),
            folder(b"k/../l", mtime=3),
        )
        below = self.outside[1:]
        wanted = ["b", "b/c", "d", "e", "f", "f/g", "f/i", "h", "j", "l", "secret", f"{below}/secret"]
        self.assertEqual([name for name in self.names() if name in wanted], sorted(wanted))
        self.assertEqual(len(self.names()), len(wanted) + 1 + below.count("/"))
        texts = [self.text(n) for n in ("secret", "b/c", "d", "e", f"{below}/secret", "h", "f/i", "j")]
        self.assertEqual(texts, list("12345783"))
        for name in (b"..", b"a/..", b"./../.."):
            self.assertIn("tree's root", self.refused(file(name)))
            self.assertIn("no file of this layer", self.refused(hard_link(b"l", name)))
        self.assertIn("no file of this layer", self.refused(hard_link(b"l", up + b"/secret")))

    def test_dotdot_and_links(self) -> None:
        """
        C{..} behind a link takes the link's own name away, and does not go up
        from where the link leads.
        """
        self.make(
            folder(b"a/b"),
            symlink(b"l", b"a/b"),
            file(b"l/../f", b"x"),
            symlink(b"m", b"/../../.."),
            file(b"m/../g"),
            file(b"m/h"),
        )
        self.assertEqual(self.names(), ["a", "a/b", "f", "g", "h", "l", "m"])

    def test_absolute(self) -> None:
        """
        An absolute name is one below the root of the tree.
        """
        name = os.fsencode(self.secret)
        self.make(pax({b"path": name}), file(b"x", b"mine"))
        self.assertEqual(self.text(self.secret[1:]), "mine")

    def test_through_links(self) -> None:
        """
        A path that leads over a link stays below the root, which is the
        link's C{/} and has no C{..} (CVE-2014-9357, -2025-4517, -4330).
        """
        up = b"../" * 20
        self.make(
            symlink(b"abs", os.fsencode(self.outside)),
            file(b"abs/secret", b"1"),
            symlink(b"up", up + os.fsencode(self.outside)[1:]),
            file(b"up/tree/f", b"2"),
            folder(b"in"),
            symlink(b"rel", b"./in/../in//"),
            file(b"rel/f", b"3"),
            symlink(b"chain", b"rel"),
            file(b"chain/g", b"4"),
            symlink(b"root", b"/"),
            file(b"root/h", b"5"),
            symlink(b"dangling", b"not/there"),
            file(b"dangling/i", b"6"),
        )
        below = self.outside[1:]
        self.assertEqual(self.text(f"{below}/secret"), "1")
        self.assertEqual(self.text(f"{below}/tree/f"), "2")
        self.assertEqual([self.text(n) for n in ("in/f", "in/g", "h", "not/there/i")], ["3", "4", "5", "6"])

    def test_implied_are_real(self) -> None:
        """
        Directories that a path over a link implies are reported by their real
        paths.
        """
        _, implied = self.make(folder(b"./"), folder(b"usr"), symlink(b"lib", b"usr/lib"), file(b"lib/a/f"))
        self.assertEqual(sorted(implied), [b"usr/lib", b"usr/lib/a"])

    def test_link_attributes(self) -> None:
        """
        Attributes are the link's own, never its target's (CVE-2021-32760).
        """
        parts = [
            symlink(b"s", os.fsencode(self.secret)),
            pax({b"uid": b"4242", b"SCHILY.xattr.trusted.x": b"y", b"mtime": b"99"}),
            symlink(b"s", os.fsencode(self.secret)),
            pax({b"mtime": b"99"}),
            header(b"s2", b"2", mode=0o4777, link=b"../secret"),
        ]
        self.make(*parts)
        self.assertEqual(os.lstat(self.at("s")).st_mtime, 99)
        if IS_ROOT:
            self.assertEqual(os.lstat(self.at("s")).st_uid, 4242)
            self.assertEqual(os.getxattr(self.at("s"), "trusted.x", follow_symlinks=False), b"y")

    def test_hard_links(self) -> None:
        """
        A hard link's target is looked up in the tree, is there already, and
        is no directory; a symbolic link is linked itself, not what it names.
        """
        target = os.fsencode(self.secret)
        for whole in (
            hard_link(b"h", target),
            hard_link(b"h", b"later") + file(b"later"),
            hard_link(b"h", b"h"),
            hard_link(b"h", b""),
            hard_link(b"h", b"/"),
            folder(b"d") + hard_link(b"h", b"d"),
            file(b"d2/f") + hard_link(b"d2", b"d2/f"),
            file(b".wh.x") + hard_link(b"h", b".wh.x"),
            symlink(b"up", os.fsencode(self.outside)) + hard_link(b"h", b"up/secret"),
        ):
            self.assertIn("no file of this layer", self.refused(whole))
        self.make(
            symlink(b"s", target),
            hard_link(b"h", b"s"),
            file(b"f", b"x"),
            hard_link(b"f", b"f"),
            hard_link(b"s", b"f"),
        )
        self.assertTrue(os.path.islink(self.at("h")))
        self.assertEqual(self.text("s"), "x")

    def test_loops(self) -> None:
        """
        Links in circles end (CVE-2021-20291).
        """
        self.assertIn("more than 40", self.refused(symlink(b"a", b"b"), symlink(b"b", b"a"), file(b"a/f")))
        self.assertIn("more than 40", self.refused(symlink(b"c", b"c/c"), file(b"c/f")))

    def test_root_entry(self) -> None:
        """
        The root cannot become a link or a file (CVE-2021-29136).
        """
        for name in (b"", b".", b"/", b"./"):
            self.assertIn("tree's root", self.refused(pax({b"comment": b"x"}) + symlink(name, b"/")))
            self.assertIn("tree's root", self.refused(file(name, b"x")))

    def test_empty_link(self) -> None:
        """
        A symbolic link leads somewhere.
        """
        self.assertIn("to nothing", self.refused(symlink(b"s", b"")))

    def test_too_long(self) -> None:
        """
        Names that Linux does not have are refused, not cut; paths that become
        too long or too deep over links as well.
        """
        self.assertIn("cannot be made", self.refused(pax({b"path": b"n" * 256}), file(b"f")))
        self.assertIn("cannot be made", self.refused(pax({b"path": b"n" * 256 + b"/f"}), file(b"f")))
        long = b"/".join([b"n" * 200] * 21)
        self.assertIn("4095 bytes", self.refused(pax({b"path": long}), file(b"f")))
        half = b"/".join([b"n" * 200] * 11)
        parts = pax({b"path": half}), folder(b"d"), pax({b"linkpath": half}), symlink(b"s", b"x")
        self.assertIn("4095 bytes", self.refused(*parts, pax({b"path": b"s/" + half + b"/f"}), file(b"f")))
        self.assertIn("cannot be made", self.refused(pax({b"linkpath": b"t" * 5000}), symlink(b"l", b"x")))

    def test_too_deep(self) -> None:
        """
        The same for paths with more components than the limit, also over
        links.
        """
        few = evolve(LIMITS, depth=4)
        self.make(file(b"a/b/c/f"), limits=few)
        self.assertIn("deeper than 4", self.refused(file(b"a/b/c/d/f"), limits=few))
        self.assertIn("deeper than 4", self.refused(hard_link(b"l", b"a/b/c/d/f"), limits=few))
        over = symlink(b"l", b"a/b/c"), file(b"l/x/y/f")
        self.assertIn("deeper than 4", self.refused(*over, limits=few))

    def test_too_many(self) -> None:
        """
        Implied directories are counted, and so is the memory that
        directories and whiteouts take.
        """
        few = evolve(LIMITS, entries=3)
        self.assertIn("implies more than 3", self.refused(file(b"a/b/c/d/f"), limits=few))
        self.patch(directories, "MOST_MEMORY", 2 * (1 + directories._DIRECTORY))
        self.make(folder(b"x"), folder(b"y"), file(b"x"), folder(b"z"))
        self.assertIn("bytes of memory", self.refused(folder(b"x"), folder(b"y"), folder(b"z")))
        self.patch(directories, "MOST_MEMORY", directories._WHITEOUTS + 2 * (1 + directories._WHITEOUT))
        self.empty()
        self.make(file(b".wh.x"), file(b".wh.y"), file(b".wh.x"))
        self.assertIn("bytes of memory", self.refused(file(b".wh.x"), file(b".wh.y"), file(b".wh.z")))

    def test_names_passed_over(self) -> None:
        """
        A directory that a file replaces is emptied also on a file system that
        passes over names while others are removed.
        """
        scandir = os.scandir

        @contextmanager
        def half(descriptor: int) -> Iterator[Iterator[os.DirEntry[str]]]:
            with scandir(descriptor) as listing:
                yield islice(listing, 2)

        self.patch(os, "scandir", half)
        before = len(os.listdir("/proc/self/fd"))
        parts = [file(b"d/%d" % n) for n in range(5)] + [file(b"d/e/%d" % n) for n in range(5)]
        self.make(*parts, file(b"d", b"instead"))
        self.assertEqual(self.text("d"), "instead")
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_implied_paths(self) -> None:
        """
        The paths of implied directories are counted together: those that no
        entry lists in the end.
        """
        self.patch(tree_writer, "_IMPLIED", len(b"." + b"a" + b"a/bb" + b"c"))
        self.make(file(b"a/bb/f"), file(b"c/f"), file(b"d/f"), folder(b"d"))
        self.assertIn("implies 5 directories", self.refused(file(b"a/bb/f"), file(b"c/f"), file(b"d/f")))

    def test_implied_directories(self) -> None:
        """
        The number of implied directories is limited, since each is looked up
        in the layers below.
        """
        self.patch(tree_writer, "_MOST_IMPLIED", 4)
        self.make(file(b"a/b/f"), file(b"c/f"), file(b"d/f"), folder(b"d"))
        self.assertIn("list all but 4", self.refused(file(b"a/b/f"), file(b"c/f"), file(b"d/f")))

    def test_too_many_xattrs(self) -> None:
        """
        The memory of directories' extended attributes counts, of the newest
        entry for each, until the directory is removed.
        """
        most = 2 * (1 + directories._DIRECTORY) + directories._XATTRS + directories._XATTR + 8 + 100
        self.patch(directories, "MOST_MEMORY", most)
        one, two = (pax({b"SCHILY.xattr.none.one": b"x" * size}) for size in (100, 101))
        self.make(one + folder(b"x"), folder(b"x"), one + folder(b"y"), file(b"y"), one + folder(b"z"))
        self.assertIn("bytes of memory", self.refused(folder(b"x"), two + folder(b"y")))
        self.empty()
        self.make(folder(b"x"), one + folder(b"y"))

    def test_large_xattr(self) -> None:
        """
        An extended attribute may be as large as Linux has them, and no larger.
        """
        for size, refused in ((65_536, False), (65_537, True)):
            for form in (b"SCHILY.xattr.none.large", b"LIBARCHIVE.xattr.none.large"):
                value = b"x" * size if form.startswith(b"S") else b64encode(b"x" * size)
                parts = pax({form: value}), folder(b"d")
                if refused:
                    self.assertIn(f"'none.large' of {size} bytes", self.refused(*parts))
                else:
                    self.empty()
                    self.make(*parts)


class WhiteoutTests(TreeCase):
    """
    The entries that a layer hides in those below.
    """

    opaque = "trusted.overlay.opaque" if IS_ROOT else "user.overlay.opaque"

    def is_whiteout(self, name: str) -> bool:
        """
        Whether overlayfs takes it for one.
        """
        info = os.lstat(self.at(name))
        return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0

    def marks(self, name: str) -> dict[str, bytes]:
        """
        The xattrs that overlayfs reads.
        """
        path = self.at(name)
        return {x: os.getxattr(path, x) for x in os.listxattr(path) if ".overlay." in x}

    def test_whiteout(self) -> None:
        """
        A whiteout becomes overlayfs's, and its directory is implied and keeps
        its time.
        """
        _, implied = self.make(
            folder(b"d", mtime=3), file(b"d/.wh.x"), header(b"e/.wh.y", b"5"), file(b".wh.z")
        )
        self.assertEqual(self.names(), ["d", "d/x", "e", "e/y", "z"])
        self.assertTrue(all(self.is_whiteout(n) for n in ("d/x", "e/y", "z")))
        self.assertEqual((os.stat(self.at("d")).st_mtime, self.marks("d")), (3, {}))
        self.assertEqual(sorted(implied), [b".", b"e"])

    def test_own_entries(self) -> None:
        """
        A whiteout never hides entries of its own layer, in any order: a file
        hides the old one by itself, a directory by being opaque.
        """
        hidden = file(b".wh.f"), file(b".wh.d"), file(b".wh.i"), file(b".wh.s")
        own = file(b"f", b"mine"), folder(b"d", mtime=1), file(b"i/g"), symlink(b"s", b"f")
        for order in (hidden + own, own + hidden):
            self.empty()
            _, implied = self.make(*order)
            self.assertEqual(self.names(), ["d", "f", "i", "i/g", "s"])
            self.assertEqual(self.text("f"), "mine")
            self.assertEqual(self.marks("d"), {self.opaque: b"y"})
            self.assertEqual(self.marks("i"), {self.opaque: b"y"})
            self.assertEqual(os.stat(self.at("d")).st_mtime, 1)
            # Nothing is below i any more that it could take its attributes from.
            self.assertEqual(implied, (b".",))
            self.assertEqual(os.stat(self.at("i")).st_mtime, 0)

    def test_opaque(self) -> None:
        """
        An opaque directory is marked, wherever the mark stands in the tar; in
        it, whiteouts would hide nothing, and directories have none below.
        """
        parts = [file(b"d/.wh..wh..opq"), file(b"d/.wh.x"), file(b"d/e/f")]
        for order in (parts, parts[::-1]):
            self.empty()
            _, implied = self.make(*order)
            self.assertEqual(self.names(), ["d", "d/e", "d/e/f"])
            self.assertEqual(self.marks("d"), {self.opaque: b"y"})
            self.assertEqual(sorted(implied), [b".", b"d"])

    def test_opaque_root(self) -> None:
        """
        The whole tree can be opaque; then nothing in it is implied but itself.
        """
        _, implied = self.make(file(b".wh..wh..opq"), file(b"a/f"))
        self.assertEqual((self.marks(""), implied), ({self.opaque: b"y"}, (b".",)))

    def test_through_links(self) -> None:
        """
        A whiteout over a link removes from where the link leads, in the tree.
        """
        self.make(folder(b"usr/lib"), symlink(b"lib", b"usr/lib"), file(b"lib/.wh.x"))
        self.assertTrue(self.is_whiteout("usr/lib/x"))

    def test_bad(self) -> None:
        """
        A whiteout of nothing, of C{.} or of C{..}, and entries in a
        directory that is a whiteout, are refused.
        """
        for name in (b".wh.", b"d/.wh.", b".wh..", b".wh...", b"d/.wh..."):
            self.assertIn("whiteout of nothing", self.refused(file(name)))
        self.assertIn("below a whiteout", self.refused(file(b".wh.d/f")))
        self.empty()
        self.make(file(b"../.wh.secret"), file(b"a/../.wh.b"))
        self.assertEqual(self.names(), ["b", "secret"])

    def test_aufs(self) -> None:
        """
        AUFS's internal files are skipped.
        """
        size, implied = self.make(
            file(b".wh..wh.aufs"),
            folder(b".wh..wh.plnk"),
            file(b".wh..wh.plnk/1.2", b"x"),
            file(b"d/.wh..wh.orph/x"),
            file(b"f"),
        )
        self.assertEqual((self.names(), size, implied), (["f"], 0, (b".",)))

    def test_aufs_links(self) -> None:
        """
        Files that AUFS kept for hard links can be linked to, whatever else is
        in their directory, and only their other names remain.
        """
        size, implied = self.make(
            folder(b".wh..wh.plnk"),
            symlink(b".wh..wh.plnk/1.0", b"/"),
            file(b".wh..wh.plnk/1.1", b"content", mode=0o755, mtime=5),
            file(b"./.wh..wh.plnk/1.2", b"x"),
            hard_link(b"bin/a", b".wh..wh.plnk/1.1"),
            hard_link(b"bin/b", b"/.wh..wh.plnk/1.1"),
            file(b"f"),
        )
        self.assertEqual(self.names(), ["bin", "bin/a", "bin/b", "f"])
        self.assertEqual((size, sorted(implied)), (7, [b".", b"bin"]))
        info = os.stat(self.at("bin/b"))
        self.assertEqual((self.text("bin/a"), info.st_nlink, info.st_mtime), ("content", 2, 5))
        self.refused(symlink(b".wh..wh.plnk/1.0", b"/"), hard_link(b"a", b".wh..wh.plnk/1.0"))
        self.refused(file(b"d/.wh..wh.plnk/1.1"), hard_link(b"a", b"d/.wh..wh.plnk/1.1"))

    def test_removed_directory(self) -> None:
        """
        Whiteouts in a directory that is replaced go with it.
        """
        self.make(file(b"d/.wh.x"), file(b"d/.wh..wh..opq"), file(b"d"))
        self.assertEqual(self.names(), ["d"])

    def test_other_form(self) -> None:
        """
        If the kernel refuses to create a device 0/0, whiteouts have
        overlayfs's other form; an opaque directory stays opaque.
        """

        def no(*_: object, **__: object) -> None:
            raise PermissionError(errno.EPERM, "no")

        self.patch(os, "mknod", no)
        self.make(file(b"d/.wh.x"), file(b"d/.wh.f"), file(b"d/f", b"mine"))
        self.assertEqual(os.stat(self.at("d/x")).st_size, 0)
        kind = self.opaque.removesuffix("opaque")
        self.assertEqual(self.marks("d/x"), {f"{kind}whiteout": b"y"})
        self.assertEqual(self.marks("d"), {self.opaque: b"x"})
        self.assertEqual((self.text("d/f"), self.marks("d/f")), ("mine", {}))
        # In an opaque directory such a whiteout would be an empty file.
        self.empty()
        self.make(file(b"e/.wh.x"), file(b"e/f"), file(b".wh.e"))
        self.assertEqual((self.names(), self.marks("e")), (["e", "e/f"], {self.opaque: b"y"}))

    def test_removed_with_its_content(self) -> None:
        """
        A whiteout of a directory beside whiteouts of what was in it removes
        the directory, in every order and at every depth.
        """
        parts = [file(b".wh.d"), file(b"d/.wh.x"), file(b"d/e/.wh.y"), file(b"d/e/.wh..wh..opq")]
        for order in permutations(parts):
            self.empty()
            _, implied = self.make(*order)
            self.assertEqual((self.names(), self.is_whiteout("d"), implied), (["d"], True, (b".",)))
        deeper = [file(b"a/b/.wh.d")] + [file(b"a/b/d" + b"/e" * n + b"/.wh.x") for n in range(4)]
        for order in map(tuple, (deeper, deeper[::-1])):
            self.empty()
            _, implied = self.make(*order)
            self.assertEqual((self.names(), self.is_whiteout("a/b/d")), (["a", "a/b", "a/b/d"], True))
            self.assertEqual(sorted(implied), [b".", b"a", b"a/b"])

    def test_below_a_file(self) -> None:
        """
        A whiteout does not replace this layer's file, nor a link of it, and a
        directory in which nothing shows is not made.
        """
        for own in (file(b"d", b"x"), symlink(b"d", b"nowhere"), header(b"d", b"6")):
            for parts in ((file(b"d/.wh.x"), own), (file(b"d/e/.wh..wh..opq"), own)):
                self.empty()
                self.make(*parts)
                self.assertEqual(self.names(), ["d"])
        self.empty()
        self.make(file(b"d", b"x"), file(b"d/.wh.x"), file(b"d/e/.wh..wh..opq"), file(b"d/e/.wh.f"))
        self.assertEqual(self.names(), ["d"])
        self.empty()
        self.make(file(b"o/.wh..wh..opq"), file(b"o/e/.wh.x"), file(b"o/e/.wh..wh..opq"))
        self.assertEqual((self.names(), self.marks("o")), (["o"], {self.opaque: b"y"}))
        self.empty()
        self.make(file(b".wh..wh..opq"), folder(b"d"), file(b"d/e/.wh.f"), file(b"d/e/g/.wh..wh..opq"))
        self.assertEqual((self.names(), self.marks("d")), (["d"], {}))
        self.empty()
        self.make(file(b".wh.d"), folder(b"d/e"), file(b"d/e/.wh.f"), file(b"d/.wh.g"))
        self.assertEqual((self.names(), self.marks("d/e")), (["d", "d/e"], {}))

    def test_replaced_file(self) -> None:
        """
        A directory over this layer's own file shows nothing of what is below,
        which the file had replaced.
        """
        for first in (file(b"d"), symlink(b"d", b"x")):
            self.empty()
            self.make(first, folder(b"d"), file(b"d/f"))
            self.assertEqual((self.names(), self.marks("d")), (["d", "d/f"], {self.opaque: b"y"}))


class StackTests(SynchronousTestCase):
    """
    Layers on top of each other.
    """

    LOWER = (
        folder(b"d", mode=0o711),
        file(b"d/x", b"x"),
        file(b"d/e/y", b"y"),
        file(b"f", b"f"),
        symlink(b"l", b"d"),
        file(b"z/z"),
    )

    def stack(self, *layers: tuple[bytes, ...]) -> dict[str, Any]:
        """
        The names in the root file system, with their modes.
        """
        place = os.path.realpath(tempfile.mkdtemp(prefix="xferd-stack-"))
        self.addCleanup(shutil.rmtree, place)
        root = root_file_system(place, [b"".join(parts) + END for parts in layers])
        return {name: found[1] for name, found in listing(root).items()}

    def test_whiteouts(self) -> None:
        """
        A whiteout removes, brings back nothing, makes no directory and
        replaces no file or link, alone and in every order with others.
        """
        all_names = {"d", "d/x", "d/e", "d/e/y", "f", "l", "z", "z/z"}
        for hidden, gone in (
            ((b"d/.wh.x",), {"d/x"}),
            ((b".wh.d",), {"d", "d/x", "d/e", "d/e/y"}),
            ((b".wh.d", b"d/.wh.x"), {"d", "d/x", "d/e", "d/e/y"}),
            ((b".wh.d", b"d/.wh.x", b"d/e/.wh.y", b"d/.wh.e"), {"d", "d/x", "d/e", "d/e/y"}),
            ((b"d/.wh.e", b"d/e/.wh.y", b"d/e/.wh..wh..opq"), {"d/e", "d/e/y"}),
            ((b"d/.wh..wh..opq", b"d/e/.wh.y"), {"d/x", "d/e", "d/e/y"}),
            ((b"f/.wh.x",), set()),
            ((b"f/.wh..wh..opq",), set()),
            ((b"f/g/h/.wh.x", b"f/.wh.g"), set()),
            ((b"l/.wh.q",), set()),
            ((b"n/.wh.x",), set()),
            ((b"n/o/p/.wh.x", b"n/o/.wh.p", b"n/.wh..wh..opq"), set()),
            ((b"d/n/.wh.x", b"d/.wh.x"), {"d/x"}),
            ((b"d/e/y/.wh.x",), set()),
            ((b".wh.z", b"z/.wh.z"), {"z", "z/z"}),
        ):
            for order in map(tuple, permutations(hidden) if len(hidden) < 4 else (hidden, hidden[::-1])):
                upper = tuple(map(file, order))
                found = self.stack(self.LOWER, upper)
                self.assertEqual((order, set(found)), (order, all_names - gone))
                if "d" in found:
                    self.assertEqual(found["d"], 0o711)
                # Once more on top, there is less to remove.
                self.assertEqual(set(self.stack(self.LOWER, upper, upper)), all_names - gone)

    def test_other_form(self) -> None:
        """
        The same with whiteouts that are files with an xattr.
        """

        def no(*_: object, **__: object) -> None:
            raise PermissionError(errno.EPERM, "no")

        self.patch(os, "mknod", no)
        upper = tuple(map(file, (b"d/e/.wh.y", b"d/.wh.x", b"n/o/.wh.p", b"f/.wh.g", b"z/.wh.z", b".wh.z")))
        for layers in ((upper,), (upper, upper)):
            self.assertEqual(set(self.stack(self.LOWER, *layers)), {"d", "d/e", "f", "l"})

    def test_own_entries(self) -> None:
        """
        A layer's own entries stay beside its whiteouts.
        """
        own = (file(b"d/new"), file(b".wh.d"), file(b"d/.wh.x"), file(b"d/n/.wh.y"))
        for order in permutations(own):
            self.assertEqual(set(self.stack(self.LOWER, order)), {"d", "d/new", "f", "l", "z", "z/z"})

    def test_bottom(self) -> None:
        """
        In the lowest layer whiteouts are nothing.
        """
        self.assertEqual(self.stack((file(b"d/.wh.x"), file(b"e/.wh..wh..opq"), file(b".wh.f"))), {})

    def test_times(self) -> None:
        """
        A listed directory keeps its time when one that only whiteouts name is
        left out of it.
        """
        place = os.path.realpath(tempfile.mkdtemp(prefix="xferd-stack-"))
        self.addCleanup(shutil.rmtree, place)
        [tree] = fitted_trees(place, [folder(b"d", mtime=7) + file(b"d/n/.wh.x") + END])
        self.assertEqual((os.listdir(tree), os.listdir(tree + "/d")), (["d"], []))
        self.assertEqual(os.stat(tree + "/d").st_mtime, 7)


class RootTests(TreeCase):
    """
    Operations that need root.
    """

    if not IS_ROOT:
        skip = "only root gives files away"

    def test_owners(self) -> None:
        """
        Each kind of file gets its owner, by number, and setuid bits survive that.
        """
        ids: dict[str, Any] = {"uid": 1234, "gid": 56789}
        self.make(
            folder(b"d", mode=0o2755, **ids),
            file(b"d/f", b"x", mode=0o6755, **ids),
            file(b"d/g", b"x"),
            header(b"s", b"2", link=b"f", **ids),
            header(b"p", b"6", mode=0o1600, **ids),
            header(b"n", b"3", mode=0o620, device=(1, 3), **ids),
            header(b"b", b"4", mode=0o660, device=(8, 0o21), **ids),
        )
        found = listing(self.path)
        self.assertEqual({found[n][2:4] for n in ("d", "d/f", "s", "p", "n", "b")}, {(1234, 56789)})
        self.assertEqual([found[n][1] for n in ("d", "d/f", "p", "n")], [0o2755, 0o6755, 0o1600, 0o620])
        self.assertEqual((found["n"][0], found["n"][5]), (stat.S_IFCHR, os.makedev(1, 3)))
        self.assertEqual((found["b"][0], found["b"][5]), (stat.S_IFBLK, os.makedev(8, 17)))
        # A setgid directory gives its group to what is made in it, but not here.
        self.assertEqual(found["d/g"][2:4], (0, 0))

    def test_xattrs(self) -> None:
        """
        Extended attributes come after the owner, so that capabilities stay;
        those that steer overlayfs or the machine's policy are left out.
        """
        records = {
            b"SCHILY.xattr." + name: value
            for name, value in {
                b"security.capability": CAPABILITY,
                b"user.a": b"b",
                b"trusted.c": b"",
                b"security.selinux": b"x",
                b"trusted.overlay.opaque": b"y",
                b"trusted.overlay.redirect": b"/etc",
                b"user.overlay.whiteout": b"y",
                b"user.containers.override_stat": b"0:0:4755",
                b"nonsense": b"x",
            }.items()
        }
        self.make(pax(records), file(b"f", b"x", uid=7), pax(records), folder(b"d"), pax(records), file(b"g"))
        for name in "fg":
            found = listing(self.path)[name][-1]
            self.assertEqual(found, {"security.capability": CAPABILITY, "user.a": b"b", "trusted.c": b""})
        self.assertEqual(sorted(os.listxattr(self.at("d")))[-2:], ["trusted.c", "user.a"])

    def test_node_xattrs(self) -> None:
        """
        Files that cannot be opened get their xattrs, too, and the working
        directory is restored.
        """
        before = os.getcwd()
        records = {b"SCHILY.xattr.trusted.x": b"y", b"SCHILY.xattr.user.refused": b"y"}
        self.make(pax(records), header(b"d/p", b"6"), pax(records), symlink(b"d/s", b"p"))
        for name in ("d/p", "d/s"):
            self.assertEqual(listing(self.path)[name][-1], {"trusted.x": b"y"})
        self.assertEqual(os.getcwd(), before)

    def test_large_xattr(self) -> None:
        """
        An xattr that the file system does not take is the layer's fault.
        """
        records = {b"SCHILY.xattr.user.large": b"x" * 65_500}
        self.assertIn("'user.large' of 65500 bytes", self.refused(pax(records), file(b"f")))

    def test_bad_devices(self) -> None:
        """
        Device numbers that Linux does not have are refused.
        """
        for device in ((0o10000, 0), (0, 0o4000000), (b"\x80" + b"\x7f" * 7, 0)):
            self.assertIn("Linux does not have", self.refused(header(b"n", b"3", device=device)))


class KeptTests(TreeCase):
    """
    Trees that an unprivileged user writes, in a process of its own.
    """

    def setUp(self) -> None:
        """
        Change the owner of the directory to another user.
        """
        super().setUp()
        if IS_ROOT:
            os.chown(self.path, NOBODY, NOBODY)

    def make(self, *parts: bytes, limits: UnpackLimits = LIMITS) -> tuple[int, tuple[bytes, ...]]:
        """
        Write the tree as the user nobody.
        """
        os.chmod(self.outside, 0o755)
        data = b"".join(parts) + END
        size, implied = in_child(
            lambda: make(self.path, data, limits, privileged=False), NOBODY if IS_ROOT else None
        )
        return size, implied

    def kept(self, name: str) -> bytes:
        """
        The metadata in the override xattr of an entry.
        """
        return os.getxattr(self.at(name), "user.containers.override_stat")

    def test_attributes(self) -> None:
        """
        Owner, mode and device are stored in an xattr of the file, which its
        user can read and which grants no rights.
        """
        ids: dict[str, Any] = {"uid": 12, "gid": 34}
        self.make(
            folder(b"./", mode=0o700, **ids),
            folder(b"d", mode=0o1000, mtime=4, **ids),
            file(b"d/f", b"hello", mode=0o4000, mtime=5, **ids),
            header(b"n", b"3", mode=0o620, device=(1, 3), **ids),
            header(b"b", b"4", device=(8, 1)),
            header(b"p", b"6", mode=0o622, mtime=6, **ids),
            header(b"s", b"2", link=b"../secret", mtime=7, **ids),
        )
        self.assertEqual(
            [self.kept(n) for n in ("", "d", "d/f", "n", "b")],
            [
                b"12:34:0700:dir",
                b"12:34:01000:dir",
                b"12:34:04000:file",
                b"12:34:0620:char-1-3",
                b"0:0:0644:block-8-1",
            ],
        )
        found = listing(self.path)
        self.assertEqual([found[n][1] for n in ("d", "d/f", "n")], [0o700, 0o400, 0o620])
        self.assertEqual([found[n][4] for n in ("d", "d/f", "p", "s")], [4e6, 5e6, 6e6, 7e6])
        self.assertEqual((found["n"][0], found["n"][5][0], found["p"][0]), (stat.S_IFREG, 0, stat.S_IFIFO))
        if IS_ROOT:
            self.assertEqual({each[2] for each in found.values()}, {NOBODY})

    def test_replaced_device(self) -> None:
        """
        A device over something replaces it as anything else does.
        """
        self.make(file(b"n", b"x"), header(b"n", b"3", device=(1, 3)))
        self.assertEqual(self.kept("n"), b"0:0:0644:char-1-3")

    def test_xattrs(self) -> None:
        """
        A layer cannot set the override xattr, and attributes that only root
        may set are skipped.
        """
        records = {
            b"SCHILY.xattr.user.containers.override_stat": b"0:0:04755:file",
            b"SCHILY.xattr.user.overlay.opaque": b"y",
            b"SCHILY.xattr.security.capability": CAPABILITY,
            b"SCHILY.xattr.user.a": b"b",
        }
        self.make(pax(records), file(b"f", uid=9))
        self.assertEqual(
            listing(self.path)["f"][-1],
            {"user.containers.override_stat": b"9:0:0644:file", "user.a": b"b"},
        )

    def test_whiteouts(self) -> None:
        """
        Whiteouts and opaque directories are overlayfs's as any user mounts it.
        """
        self.make(file(b"d/.wh.x"), file(b"e/.wh..wh..opq"))
        self.assertTrue(stat.S_ISCHR(os.lstat(self.at("d/x")).st_mode))
        self.assertEqual(os.getxattr(self.at("e"), "user.overlay.opaque"), b"y")

    def test_escape(self) -> None:
        """
        Links lead nowhere here either.
        """
        self.make(symlink(b"up", os.fsencode(self.outside)), file(b"up/f", b"x"), file(b"up/g", b"y"))
        self.assertEqual(self.text(f"{self.outside[1:]}/g"), "y")


class ErrorTests(TreeCase):
    """
    Errors of the disk.
    """

    def failing(self, code: int) -> None:
        """
        Let all files fail.
        """

        def fail(*_: object, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        self.patch(tree_writer, "_write", fail)

    def test_full(self) -> None:
        """
        A full disk is one, and a used-up quota too.
        """
        for code in (errno.ENOSPC, errno.EDQUOT):
            self.failing(code)
            error = self.assertRaises(DiskFull, self.make, file(b"f%d" % code, b"x"))
            self.assertIn("no space is left", str(error))

    def test_disk(self) -> None:
        """
        Any other refusal is the store's trouble, unless it is the layer's.
        """
        self.failing(errno.EIO)
        self.assertIn("refuses 'f'", str(self.assertRaises(StoreError, self.make, file(b"f", b"x"))))
        self.failing(errno.EFBIG)
        self.assertRaises(BadLayer, self.make, file(b"g", b"x"))

    def test_finish(self) -> None:
        """
        The same at the end.
        """
        self.patch(TreeWriter, "_finish", lambda *_: os.mkdir(self.outside))
        self.assertIn("the directories", str(self.assertRaises(StoreError, self.make)))

    def test_short_writes(self) -> None:
        """
        A kernel that takes a little at a time gets the rest again.
        """
        real = os.write
        self.patch(os, "write", lambda fd, data: real(fd, data[:7]))
        records = {b"GNU.sparse.size": b"50", b"GNU.sparse.map": b"20,30"}
        self.make(file(b"f", b"hello world, hello world"), pax(records), file(b"s", b"123456789 " * 3))
        self.assertEqual(self.text("f"), "hello world, hello world")
        self.assertEqual(self.text("s"), "\0" * 20 + "123456789 " * 3)

    def test_no_xattrs(self) -> None:
        """
        A file system without xattrs cannot hold what must be kept there; an
        image's own xattrs are left out.
        """

        def none(*_: object, **__: object) -> None:
            raise OSError(errno.ENOTSUP, "no")

        self.patch(os, "setxattr", none)
        error = self.assertRaises(StoreError, self.make, file(b"d/.wh..wh..opq"))
        self.assertIn("use one that can", str(error))
        if IS_ROOT:
            self.make(pax({b"SCHILY.xattr.user.a": b"b"}), file(b"f"))

    def test_xattr_errors(self) -> None:
        """
        Any other trouble with them is the disk's.
        """

        def fail(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, "no")

        self.patch(os, "setxattr", fail)
        self.assertRaises(StoreError, self.make, pax({b"SCHILY.xattr.user.a": b"b"}), file(b"f"))
        self.assertRaises(StoreError, self.make, file(b"d/.wh..wh..opq"))
