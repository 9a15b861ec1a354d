# -*- test-case-name: tests.engines.grpc.test_client -*-
"""
One call of a gRPC client.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from h2.errors import ErrorCodes
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from xferd.engines.grpc.messages import Message, MessageReader, encode
from xferd.engines.grpc.status import GrpcError, Status, error_of_trailers, status_of_reset
from xferd.engines.grpc.stream import Carrier, Stream

_MAX_HELD: Final = 256 * 1024
"""Bytes of messages that wait to be received, before the peer is to wait.  One message
may be larger."""


class ClientStream(Stream):
    """
    One call, with any number of messages in both directions.

    States: open; ended (with its outcome: success or an error); gone.  Messages that
    arrived before the end are still received after it.
    """

    acknowledges_late = True

    def __init__(
        self, connection: Carrier, stream_id: int, clock: IReactorTime, timeout: float | None, limit: int
    ) -> None:
        """
        @param timeout: seconds until the call fails with C{DEADLINE_EXCEEDED}.
        @param limit: bytes of one answer.
        """
        super().__init__(connection, stream_id)
        self._reader = MessageReader(limit)
        self._messages: deque[bytes] = deque()
        self._held = 0
        self._unacknowledged = 0
        self._headers: dict[str, str] = {}
        self._receiver: Deferred[bytes | None] | None = None
        self._error: GrpcError | None = None
        self._ended = False
        self._sent_all = False
        self._deadline: IDelayedCall | None = (
            None if timeout is None else clock.callLater(timeout, self._expired)
        )

    def send(self, message: Message | bytes) -> None:
        """
        Queue a message; L{xferd.engines.grpc.stream.Stream.drained} fires when more may be sent.
        """
        self.write(encode(message))

    def receive(self) -> Deferred[bytes | None]:
        """
        Wait for the next message.  One wait at a time.

        @return: its content, or L{None} after the last one.  Cancelling ends the wait,
            not the call.
        @raise GrpcError: the call failed.
        """
        assert self._receiver is None, "one wait at a time"
        if self._messages:
            return succeed(self._next())
        if self._ended:
            return succeed(None) if self._error is None else fail(self._error)

        def cancel(_: object) -> None:
            self._receiver = None

        self._receiver = Deferred(cancel)
        return self._receiver

    def cancel(self) -> None:
        """
        End the call, unless it has ended.
        """
        if not self._ended:
            self._end(GrpcError(Status.CANCELLED, "the call was cancelled"))
            self.reset(ErrorCodes.CANCEL)

    # Stream.

    def headers_received(self, headers: Mapping[str, str]) -> None:
        self._headers |= headers

    def data_received(self, data: bytes) -> None:
        if self._ended:
            self.connection.acknowledge(self.id, len(data))
            return
        self._unacknowledged += len(data)
        try:
            messages = self._reader.feed(data)
        except GrpcError as e:
            self._end(e)
            self.reset(ErrorCodes.CANCEL)
            return
        self._messages += messages
        self._held += sum(map(len, messages))
        if self._messages and self._receiver is not None:
            receiver, self._receiver = self._receiver, None
            receiver.callback(self._next())
        self._acknowledge()

    def ended(self) -> None:
        error = error_of_trailers(self._headers)
        if error is None:
            try:
                self._reader.finish()
            except GrpcError as e:
                error = e
        self._end(error)
        if self._sent_all:
            self.connection.drop(self)
        else:
            # An answer before the end of our side.
            self.reset(ErrorCodes.NO_ERROR)

    def lost(self, code: int | None) -> None:
        if code is None:
            self._end(GrpcError(Status.UNAVAILABLE, "the connection was lost"))
        else:
            self._end(GrpcError(status_of_reset(code), f"the peer has reset the call (HTTP/2 error {code})"))

    def sent_all(self) -> None:
        self._sent_all = True

    def _next(self) -> bytes:
        """
        Take the first message.
        """
        message = self._messages.popleft()
        self._held -= len(message)
        self._acknowledge()
        return message

    def _acknowledge(self) -> None:
        """
        Let the peer send more, unless many messages wait to be received.
        """
        if self._held < _MAX_HELD or self._ended:
            size, self._unacknowledged = self._unacknowledged, 0
            self.connection.acknowledge(self.id, size)

    def _expired(self) -> None:
        self._end(GrpcError(Status.DEADLINE_EXCEEDED, "the peer did not answer in time"))
        self.reset(ErrorCodes.CANCEL)

    def _end(self, error: GrpcError | None) -> None:
        """
        The call has its outcome.
        """
        if self._ended:
            return
        self._ended = True
        self._error = error
        # The other calls share the connection's window.
        self._acknowledge()
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        if error is None:
            receiver.callback(None)
        else:
            receiver.errback(error)
