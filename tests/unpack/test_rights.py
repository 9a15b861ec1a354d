"""
Tests for L{xferd.unpack.rights}.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.unpack.tars import IS_ROOT, NOBODY, in_child
from xferd.unpack.rights import AS_ROOT, IN_NAMESPACE, Rights, own_rights

ALL = "0 0 4294967295"
SOME = "0 1000 1\n1 100000 65536"
ONE = "0 1000 1"
CHROOT = 1 << 18


class OwnRightsTests(SynchronousTestCase):
    """
    The rights of a process.
    """

    if not IS_ROOT:
        skip = "only root has rights that can be missing"

    def rights(self, capabilities: int, users: str, groups: str | None = None) -> Rights:
        """
        The rights of root with some capabilities, in a namespace with these users and groups.
        """
        place = Path(self.mktemp())
        (place / "self").mkdir(parents=True)
        (place / "self" / "status").write_text(f"Name:\tx\nCapPrm:\t0\nCapEff:\t{capabilities:016x}\n")
        (place / "self" / "uid_map").write_text(f"{users}\n")
        (place / "self" / "gid_map").write_text(f"{users if groups is None else groups}\n")
        return own_rights(str(place))

    def test_root(self) -> None:
        """
        Root has all rights; without one of the capabilities, as in a container, none.
        """
        self.assertEqual(self.rights(AS_ROOT | CHROOT, ALL), Rights.ROOT)
        for bit in (0, 21, 27, 18):
            self.assertEqual(self.rights((AS_ROOT | CHROOT) & ~(1 << bit), ALL), Rights.NONE, bit)

    def test_namespace(self) -> None:
        """
        Root of a user namespace can set the owners that it has, if these are several.
        """
        for capabilities in (IN_NAMESPACE, AS_ROOT | CHROOT):
            self.assertEqual(self.rights(capabilities, SOME), Rights.NAMESPACE)
            self.assertEqual(self.rights(capabilities, ONE), Rights.NONE)
            self.assertEqual(self.rights(capabilities, SOME, ONE), Rights.NONE)
        for bit in (0, 1, 3, 4, 31):
            self.assertEqual(self.rights(IN_NAMESPACE & ~(1 << bit), SOME), Rights.NONE, bit)

    def test_user(self) -> None:
        """
        Another user has none.
        """
        self.assertIs(in_child(lambda: own_rights() is Rights.NONE, NOBODY), True)

    def test_here(self) -> None:
        """
        The tests run as root, with a map of users that can be read.
        """
        self.assertEqual(os.geteuid(), 0)
        self.assertIn(own_rights(), Rights)
