"""
Tests for L{xferd.fleet.etcd.batches}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import CoordinationUnavailable
from xferd.fleet.etcd.batches import BATCH_SECONDS, MAX_OPERATIONS, Batches


class BatchTests(SynchronousTestCase):
    """
    Operations that are sent together.
    """

    def setUp(self) -> None:
        """
        Make a server that answers when it is told to.
        """
        self.clock = Clock()
        self.sent: list[tuple[list[Any], Deferred[Any]]] = []
        self.batches = Batches(self.clock, self.call)

    async def call(self, path: str, message: dict[str, Any]) -> dict[str, Any]:
        """
        Note a transaction.
        """
        self.assertEqual("/v3/kv/txn", path)
        answer: Deferred[Any] = Deferred()
        self.sent.append((message["success"], answer))
        found: dict[str, Any] = await answer
        return found

    def sizes(self) -> list[int]:
        """
        The operations in each transaction.
        """
        return [len(operations) for operations, _ in self.sent]

    def answer(self, n: int) -> None:
        """
        Answer a transaction with its own operations.
        """
        operations, answer = self.sent[n]
        answer.callback({"responses": operations})

    def test_together(self) -> None:
        """
        Operations of ten milliseconds are one transaction; each gets its own response.
        """
        results = [self.batches.add({"n": n}) for n in range(3)]
        self.assertEqual([], self.sizes())
        self.clock.advance(BATCH_SECONDS)
        self.assertEqual([3], self.sizes())
        late = self.batches.add({"n": 3})
        self.answer(0)
        self.assertEqual([{"n": 0}, {"n": 1}, {"n": 2}], [self.successResultOf(each) for each in results])
        self.clock.advance(BATCH_SECONDS)
        self.answer(1)
        self.assertEqual({"n": 3}, self.successResultOf(late))

    def test_many(self) -> None:
        """
        More operations than etcd accepts are several transactions.
        """
        for n in range(2 * MAX_OPERATIONS + 1):
            _ = self.batches.add({"n": n})
        self.assertEqual([MAX_OPERATIONS] * 2, self.sizes())
        self.clock.advance(BATCH_SECONDS)
        self.assertEqual([MAX_OPERATIONS] * 2 + [1], self.sizes())

    def test_same_key(self) -> None:
        """
        Operations that write one key are sent one after the other, in their order, also
        when the first one fails.
        """
        results = [self.batches.add({"n": n}, writes="k") for n in range(3)]
        self.clock.advance(BATCH_SECONDS)
        self.assertEqual([1], self.sizes())
        self.answer(0)
        self.assertEqual([1, 1], self.sizes())
        self.sent[1][1].errback(CoordinationUnavailable("no"))
        self.failureResultOf(results[1], CoordinationUnavailable)
        self.answer(2)
        self.assertEqual({"n": 2}, self.successResultOf(results[2]))

    def test_failed(self) -> None:
        """
        When a transaction fails, or has the wrong number of responses, all its operations fail.
        """
        results = [self.batches.add({"n": n}) for n in range(2)]
        self.clock.advance(BATCH_SECONDS)
        self.sent[0][1].callback({"responses": [{}]})
        for each in results:
            self.failureResultOf(each, CoordinationUnavailable)

    def test_stopped(self) -> None:
        """
        Operations without a response fail when the batches stop.
        """
        late = self.batches.add({"n": 0})
        self.clock.advance(BATCH_SECONDS)
        early = self.batches.add({"n": 1})
        self.batches.stop()
        self.failureResultOf(late, CancelledError)
        self.failureResultOf(early, CoordinationUnavailable)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_cancelled(self) -> None:
        """
        An operation whose wait was cancelled is sent nevertheless, early and late.
        """
        early = self.batches.add({"n": 0})
        late = self.batches.add({"n": 1})
        early.cancel()
        self.clock.advance(BATCH_SECONDS)
        late.cancel()
        self.answer(0)
        for each in (early, late):
            self.failureResultOf(each, CancelledError)
        self.assertEqual([2], self.sizes())
