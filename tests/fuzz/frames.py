"""
The harnesses for gRPC: frames of HTTP/2 to the server of engines' sockets, and to the
client of containerd's.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from tests.engines.grpc.test_server import LIST, PULSE, RAW, STAT, WAIT, Served
from tests.engines.grpc.wire import MemoryTransport
from tests.fuzz.harness import Broken, Harness
from tests.fuzz.inputs import SIZES, cut, damaged
from xferd.engines.grpc.client import ClientConnection, Options
from xferd.engines.grpc.connection import Connection
from xferd.engines.grpc.messages import MAX_MESSAGE, encode
from xferd.engines.grpc.server import GrpcFactory
from xferd.engines.grpc.status import GrpcError

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_REQUEST: Final = (
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
)
_ANSWERS: Final = (
    ((":status", "200"), ("content-type", "application/grpc")),
    ((":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "5"), ("grpc-message", "%zz")),
    ((":status", "503"),),
    (("grpc-status", "0"),),
    (("grpc-status", "99999999999"),),
)
_BODIES: Final = st.sampled_from(
    (
        b"",
        encode(b""),
        encode(b"\x12\x03abc"),
        encode(b"\x12\x03abc") * 3,
        encode(b"\x12\xff"),
        encode(bytes(10_000)),
        b"\x00\x00",
        b"\x01\x00\x00\x00\x00",
        b"\x00" + (MAX_MESSAGE + 1).to_bytes(4, "big"),
        b"\x00" + MAX_MESSAGE.to_bytes(4, "big") + bytes(9000),
    )
)
_STREAMS: Final = st.sampled_from((0, 1, 1, 1, 3, 3, 5, 2))
_WORDS: Final = st.sampled_from((0, 1, 7, 100, 65_535, 2**31 - 1, 2**32 - 1))


@st.composite
def frames(draw: st.DrawFn, heads: st.SearchStrategy[list[tuple[str, str]]], opens: bool) -> bytes:
    """
    Frames of one side, most of them in an order that makes sense.

    @param opens: whether this side opens the streams; else the other one has opened
        three.
    """
    encoder = Encoder()
    opened = [] if opens else [1, 3, 5]
    made: list[Frame] = [SettingsFrame(0)]
    for _ in range(draw(st.integers(0, 16))):
        is_odd_one = draw(st.integers(0, 9)) == 0
        if is_odd_one:
            stream = draw(_STREAMS)
        elif opens and (not opened or draw(st.integers(0, 2)) == 0):
            stream = 2 * len(opened) + 1
            opened.append(stream)
            if draw(st.booleans()):
                made += _whole(stream, encoder.encode(draw(heads)))
            else:
                made.append(_head(draw, stream, encoder.encode(draw(heads))))
            continue
        else:
            stream = draw(st.sampled_from(opened or [1]))
            if not opens and draw(st.integers(0, 2)) == 0:
                made += _whole(stream, encoder.encode(_ANSWERS[0]))
                made.append(HeadersFrame(stream, encoder.encode([("grpc-status", "0")])))
                made[-1].flags.add("END_STREAM")
                made[-1].flags.add("END_HEADERS")
                made[-2].flags.discard("END_STREAM")
                continue
        made.append(_frame(draw, stream, encoder, heads, opens and not is_odd_one))
    return b"".join(frame.serialize() for frame in made)


def _whole(stream: int, block: bytes) -> list[Frame]:
    """
    Headers and one message, which end the stream.
    """
    head, body = HeadersFrame(stream, block), DataFrame(stream, encode(b"\x12\x03abc"))
    head.flags.add("END_HEADERS")
    body.flags.add("END_STREAM")
    return [head, body]


def _head(draw: st.DrawFn, stream: int, block: bytes) -> Frame:
    """
    Headers, which may end the stream, and seldom are not whole.
    """
    frame = HeadersFrame(stream or 1, block)
    if draw(st.integers(0, 5)) == 0:
        frame.flags.add("END_STREAM")
    if draw(st.integers(0, 19)):
        frame.flags.add("END_HEADERS")
    return frame


def _frame(
    draw: st.DrawFn,
    stream: int,
    encoder: Encoder,
    heads: st.SearchStrategy[list[tuple[str, str]]],
    plain: bool,
) -> Frame:
    """
    One frame of a stream, or of the connection.

    @param plain: whether no headers follow those of the stream.
    """
    match draw(st.integers(0, 15)):
        case 0:
            return RstStreamFrame(stream or 1, draw(_WORDS))
        case 1:
            return WindowUpdateFrame(draw(st.sampled_from((0, stream))), min(draw(_WORDS), 2**31 - 1))
        case 2:
            # INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS and any other.
            return SettingsFrame(0, {draw(st.sampled_from((3, 4, 4, 6, 0, 5, 99))): draw(_WORDS)})
        case 3:
            return PingFrame(0, b"12345678")
        case 4 if draw(st.integers(0, 4)) == 0:
            return GoAwayFrame(0, 1, 0)
        case 5 if draw(st.integers(0, 4)) == 0:
            return PriorityFrame(stream or 1, depends_on=0)
        case 6 if draw(st.integers(0, 4)) == 0:
            return ContinuationFrame(stream or 1, encoder.encode([("a", "b")]))
        case 7 if draw(st.integers(0, 4)) == 0:
            return PushPromiseFrame(stream or 1, 2, encoder.encode([(":path", "/")]))
        case 8 | 9 | 10 if not plain:
            return _head(draw, stream, encoder.encode(draw(heads)))
    frame = DataFrame(stream or 1, draw(_BODIES))
    if draw(st.booleans()):
        frame.flags.add("END_STREAM")
    return frame


_REQUESTS: Final = st.tuples(
    st.sampled_from((STAT, LIST, WAIT, RAW, PULSE, "/a/b", "*", "")),
    st.sampled_from((None, "0n", "5S", "99999999H", "soon")),
).map(
    lambda given: [
        (":path", given[0]),
        *_REQUEST,
        *([] if given[1] is None else [("grpc-timeout", given[1])]),
    ]
)
_RESPONSES: Final = st.sampled_from(_ANSWERS).map(list)


@contextmanager
def _watched() -> Iterator[None]:
    """
    Fail where an error is logged, or is never handled.
    """
    failures: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            failures.append(str(event.get("log_failure") or event.get("log_format")))

    globalLogPublisher.addObserver(observe)
    try:
        yield
        # Errors of Deferreds that no code handles are logged when these are freed.
        gc.collect(0)
    finally:
        globalLogPublisher.removeObserver(observe)
    if failures:
        raise Broken(f"an error was logged: {failures[0]}")


def _feed(connection: Connection, transport: MemoryTransport, pieces: list[bytes], clock: Clock) -> None:
    """
    Receive some bytes, and then the end of the connection.
    """
    for number, piece in enumerate(pieces):
        if transport.connected:
            connection.dataReceived(piece)
        if number % 5 == 3 and transport.connected:
            connection.pauseProducing()
        if number % 5 == 4 and transport.connected:
            connection.resumeProducing()
        transport.clear()
        clock.advance(1)
    if transport.connected:
        transport.loseConnection()
    if connection.streams or connection.queued:
        raise Broken(f"a lost connection holds {connection.streams} and {connection.queued} bytes")


def check_server(given: tuple[bytes, list[int]]) -> None:
    """
    A server ends all calls with their connection, holds nothing of it, and logs no fault.
    """
    data, sizes = given
    clock = Clock()
    served = Served()
    factory = GrpcFactory(served.services(), clock, lambda _: 0)
    connection = factory.buildProtocol(None)
    assert connection is not None
    transport = MemoryTransport()
    transport.protocol = connection
    with _watched():
        connection.makeConnection(transport)
        _feed(connection, transport, cut(_PREFACE + data, sizes), clock)
        if factory.running or connection.held or factory.connections:
            raise Broken(f"{factory.running} methods work, and {connection.held} bytes are held")
        if [call for call in clock.getDelayedCalls() if call.getTime() < 1e9]:
            raise Broken("a timer is left")


def check_client(given: tuple[bytes, list[int]]) -> None:
    """
    A client's calls end, with an answer or with an error of gRPC's.
    """
    data, sizes = given
    clock = Clock()
    connection = ClientConnection(clock, MAX_MESSAGE)
    transport = MemoryTransport()
    transport.protocol = connection
    outcomes: list[object] = []

    async def call() -> None:
        made = connection.begin(RAW, Options(timeout=1000.0))
        try:
            made.send(bytes(100_000))
            made.finish()
            while await made.receive() is not None:
                pass
            outcomes.append(None)
        except GrpcError as e:
            outcomes.append(e.code)
        finally:
            made.cancel()

    with _watched():
        connection.makeConnection(transport)
        calls = [Deferred.fromCoroutine(call()) for _ in range(3)]
        _feed(connection, transport, cut(data, sizes), clock)
        if len(outcomes) != len(calls) or clock.getDelayedCalls():
            raise Broken(f"of three calls {len(outcomes)} have ended")


_ASKED: Final = frames(_REQUESTS, opens=True)
_ANSWERED: Final = frames(_RESPONSES, opens=False)

SERVER: Final = Harness("grpc-server", st.tuples(_ASKED | damaged(_ASKED), SIZES), check_server)
CLIENT: Final = Harness("grpc-client", st.tuples(_ANSWERED | damaged(_ANSWERED), SIZES), check_client)
