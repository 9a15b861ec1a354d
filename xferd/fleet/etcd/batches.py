# -*- test-case-name: tests.fleet.etcd.test_batches -*-
"""
Operations on etcd, sent together: those of some milliseconds are one request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from xferd.errors import CoordinationUnavailable
from xferd.fleet.etcd.answers import bad_answer
from xferd.fleet.etcd.messages import BadAnswer, Message, responses
from xferd.transfer.eventual import Background

BATCH_SECONDS: Final = 0.01
"""Seconds for which operations are collected."""

MAX_OPERATIONS: Final = 100
"""Operations in one request at most.  etcd refuses more than 128."""


@define(eq=False)
class _Pending:
    """
    An operation that was not sent yet, or has no response yet.

    @ivar key: the key that it may write, or the empty string.
    @ivar result: fires with its response.
    """

    operation: Message
    key: str
    # Needs no canceller: an operation that was requested is sent, and a late
    # result is dropped.
    result: Deferred[Message] = field(factory=Deferred)


class Batches:
    """
    Sends operations, several in one transaction.

    Operations that write the same key take effect in their order, in transactions one after
    the other: etcd refuses two in one.
    """

    def __init__(self, clock: IReactorTime, call: Callable[[str, Message], Awaitable[Message]]) -> None:
        """
        @param call: makes a request: L{EtcdClient.call
            <xferd.fleet.etcd.client.EtcdClient.call>}.
        """
        self._clock = clock
        self._call = call
        self._queue: deque[_Pending] = deque()
        self._in_flight: set[str] = set()
        self._timer: IDelayedCall | None = None
        self._joining: list[Callable[[], object]] = []
        self._background = Background()

    def before_send(self, join: Callable[[], object]) -> None:
        """
        Call a function before a transaction is sent, so that operations which wait
        elsewhere can join it.
        """
        self._joining.append(join)

    def stop(self) -> None:
        """
        Fail the operations that have no response yet.
        """
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        waiting, self._queue = self._queue, deque()
        for pending in waiting:
            if not pending.result.called:
                pending.result.errback(CoordinationUnavailable("the node has stopped"))
        _ = self._background.stop()

    def add(self, operation: Message, *, writes: str = "") -> Deferred[Message]:
        """
        Send an operation within L{BATCH_SECONDS}.

        @param writes: the key that it may write, or the empty string.
        @return: fires with its response.  Cancelling ends the wait alone.
        @raise CoordinationUnavailable: the transaction failed.
        """
        pending = _Pending(operation, writes)
        self._queue.append(pending)
        if len(self._queue) >= MAX_OPERATIONS:
            self._send()
        elif self._timer is None:
            self._timer = self._clock.callLater(BATCH_SECONDS, self._send)
        return pending.result

    def _send(self) -> None:
        """
        Send what waits, up to the first operation that has to wait longer.
        """
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._queue:
            for join in self._joining:
                join()
            # They have joined, and wait no longer.
            if self._timer is not None and self._timer.active():
                self._timer.cancel()
            self._timer = None
        while self._queue:
            batch: list[_Pending] = []
            while self._queue and len(batch) < MAX_OPERATIONS:
                key = self._queue[0].key
                if key in self._in_flight:
                    break
                if key:
                    self._in_flight.add(key)
                batch.append(self._queue.popleft())
            if not batch:
                return
            sending = Deferred.fromCoroutine(self._transact(batch))
            self._background.spawn(sending.addBoth(self._done, batch), "while operations were sent to etcd")

    async def _transact(self, batch: list[_Pending]) -> None:
        """
        Send operations as one transaction, and deliver its responses.
        """
        answer = await self._call("/v3/kv/txn", {"success": [pending.operation for pending in batch]})
        try:
            found = responses(answer, len(batch))
        except BadAnswer as e:
            raise bad_answer(e) from None
        for pending, response in zip(batch, found, strict=True):
            if not pending.result.called:
                pending.result.callback(response)

    def _done(self, result: Failure | None, batch: list[_Pending]) -> None:
        """
        Deliver the failure of a transaction, and send what waited for it.
        """
        self._in_flight.difference_update(pending.key for pending in batch)
        if isinstance(result, Failure):
            for pending in batch:
                if not pending.result.called:
                    pending.result.errback(result)
        self._send()
