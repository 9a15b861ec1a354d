"""
Tests for L{xferd.unpack.tree_writer}: whiteouts in one layer and in several.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from itertools import permutations
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.unpack.stack import fitted_trees, root_file_system
from tests.unpack.tars import (
    END,
    IS_ROOT,
    file,
    folder,
    hard_link,
    header,
    listing,
    symlink,
)
from tests.unpack.tree_writer.case import TreeCase


class WhiteoutTests(TreeCase):
    """
    The entries that a layer hides in those below.
    """

    opaque = "trusted.overlay.opaque" if IS_ROOT else "user.overlay.opaque"

    def is_whiteout(self, name: str) -> bool:
        """
        Whether overlayfs interprets it as a whiteout.
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
            # Below i there is no entry whose attributes it could take.
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
        A whiteout removes entries, restores none, creates no directory and
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
