"""
Tests for L{xferd.store.trees.implied_directories}.
"""

from __future__ import annotations

import errno
import os
from threading import Event

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.store.disk.test_file_system import become_nobody
from xferd.store.trees.implied_directories import (
    DirectoryMetadata,
    MetadataByPath,
    apply_metadata,
    find_empty,
    metadata_from_json,
    metadata_to_json,
    read_metadata,
    remove_empty,
    variant_key,
)
from xferd.store.trees.lower_directories import find_lower

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

    def set_xattr(self, path: str, name: str, value: bytes) -> None:
        """
        Set an extended attribute, where there are any.
        """
        try:
            os.setxattr(path, name, value)
        except OSError as e:
            raise SkipTest(f"{name} cannot be set here: {e.strerror}") from e


class EmptyTests(TreesCase):
    """
    Directories that contain only whiteouts.
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
        They are found if no layer below has them, those in others first, and
        removed without a change in the times of the others.
        """
        tree = self.tree("tree", a=0o755, b=0o700, b_c=0o711, b_c_d=0o755, e=0o755)
        self.whiteout(tree, "b/c/d/x")
        self.whiteout(tree, "b/c/y")
        self.set_xattr(os.path.join(tree, "e"), "user.overlay.opaque", b"y")
        os.utime(os.path.join(tree, "b"), ns=(0, 3 * SECOND))
        implied = [b".", b"a", b"b/c", b"b/c/d", b"e"]
        found = find_empty(tree, find_lower(tree, implied, [], Event()), Event())
        self.assertEqual(found, [b"e", b"b/c/d", b"b/c"])
        remove_empty(tree, found)
        self.assertEqual(sorted(os.listdir(tree)), ["a", "b"])
        self.assertEqual(os.listdir(os.path.join(tree, "b")), [])
        self.assertEqual(os.stat(os.path.join(tree, "b")).st_mtime_ns, 3 * SECOND)

    def test_kept(self) -> None:
        """
        Directories that a layer below has are kept, and those with a file, a
        link, a device or a listed directory.
        """
        near = self.tree("near", a=0o711)
        tree = self.tree("tree", a_b=0o755, f=0o755, l=0o755, i_listed=0o755)
        for path in ("a/b/x", "f/x", "l/x", "i/x"):
            self.whiteout(tree, path)
        os.close(os.open(os.path.join(tree, "f/file"), os.O_CREAT))
        os.symlink("x", os.path.join(tree, "l/link"))
        implied = [b"a", b"a/b", b"f", b"l", b"i"]
        self.assertEqual(find_empty(tree, find_lower(tree, implied, [near], Event()), Event()), [b"a/b"])

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
        self.assertRaises(OSError, find_empty, tree, {b"a": None}, Event())
        self.patch(os, "rmdir", refuse)
        self.assertRaises(OSError, remove_empty, tree, [b"a"])
        self.assertEqual(os.listdir("/proc/self/fd"), descriptors)


class AttributesTests(TreesCase):
    """
    Attributes are read, given, and kept in JSON.
    """

    def test_mend(self) -> None:
        """
        A directory gets all metadata of the one below: mode, times, owner,
        xattrs; the xattrs of overlayfs stay its own.
        """
        near, top = self.tree("near", a_b=0o1711), self.tree("top", a_b=0o755)
        below, here = os.path.join(near, "a/b"), os.path.join(top, "a/b")
        self.set_xattr(below, "user.kept", b"\0value")
        self.set_xattr(below, "user.overlay.opaque", b"y")
        self.set_xattr(here, "user.overlay.origin", b"here")
        self.set_xattr(here, "user.other", b"gone")
        if os.geteuid() == 0:
            os.chown(below, 12, 34)
        found = find_lower(top, [b"a/b"], [near], Event())
        apply_metadata(top, found, {}, stop=Event())
        self.assertEqual(read_metadata(top, [b"a/b"]), found)
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
        self.assertRaises(FileNotFoundError, read_metadata, top, [b"a/b"])
        self.assertEqual(os.listdir("/proc/self/fd"), descriptors)

    def test_default(self) -> None:
        """
        A directory without one below gets its first metadata again.
        """
        top = self.tree("top", a=0o755)
        default = read_metadata(top, [b"a"])
        os.chmod(os.path.join(top, "a"), 0o700)
        apply_metadata(top, {b"a": None}, default, stop=Event())
        self.assertEqual(read_metadata(top, [b"a"]), default)

    def test_unprivileged(self) -> None:
        """
        Without the rights of root, owners are kept in an xattr and files belong
        to the daemon; a directory's own mode may deny access to its content.
        """
        self.directory = become_nobody(self)
        near, top = self.tree("near", a_b=0o500, a=0o500), self.tree("top", a_b=0o755)
        owner = "user.containers.override_stat"
        os.chmod(os.path.join(near, "a"), 0o700)
        self.set_xattr(os.path.join(near, "a"), owner, b"12:34:040755")
        found = find_lower(top, [b"a", b"a/b"], [near], Event())
        apply_metadata(top, found, {}, stop=Event())
        self.assertEqual(os.getxattr(os.path.join(top, "a"), owner), b"12:34:040755")
        self.assertEqual(read_metadata(top, [b"a", b"a/b"]), found)

    @settings(max_examples=30)
    @given(
        st.dictionaries(
            st.binary(min_size=1).filter(lambda path: b"\0" not in path),
            st.none()
            | st.builds(
                DirectoryMetadata,
                st.integers(0, 2**32),
                st.integers(0, 2**32),
                st.integers(0, 0o7777),
                st.integers(-(2**62), 2**62),
                st.lists(st.tuples(st.text(), st.binary()), unique_by=lambda x: x[0]).map(tuple),
            ),
        )
    )
    def test_json(self, wanted: dict[bytes, DirectoryMetadata | None]) -> None:
        """
        Attributes of any path go to JSON and back.
        """
        self.assertEqual(metadata_from_json(metadata_to_json(wanted)), wanted)

    def test_key(self) -> None:
        """
        The key depends on all attributes, and not on the order of paths.
        """
        some = DirectoryMetadata(0, 0, 0o755, 5, (("user.a", b"b"),))
        wanted: MetadataByPath = {b"a": some, b"b": None}
        self.assertEqual(variant_key(wanted), variant_key(dict(reversed(list(wanted.items())))))
        others: list[MetadataByPath] = [
            {b"a": some},
            {b"a": None, b"b": some},
            {**wanted, b"a": evolve(some, uid=1)},
            {**wanted, b"a": evolve(some, gid=1)},
            {**wanted, b"a": evolve(some, mode=1)},
            {**wanted, b"a": evolve(some, mtime=1)},
            {**wanted, b"a": evolve(some, xattrs=())},
        ]
        self.assertEqual(len({variant_key(each) for each in (wanted, *others)}), len(others) + 1)
        self.assertRegex(variant_key(wanted), "^[0-9a-f]{16}$")
