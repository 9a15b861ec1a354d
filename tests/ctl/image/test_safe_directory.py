"""
Tests for L{xferd.ctl.image.safe_directory}.
"""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path
from tempfile import mkdtemp
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.image.safe_directory import FOLDER, CannotUse, check_own, is_at, opened, path_of
from xferd.unpack.rights import Rights, own_rights

NOBODY = 65534


class PlacesCase(SynchronousTestCase):
    """
    A directory that only this user can change, with C{a/b/c} below it.
    """

    def setUp(self) -> None:
        """
        Make the directories, in one that others can read but not change.
        """
        self.top = Path(mkdtemp(prefix="xferd-places-")).resolve()
        self.addCleanup(shutil.rmtree, self.top)
        self.top.chmod(0o755)
        self.place = self.top / "a/b/c"
        self.place.mkdir(parents=True)
        for path in (self.top / "a", self.top / "a/b", self.place):
            path.chmod(0o755)

    def refused(self, *, own: bool) -> str:
        """
        The directory is refused; return the reason.
        """
        with self.assertRaises(CannotUse) as caught, opened(str(self.place), own=own):
            pass
        return str(caught.exception)


class OpenedTests(PlacesCase):
    """
    Tests for L{opened}.
    """

    def test_opened(self) -> None:
        """
        The descriptor stays the directory's after a rename, and is closed at the end of the
        block.
        """
        before = set(os.listdir("/proc/self/fd"))
        with opened(str(self.place), own=True) as descriptor:
            self.assertTrue(os.path.samestat(os.fstat(descriptor), self.place.stat()))
            self.place.rename(self.top / "away")
            Path(path_of(descriptor), "made").touch()
        self.assertEqual(os.listdir(self.top / "away"), ["made"])
        self.assertEqual(set(os.listdir("/proc/self/fd")), before)

    def test_link(self) -> None:
        """
        A link is not followed, at any place in the path.
        """
        victim = self.top / "victim"
        (victim / "c").mkdir(parents=True)
        for link in (self.place, self.top / "a/b"):
            shutil.rmtree(link)
            link.symlink_to(victim)
            self.assertEqual(self.refused(own=False), f"{link} cannot be used: Not a directory")
            link.unlink()
            (self.top / "a/b/c").mkdir(parents=True)

    def test_missing(self) -> None:
        """
        A missing directory is named.
        """
        self.place.rmdir()
        self.assertEqual(self.refused(own=True), f"{self.place} cannot be used: No such file or directory")

    def test_is_at(self) -> None:
        """
        A directory is at its name until it is exchanged.
        """
        with opened(str(self.top / "a/b")) as parent, opened(str(self.place)) as descriptor:
            self.assertTrue(is_at(descriptor, "c", parent))
            self.place.rename(self.top / "away")
            self.assertFalse(is_at(descriptor, "c", parent))
            self.place.symlink_to(self.top / "away")
            self.assertFalse(is_at(descriptor, "c", parent))


class OwnTests(PlacesCase):
    """
    Tests for L{check_own}.
    """

    def test_other_users(self) -> None:
        """
        A directory of another user is refused, with all below it, if it must be the user's
        own.
        """
        if own_rights() is not Rights.ROOT:
            raise SkipTest("needs root")
        for path in (self.place, self.top / "a"):
            os.chown(path, NOBODY, -1)
            self.assertEqual(
                self.refused(own=True),
                f"{path} belongs to user {NOBODY}, which could redirect the mount; name a directory that "
                "only you and root can change, also all directories above it",
            )
            with opened(str(self.place)):
                pass
            os.chown(path, 0, -1)
        with opened(str(self.place), own=True):
            pass

    def test_writable(self) -> None:
        """
        A directory that is writable by everyone is refused, unless it is sticky like C{/tmp}:
        there users can rename their own files alone.
        """
        for path in (self.place, self.top / "a"):
            path.chmod(0o777)
            self.assertIn(f"{path} is writable by every user", self.refused(own=True))
            path.chmod(0o1777)
            with opened(str(self.place), own=True) as descriptor:
                if path == self.place:
                    self.assertRaises(CannotUse, check_own, descriptor, "x", sticky=False)
            path.chmod(0o755)

    def test_group(self) -> None:
        """
        A directory that is writable by another group is refused; the user's own group is
        allowed.
        """
        if own_rights() is not Rights.ROOT:
            raise SkipTest("needs root")
        self.place.chmod(0o775)
        with opened(str(self.place), own=True):
            pass
        os.chown(self.place, -1, 50)
        self.assertIn("is writable by group 50", self.refused(own=True))

    def test_access_control_list(self) -> None:
        """
        A directory that is writable through an access control list is refused.
        """
        entries = [(1, 7, -1), (2, 7, 1000), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
        acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
        try:
            os.setxattr(self.place, "system.posix_acl_access", acl)
        except OSError as e:
            raise SkipTest("no access control lists here") from e
        self.assertIn("is writable", self.refused(own=True))

    def test_name(self) -> None:
        """
        Control characters in a name are escaped.
        """
        odd = self.place / "a\x1b[1m"
        odd.mkdir()
        odd.chmod(0o777)
        descriptor = os.open(odd, os.O_PATH | FOLDER)
        self.addCleanup(os.close, descriptor)
        error = self.assertRaises(CannotUse, check_own, descriptor, str(odd))
        self.assertIn("a\\x1b[1m is writable", str(error))
