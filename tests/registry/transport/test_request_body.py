"""
Tests for L{xferd.registry.transport.request_body}, on a clock.
"""

from __future__ import annotations

import gc
from typing import Any
from weakref import ref

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface.verify import verifyObject

from tests.registry.fakes import FakeResponse, failure_of
from xferd.errors import ConnectionFailed, StoreError, TimedOut
from xferd.interfaces.registry import IContent
from xferd.registry.transport.request_body import PIECE, BytesBody, ContentBody, ContentFailed
from xferd.registry.transport.timeouts import Timeouts
from xferd.testing.fakes import FakeContent

_DATA = bytes(range(256)) * 2048
_TIMEOUTS = Timeouts(silence=5, window=60, floor=1000, commit=7)


class Consumer:
    """
    A transport that pauses its producer when its buffer is full.

    @ivar data: the bytes that were written.
    """

    def __init__(self) -> None:
        self.data = b""
        self.room: int | None = None
        self.body: ContentBody | None = None

    def write(self, data: bytes) -> None:
        """
        Take a piece.
        """
        self.data += data
        if self.room is not None and self.body is not None:
            self.room -= len(data)
            if self.room <= 0:
                self.body.pauseProducing()

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """
        Do nothing.
        """

    def unregisterProducer(self) -> None:
        """
        Do nothing.
        """


class BytesBodyTests(SynchronousTestCase):
    """
    L{BytesBody} writes all at once.
    """

    def test_all(self) -> None:
        """
        Pauses are ignored.
        """
        body, consumer = BytesBody(b"abc"), Consumer()
        verifyObject(IBodyProducer, body)
        body.pauseProducing()
        body.resumeProducing()
        self.successResultOf(body.startProducing(consumer))  # type: ignore[arg-type]
        body.stopProducing()
        self.assertEqual((body.length, consumer.data), (3, b"abc"))


class ContentBodyTests(SynchronousTestCase):
    """
    L{ContentBody} sends a part of a blob, no faster than it is taken.
    """

    def setUp(self) -> None:
        """
        Make a body of all but ten bytes at either end.
        """
        self.clock = Clock()
        self.content = FakeContent(_DATA)
        self.consumer = Consumer()
        self.reported: list[int] = []
        self.timeouts = _TIMEOUTS
        self.cancelled = 0
        self.waiting: Deferred[IResponse] = Deferred(self._cancel)
        self.body = self._make()

    def tearDown(self) -> None:
        """
        Whatever happened, no timer is left.
        """
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def _cancel(self, _: object) -> None:
        self.cancelled += 1

    def _make(self, start: int = 10, stop: int = len(_DATA) - 10) -> ContentBody:
        return ContentBody(
            self.content,
            start,
            stop,
            self.reported.append,
            host="hub.example",
            clock=self.clock,
            timeouts=self.timeouts,
        )

    def _start(self, room: int | None = None) -> Deferred[IResponse]:
        """
        Do as an Agent does.
        """
        self.consumer.body, self.consumer.room = self.body, room
        self.produced = self.body.startProducing(self.consumer)  # type: ignore[arg-type]
        return self.body.guard(self.waiting)

    def _respond(self) -> FakeResponse:
        response = FakeResponse(body=b"")
        self.waiting.callback(response)
        return response

    def test_interfaces(self) -> None:
        """
        Body and fake content provide their Interfaces.
        """
        verifyObject(IBodyProducer, self.body)
        verifyObject(IContent, self.content)

    def test_whole(self) -> None:
        """
        All bytes of the part are sent and reported, and the answer is handed
        on.
        """
        answer = self._start()
        self.successResultOf(self.produced)
        self.assertEqual(self.consumer.data, _DATA[10:-10])
        self.assertEqual(self.body.length, len(_DATA) - 20)
        self.assertEqual(self.reported[-1], len(_DATA) - 10)
        self.assertLessEqual(max(most for _, most in self.content.reads), PIECE)
        self.assertNoResult(answer)
        response = self._respond()
        self.assertIs(self.successResultOf(answer), response)

    def test_no_cycle(self) -> None:
        """
        A body whose response has come is freed at once, and not by the garbage
        collector: its consumer leads to it.
        """
        answer = self._start()
        self._respond()
        self.successResultOf(answer)
        gone: list[ref[Any]] = [ref(self.body), ref(self.consumer)]
        gc.disable()
        self.addCleanup(gc.enable)
        self.body, self.consumer = self._make(), Consumer()
        self.assertEqual([each() for each in gone], [None, None])

    def test_empty(self) -> None:
        """
        A part of no bytes is sent at once.
        """
        self.body = self._make(5, 5)
        answer = self._start()
        self.successResultOf(self.produced)
        self._respond()
        self.successResultOf(answer)
        self.assertEqual(self.content.reads, [])

    def test_paused(self) -> None:
        """
        No byte is read while the registry accepts none.
        """
        answer = self._start(PIECE)
        self.assertEqual(len(self.content.reads), 1)
        self.clock.advance(4)
        self.body.pauseProducing()
        self.assertEqual(len(self.content.reads), 1)
        self.consumer.room = PIECE
        self.body.resumeProducing()
        self.assertEqual(len(self.content.reads), 2)
        self.clock.advance(4)
        self.consumer.room = None
        self.body.resumeProducing()
        self.successResultOf(self.produced)
        self.body.resumeProducing()
        self._respond()
        self.successResultOf(answer)

    def test_still_arriving(self) -> None:
        """
        Bytes are sent as they arrive, and the time of waiting for them is not
        the registry's fault.
        """
        self.content = FakeContent(_DATA, arrived=1000)
        self.body = self._make()
        answer = self._start()
        self.assertEqual(self.consumer.data, _DATA[10:1000])
        self.clock.advance(50)
        self.clock.advance(10)
        self.clock.advance(200)
        self.assertNoResult(answer)
        self.content.arrive(1000)
        self.assertEqual(self.consumer.data, _DATA[10:2000])
        self.content.arrive(len(_DATA))
        self.successResultOf(self.produced)
        self._respond()
        self.successResultOf(answer)

    def test_paused_while_reading(self) -> None:
        """
        Bytes that are being read when the pause begins are written; no more are
        read.
        """
        self.content = FakeContent(_DATA, arrived=0)
        self.body = self._make()
        self._start()  # type: ignore[unused-awaitable]
        self.body.pauseProducing()
        self.content.arrive(500)
        self.assertEqual(self.consumer.data, _DATA[10:500])
        self.assertFalse(self.content.waited_for)
        self.body.stopProducing()

    def test_silence(self) -> None:
        """
        A registry that accepts no byte for too long times out.
        """
        answer = self._start(PIECE)
        self.clock.advance(5)
        error = failure_of(self, answer, TimedOut)
        assert isinstance(error, TimedOut)
        self.assertEqual((error.phase, error.host), ("silence", "hub.example"))
        self.assertEqual(self.cancelled, 1)

    def test_trickle(self) -> None:
        """
        The same holds for one that accepts too few bytes over a window.
        """
        self.timeouts = evolve(_TIMEOUTS, floor=50_000)
        self.content = FakeContent(_DATA * 8)
        self.body = self._make(0, self.content.size)
        answer = self._start(1)
        for _ in range(14):
            self.clock.advance(4)
            self.consumer.room = 1
            self.body.resumeProducing()
        self.assertNoResult(answer)
        self.clock.advance(4)
        error = failure_of(self, answer, TimedOut)
        assert isinstance(error, TimedOut)
        self.assertEqual(error.phase, "rate")

    def test_no_answer(self) -> None:
        """
        The same holds for one that accepts all and does not answer.
        """
        answer = self._start()
        self.clock.advance(6.9)
        self.assertNoResult(answer)
        self.clock.advance(0.1)
        error = failure_of(self, answer, TimedOut)
        self.assertIn("did not answer", str(error))

    def test_early_answer(self) -> None:
        """
        An answer stops the body.
        """
        answer = self._start(PIECE)
        response = self._respond()
        self.assertIs(self.successResultOf(answer), response)
        self.body.resumeProducing()
        self.assertEqual(len(self.consumer.data), PIECE)
        self.assertNoResult(self.produced)

    def test_broken(self) -> None:
        """
        So does the end of the connection, also while bytes are waited for.
        """
        self.content = FakeContent(_DATA, arrived=0)
        self.body = self._make()
        answer = self._start()
        self.body.stopProducing()
        self.assertFalse(self.content.waited_for)
        self.waiting.errback(ConnectionFailed("it broke"))
        failure_of(self, answer, ConnectionFailed)

    def test_unreadable(self) -> None:
        """
        Bytes that cannot be read end the request with the content's error.
        """
        self.content = FakeContent(_DATA, arrived=5000)
        self.body = self._make()
        answer = self._start()
        self.content.fail(StoreError("the disk is gone"))
        error = failure_of(self, answer, ContentFailed)
        assert isinstance(error, ContentFailed)
        self.assertIsInstance(error.error, StoreError)
        self.assertEqual(self.cancelled, 1)

    def test_unreadable_at_once(self) -> None:
        """
        Also when it happens before there is anything to wait for.
        """
        self.content.fail(StoreError("the disk is gone"))
        self.body = self._make(len(_DATA) - 5, len(_DATA) + 5)
        self.content._arrived = 0
        answer = self._start()
        failure_of(self, answer, ContentFailed)
        self.assertEqual(self.cancelled, 1)

    def test_too_short(self) -> None:
        """
        Content that ends before it should is unreadable.
        """
        self.body = self._make(0, len(_DATA) + 1)
        answer = self._start()
        self.assertIn("before its end", str(failure_of(self, answer, ContentFailed)))

    def test_cancelled(self) -> None:
        """
        Cancelling the wait for the response stops body and request,
        however the request ends.
        """
        answer = self._start(PIECE)
        answer.cancel()
        failure_of(self, answer, CancelledError)
        self.assertEqual(self.cancelled, 1)
        self.body.resumeProducing()
        self.assertEqual(len(self.consumer.data), PIECE)

    def test_late_answer(self) -> None:
        """
        An answer that comes after the end all the same is dropped.
        """
        response = FakeResponse()
        self.waiting = Deferred(lambda d: d.callback(response))
        answer = self._start(PIECE)
        answer.cancel()
        failure_of(self, answer, CancelledError)
        self.assertEqual(response.transport.dropped, 1)

    def test_cancelled_by_agent(self) -> None:
        """
        An Agent cancels what C{startProducing} returned.
        """
        answer = self._start(PIECE)
        self.produced.cancel()
        failure_of(self, self.produced, CancelledError)
        self.waiting.errback(Failure(CancelledError()))
        failure_of(self, answer, CancelledError)
