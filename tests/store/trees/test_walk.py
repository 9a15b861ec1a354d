"""
Tests for L{xferd.store.trees.walk}.
"""

from __future__ import annotations

import os

from tests.store.trees.test_implied_directories import TreesCase
from xferd.store.trees.walk import TreeWalk, components


class WalkTests(TreesCase):
    """
    Directories are opened by their paths.
    """

    def test_open(self) -> None:
        """
        Each path leads to its directory, in any order; all are closed in the
        end.
        """
        tree = self.tree("tree", a_b_c=0o755, a_d=0o755, e=0o755)
        descriptors = os.listdir("/proc/self/fd")
        with TreeWalk(tree) as walk:
            for path in (b".", b"a/b/c", b"a/d", b"a", b"e", b"", b"a/b", b"a/b"):
                here = os.stat(os.path.join(os.fsencode(tree), path))
                self.assertTrue(os.path.samestat(os.fstat(walk.open(path)), here))
        self.assertEqual(os.listdir("/proc/self/fd"), descriptors)

    def test_once(self) -> None:
        """
        In order, each directory is opened once, forwards and backwards.
        """
        paths = [b"a", b"a/b", b"a/b/c", b"a/d", b"e", b"e/f"]
        tree = self.tree("tree", a_b_c=0o755, a_d=0o755, e_f=0o755)
        opened = []
        original = os.open

        def note(path: bytes, *args: object, **kwargs: object) -> int:
            opened.append(path)
            return original(path, *args, **kwargs)  # type: ignore[arg-type]

        self.patch(os, "open", note)
        for reverse in (False, True):
            opened.clear()
            with TreeWalk(tree) as walk:
                for path in sorted(paths, key=components, reverse=reverse):
                    walk.open(path)
            self.assertEqual(len(opened), 1 + len(paths))

    def test_no_link(self) -> None:
        """
        A link is not followed.
        """
        tree = self.tree("tree", a=0o755)
        os.symlink("a", os.path.join(tree, "link"))
        with TreeWalk(tree) as walk:
            self.assertRaises(OSError, walk.open, b"link")
            self.assertRaises(FileNotFoundError, walk.open, b"a/b")
