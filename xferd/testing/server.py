# -*- test-case-name: tests.testing.test_server -*-
"""
The base of servers for tests: it logs each exchange, plants faults, and serves on a
socket or in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from io import SEEK_END
from typing import Any, BinaryIO, ClassVar, cast
from weakref import WeakKeyDictionary

from attrs import evolve
from klein import Klein
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLContextFactory,
    IProtocolFactory,
    IReactorTCP,
    IReactorTime,
    ITCPTransport,
)
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import Request

from xferd.testing.answers import Answer, Delivery, Exchange, Problem
from xferd.testing.bodies import BodySite
from xferd.testing.faults import Faults

_CLIENT_HELLO = b"\x16\x03"
"""A TLS handshake record (RFC 8446, 5.1); no HTTP method begins so."""


class _Connection(ProtocolWrapper):
    """
    Report the end of a connection, after the protocol behind it.
    """

    _begun = False

    def dataReceived(self, data: bytes) -> None:
        """
        Answer a client that begins with TLS on a plain port as other servers do: skopeo,
        docker and nerdctl try TLS first, and fall back only after such an answer.
        """
        first, self._begun = not self._begun, True
        if first and cast(_Connections, self.factory).plain and data.startswith(_CLIENT_HELLO):
            transport = cast(ITCPTransport, self.transport)
            transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            transport.loseConnection()
        else:
            super().dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        super().connectionLost(reason)
        cast(_Connections, self.factory).tell()


class _Connections(WrappingFactory):
    """
    The open connections of a server.
    """

    noisy = False
    protocol = _Connection

    def __init__(self, site: IProtocolFactory, plain: bool) -> None:
        super().__init__(site)
        self.plain = plain
        self._ended: Deferred[None] | None = None

    def abort(self) -> Deferred[None]:
        """
        Break all connections; fires when the last one has ended.
        """
        self._ended = Deferred()  # Nothing takes long that could be cancelled.
        for connection in list(self.protocols):
            cast(ITCPTransport, connection.transport).abortConnection()
        self.tell()
        return self._ended

    def tell(self) -> None:
        """
        Fire if no connection is left.
        """
        if self._ended is not None and not self.protocols and not self._ended.called:
            self._ended.callback(None)


def answering(handler: Callable[..., Answer]) -> Callable[..., Any]:
    """
    Decorate a route's method, which returns an L{Answer} or raises a L{Problem}, to
    log and check the request, and to send the answer with its fault and rate.
    """

    @wraps(handler)
    def respond(self: Server, request: Request, **segments: str) -> Deferred[None]:
        return self.respond(request, segments, lambda: handler(self, request, **segments))

    return respond


def arguments(request: Request, name: str) -> list[str]:
    """
    All values of an argument in query or form.
    """
    return [value.decode("utf-8", "replace") for value in request.args.get(name.encode("ascii"), [])]


def _size(request: Request) -> int:
    """
    The bytes of a request's body.
    """
    content = cast(BinaryIO, request.content)
    size = content.seek(0, SEEK_END)
    content.seek(0)
    return size


class Server:
    """
    A server.  Subclasses have routes in a C{Klein}.

    @ivar log: all exchanges, in order.
    @ivar faults: the planted faults.
    @ivar rate: bytes a second of each answer's body from now on, or L{None}.
    @ivar url: the beginning of its URLs, once it listens: C{http://127.0.0.1:80}.
    """

    app: ClassVar[Klein]

    def __init__(self, clock: IReactorTime, *, rate: float | None = None) -> None:
        self.log: list[Exchange] = []
        self.faults = Faults()
        self.rate = rate
        self.url = ""
        self._clock = clock
        self._received: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._deliveries: set[Delivery] = set()
        self._port: IListeningPort | None = None
        self._connections: _Connections | None = None

    @property
    def host(self) -> str:
        """
        C{127.0.0.1:<port>}, once it listens.
        """
        return self.url.partition("://")[2]

    def resource(self) -> IResource:
        """
        The root resource, for C{treq.testing.RequestTraversalAgent}.
        """
        return self.app.resource()

    def listen(
        self, reactor: IReactorTCP, port: int = 0, tls: IOpenSSLContextFactory | None = None
    ) -> Deferred[IPv4Address]:
        """
        Listen on the loopback interface.

        @param port: any free port by default.
        @return: fires with the address, also in C{host} and C{url}.
        """
        return Deferred.fromCoroutine(self._listen(reactor, port, tls))

    def stop(self) -> Deferred[None]:
        """
        Stop listening, and break all connections.  Fires when they have ended.
        """
        return Deferred.fromCoroutine(self._stop())

    def resume(self) -> None:
        """
        Resume all stalled answers.
        """
        for delivery in [d for d in self._deliveries if d.stalled]:
            delivery.resume()

    def admit(self, request: Request, segments: dict[str, str]) -> None:
        """
        Admit a request.  Subclasses with access rights override this.

        @raise Problem: the request is refused.
        """

    def arriving(self, path: str, size: int) -> None:
        """
        Count bytes of a request that is not whole.  Subclasses that use them before its
        end override this.

        @param size: is negative at its end.
        """

    def interrupted(self, method: str, path: str, content: BinaryIO) -> None:
        """
        A request broke before its body was whole.  Subclasses that keep what
        came override this.

        @param content: what came.
        """

    def received(self, connection: object, size: int) -> None:
        """
        Count received bytes of bodies.
        """
        self._received[connection] = self.received_by(connection) + size

    def received_by(self, connection: object) -> int:
        """
        The bytes of bodies received on a connection so far.
        """
        return self._received.get(connection, 0)

    def respond(
        self, request: Request, segments: dict[str, str], handle: Callable[[], Answer]
    ) -> Deferred[None]:
        """
        Answer one request, for L{answering}.
        """
        exchange = Exchange(
            request.method.decode("ascii"),
            request.path.decode("ascii"),
            request.getHeader("Range"),
            request.getHeader("Authorization"),
            bytes_received=_size(request),
            traceparent=request.getHeader("traceparent"),
        )
        self.log.append(exchange)
        fault = self.faults.take(exchange.method, exchange.path)
        try:
            fault.on_request(request)
            self.admit(request, segments)
            answer = handle()
        except Problem as problem:
            answer = problem.answer
        answer = fault.on_answer(evolve(answer, rate=self.rate))
        delivery = Delivery(request, answer, exchange, self._clock)
        self._deliveries.add(delivery)

        def forget(result: object) -> object:
            self._deliveries.discard(delivery)
            return result

        return cast("Deferred[None]", delivery.start().addBoth(forget))

    async def _listen(
        self, reactor: IReactorTCP, port: int, tls: IOpenSSLContextFactory | None
    ) -> IPv4Address:
        site = BodySite(self, reactor=self._clock)
        self._connections = _Connections(
            site if tls is None else TLSMemoryBIOFactory(tls, False, site), plain=tls is None
        )
        endpoint = TCP4ServerEndpoint(reactor, port, interface="127.0.0.1")
        self._port = await endpoint.listen(self._connections)
        address = self._port.getHost()
        assert isinstance(address, IPv4Address)
        self.url = f"{'http' if tls is None else 'https'}://{address.host}:{address.port}"
        return address

    async def _stop(self) -> None:
        if self._port is not None and self._connections is not None:
            port, self._port = self._port, None
            await maybeDeferred(port.stopListening)
            await self._connections.abort()
