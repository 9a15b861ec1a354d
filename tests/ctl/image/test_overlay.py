# -*- test-case-name: tests.ctl.image.test_overlay -*-
"""
Tests for L{xferd.ctl.image.overlay}: mounts of layers.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any
from unittest import SkipTest

from tests.ctl.image.case import UnpackCase
from xferd.ctl.commands import unpack as unpack_command
from xferd.ctl.image import overlay, unpack
from xferd.ctl.image.overlay import CannotMount
from xferd.unpack.rights import Rights, own_rights


class MountTests(UnpackCase):
    """
    C{xferctl unpack} and C{bundle} with C{--mount}.
    """

    def setUp(self) -> None:
        """
        Skip without an overlayfs.
        """
        super().setUp()
        if own_rights() is not Rights.ROOT or "overlay" not in Path("/proc/filesystems").read_text():
            raise SkipTest("needs root and overlayfs")

    def test_unpack(self) -> None:
        """
        The layers are mounted; changes go to another directory, and stay after umount.
        """
        outcome = self.ctl("unpack", "--mount")
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertIn(f"2 layers mounted; unmount with 'umount {self.target}'", outcome.out)
        with self.unmounting(self.target):
            self.assertEqual(sorted(os.listdir(self.target / "etc")), ["file0", "file1", "passwd"])
            self.assertEqual(stat.S_IMODE(self.target.stat().st_mode), 0o751)
            self.assertEqual(self.target.stat().st_mtime_ns, self.trees[1].stat().st_mtime_ns)
            (self.target / "etc/new").write_text("new")
        self.assertEqual(os.listdir(self.target), [])
        self.assertTrue((self.place / "target.overlay/upper/etc/new").is_file())
        self.assertFalse((self.trees[1] / "etc/new").exists())
        self.assertIn(
            "target.overlay holds the changes of an earlier mount", self.refused("unpack", "--mount")
        )

    def test_read_only(self) -> None:
        """
        A read-only mount refuses changes and has no directory for them, also with a single
        layer.
        """
        for trees in (self.trees, self.trees[:1]):
            self.image(trees=[str(tree) for tree in trees])
            self.assertEqual(self.ctl("unpack", "--mount", "--read-only").status, 0)
            with self.unmounting(self.target):
                self.assertEqual(len(os.listdir(self.target / "etc")), len(trees) + 1)
                self.assertRaises(OSError, (self.target / "x").touch)
            self.assertEqual(sorted(os.listdir(self.place)), ["store", "target"])

    def test_opaque_root(self) -> None:
        """
        An opaque layer hides all layers below, though the kernel ignores the attribute of a
        layer's root.
        """
        os.setxattr(self.trees[1], "trusted.overlay.opaque", b"y")
        for read_only in ((), ("--read-only",)):
            self.assertEqual(self.ctl("unpack", "--mount", *read_only).status, 0)
            with self.unmounting(self.target):
                self.assertEqual(os.listdir(self.target), os.listdir(self.trees[1]))
            shutil.rmtree(self.place / "target.overlay", ignore_errors=True)

    def test_bundle(self) -> None:
        """
        A bundle has its layers mounted inside, and gets its name when it is complete.
        """
        outcome = self.ctl("bundle", "--mount")
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertIn(f"unmount with 'umount {self.target}/rootfs'", outcome.out)
        with self.unmounting(self.target / "rootfs"):
            self.assertTrue((self.target / "rootfs/etc/passwd").is_file())
            self.assertTrue((self.target / "config.json").is_file())
        self.assertEqual(sorted(os.listdir(self.target)), ["config.json", "overlay", "rootfs"])

    def test_bundle_refused(self) -> None:
        """
        A failure after the mount unmounts the layers.
        """
        self.image({"Cmd": ["sh"], "User": "nobody"})
        self.assertIn("user 'nobody'", self.refused("bundle", "--mount"))
        self.assertEqual(self.mounted(), [])

    def test_many_layers(self) -> None:
        """
        Hundreds of layers with long paths can be mounted, though the kernel limits the options
        to one page; more layers are refused.
        """
        tree = self.place / ("long," * 40) / ":" / "diff"
        tree.mkdir(parents=True)
        (tree / "from-many").touch()
        names = []
        for number in range(300):
            names.append(self.place / "store" / f"x{number}" / "diff")
            shutil.copytree(tree, names[-1])
        self.image(trees=[str(tree), *map(str, names)])
        self.assertEqual(self.ctl("unpack", "--mount").status, 0)
        with self.unmounting(self.target):
            self.assertEqual(os.listdir(self.target), ["from-many"])
        shutil.rmtree(self.place / "target.overlay")
        self.image(trees=[str(tree)] * 501)
        self.assertIn("has 501 layers", self.refused("unpack", "--mount"))
        self.image(trees=[])
        self.assertIn("has 0 layers", self.refused("unpack", "--mount"))

    def test_kernel_refuses(self) -> None:
        """
        A mount that the kernel refuses leaves nothing.
        """
        self.image(trees=[str(self.trees[0]), str(self.trees[0])])
        said = self.refused("unpack", "--mount")
        self.assertIn("the kernel refuses to mount the layers", said)
        self.assertIn("omit --mount to copy", said)
        self.refused("bundle", "--mount")

    def test_changes_refused(self) -> None:
        """
        A directory that cannot be written leaves nothing.
        """

        def refuse(*_: object, **__: object) -> None:
            raise OSError(30, "Read-only file system")

        self.patch(unpack, "mount", refuse)
        self.assertIn(f"cannot make {self.target}: Read-only", self.refused("unpack", "--mount"))

    def test_mount_point(self) -> None:
        """
        A mount point is refused.
        """
        self.target.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", self.target], check=True)
        with self.unmounting(self.target):
            self.assertIn("is a mount point", self.refused("unpack"))

    def test_others_directory(self) -> None:
        """
        Nothing is mounted in a directory of another user, who could exchange the checked
        directory for a link.
        """
        for owner, mode in ((65534, 0o755), (0, 0o777)):
            os.chown(self.place, owner, -1)
            self.place.chmod(mode)
            for command in ("unpack", "bundle"):
                self.assertIn("could redirect the mount", self.refused(command, "--mount"))
        self.assertEqual(self.mounted(), [])

    def test_others_place(self) -> None:
        """
        Nothing is mounted over a directory that another user can write to: the mount of a
        single layer would show its files.
        """
        self.target.mkdir()
        for owner, mode in ((65534, 0o755), (0, 0o1777)):
            os.chown(self.target, owner, -1)
            self.target.chmod(mode)
            self.assertIn("could redirect the mount", self.refused("unpack", "--mount"))
        self.assertEqual(self.mounted(), [])

    def test_exchanged(self) -> None:
        """
        The mount is on the checked directory, also if it was exchanged.
        """
        self.target.mkdir(mode=0o755)
        victim, away = self.place / "victim", self.place / "away"
        victim.mkdir()
        mount = overlay.mount

        def exchange(*what: Any, **how: Any) -> None:
            self.target.rename(away)
            self.target.symlink_to(victim)
            mount(*what, **how)

        self.patch(unpack, "mount", exchange)
        self.assertEqual(self.ctl("unpack", "--mount", "--read-only").status, 0)
        with self.unmounting(away):
            self.assertEqual(os.listdir(victim), [])
            self.assertIn("etc", os.listdir(away))

    def test_filled(self) -> None:
        """
        A directory that is no longer empty is refused.
        """
        self.target.mkdir(mode=0o755)
        self.patch(unpack_command, "check_free", lambda directory: directory)
        (self.target / "mine").touch()
        self.assertIn("is not empty", self.refused("unpack", "--mount"))

    def test_kept(self) -> None:
        """
        Layers of a daemon that does not run as root cannot be mounted: their owners would be
        wrong.
        """
        os.chown(self.trees[0].parent, 1000, 1000)
        self.assertIn("does not run as root", self.refused("unpack", "--mount"))


class CheckTests(UnpackCase):
    """
    Tests for L{overlay.check_mountable} that need no root.
    """

    def test_not_root(self) -> None:
        """
        Only root can mount.
        """
        self.patch(os, "geteuid", lambda: 1000)
        error = self.assertRaises(CannotMount, overlay.check_mountable, [str(self.trees[0])])
        self.assertIn("only root can mount", str(error))
