"""
Tests for L{xferd.store.leases}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.names import Digest
from xferd.store.leases import Leases

A, B, C = (Digest.of(text) for text in (b"a", b"b", b"c"))


class LeasesTests(SynchronousTestCase):
    """
    The digests that leases keep.
    """

    def setUp(self) -> None:
        """
        Make leases, of which none is held.
        """
        self.leases = Leases()

    def used(self) -> list[Digest]:
        """
        The digests in use now.
        """
        return [digest for digest in (A, B, C) if digest in self.leases]

    def test_nobody(self) -> None:
        """
        Digests that are touched without a lease are not in use.
        """
        self.leases.touch(A)
        self.leases.acquire()
        self.assertEqual(self.used(), [])

    def test_until_the_end(self) -> None:
        """
        Touched digests are in use until the lease is released; releasing is
        idempotent.
        """
        end = self.leases.acquire()
        self.leases.touch(A, B)
        self.assertEqual(self.used(), [A, B])
        for _ in range(2):
            end()
            self.assertEqual(self.used(), [])

    def test_the_oldest(self) -> None:
        """
        Digests that were touched since the oldest held lease was acquired stay
        in use; those touched only before do not.
        """
        first = self.leases.acquire()
        self.leases.touch(A, B)
        second = self.leases.acquire()
        self.leases.touch(B, C)
        first()
        self.assertEqual(self.used(), [B, C])
        third = self.leases.acquire()
        third()
        self.assertEqual(self.used(), [B, C])
        second()
        self.assertEqual(self.used(), [])

    def test_touched_again(self) -> None:
        """
        It is the last touch that counts.
        """
        first, second = self.leases.acquire(), self.leases.acquire()
        self.leases.touch(A)
        third = self.leases.acquire()
        self.leases.touch(A)
        first()
        second()
        self.assertEqual(self.used(), [A])
        third()
        self.assertEqual(self.used(), [])
