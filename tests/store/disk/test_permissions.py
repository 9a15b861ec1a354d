"""
Tests for L{xferd.store.disk.permissions}.
"""

from __future__ import annotations

import os
import stat
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.other_user import OTHER
from tests.store.disk.test_file_system import become_nobody
from xferd.errors import StoreError
from xferd.store.disk.permissions import check_owner, close_to_others
from xferd.store.paths import Paths


class OwnershipCase(SynchronousTestCase):
    """
    A directory.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        self.path = os.path.abspath(self.mktemp())
        os.mkdir(self.path, 0o700)


class OwnerTests(OwnershipCase):
    """
    L{check_owner}.
    """

    def refused(self) -> str:
        """
        Why the directory is refused.
        """
        return str(self.assertRaises(StoreError, check_owner, self.path))

    def test_modes(self) -> None:
        """
        Others may read; they may not write, and a group may only with a sticky
        bit, which prevents it from replacing the daemon's files.
        """
        for mode in (0o700, 0o755, 0o750, 0o500, 0o2755, 0o1770, 0o1775):
            os.chmod(self.path, mode)
            check_owner(self.path)
        end = "it, choose another, or set trust_data_dir = true in [store]"
        for mode in (0o702, 0o777, 0o1777, 0o1703):
            os.chmod(self.path, mode)
            self.assertEqual(
                self.refused(),
                f"all users can write to the data directory {self.path}, whose mode is {mode:o}: "
                f"chmod o-w {end}",
            )
        group = os.stat(self.path).st_gid
        for mode in (0o720, 0o770, 0o2775):
            os.chmod(self.path, mode)
            self.assertEqual(
                self.refused(),
                f"the group {group} can write to the data directory {self.path}, whose mode is {mode:o}: "
                f"chmod g-w {end}",
            )

    def test_owners(self) -> None:
        """
        The directory is root's or the daemon's user's.
        """
        if os.geteuid() != 0:
            raise SkipTest("only root can give a directory to another user")
        os.chown(self.path, OTHER, 0)
        self.assertEqual(
            self.refused(),
            f"the data directory {self.path} belongs to user {OTHER}, who can change what is in it: "
            "chown it to root, choose another, or set trust_data_dir = true in [store]",
        )
        self.path = become_nobody(self)
        check_owner(self.path)
        check_owner("/")
        os.seteuid(0)
        os.chown(self.path, OTHER - 1, 0)
        os.chmod(self.path, 0o755)
        os.seteuid(OTHER)
        self.assertIn(
            f"belongs to user {OTHER - 1}, who can change what is in it: chown it to user {OTHER},",
            self.refused(),
        )

    def test_link(self) -> None:
        """
        A link to a directory counts as the directory.
        """
        link = f"{self.path}-link"
        os.symlink(self.path, link)
        check_owner(link)
        os.chmod(self.path, 0o777)
        self.assertRaises(StoreError, check_owner, link)


class ModeTests(OwnershipCase):
    """
    L{close_to_others}.
    """

    def test_closed(self) -> None:
        """
        Permissions of group and others are removed, and the owner's stay;
        missing files and other names are ignored.
        """
        paths = Paths(self.path)
        for directory in (paths.content, paths.trees):
            os.mkdir(directory)
            os.chmod(directory, 0o2755)
        for name in (paths.database, f"{paths.database}-wal", paths.index, f"{self.path}/notes"):
            with open(name, "w"):
                os.chmod(name, 0o664)
        self.assertEqual(close_to_others(paths), [])
        modes = {
            name: stat.S_IMODE(os.stat(name).st_mode)
            for name in (
                paths.content,
                paths.database,
                f"{paths.database}-wal",
                paths.index,
                f"{self.path}/notes",
            )
        }
        self.assertEqual(
            modes,
            {
                paths.content: 0o2700,
                paths.database: 0o600,
                f"{paths.database}-wal": 0o600,
                paths.index: 0o600,
                f"{self.path}/notes": 0o664,
            },
        )

    def test_links(self) -> None:
        """
        The target of a link keeps its mode.
        """
        other = self.mktemp()
        with open(other, "w"):
            os.chmod(other, 0o644)
        paths = Paths(self.path)
        os.symlink(os.path.abspath(other), paths.database)
        self.assertEqual(close_to_others(paths), [])
        self.assertEqual(stat.S_IMODE(os.stat(other).st_mode), 0o644)

    def test_refused(self) -> None:
        """
        Files that the daemon may not change are reported.
        """
        if os.geteuid() != 0:
            raise SkipTest("only root can give a file to another user")
        self.path = become_nobody(self)
        paths = Paths(self.path)
        os.seteuid(0)
        with open(paths.database, "w"):
            os.chmod(paths.database, 0o644)
        os.seteuid(OTHER)
        self.assertEqual(close_to_others(paths), [paths.database])
