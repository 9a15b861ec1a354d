# -*- test-case-name: tests.engines.grpc.test_server -*-
"""
One HTTP/2 connection (RFC 9113), of either side: frames in and out, flow control, and
limits on what a peer can make it hold.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from typing import Final, cast
from typing import Protocol as Shape

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.engines.grpc.stream import Headers, Stream

MAX_STREAMS: Final = 1000
"""Streams that a peer may have open on one connection: an engine multiplexes all of its
calls, and some of them wait for downloads."""

MAX_HEADERS: Final = 16 * 1024
"""Bytes of the headers of one stream, as RFC 9113, section 6.5.2 counts them."""

STREAM_WINDOW: Final = 256 * 1024
CONNECTION_WINDOW: Final = 1024 * 1024

_TURN: Final = 4
"""Data frames of one stream before the next stream's."""

_MAX_CONTROL: Final = 256 * 1024
"""Bytes of answers to a peer's control frames that wait for a peer that does not read
(CVE-2019-9512, CVE-2019-9515)."""


class Transport(Shape):
    """
    What a connection needs of a stream transport.
    """

    def write(self, data: bytes, /) -> None:
        """
        As in ITransport.
        """

    def loseConnection(self) -> None:
        """
        As in ITransport.
        """

    def abortConnection(self) -> None:
        """
        As in ITCPTransport.
        """

    def registerProducer(self, producer: IPushProducer, streaming: bool, /) -> None:
        """
        As in IConsumer.
        """

    def unregisterProducer(self) -> None:
        """
        As in IConsumer.
        """

    def getHandle(self) -> socket.socket:
        """
        As in ISystemHandle.
        """


@implementer(IPushProducer)
class Connection(Protocol):
    """
    One HTTP/2 connection.

    States: new; open; closing (a GOAWAY was sent or received: no new streams); lost.

    @ivar streams: the streams that are not gone, by number.
    @ivar queued: bytes of all streams that wait for the peer.
    @ivar closing: whether no new streams are accepted.
    """

    _log = Logger()

    def __init__(self, client_side: bool, window: int = CONNECTION_WINDOW) -> None:
        """
        @param window: bytes that the peer may send on all streams together before they
            are acknowledged.
        """
        self.streams: dict[int, Stream] = {}
        self.queued = 0
        self.closing = False
        self._h2 = H2Connection(
            H2Configuration(
                client_side=client_side,
                header_encoding=None,
                # What we send is ours.
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self._h2.local_settings = Settings(
            client=client_side,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                SettingCodes.MAX_FRAME_SIZE: 16384,
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
            },
        )
        self._h2.decoder.max_header_list_size = MAX_HEADERS
        self._window = window
        self._blocked: dict[int, Stream] = {}
        self._paused = False
        self._paused_size = 0
        self._receiving = False
        self._lost = False

    # What a subclass does.

    def stream_opened(self, stream_id: int, headers: Mapping[str, str]) -> None:
        """
        The peer opened a stream.
        """

    def stream_reset_by_peer(self) -> None:
        """
        The peer has reset a stream.
        """

    def terminated(self) -> None:
        """
        The peer accepts no more streams; those that are open continue.
        """

    # Protocol.

    def connectionMade(self) -> None:
        transport = self._transport
        transport.registerProducer(self, True)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(self._window - 65535)
        self.flush()

    def dataReceived(self, data: bytes) -> None:
        if self._lost:
            return
        self._receiving = True
        try:
            events = self._h2.receive_data(data)
        except ProtocolError as e:
            self._receiving = False
            self._log.debug("closing an HTTP/2 connection: {reason}", reason=str(e))
            # h2 has queued a GOAWAY.
            self.flush()
            self.close()
            return
        try:
            for event in events:
                if self._lost:
                    return
                self._received(event)
        finally:
            self._receiving = False
        self._pump_blocked()
        self.flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002 - IProtocol's
        self._lost = True
        self.closing = True
        for stream in list(self.streams.values()):
            self.drop(stream)
            stream.lost(None)

    # IPushProducer, for the transport.

    def pauseProducing(self) -> None:
        self._paused = True
        self._paused_size = 0

    def resumeProducing(self) -> None:
        self._paused = False
        self._pump_blocked()
        self.flush()

    def stopProducing(self) -> None:
        self._paused = True

    # For streams and subclasses.

    def add(self, stream: Stream) -> None:
        """
        Add a stream that is open.
        """
        self.streams[stream.id] = stream

    def send_headers(self, stream: Stream, headers: Headers, end: bool) -> None:
        """
        Send headers on a stream.
        """
        try:
            self._h2.send_headers(stream.id, headers, end_stream=end)
        except ProtocolError:
            self._closed_by_peer(stream)
            return
        if end:
            stream.sent_all()
        self.flush()

    def pump(self, stream: Stream) -> None:
        """
        Send what is queued on a stream, as far as windows and transport allow.
        """
        self._send_some(stream)
        while stream.id in self._blocked and not self._paused and self._send_some(stream):
            pass
        self.flush()

    def drop(self, stream: Stream) -> None:
        """
        Forget a stream whose two sides have ended.
        """
        self.streams.pop(stream.id, None)
        self._blocked.pop(stream.id, None)
        stream.forget()

    def reset(self, stream: Stream, code: ErrorCodes) -> None:
        """
        Reset a stream.
        """
        try:
            self._h2.reset_stream(stream.id, code)
        except ProtocolError:
            # The peer has closed it in the meantime.
            pass
        self.drop(stream)
        self.flush()

    def acknowledge(self, stream_id: int, size: int) -> None:
        """
        Let the peer send more.

        @param size: bytes that arrived, and are not held any longer.
        """
        if size:
            self._h2.acknowledge_received_data(size, stream_id)
            self.flush()

    def go_away(self, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """
        Send the peer a request to open no more streams.  h2 would end those that are open, too.
        """
        if self._lost or self.closing:
            return
        self.closing = True
        frame = GoAwayFrame(0, last_stream_id=self._h2.highest_inbound_stream_id, error_code=code)
        self.flush()
        self._transport.write(frame.serialize())

    def close(self) -> None:
        """
        Close the connection, after what is queued in the transport.
        """
        self.closing = True
        if not self._lost:
            self._transport.unregisterProducer()
            self._transport.loseConnection()

    def abort(self) -> None:
        """
        Close the connection at once.
        """
        self.closing = True
        if not self._lost:
            self._transport.unregisterProducer()
            self._transport.abortConnection()

    def flush(self) -> None:
        """
        Give the transport what was made.
        """
        if self._receiving or self._lost:
            return
        data = self._h2.data_to_send()
        if not data:
            return
        if self._paused:
            self._paused_size += len(data)
            if self._paused_size > _MAX_CONTROL:
                self._log.warn("closing an HTTP/2 connection: the peer reads nothing of what it asks for")
                self.abort()
                return
        self._transport.write(data)

    @property
    def _transport(self) -> Transport:
        transport = self.transport
        assert transport is not None
        return cast(Transport, transport)

    def _received(self, event: Event) -> None:
        """
        Dispatch an event.  What opens a window needs nothing here: the streams that
        wait are tried after all events.
        """
        if isinstance(event, DataReceived):
            size = event.flow_controlled_length
            stream = self.streams.get(event.stream_id)
            if stream is None or not stream.acknowledges_late:
                self.acknowledge(event.stream_id, size)
            else:
                self.acknowledge(event.stream_id, size - len(event.data))
            if stream is not None and event.data:
                stream.data_received(event.data)
        elif isinstance(event, RequestReceived):
            self.stream_opened(event.stream_id, _texts(event.headers))
        elif isinstance(event, ResponseReceived | TrailersReceived):
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                stream.headers_received(_texts(event.headers))
        elif isinstance(event, StreamEnded):
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                stream.ended()
        elif isinstance(event, StreamReset):
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                self.drop(stream)
                stream.lost(int(event.error_code))
            # Also those that the peer makes h2 send (CVE-2025-8671).
            self.stream_reset_by_peer()
        elif isinstance(event, ConnectionTerminated):
            self.closing = True
            self.terminated()

    def _send_some(self, stream: Stream) -> bool:
        """
        Send a few frames of a stream.

        @return: whether anything was sent.
        """
        sent = False
        for _ in range(_TURN):
            if stream.gone or not stream.has_pending or self._paused:
                break
            try:
                window = min(self._h2.local_flow_control_window(stream.id), self._h2.max_outbound_frame_size)
                if window <= 0:
                    break
                self._h2.send_data(stream.id, stream.take(window))
            except ProtocolError:
                self._closed_by_peer(stream)
                return False
            sent = True
        if sent and not self._receiving:
            # The transport may pause us.
            self.flush()
        if not stream.gone:
            if stream.has_pending:
                # Behind the others.
                self._blocked.pop(stream.id, None)
                self._blocked[stream.id] = stream
            else:
                self._blocked.pop(stream.id, None)
                end = stream.end
                if end is not None:
                    self._send_end(stream, end[0])
            stream.wake()
        return sent

    def _send_end(self, stream: Stream, trailers: Headers | None) -> None:
        """
        End our side of a stream.
        """
        try:
            if trailers is None:
                self._h2.end_stream(stream.id)
            else:
                self._h2.send_headers(stream.id, trailers, end_stream=True)
        except ProtocolError:
            self._closed_by_peer(stream)
            return
        stream.sent_all()

    def _pump_blocked(self) -> None:
        """
        Send on the streams that wait, in turns.
        """
        progress = True
        while progress and self._blocked and not self._paused and not self._lost:
            progress = False
            for stream in list(self._blocked.values()):
                if not stream.gone and self._send_some(stream):
                    progress = True

    def _closed_by_peer(self, stream: Stream) -> None:
        """
        h2 sends nothing more on a stream: the peer has reset it, or ended the
        connection, and that event is still to come.
        """
        self.drop(stream)
        stream.lost(ErrorCodes.CANCEL)


def _texts(headers: Iterable[tuple[bytes | str, bytes | str]]) -> dict[str, str]:
    """
    Headers as texts; of a name that is there twice, the last value.
    """
    return {_text(name): _text(value) for name, value in headers}


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
