"""
An HTTP/2 client in memory, which sends what a test says to a server.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from twisted.internet.testing import StringTransportWithDisconnection

from xferd.engines.grpc.messages import MessageReader, encode
from xferd.engines.grpc.server import GrpcFactory, ServerConnection

Headers = list[tuple[str, str]]


class MemoryTransport(StringTransportWithDisconnection):
    """
    A transport that can be aborted, and that keeps no more than it is told to.
    """

    def abortConnection(self) -> None:
        """
        As the connection is lost.
        """
        self.loseConnection()

    def getHandle(self) -> Any:
        """
        There is no socket.
        """
        raise AssertionError("the tests name the peer")


@define
class Outcome:
    """
    What a call was answered.
    """

    headers: dict[str, str] = field(factory=dict)
    trailers: dict[str, str] = field(factory=dict)
    reader: MessageReader = field(factory=MessageReader)
    messages: list[bytes] = field(factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int | None:
        """
        The code, or L{None} if there is none yet.
        """
        text = (self.headers | self.trailers).get("grpc-status")
        return None if text is None else int(text)

    @property
    def message(self) -> str:
        """
        The text of the error.
        """
        return (self.headers | self.trailers).get("grpc-message", "")


class Wire:
    """
    One connection: the server's end, and an h2 client that does what the test says.
    """

    def __init__(self, factory: GrpcFactory) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        protocol = factory.buildProtocol(None)
        assert protocol is not None
        self.server: ServerConnection = protocol
        self.transport = MemoryTransport()
        self.transport.protocol = self.server
        self.server.makeConnection(self.transport)
        self.calls: dict[int, Outcome] = {}
        self.goaway: int | None = None
        self.acknowledges = True
        self.exchange()

    def exchange(self) -> None:
        """
        Deliver in both directions, until nothing moves.
        """
        while True:
            out = self.h2.data_to_send()
            if out and self.transport.connected:
                self.server.dataReceived(out)
            data = self.transport.value()
            self.transport.clear()
            if not data:
                return
            for event in self.h2.receive_data(data):
                self._received(event)

    def begin(self, path: str, *headers: tuple[str, str], end: bool = False, **changed: str) -> int:
        """
        Open a stream.

        @return: its number.
        """
        stream = self.h2.get_next_available_stream_id()
        base = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "localhost",
            "content-type": "application/grpc",
            "te": "trailers",
        } | {f":{name}": value for name, value in changed.items()}
        base |= dict(headers)
        self.calls[stream] = Outcome()
        self.h2.send_headers(stream, list(base.items()), end_stream=end)
        self.exchange()
        return stream

    def send(self, stream: int, data: bytes, end: bool = True) -> None:
        """
        Send a body, as windows allow, until the server has answered.
        """
        call = self.calls[stream]
        while data and not call.ended and call.reset is None:
            size = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            assert size, "the server opens no window"
            self.h2.send_data(stream, data[:size])
            data = data[size:]
            self.exchange()
        if end and not call.ended and call.reset is None:
            self.h2.end_stream(stream)
        self.exchange()

    def call(self, path: str, request: bytes, *headers: tuple[str, str]) -> Outcome:
        """
        Make a call.
        """
        stream = self.begin(path, *headers)
        self.send(stream, encode(request))
        return self.calls[stream]

    def reset(self, stream: int) -> None:
        """
        Cancel a call.
        """
        self.h2.reset_stream(stream, 8)
        self.exchange()

    def lose(self) -> None:
        """
        Close the connection.
        """
        if self.transport.connected:
            self.transport.loseConnection()

    def _received(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.goaway = int(event.error_code or 0)
            return
        stream = getattr(event, "stream_id", None)
        if stream not in self.calls:
            return
        call = self.calls[stream]
        if isinstance(event, ResponseReceived):
            call.headers = dict(event.headers)  # type: ignore[arg-type]
        elif isinstance(event, TrailersReceived):
            call.trailers = dict(event.headers)  # type: ignore[arg-type]
        elif isinstance(event, DataReceived):
            call.messages += call.reader.feed(event.data)
            if self.acknowledges:
                self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
        elif isinstance(event, StreamEnded):
            call.ended = True
        elif isinstance(event, StreamReset):
            call.reset = int(event.error_code)
