# -*- test-case-name: tests.engines.grpc.test_server -*-
"""
One stream of an HTTP/2 connection, with the bytes that wait for its peer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, Protocol

from h2.errors import ErrorCodes
from twisted.internet.defer import Deferred, succeed

Headers = list[tuple[str, str]]

HIGH_WATER: Final = 64 * 1024
"""Bytes that wait on one stream before its writer is to wait, too."""


class Carrier(Protocol):
    """
    What a stream needs of its connection.

    @ivar queued: bytes of all streams that wait for the peer.
    """

    queued: int

    def send_headers(self, stream: Stream, headers: Headers, end: bool) -> None:
        """
        Send headers on a stream.
        """

    def pump(self, stream: Stream) -> None:
        """
        Send what is queued on a stream, as far as windows and transport allow.
        """

    def reset(self, stream: Stream, code: ErrorCodes) -> None:
        """
        Reset a stream.
        """

    def drop(self, stream: Stream) -> None:
        """
        Forget a stream whose two sides have ended.
        """

    def acknowledge(self, stream_id: int, size: int) -> None:
        """
        Let the peer send more.

        @param size: bytes that arrived, and are not held any longer.
        """


class Stream:
    """
    One stream of a connection.

    States: open; finishing (its end is queued); gone.

    @ivar id: its number on the connection.
    @ivar acknowledges_late: whether the subclass acknowledges what arrives, once it is
        not held any longer.
    """

    acknowledges_late = False

    def __init__(self, connection: Carrier, stream_id: int) -> None:
        self.id = stream_id
        self.connection = connection
        self.gone = False
        self._pending: deque[bytes] = deque()
        self._size = 0
        self._trailers: Headers | None = None
        self._finishing = False
        self._waiters: list[Deferred[None]] = []

    # What a subclass does with what arrives.

    def headers_received(self, headers: Mapping[str, str]) -> None:
        """
        Headers or trailers arrived.
        """

    def data_received(self, data: bytes) -> None:
        """
        A part of the body arrived.
        """

    def ended(self) -> None:
        """
        The peer sends no more.
        """

    def lost(self, code: int | None) -> None:
        """
        The peer has reset the stream, or the connection is lost.

        @param code: the code of RST_STREAM, or L{None} for the connection.
        """

    def sent_all(self) -> None:
        """
        Our side has ended; the peer's may be open.
        """

    # What a subclass sends.

    @property
    def queued(self) -> int:
        """
        Bytes that wait for the peer.
        """
        return self._size

    def send_headers(self, headers: Headers, end: bool = False) -> None:
        """
        Send the first headers.
        """
        if not self.gone:
            self.connection.send_headers(self, headers, end)

    def write(self, data: bytes) -> None:
        """
        Queue a part of the body.
        """
        if self.gone or self._finishing:
            return
        self._pending.append(data)
        self._size += len(data)
        self.connection.queued += len(data)
        self.connection.pump(self)

    def finish(self, trailers: Headers | None = None) -> None:
        """
        End our side once all is sent.
        """
        if self.gone or self._finishing:
            return
        self._trailers = trailers
        self._finishing = True
        self.connection.pump(self)

    def reset(self, code: ErrorCodes) -> None:
        """
        End the stream at once, both sides; what is queued is dropped.
        """
        if not self.gone:
            self.connection.reset(self, code)

    def drained(self) -> Deferred[None]:
        """
        Wait until little is queued.

        @return: fires at once if it is so, and also when the stream is gone.
            Cancelling ends the wait.
        """
        if self._size < HIGH_WATER or self.gone:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        return waiter

    # For the connection.

    def take(self, window: int) -> bytes:
        """
        Remove at most C{window} bytes from the queue.
        """
        data = self._pending.popleft()
        if len(data) > window:
            self._pending.appendleft(data[window:])
            data = data[:window]
        self._size -= len(data)
        self.connection.queued -= len(data)
        return data

    @property
    def has_pending(self) -> bool:
        """
        Whether bytes are queued.
        """
        return bool(self._pending)

    @property
    def end(self) -> tuple[Headers | None] | None:
        """
        The queued end, with its trailers.
        """
        return (self._trailers,) if self._finishing and not self._pending else None

    def wake(self) -> None:
        """
        Fire the waits of L{drained} if it is time.
        """
        while self._waiters and (self.gone or self._size < HIGH_WATER):
            self._waiters.pop(0).callback(None)

    def forget(self) -> None:
        """
        Become gone: drop what is queued.
        """
        self.gone = True
        self.connection.queued -= self._size
        self._size = 0
        self._pending.clear()
        self.wake()
