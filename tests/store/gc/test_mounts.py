"""
Tests for L{xferd.store.gc.mounts}.
"""

from __future__ import annotations

import os

from tests.store.gc.processes import ProcessesCase
from xferd.errors import StoreError
from xferd.names import Digest
from xferd.store.gc.mounts import Mounts, find_mounts
from xferd.store.paths import Paths, tree_name

TREE, OTHER, CHAIN = (Digest.of(text) for text in (b"tree", b"other", b"chain"))
NAME, VARIANT = tree_name(TREE), tree_name(TREE, "0123456789abcdef")
LONG = Digest("sha512", "ab" * 64)


class MountsTests(ProcessesCase):
    """
    What C{mountinfo} shows of mounted trees.
    """

    def setUp(self) -> None:
        """
        Make a data directory.
        """
        super().setUp()
        self.paths = Paths(os.path.abspath(self.mktemp()))
        for name in (NAME, VARIANT, tree_name(OTHER)):
            os.makedirs(os.path.join(self.paths.tree(name), "diff"))

    def link(self, target: str, *path: str) -> None:
        """
        Make a link in the data directory.
        """
        link = os.path.join(self.paths.root, *path)
        os.makedirs(os.path.dirname(link), exist_ok=True)
        os.symlink(target, link)

    def find(self) -> Mounts:
        """
        Look.
        """
        return find_mounts(self.paths, self.processes)

    def assert_found(self, options: str, *names: str) -> None:
        """
        An overlay with these options uses these trees of the data directory, and
        perhaps others that do not exist.
        """
        number = str(len(os.listdir(self.processes)))
        before = self.find().trees
        self.process(number, f"overlay none rw,{options}")
        found = self.find().trees - before
        self.assertEqual({name for name in found if os.path.isdir(self.paths.tree(name))}, {*names})

    def test_paths(self) -> None:
        """
        Trees are found by their paths, under the present name and the earlier one,
        among others, and also in options that are escaped.
        """
        root = "/da\\040ta/a\\134:b"
        self.assert_found(
            f"lowerdir={root}/trees/{VARIANT}/fs:/other:{root}/trees/{NAME}/diff,upperdir=/u", NAME, VARIANT
        )
        self.assert_found(f"lowerdir+=/x,lowerdir+=/y/trees/{tree_name(OTHER)}/fs", tree_name(OTHER))
        self.process("77", f"overlay none rw,lowerdir=a:/y/trees/{tree_name(LONG)}/diff::/z")
        self.assertIn(tree_name(LONG), self.find().trees)

    def test_other_overlays(self) -> None:
        """
        What only resembles a tree does not count: upper directories, names of another
        form, other file systems.
        """
        for options in (
            f"lowerdir=/x,upperdir=/trees/{NAME}/diff,workdir=/trees/{NAME}/fs",
            f"lowerdir=/trees/{NAME}/work:/trees/{NAME}:diff:l/x:::/::,xino=off",
            f"lowerdir=/trees/sha256/{TREE.hex[1:]}/diff:/trees/sha256/{TREE.hex}.1/diff",
            "lowerdir=",
        ):
            self.assert_found(options)
        self.process("88", f"ext4 /x/trees/{NAME}/diff rw", "overlay xferd:sha256:abc rw", "fuse.a /trees/")
        self.assertEqual(self.find().chains, frozenset())

    def test_common_directory(self) -> None:
        """
        containerd mounts from within the common directory of the lower ones.
        """
        self.assert_found(
            f"lowerdir={TREE.hex}.0123456789abcdef/diff:{OTHER.hex}/diff", VARIANT, tree_name(OTHER)
        )

    def test_snapshotter(self) -> None:
        """
        The short names of a snapshotter are resolved, with absolute paths, from
        within the data directory, and in a clone with mapped owners.
        """
        self.link(f"../../../trees/{VARIANT}/diff", "engines", "main", "l", "17")
        self.link(f"../../../trees/{tree_name(OTHER)}/diff", "engines", "main", "l", "18")
        self.assert_found(f"lowerdir={self.paths.root}/engines/main/l/17", VARIANT)
        self.assert_found(f"lowerdir=engines/main/l/18:trees/{NAME}/diff", tree_name(OTHER), NAME)
        self.processes = self.mktemp()
        self.process("self")
        self.assert_found("lowerdir=/tmp/ovl-idmapped1/engines/main/l/17", VARIANT)

    def test_containers_storage(self) -> None:
        """
        The links of a containers-storage view are resolved, under whatever path
        the view or a clone of it was mounted.
        """
        for identity, name, link in (("1" * 64, VARIANT, "A" * 26), (OTHER.hex, NAME, "B" * 26)):
            self.link(name, "trees", identity)
            self.link(f"../{identity}/diff", "trees", "l", link)
        self.link(self.paths.trees, "view", "overlay")
        self.assert_found(f"lowerdir=/view/overlay/l/{'A' * 26}:/graph/overlay/l/{'C' * 26}", VARIANT)
        self.assert_found(f"lowerdir=/graph/overlay/7/mapped/0/l/{'B' * 26}", NAME)
        self.processes = self.mktemp()
        self.process("self")
        self.assert_found(f"lowerdir=l/{'B' * 26}:l/{'A' * 26}", NAME, VARIANT)
        self.processes = self.mktemp()
        self.process("self")
        # The ID of a layer may be the digest of another tree.
        self.assert_found(f"lowerdir=/view/overlay/{OTHER.hex}/diff", NAME, tree_name(OTHER))
        self.assert_found(f"lowerdir=/view/overlay/{'1' * 64}/diff", VARIANT)

    def test_links_that_lead_elsewhere(self) -> None:
        """
        A link that leads out of the trees, in circles or nowhere finds nothing.
        """
        outside = os.path.abspath(self.mktemp())
        os.makedirs(os.path.join(outside, NAME, "diff"))
        for number, target in enumerate((f"{outside}/{NAME}/diff", "2", "1", "/", "..", "nothing")):
            self.link(target, "trees", "l", str(number))
            self.assert_found(f"lowerdir=l/{number}")

    def test_linked_data_directory(self) -> None:
        """
        The data directory may be reached by a link.
        """
        self.link(f"../{NAME}/diff", "trees", "l", "A" * 26)
        link = os.path.abspath(self.mktemp())
        os.symlink(self.paths.root, link)
        self.paths = Paths(link)
        self.assert_found(f"lowerdir=/x/l/{'A' * 26}", NAME)

    def test_bound(self) -> None:
        """
        A tree that is mounted without an overlay, as a whole or in part, is found
        by what the mount shows of its file system.
        """
        self.process("20", "ext4 /dev/sda1 rw", root=f"/lib/xferd/trees/{NAME}/diff")
        self.process("21", "tmpfs tmpfs rw", root=f"/trees/{VARIANT}/fs/usr/lib")
        self.process("22", "tmpfs tmpfs rw", root=f"/trees/{tree_name(OTHER)}/different")
        self.assertEqual(self.find().trees, {NAME, VARIANT})

    def test_namespaces(self) -> None:
        """
        Every mount namespace that can be seen is read, once; C{xferctl}'s mounts
        name their chain.
        """
        self.process("12", f"overlay xferd:{CHAIN} rw,lowerdir=5:6,upperdir=7")
        self.process("13", f"overlay none rw,lowerdir=/trees/{NAME}/diff", namespace="self")
        os.mkdir(os.path.join(self.processes, "14"))
        self.assertEqual(self.find(), Mounts(frozenset(), frozenset({CHAIN})))

    def test_no_mounts(self) -> None:
        """
        If the mounts of this process cannot be read, the search fails.
        """
        self.processes = self.mktemp()
        os.mkdir(self.processes)
        self.assertIn("mounted", str(self.assertRaises(StoreError, self.find)))
