"""
Tests for L{xferd.registry.transport.response_body}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseFailed
from twisted.web.http import PotentialDataLoss, _DataLoss
from zope.interface.verify import verifyObject

from tests.registry.fakes import FakeResponse, failure_of
from xferd.errors import BadDocument, RegistryError, TimedOut, Truncated
from xferd.interfaces.registry import IBlobBody
from xferd.registry.transport.response_body import EXCERPT, BlobBody, discard, read_excerpt, read_whole
from xferd.registry.transport.timeouts import Timeouts

_TIMEOUTS = Timeouts(silence=30, window=60, floor=100, excerpt=5)


class _BodyCase(SynchronousTestCase):
    """
    A clock, an answer, and what arrived of its body.
    """

    def setUp(self) -> None:
        """
        Make them.
        """
        self.clock = Clock()
        self.arrived = bytearray()

    def tearDown(self) -> None:
        """
        Whatever happened, no timer is left.
        """
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def _open(self, response: FakeResponse, start: int = 0, total: int | None = None) -> BlobBody:
        return BlobBody(response, start, total, host="h", clock=self.clock, timeouts=_TIMEOUTS)


class BlobBodyTests(_BodyCase):
    """
    L{BlobBody} delivers a body and watches it.
    """

    def test_interface(self) -> None:
        """
        It provides L{IBlobBody}.
        """
        verifyObject(IBlobBody, self._open(FakeResponse(), 3, 9))

    def test_delivered(self) -> None:
        """
        Pieces are delivered as they arrive, and the end is reported.
        """
        response = FakeResponse(length=6)
        done = self._open(response, 0, 6).deliver(self.arrived.extend)
        response.send(b"abc")
        self.assertEqual(self.arrived, b"abc")
        self.assertNoResult(done)
        response.send(b"def")
        response.end()
        self.successResultOf(done)
        self.assertEqual(self.arrived, b"abcdef")
        self.assertEqual(response.transport.dropped, 0)

    def test_once(self) -> None:
        """
        A body is delivered once.
        """
        response = FakeResponse(body=b"")
        body = self._open(response)
        self.successResultOf(body.deliver(self.arrived.extend))
        self.assertRaises(RuntimeError, body.deliver, self.arrived.extend)

    def test_truncated(self) -> None:
        """
        An end before the promised length is a truncation, however it is
        framed.
        """
        for error in (
            None,
            PotentialDataLoss(),
            ResponseFailed([Failure(ConnectionDone()), Failure(_DataLoss())]),
        ):
            response = FakeResponse()
            done = self._open(response, 4, 10).deliver(self.arrived.extend)
            response.send(b"abc")
            response.end(error)
            self.assertIn("3 of 6 bytes", str(failure_of(self, done, Truncated)))

    def test_unknown_length(self) -> None:
        """
        A body without a stated length ends with the connection.
        """
        response = FakeResponse()
        done = self._open(response).deliver(self.arrived.extend)
        response.send(b"abc")
        self.assertNoResult(done)
        response.end(PotentialDataLoss())
        self.successResultOf(done)
        self.assertEqual(self.arrived, b"abc")

    def test_too_much(self) -> None:
        """
        More than was promised is refused, and not handed on.
        """
        response = FakeResponse()
        done = self._open(response, 0, 5).deliver(self.arrived.extend)
        response.send(b"abc")
        response.send(b"def")
        failure_of(self, done, RegistryError)
        self.assertEqual(self.arrived, b"abc")
        self.assertEqual(response.transport.dropped, 1)

    def test_silence(self) -> None:
        """
        A body that is silent for too long is dropped; each byte
        restarts the timeout.
        """
        response = FakeResponse()
        done = self._open(response).deliver(self.arrived.extend)
        self.clock.advance(29)
        response.send(b"x" * 10000)
        self.clock.advance(29)
        self.assertNoResult(done)
        self.clock.advance(1)
        error = failure_of(self, done, TimedOut)
        self.assertEqual(getattr(error, "phase", ""), "silence")
        self.assertEqual(response.transport.dropped, 1)
        response.send(b"too late")
        response.end(ConnectionDone())
        self.assertEqual(len(self.arrived), 10000)

    def test_trickle(self) -> None:
        """
        Bytes that come too slowly over a window do not keep a body alive,
        however fast it was before.
        """
        response = FakeResponse()
        done = self._open(response).deliver(self.arrived.extend)
        for _ in range(3):
            response.send(b"x" * 2000)
            self.clock.advance(20)
        self.assertNoResult(done)
        for _ in range(3):
            response.send(b"x" * 1999)
            self.clock.advance(20)
        error = failure_of(self, done, TimedOut)
        self.assertEqual(getattr(error, "phase", ""), "rate")
        self.assertEqual(response.transport.dropped, 1)

    def _hold(self) -> tuple[FakeResponse, Deferred[None], list[Deferred[None]]]:
        """
        Open a body whose sink holds it at each piece.
        """
        holds: list[Deferred[None]] = []

        def sink(data: bytes) -> Deferred[None]:
            self.arrived.extend(data)
            holds.append(Deferred())
            return holds[-1]

        response = FakeResponse()
        return response, self._open(response).deliver(sink), holds

    def test_held(self) -> None:
        """
        The Deferred of the sink holds the body, also if several pieces were in
        flight; that time does not count towards silence or rate.
        """
        response, done, holds = self._hold()
        response.send(b"abc")
        self.assertEqual(response.transport.flow, ["pause"])
        response.send(b"def")
        self.clock.advance(1000)
        self.assertNoResult(done)
        holds[0].callback(None)
        self.assertEqual(response.transport.flow, ["pause"])
        holds[1].callback(None)
        self.assertEqual(response.transport.flow, ["pause", "resume"])
        response.send(b"ghi")
        response.end()
        self.successResultOf(done)
        self.assertEqual(self.arrived, b"abcdefghi")
        self.assertTrue(holds[2].called)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silent_after_hold(self) -> None:
        """
        When the body is released, its silence counts from then on.
        """
        response, done, holds = self._hold()
        response.send(b"abc")
        self.clock.advance(1000)
        holds[0].callback(None)
        self.clock.advance(29)
        self.assertNoResult(done)
        self.clock.advance(1)
        failure_of(self, done, TimedOut)

    def test_cancelled_while_held(self) -> None:
        """
        The end of a body is the end of what holds it.
        """
        response, done, holds = self._hold()
        response.send(b"abc")
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertTrue(holds[0].called)
        self.assertEqual(response.transport.dropped, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_sink_fails(self) -> None:
        """
        An exception of the sink ends the body and is its result.
        """
        response = FakeResponse()

        def sink(_: bytes) -> None:
            raise KeyError("no room")

        done = self._open(response).deliver(sink)
        response.send(b"abc")
        failure_of(self, done, KeyError)
        self.assertEqual(response.transport.dropped, 1)

    def test_sink_ends_and_fails(self) -> None:
        """
        A sink may abandon the body and raise at once.
        """
        response = FakeResponse()
        body = self._open(response)

        def sink(_: bytes) -> None:
            body.abandon()
            raise KeyError("gone")

        done = body.deliver(sink)
        response.send(b"abc")
        self.failureResultOf(done, CancelledError)
        self.assertEqual(response.transport.dropped, 1)

    def test_cancelled(self) -> None:
        """
        Cancelling drops the connection at once, and nothing arrives any more.
        """
        response = FakeResponse()
        done = self._open(response).deliver(self.arrived.extend)
        response.send(b"abc")
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertEqual(response.transport.dropped, 1)
        response.send(b"def")
        self.assertEqual(self.arrived, b"abc")

    def test_abandoned(self) -> None:
        """
        A body that is not needed is dropped, once.
        """
        response = FakeResponse()
        body = self._open(response)
        body.abandon()
        body.abandon()
        self.assertEqual(response.transport.dropped, 1)
        self.assertRaises(RuntimeError, body.deliver, self.arrived.extend)

    def test_abandoned_after_the_end(self) -> None:
        """
        Abandoning what has ended does nothing.
        """
        response = FakeResponse(body=b"abc")
        body = self._open(response)
        self.successResultOf(body.deliver(self.arrived.extend))
        body.abandon()
        self.assertEqual(response.transport.dropped, 0)

    def test_discard(self) -> None:
        """
        An answer can be dropped unread.
        """
        response = FakeResponse()
        discard(response)
        self.assertEqual(response.transport.dropped, 1)


class ReadTests(_BodyCase):
    """
    Small bodies are read whole, or not at all.
    """

    def _whole(self, response: FakeResponse, limit: int) -> Deferred[bytes]:
        return Deferred.fromCoroutine(
            read_whole(
                response,
                limit,
                lambda: BadDocument("too long"),
                host="h",
                clock=self.clock,
                timeouts=_TIMEOUTS,
            )
        )

    def _excerpt(self, response: FakeResponse) -> Deferred[bytes]:
        return Deferred.fromCoroutine(read_excerpt(response, host="h", clock=self.clock, timeouts=_TIMEOUTS))

    def test_whole(self) -> None:
        """
        Up to the limit, all bytes come.
        """
        self.assertEqual(self.successResultOf(self._whole(FakeResponse(body=b"abc"), 3)), b"abc")

    def test_promised_too_much(self) -> None:
        """
        A body whose length is too much by its own word is not read.
        """
        response = FakeResponse(length=4)
        failure_of(self, self._whole(response, 3), BadDocument)
        self.assertEqual(response.transport.dropped, 1)

    def test_grows_too_much(self) -> None:
        """
        One byte too many ends the reading.
        """
        response = FakeResponse()
        reading = self._whole(response, 3)
        response.send(b"abc")
        self.assertNoResult(reading)
        response.send(b"d")
        failure_of(self, reading, BadDocument)
        self.assertEqual(response.transport.dropped, 1)

    def test_excerpt(self) -> None:
        """
        The words of a refusal are read.
        """
        self.assertEqual(self.successResultOf(self._excerpt(FakeResponse(404, body=b"no"))), b"no")

    def test_excerpt_empty(self) -> None:
        """
        A response without a body costs neither a timer nor a protocol: no end of it
        is waited for.
        """
        response = FakeResponse(404, length=0)
        self.assertEqual(self.successResultOf(self._excerpt(response)), b"")
        self.assertEqual(response.transport.dropped, 0)

    def test_excerpt_too_long(self) -> None:
        """
        A long page is dropped.
        """
        response = FakeResponse(404, length=EXCERPT + 1)
        self.assertEqual(self.successResultOf(self._excerpt(response)), b"")
        self.assertEqual(response.transport.dropped, 1)

    def test_excerpt_too_late(self) -> None:
        """
        The body of an error is awaited for a short time only.
        """
        response = FakeResponse(404)
        reading = self._excerpt(response)
        self.clock.advance(5)
        self.assertEqual(self.successResultOf(reading), b"")
        self.assertEqual(response.transport.dropped, 1)

    def test_excerpt_cancelled(self) -> None:
        """
        Reading can be cancelled.
        """
        response = FakeResponse(404)
        reading = self._excerpt(response)
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.assertEqual(response.transport.dropped, 1)
