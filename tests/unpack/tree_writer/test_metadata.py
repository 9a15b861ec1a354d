"""
Tests for L{xferd.unpack.metadata}: owners, devices and xattrs, as root and as
another user.
"""

from __future__ import annotations

import os
import stat
from typing import Any

from tests.unpack.tars import (
    END,
    IS_ROOT,
    LIMITS,
    NOBODY,
    file,
    folder,
    header,
    in_child,
    listing,
    make,
    pax,
    symlink,
)
from tests.unpack.tree_writer.case import TreeCase
from xferd.interfaces.unpack import UnpackLimits
from xferd.unpack.rights import Rights

CAPABILITY = b"\x01\0\0\x02\0\x20\0\0" + bytes(12)


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
        # A setgid directory gives its group to new entries, but not here.
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


class NamespaceTests(TreeCase):
    """
    Trees for a user namespace.
    """

    if not IS_ROOT:
        skip = "only root has several users"

    def make(self, *parts: bytes, limits: UnpackLimits = LIMITS) -> tuple[int, tuple[bytes, ...]]:
        """
        Make the tree.
        """
        size, implied = make(self.path, b"".join(parts) + END, limits, rights=Rights.NAMESPACE)
        return size, implied

    def test_owners(self) -> None:
        """
        Files have their owners and modes; no xattr has them.
        """
        self.make(
            folder(b"d", mode=0o2755, uid=7, gid=8),
            file(b"d/f", b"x", mode=0o6755, uid=7, gid=8),
            header(b"p", b"6", uid=7, gid=8),
            symlink(b"s", b"p"),
        )
        found = listing(self.path)
        self.assertEqual([found[n][1:4] for n in ("d", "d/f")], [(0o2755, 7, 8), (0o6755, 7, 8)])
        self.assertEqual((found["p"][2:4], found["s"][2:4]), ((7, 8), (0, 0)))
        self.assertEqual(os.listxattr(self.at("d/f")), [])

    def test_devices(self) -> None:
        """
        Devices are left out.
        """
        self.make(header(b"n", b"3", device=(1, 3)), header(b"b", b"4", device=(8, 1)), file(b"f"))
        self.assertEqual(list(listing(self.path)), ["f"])

    def test_overlay(self) -> None:
        """
        What overlayfs reads is in the form for a user namespace.
        """
        self.make(file(b"d/.wh..wh..opq"), file(b".wh.gone"))
        self.assertEqual(os.getxattr(self.at("d"), "user.overlay.opaque"), b"y")
        gone = os.lstat(self.at("gone"))
        self.assertEqual((stat.S_ISCHR(gone.st_mode), gone.st_rdev), (True, 0))


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
        A device replaces any other entry.
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
