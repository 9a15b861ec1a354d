"""
Tests for L{xferd.store.mending}.
"""

from __future__ import annotations

import errno
import os
from threading import Event

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.store.test_disk import become_nobody
from xferd.store.disk import remove
from xferd.store.mending import (
    Attributes,
    Wanted,
    empty,
    find,
    key,
    link_tree,
    mend,
    prune,
    read,
    wanted_from_json,
    wanted_to_json,
)

SECOND = 10**9


class TreesCase(SynchronousTestCase):
    """
    Tests with trees on disk.
    """

    def setUp(self) -> None:
        """
        Think of a place for trees.
        """
        self.directory = self.mktemp()
        os.mkdir(self.directory)

    def tree(self, name: str, **directories: int) -> str:
        """
        Make a tree of directories, C{_} standing for a slash, with their
        modes, and the modes as their times in seconds.
        """
        tree = os.path.join(self.directory, name)
        os.mkdir(tree)
        for path in directories:
            os.makedirs(os.path.join(tree, path.replace("_", "/")), exist_ok=True)
        for path, mode in directories.items():
            there = os.path.join(tree, path.replace("_", "/"))
            os.chmod(there, mode)
            os.utime(there, ns=(0, mode * SECOND))
        return tree

    def modes(self, tree: str, implied: list[bytes], *below: str) -> list[int | None]:
        """
        The modes found below for implied directories.
        """
        found = find(tree, implied, below)
        return [None if a is None else a.mode for a in (found[path] for path in implied)]

    def set_xattr(self, path: str, name: str, value: bytes) -> None:
        """
        Set an extended attribute, where there are any.
        """
        try:
            os.setxattr(path, name, value)
        except OSError as e:
            raise SkipTest(f"{name} cannot be set here: {e.strerror}") from e


class FindTests(TreesCase):
    """
    What an implied directory has below.
    """

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
        Where nobody has it, there is nothing.
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
        What a file or a link replaced is not there any more.
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
        What a whiteout removed is not there any more.
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
        What an opaque directory hides is not there any more, while the opaque
        one itself is.
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
        self.assertRaises(OSError, find, top, [b"a/b"], [near])
        self.assertRaises(OSError, read, near, [b"a/b"])

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


class EmptyTests(TreesCase):
    """
    Directories that hold nothing but whiteouts.
    """

    def whiteout(self, tree: str, path: str) -> None:
        """
        Make a whiteout of the form that needs no rights.
        """
        full = os.path.join(tree, path)
        os.close(os.open(full, os.O_CREAT))
        self.set_xattr(full, "user.overlay.whiteout", b"y")

    def test_empty(self) -> None:
        """
        They are found where nothing is below, those in others first, and
        removed without a trace in the times of the others.
        """
        tree = self.tree("tree", a=0o755, b=0o700, b_c=0o711, b_c_d=0o755, e=0o755)
        self.whiteout(tree, "b/c/d/x")
        self.whiteout(tree, "b/c/y")
        self.set_xattr(os.path.join(tree, "e"), "user.overlay.opaque", b"y")
        os.utime(os.path.join(tree, "b"), ns=(0, 3 * SECOND))
        implied = [b".", b"a", b"b/c", b"b/c/d", b"e"]
        found = empty(tree, find(tree, implied, []))
        self.assertEqual(found, [b"b/c/d", b"b/c", b"e"])
        prune(tree, found)
        self.assertEqual(sorted(os.listdir(tree)), ["a", "b"])
        self.assertEqual(os.listdir(os.path.join(tree, "b")), [])
        self.assertEqual(os.stat(os.path.join(tree, "b")).st_mtime_ns, 3 * SECOND)

    def test_kept(self) -> None:
        """
        Those that something is below stay, and those with a file, a link, a
        device or a listed directory.
        """
        near = self.tree("near", a=0o711)
        tree = self.tree("tree", a_b=0o755, f=0o755, l=0o755, i_listed=0o755)
        for path in ("a/b/x", "f/x", "l/x", "i/x"):
            self.whiteout(tree, path)
        os.close(os.open(os.path.join(tree, "f/file"), os.O_CREAT))
        os.symlink("x", os.path.join(tree, "l/link"))
        implied = [b"a", b"a/b", b"f", b"l", b"i"]
        self.assertEqual(empty(tree, find(tree, implied, [near])), [b"a/b"])

    def test_disk_fails(self) -> None:
        """
        A disk that cannot be read is an error, and keeps no descriptor open.
        """
        tree = self.tree("tree", a=0o755)
        self.whiteout(tree, "a/x")

        def refuse(*args: object, **kwargs: object) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        descriptors = os.listdir("/proc/self/fd")
        self.patch(os, "getxattr", refuse)
        self.assertRaises(OSError, empty, tree, {b"a": None})
        self.patch(os, "rmdir", refuse)
        self.assertRaises(OSError, prune, tree, [b"a"])
        self.assertEqual(os.listdir("/proc/self/fd"), descriptors)


class AttributesTests(TreesCase):
    """
    Attributes are read, given, and kept in JSON.
    """

    def test_mend(self) -> None:
        """
        A directory gets all that it has below: mode, times, owner, xattrs;
        what steers overlayfs stays its own.
        """
        near, top = self.tree("near", a_b=0o1711), self.tree("top", a_b=0o755)
        below, here = os.path.join(near, "a/b"), os.path.join(top, "a/b")
        self.set_xattr(below, "user.kept", b"\0value")
        self.set_xattr(below, "user.overlay.opaque", b"y")
        self.set_xattr(here, "user.overlay.origin", b"here")
        self.set_xattr(here, "user.other", b"gone")
        if os.geteuid() == 0:
            os.chown(below, 12, 34)
        found = find(top, [b"a/b"], [near])
        mend(top, found, {})
        self.assertEqual(read(top, [b"a/b"]), found)
        self.assertEqual(sorted(os.listxattr(here)), ["user.kept", "user.overlay.origin"])
        status = os.stat(here)
        self.assertEqual((status.st_mode & 0o7777, status.st_mtime_ns), (0o1711, 0o1711 * SECOND))
        if os.geteuid() == 0:
            self.assertEqual((status.st_uid, status.st_gid), (12, 34))

    def test_missing(self) -> None:
        """
        A directory that should be there and is not is an error, and keeps no
        descriptor open.
        """
        top = self.tree("top", a=0o755)
        descriptors = os.listdir("/proc/self/fd")
        self.assertRaises(FileNotFoundError, read, top, [b"a/b"])
        self.assertEqual(os.listdir("/proc/self/fd"), descriptors)

    def test_default(self) -> None:
        """
        A directory with nothing below gets back what it had at first.
        """
        top = self.tree("top", a=0o755)
        default = read(top, [b"a"])
        os.chmod(os.path.join(top, "a"), 0o700)
        mend(top, {b"a": None}, default)
        self.assertEqual(read(top, [b"a"]), default)

    def test_unprivileged(self) -> None:
        """
        Without the rights of root, owners are kept in an xattr and files
        belong to the daemon; a directory's own mode may be hard on what is in
        it.
        """
        self.directory = become_nobody(self)
        near, top = self.tree("near", a_b=0o500, a=0o500), self.tree("top", a_b=0o755)
        owner = "user.containers.override_stat"
        os.chmod(os.path.join(near, "a"), 0o700)
        self.set_xattr(os.path.join(near, "a"), owner, b"12:34:040755")
        found = find(top, [b"a", b"a/b"], [near])
        mend(top, found, {})
        self.assertEqual(os.getxattr(os.path.join(top, "a"), owner), b"12:34:040755")
        self.assertEqual(read(top, [b"a", b"a/b"]), found)

    @settings(max_examples=30)
    @given(
        st.dictionaries(
            st.binary(min_size=1).filter(lambda path: b"\0" not in path),
            st.none()
            | st.builds(
                Attributes,
                st.integers(0, 2**32),
                st.integers(0, 2**32),
                st.integers(0, 0o7777),
                st.integers(-(2**62), 2**62),
                st.lists(st.tuples(st.text(), st.binary()), unique_by=lambda x: x[0]).map(tuple),
            ),
        )
    )
    def test_json(self, wanted: dict[bytes, Attributes | None]) -> None:
        """
        Attributes of any path go to JSON and back.
        """
        self.assertEqual(wanted_from_json(wanted_to_json(wanted)), wanted)

    def test_key(self) -> None:
        """
        The key depends on all attributes, and not on the order of paths.
        """
        some = Attributes(0, 0, 0o755, 5, (("user.a", b"b"),))
        wanted: Wanted = {b"a": some, b"b": None}
        self.assertEqual(key(wanted), key(dict(reversed(list(wanted.items())))))
        others: list[Wanted] = [
            {b"a": some},
            {b"a": None, b"b": some},
            {**wanted, b"a": evolve(some, uid=1)},
            {**wanted, b"a": evolve(some, gid=1)},
            {**wanted, b"a": evolve(some, mode=1)},
            {**wanted, b"a": evolve(some, mtime=1)},
            {**wanted, b"a": evolve(some, xattrs=())},
        ]
        self.assertEqual(len({key(each) for each in (wanted, *others)}), len(others) + 1)
        self.assertRegex(key(wanted), "^[0-9a-f]{16}$")


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
        link_tree(source, target)
        for name in ("file", "link", "fifo"):
            self.assertEqual(
                os.lstat(os.path.join(inside, name)).st_ino,
                os.lstat(os.path.join(target, "a", name)).st_ino,
            )
        paths = [b".", b"a", b"a/b"]
        self.assertEqual(read(source, paths), read(target, paths))
        for path in ("a", "a/b"):
            self.assertNotEqual(
                os.stat(os.path.join(source, path)).st_ino, os.stat(os.path.join(target, path)).st_ino
            )
        self.assertEqual(os.getxattr(os.path.join(target, "a"), "user.overlay.opaque"), b"y")
        self.assertEqual(os.stat(os.path.join(target, "a")).st_mtime_ns, 7 * SECOND)
