# -*- test-case-name: tests.engines.grpc.test_server -*-
"""
One call at a gRPC server.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Final, Protocol

from h2.errors import ErrorCodes
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xferd.engines.grpc.messages import MessageReader, encode
from xferd.engines.grpc.service import Call, Method
from xferd.engines.grpc.status import GrpcError, Status, parse_timeout, quote_message
from xferd.engines.grpc.stream import Carrier, Headers, Stream

MAX_HELD: Final = 32 * 1024 * 1024
"""Bytes of incomplete requests, and likewise of answers that wait, of one connection."""

_OWN_HEADERS: Final = (":", "grpc-", "content-type", "te", "user-agent", "accept-encoding")
"""How the names of headers begin that are HTTP/2's and gRPC's own."""

_HEADERS: Final[Headers] = [(":status", "200"), ("content-type", "application/grpc")]


class CallHost(Carrier, Protocol):
    """
    What a call needs of its connection.

    @ivar clock: keeps the time that clients wait.
    @ivar peer_uid: the user of the client's process.
    @ivar held: bytes of incomplete requests of all calls.
    """

    clock: IReactorTime
    peer_uid: int
    held: int

    def method(self, path: str) -> Method[Any]:
        """
        The method of a path.

        @raise GrpcError: there is none.
        """

    def began_one(self) -> None:
        """
        A method begins to work.
        """

    def ended_one(self) -> None:
        """
        A method has ended, perhaps long after its call.
        """

    def close_if_idle(self) -> None:
        """
        Close a connection that accepts no more calls, once it has none.
        """


class ServerStream(Stream):
    """
    One call.

    States: receiving (until the client has sent its request); running (the method
    works); answered (its outcome is queued or sent); gone.
    """

    _log = Logger()

    connection: CallHost

    def __init__(self, connection: CallHost, stream_id: int) -> None:
        super().__init__(connection, stream_id)
        self._reader = MessageReader()
        self._held = 0
        self._messages: list[bytes] = []
        self._method: Method[Any] | None = None
        self._call: Call | None = None
        self._running: Deferred[None] | None = None
        self._deadline: IDelayedCall | None = None
        self._headers_sent = False
        self._answered = False
        self._peer_ended = False

    def begin(self, headers: Mapping[str, str]) -> None:
        """
        The client sent the headers of a call.
        """
        kind = headers.get("content-type", "")
        if headers.get(":method") != "POST" or not kind.startswith("application/grpc"):
            status = "405" if headers.get(":method") != "POST" else "415"
            self._answered = True
            self.send_headers([(":status", status)], end=True)
            return
        try:
            path = headers.get(":path", "")
            self._method = self.connection.method(path)
            text = headers.get("grpc-timeout")
            timeout = None if text is None else parse_timeout(text)
        except GrpcError as e:
            self.fail(e)
            return
        metadata = {name: value for name, value in headers.items() if not name.startswith(_OWN_HEADERS)}
        self._call = Call(path, metadata, self.connection.peer_uid, timeout)
        if timeout is not None:
            self._deadline = self.connection.clock.callLater(timeout, self._expired)

    def data_received(self, data: bytes) -> None:
        if self._answered:
            return
        try:
            self._messages += self._reader.feed(data)
            if len(self._messages) > 1:
                raise GrpcError(Status.INTERNAL, "the method takes one message")
            self._hold(self._reader.held + sum(map(len, self._messages)))
            if self.connection.held > MAX_HELD:
                raise GrpcError(Status.RESOURCE_EXHAUSTED, "too many large requests at once")
        except GrpcError as e:
            self.fail(e)

    def ended(self) -> None:
        self._peer_ended = True
        if self._answered or self._method is None or self._call is None:
            return
        try:
            self._reader.finish()
            if not self._messages:
                raise GrpcError(Status.INTERNAL, "the method takes one message")
            request = self._method.read(self._messages.pop())
        except GrpcError as e:
            self.fail(e)
            return
        self._hold(0)
        self.connection.began_one()
        self._running = Deferred.fromCoroutine(self._run(self._method, request, self._call))

    def lost(self, code: int | None) -> None:  # noqa: ARG002 - the client's reason
        self._end()

    def sent_all(self) -> None:
        if self._peer_ended:
            self.connection.drop(self)
        else:
            # The client may stop sending (RFC 9113, section 8.1).
            self.reset(ErrorCodes.NO_ERROR)
        self._end()
        self.connection.close_if_idle()

    def fail(self, error: GrpcError) -> None:
        """
        Answer with an error, unless the call has an outcome, and cancel its method.
        """
        if not self._answered and not self.gone:
            self._answered = True
            trailers = [("grpc-status", str(int(error.code))), ("grpc-message", quote_message(error.message))]
            if self._headers_sent:
                self.finish(trailers)
            else:
                self.send_headers(_HEADERS + trailers, end=True)
        self._end()

    def _expired(self) -> None:
        self.fail(GrpcError(Status.DEADLINE_EXCEEDED, "the client's time for the call is over"))

    async def _run(self, method: Method[Any], request: Any, call: Call) -> None:
        """
        Run the method, and answer with what comes of it.
        """
        try:
            if method.unary is not None:
                self._answer(encode(await method.unary(request, call)))
            elif method.streaming is not None:
                async with aclosing(method.streaming(request, call)) as messages:
                    async for message in messages:
                        self._answer(encode(message))
                        await self.drained()
            self._succeed()
        except CancelledError:
            self._conclude(GrpcError(Status.CANCELLED, "the call was cancelled"))
        except GrpcError as e:
            self._conclude(e)
        except Exception:
            self._log.failure("{path} failed", path=call.path)
            self._conclude(GrpcError(Status.INTERNAL, "internal error; see xferd's log"))
        finally:
            self.connection.ended_one()

    def _conclude(self, error: GrpcError) -> None:
        """
        The method has ended with an error.
        """
        self._running = None
        self.fail(error)

    def _answer(self, data: bytes) -> None:
        """
        Queue a message.
        """
        if self._answered or self.gone:
            # The method has missed its cancellation.
            raise CancelledError
        if self.connection.queued + len(data) > MAX_HELD:
            raise GrpcError(Status.RESOURCE_EXHAUSTED, "the client does not take its answers")
        # What this sends may show that the stream is gone.  The method, which is waiting
        # for this call's return, cannot be cancelled then.
        running, self._running = self._running, None
        self._send_headers_once()
        self.write(data)
        if self.gone:
            raise CancelledError
        self._running = running

    def _succeed(self) -> None:
        self._running = None
        if self._answered or self.gone:
            return
        self._send_headers_once()
        self._answered = True
        self.finish([("grpc-status", "0")])

    def _send_headers_once(self) -> None:
        if not self._headers_sent:
            self._headers_sent = True
            self.send_headers(_HEADERS)

    def _hold(self, size: int) -> None:
        """
        Count the bytes of the request that this holds.
        """
        self.connection.held += size - self._held
        self._held = size

    def _end(self) -> None:
        """
        Cancel the method, and free what the call holds.
        """
        self._hold(0)
        self._messages.clear()
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        # Once: a second cancellation would interrupt the method's cleanup.
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
