"""
Tests for L{xferd.store.batches}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import StoreError
from xferd.store.batches import Batches


class BatchesTests(SynchronousTestCase):
    """
    One round of work for many.
    """

    def setUp(self) -> None:
        """
        Make rounds that end when the test ends them.
        """
        self.begun: list[tuple[list[str], Deferred[None]]] = []
        self.clock = Clock()
        self.batches: Batches[str] = Batches(self.begin, self.clock)

    def tearDown(self) -> None:
        """
        No timer is left.
        """
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def begin(self, items: list[str]) -> Deferred[None]:
        """
        Begin a round.
        """
        done: Deferred[None] = Deferred()
        self.begun.append((items, done))
        return done

    def end(self, result: Failure | None = None) -> None:
        """
        End the newest round.
        """
        self.begun[-1][1].callback(result)

    def test_together(self) -> None:
        """
        Items that are added while a round is running share the next one: the
        running one may not include them.
        """
        first = self.batches.add("a")
        second, third = self.batches.add("b"), self.batches.add("c")
        self.assertEqual([items for items, _ in self.begun], [["a"]])
        self.end()
        self.successResultOf(first)
        self.assertNoResult(second)
        self.assertEqual([items for items, _ in self.begun], [["a"], ["b", "c"]])
        self.end()
        self.successResultOf(second)
        self.successResultOf(third)

    def test_lag(self) -> None:
        """
        Items that may wait begin a round together: when the first one has waited for
        long enough, or with an item that cannot wait.
        """
        waiting = [self.batches.add("a", 1.0)]
        self.clock.advance(0.9)
        waiting.append(self.batches.add("b", 1.0))
        self.assertEqual(self.begun, [])
        self.clock.advance(0.1)
        self.assertEqual([items for items, _ in self.begun], [["a", "b"]])
        waiting += [self.batches.add("c", 1.0), self.batches.add("d")]
        waiting.append(self.batches.add("e", 1.0))
        self.end()
        self.assertEqual([items for items, _ in self.begun[1:]], [["c", "d", "e"]])
        self.end()
        for done in waiting:
            self.successResultOf(done)

    def test_lag_of_a_round(self) -> None:
        """
        Items that may wait do not follow a round at once.
        """
        waiting = [self.batches.add("a"), self.batches.add("b", 1.0)]
        self.end()
        self.assertEqual(len(self.begun), 1)
        self.clock.advance(1)
        self.assertEqual([items for items, _ in self.begun], [["a"], ["b"]])
        self.end()
        for done in waiting:
            self.successResultOf(done)

    def test_drain_lag(self) -> None:
        """
        A drain waits for no lag.
        """
        waiting = self.batches.add("a", 1.0)
        drained = Deferred.fromCoroutine(self.batches.drain())
        self.assertNoResult(drained)
        self.end()
        self.successResultOf(drained)
        self.successResultOf(waiting)

    def test_failure(self) -> None:
        """
        A round that fails fails for all its items, and for no others.
        """
        waiting = [self.batches.add("a"), self.batches.add("b"), self.batches.add("c")]
        self.end(Failure(StoreError("no")))
        self.failureResultOf(waiting[0], StoreError)
        self.end(Failure(StoreError("no")))
        self.failureResultOf(waiting[1], StoreError)
        self.failureResultOf(waiting[2], StoreError)
        fine = self.batches.add("d")
        self.end()
        self.successResultOf(fine)

    def test_cancel(self) -> None:
        """
        A cancelled request waits like the others, which are not affected.
        """
        one, other = self.batches.add("a"), self.batches.add("b")
        one.cancel()
        self.assertNoResult(one)
        self.end()
        self.failureResultOf(one, CancelledError)
        self.end()
        self.successResultOf(other)

    def test_drain(self) -> None:
        """
        The end of all rounds can be waited for.
        """
        self.successResultOf(Deferred.fromCoroutine(self.batches.drain()))
        waiting = [self.batches.add("a"), self.batches.add("b")]
        drained = Deferred.fromCoroutine(self.batches.drain())
        self.end()
        self.assertNoResult(drained)
        self.end()
        self.successResultOf(drained)
        for done in waiting:
            self.successResultOf(done)

    def test_flush(self) -> None:
        """
        The rounds of all present items can be waited for, without those of later ones.
        """
        self.successResultOf(Deferred.fromCoroutine(self.batches.flush()))
        waiting = [self.batches.add("a")]
        first = Deferred.fromCoroutine(self.batches.flush())
        waiting.append(self.batches.add("b"))
        second = Deferred.fromCoroutine(self.batches.flush())
        left = Deferred.fromCoroutine(self.batches.flush())
        left.cancel()
        self.failureResultOf(left, CancelledError)
        self.end()
        self.successResultOf(first)
        self.assertNoResult(second)
        waiting.append(self.batches.add("c"))
        self.end(Failure(StoreError("no")))
        self.successResultOf(second)
        self.failureResultOf(waiting[1], StoreError)
        self.end()
        for done in (waiting[0], waiting[2]):
            self.successResultOf(done)

    def test_more_while_telling(self) -> None:
        """
        A drain also waits for items that are added by the callbacks of others.
        """
        again: list[Deferred[None]] = []
        first = self.batches.add("a").addCallback(lambda _: again.append(self.batches.add("b")))
        drained = Deferred.fromCoroutine(self.batches.drain())
        self.end()
        self.successResultOf(first)
        self.assertNoResult(drained)
        self.end()
        self.successResultOf(drained)
        self.successResultOf(again[0])
