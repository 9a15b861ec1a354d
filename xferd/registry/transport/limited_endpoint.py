# -*- test-case-name: tests.registry.transport.test_limited_endpoint -*-
"""
Connections with limits on the connect, the TLS handshake and the heads of
responses, and with an end to requests that are refused early.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast
from weakref import ref

from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.errors import ConnectionFailed, TimedOut
from xferd.registry.transport.response_head import HeadLimit, HeadTooLong
from xferd.registry.transport.timeouts import Timeouts, within

EARLY = 256 * 1024
"""Bytes of a response at most, while its request is still being sent."""


class UntrustedCertificate(ConnectionFailed):
    """
    The server's certificate is not trusted.  A retry does not help.
    """

    retryable = False


class StaleConnection(ConnectionFailed):
    """
    A connection that had served a request was closed before the next response:
    the server had closed it, or was about to.  A new connection may succeed at
    once.
    """


class OpenConnections(set["_Connection"]):
    """
    The connections that are open, in use or idle.

    @ivar closed: whether new connections are closed at once.
    """

    closed = False

    def drop_closing(self) -> None:
        """
        Abort the connections that are closed on this side.  Over TLS they would
        wait for the peer without a limit.
        """
        for connection in [each for each in self if each.is_closing]:
            connection.abort()


@implementer(IHandshakeListener)
class _Connection(Protocol):
    """
    Wraps an HTTP client protocol: the connection is ready after the TLS
    handshake, and is counted while it is open.

    States: made; connecting (TLS handshake); ready, when the inner protocol has
    the transport; lost.

    It ends requests that are refused while they are still being sent.
    L{twisted.web} stops to read at the head of the response and goes on to send;
    the server, which no longer reads, then resets the connection, and the
    response is lost.

    It limits the heads of responses, which L{twisted.web} keeps without a bound,
    and drops interim responses.

    @ivar ready: fires with the inner protocol.
    """

    def __init__(self, inner: IProtocol, tls: bool, open_connections: OpenConnections, name: str) -> None:
        """
        @param name: the server, for errors.
        """
        self._inner = inner
        self._tls = tls
        self._open_connections = open_connections
        self._name = name
        self._is_ready = False
        # Weak: an idle connection is kept in the pool, and a parser leads to its
        # request, with its body and its client's credentials.
        self._parser: ref[object] | None = None
        self._head = HeadLimit(name)
        self._refused: HeadTooLong | None = None
        self._early = 0
        self.ready: Deferred[IProtocol] = Deferred(lambda _: self.abort())

    def connectionMade(self) -> None:
        """
        Count the connection.
        """
        self._open_connections.drop_closing()
        self._open_connections.add(self)
        if self._open_connections.closed:
            # It was begun before the end, or by the pool, which repeats a
            # request whose idle connection was lost.
            self.abort()
        if not self._tls:
            self.handshakeCompleted()

    def handshakeCompleted(self) -> None:
        """
        Pass the transport to the inner protocol.
        """
        self._is_ready = True
        assert self.transport is not None
        self._inner.makeConnection(self.transport)
        self.ready.callback(self._inner)

    def dataReceived(self, data: bytes) -> None:
        """
        Pass the bytes on, within the limits on heads.
        """
        if self._refused is not None:
            return
        if self.is_closing:
            # Over TLS a close waits for the peer, which may go on to send.
            self.abort()
            return
        # twisted.web makes a parser for each response; nothing else shows that
        # the next one begins.
        parser = getattr(self._inner, "_parser", None)
        if parser is not None and (self._parser is None or self._parser() is not parser):
            self._parser = ref(parser)
            self._head = HeadLimit(self._name)
        received = len(data)
        if not self._head.over:
            try:
                data = self._head.feed(data)
            except HeadTooLong as e:
                self._refused = e
                self.abort()
                return
        if data:
            self._inner.dataReceived(data)
        state = getattr(self._inner, "state", "")
        if state == "TRANSMITTING":
            self._early += received
            if self._early > EARLY:
                self.abort()
            else:
                cast(IPushProducer, self.transport).resumeProducing()
        elif state == "TRANSMITTING_AFTER_RECEIVING_RESPONSE":
            # The peer does not read the rest of the request.
            self.abort()
        else:
            self._early = 0

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Report the end, and its reason.
        """
        self._open_connections.discard(self)
        if self._refused is not None:
            reason = Failure(self._refused)
        elif self._is_stale():
            reason = Failure(
                StaleConnection(f"no answer from {self._name}: it closed a connection that was kept open")
            )
        if self._is_ready:
            self._inner.connectionLost(reason)
        elif not self.ready.called:
            self.ready.errback(reason)

    def _is_stale(self) -> bool:
        """
        Whether the connection has delivered a response, and no byte of the next
        one.
        """
        parser = getattr(self._inner, "_parser", None)
        return self._parser is not None and parser is not None and parser is not self._parser()

    @property
    def is_closing(self) -> bool:
        """
        Whether the connection is closed on this side, and not yet by the peer.
        """
        return bool(getattr(self.transport, "disconnecting", False))

    def abort(self) -> None:
        """
        Close the connection at once, without waiting for the peer.
        """
        if self.transport is not None:
            cast(ITCPTransport, self.transport).abortConnection()


class _ConnectionFactory(Factory):
    """
    Builds L{_Connection}s around another factory's protocols.
    """

    noisy = False

    def __init__(
        self, inner: IProtocolFactory, tls: bool, open_connections: OpenConnections, name: str, direct: bool
    ) -> None:
        self._inner = inner
        self._direct = direct
        self._tls = tls
        self._open_connections = open_connections
        self._name = name

    def buildProtocol(self, addr: IAddress | None) -> _Connection | None:
        protocol = self._inner.buildProtocol(cast(IAddress, addr if self._direct else None))
        return (
            None if protocol is None else _Connection(protocol, self._tls, self._open_connections, self._name)
        )


@implementer(IStreamClientEndpoint)
class LimitedEndpoint:
    """
    Connects within the limits on connect and TLS handshake.
    """

    def __init__(
        self,
        name: str,
        endpoint: IStreamClientEndpoint,
        *,
        tls: bool,
        open_connections: OpenConnections,
        clock: IReactorTime,
        timeouts: Timeouts,
        remedy: str = "configure its CA for this host",
        direct: bool = False,
    ) -> None:
        """
        @param direct: whether the address that is connected to is the
            server's own, and not a proxy's.
        @param remedy: the advice if the server's certificate is not trusted.
        """
        self._name = name
        self._remedy = remedy
        self._direct = direct
        self._endpoint = endpoint
        self._tls = tls
        self._open_connections = open_connections
        self._clock = clock
        self._timeouts = timeouts

    def __repr__(self) -> str:
        return f"<connections to {self._name}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        See L{IStreamClientEndpoint.connect}.

        @return: fires when the handshake is done, not before it as
            L{twisted.internet.endpoints.wrapClientTLS} does.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        attempt = self._endpoint.connect(
            _ConnectionFactory(factory, self._tls, self._open_connections, self._name, self._direct)
        )
        connection = cast(
            _Connection,
            await within(
                self._clock,
                self._timeouts.connect,
                attempt,
                self._late("no connection", self._timeouts.connect),
                lambda late: cast(_Connection, late).abort(),
            ),
        )
        try:
            return await within(
                self._clock,
                self._timeouts.tls,
                connection.ready,
                self._late("no TLS handshake", self._timeouts.tls),
            )
        except VerificationError as e:
            raise UntrustedCertificate(f"the TLS certificate of {self._name} is for another host") from e
        except TLSError as e:
            raise self._tls_error(e) from e
        except ConnectionClosed as e:
            raise ConnectionFailed(f"{self._name} closed the connection instead of a TLS handshake") from e

    def _late(self, what: str, seconds: float) -> Callable[[], TimedOut]:
        return lambda: TimedOut(f"{what} with {self._name} within {seconds:g} s", phase="connect")

    def _tls_error(self, error: TLSError) -> ConnectionFailed:
        """
        The error for OpenSSL's list of triples.
        """
        listed = error.args[0] if error.args and isinstance(error.args[0], list) else []
        reasons = ", ".join(str(each[2]) for each in listed if len(each) > 2) or "no reason given"
        if "certificate verify failed" in reasons:
            return UntrustedCertificate(
                f"the TLS certificate of {self._name} is not signed by a trusted authority, or is not valid "
                f"now; if it is right, {self._remedy}"
            )
        return ConnectionFailed(f"no TLS with {self._name}: {reasons}")
