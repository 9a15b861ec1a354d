"""
Tests for L{xferd.engines.grpc.client} and C{client_stream}.
"""

from __future__ import annotations

from collections.abc import Coroutine
from errno import ENOENT
from typing import Any

from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame, SettingsFrame
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.engines.grpc.pipe import Pipe
from tests.engines.grpc.test_server import LIST, RAW, STAT, WAIT, Served
from xferd.engines.grpc.client import FIRST_DELAY, MAX_DELAY, GrpcClient, Options
from xferd.engines.grpc.client_stream import ClientStream
from xferd.engines.grpc.messages import MAX_MESSAGE, encode
from xferd.engines.grpc.server import GrpcFactory
from xferd.engines.grpc.status import GrpcError, Status
from xferd.engines.proto.snapshots_pb2 import (
    Info,
    ListSnapshotsRequest,
    ListSnapshotsResponse,
    StatSnapshotRequest,
)

DEFAULT = Options()


class ClientCase(SynchronousTestCase):
    """
    A client, and a server that it can connect to.
    """

    def setUp(self) -> None:
        """
        Make both.
        """
        self.reactor = MemoryReactorClock()
        self.served = Served()
        self.factory = GrpcFactory(self.served.services(), self.reactor, lambda transport: 0)
        self.client = GrpcClient("/run/a.sock", self.reactor)  # type: ignore[arg-type]
        self.pipe: Pipe | None = None

    def connect(self) -> None:
        """
        Accept the client's connection.
        """
        path, _, timeout, _ = self.reactor.unixClients[0]
        self.assertEqual((path, timeout), ("/run/a.sock", 5))
        self.pipe = Pipe.accept(self.reactor, self.factory)
        self.addCleanup(self.pipe.lose)

    def refuse(self) -> None:
        """
        Refuse it.
        """
        Pipe.refuse(self.reactor)

    def begin(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """
        Start a call.
        """
        d = Deferred.fromCoroutine(work)
        if self.reactor.unixClients:
            self.connect()
        assert self.pipe is not None
        self.pipe.exchange()
        return d

    def stat(self, key: str, path: str = STAT, options: Options = DEFAULT) -> Deferred[Info]:
        """
        Make a call with one answer.
        """
        return self.begin(self.client.unary(path, StatSnapshotRequest(key=key), Info, options))

    def error(self, d: Deferred[Any]) -> tuple[Status, str]:
        """
        The error of a call.
        """
        error = self.failureResultOf(d, GrpcError).value
        return error.code, error.message

    def exchange(self) -> None:
        """
        Deliver until nothing moves.
        """
        assert self.pipe is not None
        self.pipe.exchange()


class CallTests(ClientCase):
    """
    Calls and their outcomes.
    """

    def test_unary(self) -> None:
        """
        A request and its answer; the second call uses the connection of the first.
        """
        self.assertEqual(self.successResultOf(self.stat("a")).name, "a")
        self.assertEqual(self.successResultOf(self.stat("b")).name, "b")
        self.assertEqual(self.reactor.unixClients, [])
        assert self.pipe is not None
        self.assertEqual([end.streams for end in self.pipe.ends], [{}, {}])

    def test_metadata(self) -> None:
        """
        Headers and the time reach the method.
        """
        d = self.stat("a", options=Options({"containerd-namespace": "k8s.io"}, timeout=1.5))
        self.successResultOf(d)
        (call,) = self.served.calls
        self.assertEqual((call.metadata, call.timeout), ({"containerd-namespace": "k8s.io"}, 1.5))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_error(self) -> None:
        """
        The server's error.
        """
        self.assertEqual(
            self.error(self.stat("missing")), (Status.NOT_FOUND, "no snapshot »missing« at 100%")
        )
        self.assertEqual(self.error(self.stat("a", "/c.Other/Stat"))[0], Status.UNIMPLEMENTED)

    def test_wrong_class(self) -> None:
        """
        An answer that is no such message.
        """
        d = self.begin(self.client.unary(RAW, StatSnapshotRequest(key="\x08"), ListSnapshotsResponse))
        self.successResultOf(d.addErrback(lambda f: f.trap(GrpcError)))
        raw = self.begin(self.client.raw_unary(RAW, b"\xff\xff"))
        self.assertEqual(self.successResultOf(raw), b"\xff\xff")

    def test_answers(self) -> None:
        """
        One answer is wanted: none and two are errors.
        """
        for self.served.count in (0, 2):
            d = self.begin(self.client.raw_unary(LIST, b""))
            self.assertEqual(self.error(d)[0], Status.INTERNAL)
        self.served.count = 1
        self.assertEqual(self.successResultOf(self.begin(self.client.raw_unary(LIST, b"")))[:1], b"\x0a")

    def test_streaming(self) -> None:
        """
        A stream of answers, to its end, and to its error.
        """

        async def names(snapshotter: str) -> list[int]:
            found: list[int] = []
            request = ListSnapshotsRequest(snapshotter=snapshotter)
            try:
                answers = self.client.streaming(LIST, request, ListSnapshotsResponse)
                found.extend([len(answer.info[0].name) async for answer in answers])
            except GrpcError as e:
                return [e.code]
            return found

        self.assertEqual(self.successResultOf(self.begin(names(""))), [10, 10, 10])
        self.assertEqual(self.successResultOf(self.begin(names("fails"))), [Status.ABORTED])

    def test_large(self) -> None:
        """
        Requests and answers over all windows.
        """
        body = bytes(MAX_MESSAGE)
        self.assertEqual(self.successResultOf(self.begin(self.client.raw_unary(RAW, body))), body)

    def test_slow_reader(self) -> None:
        """
        The server is held up while answers wait to be received.
        """
        self.served.size, self.served.count = 100_000, 50
        call: ClientStream = self.successResultOf(self.begin(self.client.begin(LIST)))
        call.send(b"")
        call.finish()
        self.exchange()
        self.assertLess(self.served.produced, 12)
        for _ in range(50):
            answer = self.successResultOf(call.receive())
            self.assertGreater(len(answer or b""), 100_000)
            self.exchange()
        self.assertIsNone(self.successResultOf(call.receive()))
        self.assertIsNone(self.successResultOf(call.receive()))
        self.assertEqual(self.served.produced, 50)

    def test_unread(self) -> None:
        """
        Answers that are never received do not hold up other calls.
        """
        self.served.size, self.served.count = 300_000, 100
        for _ in range(80):
            call: ClientStream = self.successResultOf(self.begin(self.client.begin(LIST)))
            call.send(b"")
            call.finish()
            self.exchange()
            call.cancel()
            self.exchange()
        self.assertEqual(self.successResultOf(self.stat("a")).name, "a")


class EndTests(ClientCase):
    """
    Calls that end early.
    """

    def test_cancel(self) -> None:
        """
        Cancelling a call cancels it at the server.
        """
        d = self.stat("w", WAIT)
        d.cancel()
        self.exchange()
        self.failureResultOf(d, CancelledError)
        self.assertEqual((self.served.cancelled, self.factory.running), (1, 0))

    def test_cancel_early(self) -> None:
        """
        Cancelling before there is a connection: the next call uses the connection.
        """
        d = Deferred.fromCoroutine(self.client.unary(STAT, StatSnapshotRequest(), Info))
        d.cancel()
        self.failureResultOf(d, CancelledError)
        self.connect()
        self.assertEqual(self.served.calls, [])
        self.successResultOf(self.stat("a"))

    def test_generator_closed(self) -> None:
        """
        A generator that is left cancels its call.
        """
        self.served.size, self.served.count = 100_000, 50

        async def first() -> int:
            answers = self.client.raw_streaming(LIST, b"")
            async for answer in answers:
                await answers.aclose()
                return len(answer)
            return 0

        self.assertGreater(self.successResultOf(self.begin(first())), 100_000)
        self.exchange()
        self.assertEqual(self.served.closed, 1)

    def test_deadline(self) -> None:
        """
        A server that does not answer in time.
        """
        self.served.wait = lambda request, call: Deferred()  # type: ignore[method-assign]
        d = self.stat("w", WAIT, Options(timeout=1))
        self.reactor.advance(1)
        self.assertEqual(self.error(d)[0], Status.DEADLINE_EXCEEDED)

    def test_lost(self) -> None:
        """
        A lost connection is C{UNAVAILABLE}; the next call connects again.
        """
        d = self.stat("w", WAIT)
        assert self.pipe is not None
        self.pipe.transports[0].loseConnection()
        self.assertEqual(self.error(d), (Status.UNAVAILABLE, "the connection was lost"))
        self.successResultOf(self.stat("a"))

    def test_reset(self) -> None:
        """
        A server that resets the call.
        """
        d = self.stat("w", WAIT)
        assert self.pipe is not None
        (stream,) = self.pipe.ends[1].streams.values()
        stream.reset(ErrorCodes.REFUSED_STREAM)
        self.exchange()
        self.assertEqual(self.error(d)[0], Status.UNAVAILABLE)

    def test_goaway(self) -> None:
        """
        After a GOAWAY the next call has a new connection.
        """
        d = self.stat("w", WAIT)
        assert self.pipe is not None
        self.pipe.transports[1].write(GoAwayFrame(0).serialize())
        self.exchange()
        self.assertEqual(self.error(d)[0], Status.UNAVAILABLE)
        self.successResultOf(self.stat("a"))

    def test_early_answer(self) -> None:
        """
        An answer before the client has sent its request ends the call.
        """
        call: ClientStream = self.successResultOf(self.begin(self.client.begin("/c.Other/Stat")))
        self.exchange()
        self.assertEqual(self.error(call.receive())[0], Status.UNIMPLEMENTED)
        call.send(b"late")
        call.finish()
        self.exchange()
        self.successResultOf(self.stat("a"))

    def test_bad_message(self) -> None:
        """
        A server that sends a malformed message.
        """
        call: ClientStream = self.successResultOf(self.begin(self.client.begin(RAW)))
        call.data_received(b"\x01\0\0\0\0")
        self.assertEqual(self.error(call.receive())[0], Status.UNIMPLEMENTED)
        call.data_received(encode(b"more"))

    def test_wait_cancelled(self) -> None:
        """
        Cancelling the wait for a message leaves the call.
        """
        call: ClientStream = self.successResultOf(self.begin(self.client.begin(RAW)))
        wait = call.receive()
        wait.cancel()
        self.failureResultOf(wait, CancelledError)
        call.send(b"x")
        call.finish()
        wait = call.receive()
        self.exchange()
        self.assertEqual(self.successResultOf(wait), b"x")

    def test_server_limit(self) -> None:
        """
        A server that allows no more calls at once.
        """
        waiting = self.stat("w", WAIT)
        assert self.pipe is not None
        self.pipe.transports[1].write(SettingsFrame(0, {3: 1}).serialize())
        self.exchange()
        self.assertEqual(self.error(self.stat("a"))[0], Status.RESOURCE_EXHAUSTED)
        self.served.waits[0].callback(Info())
        self.exchange()
        self.successResultOf(waiting)


class ConnectTests(ClientCase):
    """
    Connecting.
    """

    def _call(self) -> Deferred[Info]:
        return Deferred.fromCoroutine(self.client.unary(STAT, StatSnapshotRequest(key="a"), Info))

    def test_shared(self) -> None:
        """
        Calls that begin at once share one attempt.
        """
        calls = [self._call(), self._call()]
        self.assertEqual(len(self.reactor.unixClients), 1)
        self.connect()
        self.exchange()
        self.assertEqual([self.successResultOf(call).name for call in calls], ["a", "a"])

    def test_system_error(self) -> None:
        """
        An error of the system is reported by its text.
        """
        call = self._call()
        Pipe.refuse(self.reactor, ENOENT)
        self.assertEqual(self.error(call)[1], "cannot connect to /run/a.sock: No such file or directory")

    def test_refused(self) -> None:
        """
        Without a server all calls fail, and none is tried before a delay, which grows.
        """
        calls = [self._call(), self._call()]
        self.refuse()
        for call in calls:
            code, message = self.error(call)
            self.assertEqual(code, Status.UNAVAILABLE)
            self.assertRegex(message, "^cannot connect to /run/a.sock: .*no server")
        delay = FIRST_DELAY
        for _ in range(10):
            self.reactor.advance(delay * 0.9)
            self.assertEqual(self.error(self._call())[0], Status.UNAVAILABLE)
            self.assertEqual(self.reactor.unixClients, [])
            self.reactor.advance(delay * 0.1 + 1e-6)
            call = self._call()
            self.refuse()
            self.error(call)
            delay = min(2 * delay, MAX_DELAY)
        self.reactor.advance(MAX_DELAY)
        self.successResultOf(self.stat("a"))

    def test_closed(self) -> None:
        """
        A closed client ends its calls, and begins none.
        """
        d = self.stat("w", WAIT)
        self.client.close()
        self.assertEqual(self.error(d)[0], Status.UNAVAILABLE)
        self.assertEqual(self.error(self._call())[0], Status.UNAVAILABLE)

    def test_closed_while_connecting(self) -> None:
        """
        Closing ends the attempt to connect.
        """
        d = self._call()
        self.client.close()
        self.assertEqual(self.error(d), (Status.UNAVAILABLE, "xferd is stopping"))
