"""
Tests for L{xferd.engines.grpc.server}, C{server_stream} and C{service}.

The module is long because a server meets each misbehaviour of a client over one connection.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator

from google.protobuf.empty_pb2 import Empty
from h2.errors import ErrorCodes
from hyperframe.frame import ContinuationFrame, HeadersFrame, PingFrame
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.engines.grpc.wire import MemoryTransport, Outcome, Wire
from xferd.engines.grpc.connection import MAX_STREAMS
from xferd.engines.grpc.messages import MAX_MESSAGE, encode
from xferd.engines.grpc.server import CANCEL_TIME, MAX_CONNECTIONS, MAX_RESETS, MAX_RUNNING, GrpcFactory
from xferd.engines.grpc.service import Call, GrpcService, raw_streaming, raw_unary, streaming, unary
from xferd.engines.grpc.status import GrpcError, Status
from xferd.engines.proto.snapshots_pb2 import (
    Info,
    ListSnapshotsRequest,
    ListSnapshotsResponse,
    StatSnapshotRequest,
)

STAT = "/a.Snapshots/Stat"
LIST = "/a.Snapshots/List"
WAIT = "/a.Snapshots/Wait"
RAW = "/a.Snapshots/Anything"
PULSE = "/b.Raw/Pulse"


class Served:
    """
    Services whose methods the test decides.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.waits: list[Deferred[Info]] = []
        self.cancelled = 0
        self.stubborn: Deferred[None] | None = None
        self.produced = 0
        self.closed = 0
        self.size = 10
        self.count = 3

    def services(self) -> list[GrpcService]:
        """
        The services.
        """
        return [
            GrpcService(
                "a.Snapshots",
                {
                    "Stat": unary(StatSnapshotRequest, self.stat),
                    "List": streaming(ListSnapshotsRequest, self.list),
                    "Wait": unary(StatSnapshotRequest, self.wait),
                },
                raw_unary(self.raw),
            ),
            GrpcService("b.Raw", {"Pulse": raw_streaming(self.pulse)}),
        ]

    async def stat(self, request: StatSnapshotRequest, call: Call) -> Info:
        """
        Answer with the name, or fail as it says.
        """
        self.calls.append(call)
        if request.key == "missing":
            raise GrpcError(Status.NOT_FOUND, "no snapshot »missing« at 100%")
        if request.key == "bug":
            raise ValueError("secret")
        return Info(name=request.key)

    async def list(
        self, request: ListSnapshotsRequest, call: Call
    ) -> AsyncGenerator[ListSnapshotsResponse, None]:
        """
        Answer with C{count} messages of C{size} bytes.
        """
        try:
            for at in range(self.count):
                self.produced += 1
                if request.snapshotter == "fails" and at == 1:
                    raise GrpcError(Status.ABORTED, "half way")
                yield ListSnapshotsResponse(info=[Info(name="x" * self.size)])
        finally:
            self.closed += 1

    def wait(self, request: StatSnapshotRequest, call: Call) -> Deferred[Info]:
        """
        Wait for the test.
        """

        def cancel(_: object) -> None:
            self.cancelled += 1

        wait: Deferred[Info] = Deferred(cancel)
        self.waits.append(wait)
        return wait

    async def raw(self, request: bytes, call: Call) -> bytes:
        """
        Answer with the request, or do not end when cancelled.
        """
        if request == b"stubborn":
            try:
                await Deferred()
            except CancelledError:
                self.cancelled += 1
                self.stubborn = Deferred()
                await self.stubborn
        return request

    async def pulse(self, request: bytes, call: Call) -> AsyncGenerator[bytes, None]:
        """
        Wait for the test between two messages.
        """
        try:
            yield request
            await self.wait(StatSnapshotRequest(), call)
            yield request
        finally:
            self.closed += 1


class ServerCase(SynchronousTestCase):
    """
    A server and one client.
    """

    def setUp(self) -> None:
        """
        Connect a client.
        """
        self.clock = Clock()
        self.served = Served()
        self.uid: int | None = 0
        self.factory = GrpcFactory(self.served.services(), self.clock, lambda transport: self.uid)
        self.wire = Wire(self.factory)
        self.addCleanup(self.wire.lose)

    def call(self, key: str, *headers: tuple[str, str], path: str = STAT) -> Outcome:
        """
        A call with a request for a key.
        """
        return self.wire.call(path, StatSnapshotRequest(key=key).SerializeToString(), *headers)


class CallTests(ServerCase):
    """
    Calls and their outcomes.
    """

    def test_unary(self) -> None:
        """
        Headers, one message and the trailers of success.
        """
        outcome = self.call("a/b c", ("containerd-namespace", "k8s.io"))
        self.assertEqual(outcome.headers, {":status": "200", "content-type": "application/grpc"})
        self.assertEqual([Info.FromString(m).name for m in outcome.messages], ["a/b c"])
        self.assertEqual(outcome.trailers, {"grpc-status": "0"})
        self.assertTrue(outcome.ended)
        (call,) = self.served.calls
        self.assertEqual(call, Call(STAT, {"containerd-namespace": "k8s.io"}, 0))
        self.assertEqual(self.wire.server.streams, {})

    def test_many_on_one_connection(self) -> None:
        """
        Calls on one connection do not wait for one another.
        """
        waiting = self.call("w", path=WAIT)
        self.assertEqual(self.call("quick").status, 0)
        self.assertIsNone(waiting.status)
        self.served.waits[0].callback(Info(name="late"))
        self.wire.exchange()
        self.assertEqual((waiting.status, len(waiting.messages)), (0, 1))

    def test_error(self) -> None:
        """
        An error is one block of headers, its text percent-encoded.
        """
        outcome = self.call("missing")
        self.assertEqual(outcome.messages, [])
        self.assertEqual(outcome.headers["grpc-status"], "5")
        self.assertEqual(outcome.headers["grpc-message"], "no snapshot %C2%BBmissing%C2%AB at 100%25")
        self.assertTrue(outcome.ended)

    def test_bug(self) -> None:
        """
        Any other exception is INTERNAL, and its text stays in the log.
        """
        outcome = self.call("bug")
        self.assertEqual((outcome.status, outcome.message), (13, "internal error; see xferd's log"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.call("next").status, 0)

    def test_unknown_method(self) -> None:
        """
        Services, methods and paths that are not there are UNIMPLEMENTED, before the
        request arrives.
        """
        for path in ("/b.Raw/Stat", "/c.Other/Stat", "/a.Snapshots", "/a.Snapshots/Stat/x", "*", "//"):
            stream = self.wire.begin(path)
            self.assertEqual(self.wire.calls[stream].status, 12, path)
        self.assertEqual(self.wire.server.streams, {})

    def test_raw(self) -> None:
        """
        A service can take all of its methods as bytes.
        """
        outcome = self.wire.call(RAW, b"\xff\0 no message")
        self.assertEqual((outcome.status, outcome.messages), (0, [b"\xff\0 no message"]))

    def test_not_grpc(self) -> None:
        """
        Other methods and types of HTTP get statuses of HTTP.
        """
        get = self.wire.begin(STAT, method="GET", end=True)
        json = self.wire.begin(STAT, ("content-type", "application/json"))
        statuses = [self.wire.calls[stream].headers[":status"] for stream in (get, json)]
        self.assertEqual(statuses, ["405", "415"])
        self.assertEqual(self.wire.server.streams, {})

    def test_stream(self) -> None:
        """
        A stream of answers, none of them, and one that fails half way.
        """
        outcome = self.wire.call(LIST, b"")
        self.assertEqual((outcome.status, len(outcome.messages)), (0, 3))
        failed = self.wire.call(LIST, ListSnapshotsRequest(snapshotter="fails").SerializeToString())
        self.assertEqual((failed.trailers["grpc-status"], len(failed.messages)), ("10", 1))
        self.served.count = 0
        none = self.wire.call(LIST, b"")
        self.assertEqual((none.status, none.messages, none.trailers), (0, [], {"grpc-status": "0"}))
        self.assertEqual(self.served.closed, 3)

    def test_empty(self) -> None:
        """
        A message without content is one.
        """
        outcome = self.wire.call(STAT, Empty().SerializeToString())
        self.assertEqual((outcome.status, len(outcome.messages)), (0, 1))


class RequestTests(ServerCase):
    """
    Requests that are not as they should be.
    """

    def _refused(self, body: bytes, end: bool = True) -> Outcome:
        stream = self.wire.begin(STAT)
        self.wire.send(stream, body, end)
        self.assertEqual(self.served.calls, [])
        self.assertEqual((self.wire.server.streams, self.wire.server.held), ({}, 0))
        self.assertEqual(self.call("after").status, 0)
        self.served.calls.clear()
        return self.wire.calls[stream]

    def test_compressed(self) -> None:
        """
        A compressed message is UNIMPLEMENTED.
        """
        self.assertEqual(self._refused(b"\1\0\0\0\1a").status, 12)

    def test_too_large(self) -> None:
        """
        A message over the limit is RESOURCE_EXHAUSTED by its head; the client is told
        to stop.
        """
        outcome = self._refused(b"\0" + (MAX_MESSAGE + 1).to_bytes(4, "big"), end=False)
        self.assertEqual((outcome.status, outcome.reset), (8, 0))

    def test_largest(self) -> None:
        """
        The largest message that is allowed arrives through the windows.
        """
        request = StatSnapshotRequest(key="k" * (MAX_MESSAGE - 5)).SerializeToString()
        self.assertEqual(len(request), MAX_MESSAGE)
        self.served.size = 0
        self.assertEqual(self.wire.call(RAW, request).status, 0)

    def test_malformed(self) -> None:
        """
        A malformed message, a truncated one, no message, and two messages.
        """
        for body in (encode(b"\x0a\xff"), b"\0\0\0\0\2a", b"", encode(b"") * 2):
            self.assertEqual(self._refused(body).status, 13, body)

    def test_held(self) -> None:
        """
        All incomplete requests of a connection have a limit together.
        """
        streams = [self.wire.begin(STAT) for _ in range(8)]
        part = b"\0" + MAX_MESSAGE.to_bytes(4, "big") + bytes(MAX_MESSAGE - 1)
        for stream in streams:
            self.wire.send(stream, part, end=False)
        self.assertEqual([self.wire.calls[s].status for s in streams], [None] * 7 + [8])
        self.wire.lose()
        self.assertEqual(self.wire.server.held, 0)

    def test_timeout_malformed(self) -> None:
        """
        A malformed time is INVALID_ARGUMENT.
        """
        self.assertEqual(self.call("a", ("grpc-timeout", "soon")).status, 3)


class CancellationTests(ServerCase):
    """
    Calls that end before their methods do.
    """

    def test_reset(self) -> None:
        """
        A reset cancels the method, and nothing is answered.
        """
        outcome = self.call("w", path=WAIT)
        (stream,) = self.wire.calls
        self.wire.reset(stream)
        self.assertEqual((self.served.cancelled, outcome.headers), (1, {}))
        self.assertEqual((self.wire.server.running, self.wire.server.streams), (0, {}))

    def test_reset_early(self) -> None:
        """
        A reset before the request is complete.
        """
        stream = self.wire.begin(WAIT, ("grpc-timeout", "1S"))
        self.wire.reset(stream)
        self.assertEqual((self.wire.server.streams, self.clock.getDelayedCalls()), ({}, []))

    def test_reset_late(self) -> None:
        """
        A reset that comes with the request: the method is cancelled, and its answer is
        dropped.
        """
        for path in (STAT, LIST, WAIT, PULSE):
            stream = self.wire.h2.get_next_available_stream_id()
            self.wire.begin(path)
            self.wire.h2.send_data(stream, encode(b""), end_stream=True)
            self.wire.reset(stream)
            self.assertEqual((self.wire.server.running, self.wire.server.streams), (0, {}))
        self.assertEqual((self.served.cancelled, self.served.closed), (1, 2))
        self.assertEqual(self.call("next").status, 0)

    def test_lost(self) -> None:
        """
        A lost connection cancels all of its methods.
        """
        for _ in range(3):
            self.call("w", path=WAIT)
        self.wire.lose()
        self.assertEqual((self.served.cancelled, self.factory.running), (3, 0))
        self.assertEqual(self.factory.connections, set())

    def test_stream_reset(self) -> None:
        """
        A reset ends a stream of answers between two of them, and closes its generator.
        """
        outcome = self.wire.call(PULSE, b"x")
        self.assertEqual((outcome.messages, outcome.status), ([b"x"], None))
        (stream,) = self.wire.calls
        self.wire.reset(stream)
        self.assertEqual((self.served.cancelled, self.served.closed), (1, 1))

    def test_deadline(self) -> None:
        """
        When the client's time is over, the method is cancelled.
        """
        outcome = self.call("w", ("grpc-timeout", "1500m"), path=WAIT)
        self.clock.advance(1.4)
        self.wire.exchange()
        self.assertIsNone(outcome.status)
        self.clock.advance(0.1)
        self.wire.exchange()
        self.assertEqual((outcome.status, self.served.cancelled), (4, 1))

    def test_deadline_kept(self) -> None:
        """
        A call that ends in time leaves no timer.
        """
        self.assertEqual(self.call("a", ("grpc-timeout", "1S")).status, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.served.calls[0].timeout, 1)

    def test_method_cancels(self) -> None:
        """
        A method that ends as cancelled by itself is CANCELLED.
        """
        outcome = self.call("w", path=WAIT)
        self.served.waits[0].cancel()
        self.wire.exchange()
        self.assertEqual(outcome.status, 1)


class LimitTests(ServerCase):
    """
    What a client cannot do.
    """

    def test_user(self) -> None:
        """
        Only root and our own user are served.
        """
        for uid, served in ((0, True), (os.geteuid(), True), (65_534, False), (None, False)):
            self.uid = uid
            wire = Wire(self.factory)
            self.assertEqual(wire.transport.connected, served)
            self.assertEqual(wire.server in self.factory.connections, served)

    def test_connections(self) -> None:
        """
        Connections that are not closed do not use up the daemon's descriptors.
        """
        wires = [Wire(self.factory) for _ in range(MAX_CONNECTIONS - len(self.factory.connections))]
        self.assertIsNone(self.factory.buildProtocol(None))
        wires[0].lose()
        self.assertTrue(Wire(self.factory).transport.connected)

    def test_rapid_reset(self) -> None:
        """
        A client that resets its streams at once, over and over, is told to go.
        """
        for _ in range(MAX_RESETS):
            self.wire.reset(self.wire.begin(STAT))
        self.assertTrue(self.wire.transport.connected)
        self.clock.advance(0.01)
        self.wire.reset(self.wire.begin(STAT))
        self.assertTrue(self.wire.transport.connected)
        self.wire.reset(self.wire.begin(STAT))
        self.assertEqual(self.wire.goaway, ErrorCodes.ENHANCE_YOUR_CALM)
        self.assertFalse(self.wire.transport.connected)

    def test_streams(self) -> None:
        """
        More streams than are allowed end the connection.
        """
        self.assertEqual(self.wire.h2.remote_settings.max_concurrent_streams, MAX_STREAMS)
        for _ in range(MAX_STREAMS):
            self.wire.begin(STAT)
        self.assertTrue(self.wire.transport.connected)
        self.wire.h2.remote_settings[3] = MAX_STREAMS + 1
        self.wire.h2.remote_settings.acknowledge()
        self.wire.begin(STAT)
        self.assertFalse(self.wire.transport.connected)

    def test_stubborn_methods(self) -> None:
        """
        A method that does not end when it is cancelled counts: too many of them, and
        calls are refused.
        """
        self.wire.server.running = MAX_RUNNING
        outcome = self.wire.calls[self.wire.begin(STAT)]
        self.assertEqual(outcome.reset, ErrorCodes.REFUSED_STREAM)

    def test_headers(self) -> None:
        """
        Headers over the limit end the connection.
        """
        self.wire.begin(STAT, ("x-long", "a" * 20_000))
        self.assertFalse(self.wire.transport.connected)

    def test_continuations(self) -> None:
        """
        Headers that never end do, too (CVE-2024-27316).
        """
        block = self.wire.h2.encoder.encode([(":path", STAT)])
        self.wire.server.dataReceived(HeadersFrame(1, block).serialize())
        for _ in range(100):
            self.wire.server.dataReceived(ContinuationFrame(1, b"\x00\x01a\x01b").serialize())
        self.assertFalse(self.wire.transport.connected)

    def test_garbage(self) -> None:
        """
        What is no HTTP/2 ends the connection.
        """
        server = self.factory.buildProtocol(None)
        assert server is not None
        transport = MemoryTransport()
        transport.protocol = server
        server.makeConnection(transport)
        server.dataReceived(b"GET / HTTP/1.1\r\n\r\n" * 10)
        self.assertFalse(transport.connected)

    def test_pings(self) -> None:
        """
        Pings are answered, but not without limit to a client that reads nothing.
        """
        self.wire.h2.ping(b"12345678")
        self.wire.exchange()
        self.wire.server.pauseProducing()
        ping = PingFrame(0, b"12345678").serialize()
        for _ in range(200):
            self.wire.server.dataReceived(ping * 100)
            if not self.wire.transport.connected:
                break
        self.assertFalse(self.wire.transport.connected)
        self.assertLess(len(self.wire.transport.value()), 300_000)

    def test_answers(self) -> None:
        """
        A client that takes no answers gets no more of them.
        """
        self.wire.acknowledges = False
        self.served.size = 3 * 1024 * 1024
        self.served.count = 1
        outcomes = [self.wire.call(LIST, b"") for _ in range(12)]
        self.assertEqual([o.status for o in outcomes], [None] * 10 + [8, 8])
        self.wire.lose()
        self.assertEqual(self.wire.server.queued, 0)


class FlowTests(ServerCase):
    """
    Answers that are larger than the windows.
    """

    def test_large(self) -> None:
        """
        Large answers of several calls arrive whole.
        """
        self.served.size, self.served.count = 300_000, 2
        outcomes = [self.wire.call(LIST, b"") for _ in range(3)]
        for outcome in outcomes:
            self.assertEqual([len(m) > 300_000 for m in outcome.messages], [True, True])
            self.assertEqual(outcome.status, 0)
        self.assertEqual(self.wire.server.queued, 0)

    def test_backpressure(self) -> None:
        """
        A generator is asked for more when the client has taken what there was.
        """
        self.wire.acknowledges = False
        self.served.size, self.served.count = 50_000, 100
        outcome = self.wire.call(LIST, b"")
        before = self.served.produced
        self.assertLess(before, 6)
        (stream,) = self.wire.calls
        self.wire.acknowledges = True
        self.wire.h2.increment_flow_control_window(200_000)
        self.wire.h2.increment_flow_control_window(200_000, stream)
        self.wire.exchange()
        self.assertEqual((self.served.produced, outcome.status), (100, 0))

    def test_paused(self) -> None:
        """
        While the transport is full nothing is given to it.
        """
        self.wire.server.pauseProducing()
        self.served.size, self.served.count = 50_000, 3
        outcome = self.wire.call(LIST, b"")
        self.assertEqual(outcome.messages, [])
        self.wire.server.resumeProducing()
        self.wire.exchange()
        self.assertEqual((len(outcome.messages), outcome.status), (3, 0))

    def test_reset_while_blocked(self) -> None:
        """
        A call that is reset while its answer waits frees what waited.
        """
        self.wire.acknowledges = False
        self.served.size, self.served.count = 50_000, 100
        self.wire.call(LIST, b"")
        (stream,) = self.wire.calls
        self.wire.reset(stream)
        self.assertEqual((self.wire.server.queued, self.served.closed), (0, 1))


class StopTests(ServerCase):
    """
    The end of the server.
    """

    def test_idle(self) -> None:
        """
        Connections without calls are closed at once.
        """
        stopped = self.factory.stop(5)
        self.successResultOf(stopped)
        self.wire.exchange()
        self.assertEqual(self.wire.goaway, 0)
        self.assertFalse(self.wire.transport.connected)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIsNone(self.factory.buildProtocol(None))

    def test_running(self) -> None:
        """
        A running call ends in its time; new ones are refused.
        """
        self.call("w", path=WAIT)
        stopped = self.factory.stop(5)
        refused = HeadersFrame(3, flags=["END_HEADERS"])
        head = [(":method", "POST"), (":path", STAT), (":scheme", "http"), (":authority", "a")]
        head = [(":method", "POST"), (":path", STAT), (":scheme", "http"), (":authority", "a")]
        refused.data = self.wire.h2.encoder.encode(head)
        self.wire.server.dataReceived(refused.serialize())
        self.assertEqual(self.served.calls, [])
        self.assertNoResult(stopped)
        self.served.waits[0].callback(Info())
        self.successResultOf(stopped)
        self.assertIn(b"\x00\x00\x04\x03\x00\x00\x00\x00\x03\x00\x00\x00\x07", self.wire.transport.value())

    def test_grace(self) -> None:
        """
        After the grace calls are cancelled, and told why.
        """
        self.call("w", path=WAIT)
        stopped = self.factory.stop(5)
        self.clock.advance(5)
        self.assertEqual(self.served.cancelled, 1)
        self.successResultOf(stopped)
        self.assertFalse(self.wire.transport.connected)

    def test_cancelled(self) -> None:
        """
        Cancelling the stop ends the grace.
        """
        self.call("w", path=WAIT)
        stopped = self.factory.stop(5)
        stopped.cancel()
        self.successResultOf(stopped)
        self.assertEqual((self.served.cancelled, self.clock.getDelayedCalls()), (1, []))

    def test_stubborn(self) -> None:
        """
        Methods that do not end are waited for, for a bounded time.
        """
        for ends in (True, False):
            self.setUp()
            self.wire.call(RAW, b"stubborn")
            stopped = self.factory.stop(5)
            self.clock.advance(5)
            self.assertNoResult(stopped)
            assert self.served.stubborn is not None
            if ends:
                self.served.stubborn.callback(None)
            else:
                self.clock.advance(CANCEL_TIME)
            self.successResultOf(stopped)
            self.assertEqual(self.clock.getDelayedCalls(), [])
