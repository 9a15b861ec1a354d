"""
Tests for L{xferd.store.trees.lower_directories}.
"""

from __future__ import annotations

import errno
import os
from threading import Event

from twisted.trial.unittest import SkipTest

from tests.store.trees.test_implied_directories import TreesCase
from xferd.errors import BadLayer, StoreError
from xferd.store.disk.file_system import remove
from xferd.store.trees.implied_directories import read_metadata
from xferd.store.trees.lower_directories import find_lower


class FindTests(TreesCase):
    """
    The metadata of implied directories in the layers below.
    """

    def modes(self, tree: str, implied: list[bytes], *below: str) -> list[int | None]:
        """
        The modes found below for implied directories.
        """
        found = find_lower(tree, implied, below, Event())
        return [None if a is None else a.mode for a in (found[path] for path in implied)]

    def test_nearest(self) -> None:
        """
        The nearest tree that has the directory counts.
        """
        top = self.tree("top", a_b=0o755)
        near, far = self.tree("near", a=0o711), self.tree("far", a_b=0o700, a=0o750)
        self.assertEqual(self.modes(top, [b"a", b"a/b"], near, far), [0o711, 0o700])
        self.assertEqual(self.modes(top, [b"a", b"a/b"], far, near), [0o750, 0o700])

    def test_nothing(self) -> None:
        """
        Directories that no layer below has are not found.
        """
        top = self.tree("top", a_b=0o755)
        self.assertEqual(self.modes(top, [b"a/b"]), [None])
        self.assertEqual(self.modes(top, [b"a/b"], self.tree("near", a=0o711)), [None])

    def test_root(self) -> None:
        """
        The root of a tree may be implied as well.
        """
        top, near = self.tree("top"), self.tree("near")
        os.chmod(near, 0o700)
        self.assertEqual(self.modes(top, [b"."], near), [0o700])

    def test_hidden_by_a_file(self) -> None:
        """
        A directory that a file or a link has replaced is not found.
        """
        top, far = self.tree("top", a_b=0o755), self.tree("far", a_b=0o700)
        for name in ("file", "link"):
            near = self.tree(name)
            if name == "file":
                os.close(os.open(os.path.join(near, "a"), os.O_CREAT))
            else:
                os.symlink(os.path.abspath(os.path.join(far, "a")), os.path.join(near, "a"))
            self.assertEqual(self.modes(top, [b"a", b"a/b"], near, far), [None, None])

    def test_hidden_by_a_whiteout(self) -> None:
        """
        A directory that a whiteout hides is not found.
        """
        top, far = self.tree("top", a_b=0o755), self.tree("far", a_b=0o700, a=0o711)
        near = self.tree("near", a=0o750)
        try:
            os.mknod(os.path.join(near, "a", "b"), 0o020000, os.makedev(0, 0))
        except PermissionError:
            raise SkipTest("devices take the rights of root") from None
        self.assertEqual(self.modes(top, [b"a", b"a/b"], near, far), [0o750, None])

    def test_hidden_by_an_opaque_directory(self) -> None:
        """
        A directory that an opaque one hides is not found, while the opaque one
        itself is.
        """
        top, far = self.tree("top", a_b=0o755), self.tree("far", a_b=0o700)
        near = self.tree("near", a=0o750)
        self.set_xattr(os.path.join(near, "a"), "user.overlay.opaque", b"y")
        self.assertEqual(self.modes(top, [b"a", b"a/b"], near, far), [0o750, None])

    def test_opaque_in_the_tree_itself(self) -> None:
        """
        A tree's own opaque directory hides what is below as well.
        """
        top, far = self.tree("top", a_b=0o755), self.tree("far", a_b=0o700, a=0o711)
        self.set_xattr(os.path.join(top, "a"), "user.overlay.opaque", b"y")
        self.assertEqual(self.modes(top, [b"a", b"a/b"], far), [0o711, None])

    def test_opaque_for_root(self) -> None:
        """
        Root's opaque directories are marked otherwise.
        """
        top, far = self.tree("top", a_b=0o755), self.tree("far", a_b=0o700)
        self.set_xattr(os.path.join(top, "a"), "trusted.overlay.opaque", b"y")
        self.assertEqual(self.modes(top, [b"a/b"], far), [None])

    def test_without_xattrs(self) -> None:
        """
        A file system without extended attributes has no opaque directories;
        one that fails fails.
        """
        top, near = self.tree("top", a_b=0o755), self.tree("near", a_b=0o700)
        number = errno.ENOTSUP

        def refuse(*args: object) -> bytes:
            raise OSError(number, os.strerror(number))

        self.patch(os, "getxattr", refuse)
        self.patch(os, "listxattr", refuse)
        self.assertEqual(self.modes(top, [b"a/b"], near), [0o700])
        number = errno.EIO
        self.assertRaises(OSError, find_lower, top, [b"a/b"], [near], Event())
        self.assertRaises(OSError, read_metadata, near, [b"a/b"])

    def test_longer_than_a_path_may_be(self) -> None:
        """
        Directories are found at any depth.
        """
        trees = [self.tree("top"), self.tree("near")]
        name = b"n" * 200
        for tree in trees:
            fd = os.open(tree, os.O_RDONLY)
            for _ in range(25):
                os.mkdir(name, 0o711, dir_fd=fd)
                inner = os.open(name, os.O_RDONLY, dir_fd=fd)
                os.close(fd)
                fd = inner
            os.close(fd)
            # The usual removal of what tests leave cannot do it.
            self.addCleanup(remove, tree, Event())
        path = b"/".join([name] * 25)
        self.assertEqual(self.modes(trees[0], [path], trees[1]), [0o711])


class WorkTests(TreesCase):
    """
    The work depends on the number of entries, not on the number of requests.
    """

    def wide(self, name: str, count: int, start: int = 0) -> str:
        """
        Make a tree of directories side by side.
        """
        tree = self.tree(name)
        for number in range(start, start + count):
            os.mkdir(os.path.join(tree, str(number)))
        return tree

    def looks(self, implied: list[bytes], top: str, *below: str) -> int:
        """
        Find the fewest looks that a search may have.
        """
        low, high = 0, 1_000_000
        while low < high:
            middle = (low + high) // 2
            try:
                find_lower(top, implied, below, Event(), middle)
            except BadLayer:
                low = middle + 1
            else:
                high = middle
        return low

    def test_many_over_empty_layers(self) -> None:
        """
        A layer of 448 bytes that implies 3000 directories, on 999 empty layers,
        costs one look at each of these.
        """
        top = self.wide("top", 3000)
        below = [self.tree(f"empty{number}") for number in range(999)]
        implied = [b"%d" % number for number in range(3000)]
        find_lower(top, implied, below, Event(), 999)
        self.assertRaises(BadLayer, find_lower, top, implied, below, Event(), 998)

    def test_missing_parent(self) -> None:
        """
        Nothing is searched in a directory that is missing.
        """
        top = self.tree("top", a_b=0o755)
        implied = [b"a/b"]
        for number in range(100):
            name = b"a/b/%d" % number
            os.mkdir(os.path.join(os.fsencode(top), name))
            implied.append(name)
        self.assertEqual(self.looks(implied, top, self.tree("near", c=0o755)), 2)
        self.assertEqual(self.looks(implied, top, self.tree("far", a_c=0o755)), 4)

    def test_the_same_tree_again(self) -> None:
        """
        A tree that stands below several times is looked at once.
        """
        top, near = self.wide("top", 10), self.wide("near", 5, 100)
        implied = [b"%d" % number for number in range(10)]
        once = self.looks(implied, top, near)
        self.assertEqual(once, 6)
        self.assertEqual(self.looks(implied, top, near, near, near), once)

    def test_large_directory(self) -> None:
        """
        A directory with more entries than are looked for is not listed whole.
        """
        top, near = self.wide("top", 3), self.wide("near", 1000)
        implied = [b"1", b"2"]
        self.assertLessEqual(self.looks(implied, top, near), 8)
        found = find_lower(top, [*implied, b"5000"][:2], [near], Event())
        self.assertEqual([a is not None for a in found.values()], [True, True])

    def test_found(self) -> None:
        """
        A directory that was found is not sought further down.
        """
        top, near = self.wide("top", 3), self.wide("near", 3)
        far = [self.wide(f"far{number}", 3) for number in range(5)]
        implied = [b"0", b"1", b"2"]
        self.assertEqual(self.looks(implied, top, near, *far), self.looks(implied, top, near))

    def test_stopped(self) -> None:
        """
        It ends when it is stopped, with no descriptor left open.
        """
        stop = Event()
        stop.set()
        descriptors = os.listdir("/proc/self/fd")
        top, near = self.wide("top", 3), self.wide("near", 3)
        self.assertRaises(StoreError, find_lower, top, [b"1"], [near], stop)
        self.assertEqual(os.listdir("/proc/self/fd"), descriptors)
