# -*- test-case-name: tests.engines.grpc.test_client -*-
"""
A gRPC client of a server on a unix socket.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from os import strerror
from typing import Final

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory

from xferd.engines.grpc.client_stream import ClientStream
from xferd.engines.grpc.connection import Connection
from xferd.engines.grpc.messages import MAX_MESSAGE, Message, P, decode
from xferd.engines.grpc.status import GrpcError, Status, format_timeout
from xferd.engines.grpc.stream import Headers
from xferd.interfaces.reactor import IUnixReactor

CONNECT_TIMEOUT: Final = 5

FIRST_DELAY: Final = 0.1
MAX_DELAY: Final = 2.0
"""Seconds after a failure to connect in which no other attempt is made; they double."""

_WINDOW: Final = 16 * 1024 * 1024
"""Bytes that all streams of answers together may hold back."""


@frozen
class Options:
    """
    What a call has besides its request.

    @ivar metadata: headers, with names in lower case and values of printable ASCII.
    @ivar timeout: seconds until it fails with C{DEADLINE_EXCEEDED}, or L{None}.
    """

    metadata: Mapping[str, str] = {}
    timeout: float | None = None


class GrpcClient:
    """
    Makes calls on one connection, which it opens when it needs one.

    States: disconnected; connecting; connected; closed.
    """

    def __init__(
        self, path: str, reactor: IUnixReactor, limit: int = MAX_MESSAGE, max_delay: float = MAX_DELAY
    ) -> None:
        """
        @param path: the server's socket.
        @param limit: bytes of one answer.
        @param max_delay: seconds between attempts to connect, at most.
        """
        self._max_delay = max_delay
        self._limit = limit
        self._path = path
        self._reactor = reactor
        self._connection: ClientConnection | None = None
        self._connecting: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        self._delay = 0.0
        self._retry_at = 0.0
        self._problem = ""
        self._closed = False

    async def unary(self, path: str, request: Message, answer: type[P], options: Options = Options()) -> P:
        """
        Make a call with one answer.

        Cancelling cancels it at the server, too.

        @param path: C{/SERVICE/METHOD}.
        @raise GrpcError: it failed; C{UNAVAILABLE} without a server.
        """
        return decode(answer, await self.raw_unary(path, request.SerializeToString(), options))

    async def raw_unary(self, path: str, request: bytes, options: Options = Options()) -> bytes:
        """
        Make a call whose messages are passed on as they come.  See L{unary}.
        """
        call = await self.begin(path, options)
        try:
            call.send(request)
            call.finish()
            answer = await call.receive()
            if answer is None or await call.receive() is not None:
                raise GrpcError(Status.INTERNAL, "the server did not send one answer")
            return answer
        finally:
            call.cancel()

    async def streaming(
        self,
        path: str,
        request: Message,
        answer: type[P],
        options: Options = Options(),
    ) -> AsyncGenerator[P, None]:
        """
        Make a call with any number of answers.  Close the generator, or exhaust it.

        @raise GrpcError: it failed, perhaps after some answers.
        """
        contents = self.raw_streaming(path, request.SerializeToString(), options)
        async with aclosing(contents):
            async for content in contents:
                yield decode(answer, content)

    async def raw_streaming(
        self,
        path: str,
        request: bytes,
        options: Options = Options(),
    ) -> AsyncGenerator[bytes, None]:
        """
        Make a call whose messages are passed on as they come.  See L{streaming}.
        """
        call = await self.begin(path, options)
        try:
            call.send(request)
            call.finish()
            while (content := await call.receive()) is not None:
                yield content
        finally:
            call.cancel()

    async def begin(self, path: str, options: Options = Options()) -> ClientStream:
        """
        Begin a call of any kind.  The caller sends, finishes, receives, and cancels it
        in the end.

        @raise GrpcError: there is no server.
        """
        connection = await self._connected()
        return connection.begin(path, options)

    def close(self) -> None:
        """
        Close the connection; calls fail with C{UNAVAILABLE}.
        """
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.abort()

    async def _connected(self) -> ClientConnection:
        """
        Wait for a connection that takes calls.
        """
        while self._connection is None or self._connection.closing:
            if self._closed:
                raise GrpcError(Status.UNAVAILABLE, "xferd is stopping")
            if self._connecting is None:
                if self._reactor.seconds() < self._retry_at:
                    raise GrpcError(Status.UNAVAILABLE, self._problem)
                connecting = Deferred.fromCoroutine(self._connect())
                if connecting.called:
                    continue
                self._connecting = connecting
            waiter: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(waiter)
            await waiter
        return self._connection

    async def _connect(self) -> None:
        """
        Connect, for all that wait.
        """
        endpoint = UNIXClientEndpoint(self._reactor, self._path, timeout=CONNECT_TIMEOUT)
        problem: GrpcError | None = None
        try:
            connection = await endpoint.connect(_Factory(self._reactor, self._limit))
        except Exception as e:
            self._problem = f"cannot connect to {self._path}: {_reason(e)}"
            if self._closed:
                self._problem = "xferd is stopping"
            self._delay = min(max(2 * self._delay, FIRST_DELAY), self._max_delay)
            self._retry_at = self._reactor.seconds() + self._delay
            problem = GrpcError(Status.UNAVAILABLE, self._problem)
        else:
            self._delay = 0.0
            assert isinstance(connection, ClientConnection)
            self._connection = connection
        self._connecting = None
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if problem is None:
                waiter.callback(None)
            else:
                waiter.errback(problem)


class ClientConnection(Connection):
    """
    The client's end of a connection.
    """

    def __init__(self, clock: IReactorTime, limit: int) -> None:
        super().__init__(client_side=True, window=_WINDOW)
        self._clock = clock
        self._limit = limit

    def begin(self, path: str, options: Options) -> ClientStream:
        """
        Begin a call.

        @raise GrpcError: the server allows no more at once.
        """
        if self._h2.open_outbound_streams >= self._h2.remote_settings.max_concurrent_streams:
            raise GrpcError(Status.RESOURCE_EXHAUSTED, "the server allows no more calls at once")
        stream_id = self._h2.get_next_available_stream_id()
        stream = ClientStream(self, stream_id, self._clock, options.timeout, self._limit)
        headers: Headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "xferd"),
        ]
        if options.timeout is not None:
            headers.append(("grpc-timeout", format_timeout(options.timeout)))
        headers += options.metadata.items()
        self.add(stream)
        stream.send_headers(headers)
        return stream

    def terminated(self) -> None:
        # h2 receives nothing more after the server's GOAWAY.
        self.abort()


class _Factory(Factory):
    noisy = False

    def __init__(self, clock: IReactorTime, limit: int) -> None:
        self._clock = clock
        self._limit = limit

    def buildProtocol(self, addr: object) -> ClientConnection:  # noqa: ARG002 - IProtocolFactory's
        return ClientConnection(self._clock, self._limit)


def _reason(error: Exception) -> str:
    """
    Why a connection failed.
    """
    number = getattr(error, "osError", None)
    return strerror(number) if isinstance(number, int) else str(number or error) or type(error).__name__
