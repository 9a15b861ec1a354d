"""
Tests for L{xferd.store.integrity.integrity}.
"""

from __future__ import annotations

import os

from twisted.internet.defer import CancelledError
from zope.interface.verify import verifyObject

from tests.store.conformance.base import DATA, DIGEST
from tests.store.support import StoreTestCase
from xferd.interfaces.integrity import Damage, IIntegrity, IPace

NAME = f"content/blobs/{DIGEST.algorithm}/{DIGEST.hex}"


class IntegrityTests(StoreTestCase):
    """
    A store with one blob.
    """

    def setUp(self) -> None:
        """
        Put it there.
        """
        super().setUp()
        self.successResultOf(self.store.blobs.put(DIGEST, DATA))
        self.file = self.store.blobs.path(DIGEST)

    def flip(self) -> None:
        """
        Damage it.
        """
        with open(self.file, "r+b") as file:
            file.write(b"?")

    def test_interfaces(self) -> None:
        """
        Each object provides its Interface.
        """
        verifyObject(IIntegrity, self.store.integrity)
        verifyObject(IPace, self.store.integrity.pace())

    def test_checked(self) -> None:
        """
        A blob is whole until it is damaged; the damage has its path in the store.
        """
        integrity = self.store.integrity
        self.assertIsNone(self.successResultOf(integrity.check_blob(DIGEST, len(DATA), integrity.pace())))
        self.flip()
        damage = self.successResultOf(integrity.check_blob(DIGEST, len(DATA), integrity.pace()))
        assert isinstance(damage, Damage)
        self.assertEqual(damage.path, NAME)
        self.assertIn("has the digest", damage.problem)

    def test_cancelled(self) -> None:
        """
        A check that is cancelled before its thread begins reads nothing; one whose result
        is on its way is cancelled, too.
        """
        for pool in self.pools.made:
            pool.held = True
        checking = self.store.integrity.check_blob(DIGEST, None, self.store.integrity.pace())
        checking.cancel()
        self.assertNoResult(checking)
        for pool in self.pools.made:
            pool.release()
        self.failureResultOf(checking, CancelledError)

    def test_lease(self) -> None:
        """
        While a lease is held, the garbage collector keeps what is being checked.
        """
        release = self.store.gc.lease()
        self.successResultOf(self.store.integrity.check_blob(DIGEST, None, self.store.integrity.pace()))
        self.successResultOf(self.store.gc.collect())
        self.assertTrue(os.path.exists(self.file))
        release()
        self.successResultOf(self.store.gc.collect())
        self.assertFalse(os.path.exists(self.file))

    def test_quarantine(self) -> None:
        """
        A damaged blob is moved away and kept, each time under a name of its own, also over
        restarts and collections; the store can get another one.
        """
        for number in (1, 2, 3):
            self.flip()
            moved = self.successResultOf(self.store.integrity.quarantine_blob(DIGEST))
            suffix = "" if number == 1 else f"-{number}"
            name = f"blob-{DIGEST.algorithm}-{DIGEST.hex}{suffix}"
            self.assertEqual(moved, os.path.join(self.store.path, "quarantine", name))
            self.assertFalse(self.store.blobs.has(DIGEST))
            self.successResultOf(self.store.blobs.put(DIGEST, DATA))
        self.reopen()
        self.successResultOf(self.store.gc.collect())
        self.assertEqual(len(os.listdir(os.path.join(self.path, "quarantine"))), 3)
        self.assertEqual(os.stat(os.path.join(self.path, "quarantine")).st_mode & 0o777, 0o700)

    def test_nothing_to_move(self) -> None:
        """
        A blob that is missing is not moved.
        """
        os.unlink(self.file)
        self.assertIsNone(self.successResultOf(self.store.integrity.quarantine_blob(DIGEST)))
