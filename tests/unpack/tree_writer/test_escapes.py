"""
Tests for L{xferd.unpack.tree_writer}: entries that would leave the tree, and the
limits.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from attrs import evolve

from tests.unpack.tars import (
    IS_ROOT,
    LIMITS,
    file,
    folder,
    hard_link,
    header,
    pax,
    symlink,
)
from tests.unpack.tree_writer.case import TreeCase
from xferd.unpack import directories, tree_writer


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
