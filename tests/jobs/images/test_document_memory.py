"""
Tests for L{xferd.jobs.images.document_memory}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from xferd.jobs.images.document_memory import DocumentMemory, MemoryShare


class DocumentMemoryTests(SynchronousTestCase):
    """
    Copies that share 100 bytes, of which each has 10 for free.
    """

    def setUp(self) -> None:
        """
        Let some copies begin.
        """
        self.memory = DocumentMemory(100, 10)
        self.one, self.two, self.three = (self.memory.share() for _ in range(3))

    def taken(self, share: MemoryShare, size: int) -> None:
        """
        Take memory that is free.
        """
        self.successResultOf(share.take(size))

    def waits(self, share: MemoryShare, size: int) -> Deferred[None]:
        """
        Request memory that is not available.
        """
        waiting = share.take(size)
        self.assertNoResult(waiting)
        return waiting

    def test_limit(self) -> None:
        """
        All may take as much as there is, and one byte more has to wait until
        another copy has ended.
        """
        self.taken(self.one, 60)
        self.taken(self.two, 60)
        self.assertEqual(self.memory.used, 100)
        waiting = self.waits(self.two, 1)
        self.one.release()
        self.successResultOf(waiting)
        self.assertEqual(self.memory.used, 51)

    def test_small(self) -> None:
        """
        A small copy never waits for the memory of others.
        """
        self.taken(self.one, 110)
        waiting = self.waits(self.two, 50)
        self.taken(self.three, 4)
        self.taken(self.three, 6)
        self.assertNoResult(waiting)

    def test_oldest(self) -> None:
        """
        Copies that have begun and need more do not wait for one another: the
        oldest continues.
        """
        self.taken(self.one, 60)
        self.taken(self.two, 60)
        waiting = self.waits(self.two, 30)
        self.taken(self.one, 70)
        self.one.release()
        self.successResultOf(waiting)
        self.taken(self.two, 70)

    def test_in_order(self) -> None:
        """
        A later request does not go first, though it would fit.
        """
        self.taken(self.one, 80)
        first = self.waits(self.two, 60)
        second = self.waits(self.three, 30)
        self.one.release()
        self.successResultOf(first)
        self.successResultOf(second)

    def test_behind(self) -> None:
        """
        A request waits for the first in the queue, where that does not fit
        yet.
        """
        four = self.memory.share()
        self.taken(self.one, 60)
        self.taken(self.two, 50)
        first, second = self.waits(self.three, 60), self.waits(four, 20)
        self.two.release()
        self.successResultOf(first)
        self.assertNoResult(second)
        self.three.release()
        self.successResultOf(second)

    def test_cancelled(self) -> None:
        """
        A wait that is cancelled ends, and the memory that it held is available
        to others.
        """
        self.taken(self.one, 110)
        first, second = self.waits(self.two, 50), self.waits(self.three, 20)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.two.release()
        self.assertNoResult(second)
        self.one.release()
        self.one.release()
        self.successResultOf(second)
        self.three.release()
        self.assertEqual(self.memory.used, 0)
