"""
Tests for L{xferd.store.trees.hard_links}.
"""

from __future__ import annotations

import os
from threading import Event

from twisted.trial.unittest import SynchronousTestCase

from tests.store.trees.test_implied_directories import SECOND, TreesCase
from xferd.errors import BadLayer, StoreError
from xferd.store.trees.hard_links import CopySize, link_tree, measure
from xferd.store.trees.implied_directories import read_metadata

PLENTY = CopySize(1000, 10**9)


class CopiedTests(SynchronousTestCase):
    """
    The size of variants.
    """

    def test_most(self) -> None:
        """
        As much as is allowed is fine, and one more of either is not.
        """
        most = CopySize(3, 5000)
        most.check(most)
        for more in (CopySize(1, 0), CopySize(0, 1)):
            self.assertRaises(BadLayer, (most + more).check, most)


class LinkTests(TreesCase):
    """
    A second tree of the same files.
    """

    def test_kinds(self) -> None:
        """
        Files of every kind are the same files; directories are its own, with
        the same attributes.
        """
        source, target = self.tree("source", a_b=0o711, a=0o1777), self.tree("target")
        os.chmod(source, 0o750)
        inside = os.path.join(source, "a")
        with open(os.path.join(inside, "file"), "wb") as file:
            file.write(b"data")
        os.symlink("dangling", os.path.join(inside, "link"))
        os.mkfifo(os.path.join(inside, "fifo"))
        self.set_xattr(inside, "user.overlay.opaque", b"y")
        self.set_xattr(inside, "user.kept", b"value")
        os.utime(inside, ns=(0, 7 * SECOND))
        copied = link_tree(source, target, CopySize(), PLENTY, Event())
        self.assertEqual(copied, measure(target))
        self.assertEqual(copied.entries, 3 + 3)
        for name in ("file", "link", "fifo"):
            self.assertEqual(
                os.lstat(os.path.join(inside, name)).st_ino,
                os.lstat(os.path.join(target, "a", name)).st_ino,
            )
        paths = [b".", b"a", b"a/b"]
        self.assertEqual(read_metadata(source, paths), read_metadata(target, paths))
        for path in ("a", "a/b"):
            self.assertNotEqual(
                os.stat(os.path.join(source, path)).st_ino, os.stat(os.path.join(target, path)).st_ino
            )
        self.assertEqual(os.getxattr(os.path.join(target, "a"), "user.overlay.opaque"), b"y")
        self.assertEqual(os.stat(os.path.join(target, "a")).st_mtime_ns, 7 * SECOND)

    def test_most(self) -> None:
        """
        A variant of the greatest permitted size is made; making a larger one
        ends.
        """
        source = self.tree("source", a_b=0o711)
        has = link_tree(source, self.tree("first"), CopySize(), PLENTY, Event())
        link_tree(source, self.tree("second"), has, has + has, Event())
        for number, used in enumerate((CopySize(1, 0), CopySize(0, 1))):
            self.assertRaises(BadLayer, link_tree, source, self.tree(f"{number}"), used, has, Event())

    def test_stopped(self) -> None:
        """
        It ends when it is stopped, with no descriptor left open.
        """
        stop = Event()
        stop.set()
        descriptors = os.listdir("/proc/self/fd")
        source, target = self.tree("source", a=0o711), self.tree("target")
        self.assertRaises(StoreError, link_tree, source, target, CopySize(), PLENTY, stop)
        self.assertEqual((os.listdir(target), os.listdir("/proc/self/fd")), ([], descriptors))

    def test_measure_links(self) -> None:
        """
        A link to a directory is a name, as that of a file is.
        """
        source, target = self.tree("source", a=0o711), self.tree("target")
        os.symlink("a", os.path.join(source, "link"))
        copied = link_tree(source, target, CopySize(), PLENTY, Event())
        self.assertEqual((copied, copied.entries), (measure(target), 3))
