"""
Tests for L{xferd.store.leases}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.names import Digest
from xferd.store.leases import Uses

A, B, C = (Digest.of(text) for text in (b"a", b"b", b"c"))


class UsesTests(SynchronousTestCase):
    """
    What is in use.
    """

    def setUp(self) -> None:
        """
        Nobody uses anything.
        """
        self.uses = Uses()

    def used(self) -> list[Digest]:
        """
        What is in use now.
        """
        return [digest for digest in (A, B, C) if digest in self.uses]

    def test_nobody(self) -> None:
        """
        What is asked for by nobody in particular is not in use.
        """
        self.uses.touch(A)
        self.uses.begin()
        self.assertEqual(self.used(), [])

    def test_until_the_end(self) -> None:
        """
        What was touched is in use until the use ends; it ends once.
        """
        end = self.uses.begin()
        self.uses.touch(A, B)
        self.assertEqual(self.used(), [A, B])
        for _ in range(2):
            end()
            self.assertEqual(self.used(), [])

    def test_the_oldest(self) -> None:
        """
        What was touched since the oldest use began stays in use, whoever
        touched it; what was touched only before is not.
        """
        first = self.uses.begin()
        self.uses.touch(A, B)
        second = self.uses.begin()
        self.uses.touch(B, C)
        first()
        self.assertEqual(self.used(), [B, C])
        third = self.uses.begin()
        third()
        self.assertEqual(self.used(), [B, C])
        second()
        self.assertEqual(self.used(), [])

    def test_touched_again(self) -> None:
        """
        It is the last touch that counts.
        """
        first, second = self.uses.begin(), self.uses.begin()
        self.uses.touch(A)
        third = self.uses.begin()
        self.uses.touch(A)
        first()
        second()
        self.assertEqual(self.used(), [A])
        third()
        self.assertEqual(self.used(), [])
