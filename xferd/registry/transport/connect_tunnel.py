# -*- test-case-name: tests.registry.transport.test_connect_tunnel -*-
"""
TLS connections through a proxy by CONNECT (RFC 9110, section 9.3.6): the proxy
learns a host and a port.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd._version import __version__
from xferd.errors import ConnectionFailed, SourceError
from xferd.registry.transport.errors import clean, connection_error
from xferd.registry.transport.proxies import Proxy
from xferd.registry.transport.response_head import MAX_INTERIM

MAX_HEAD: Final = 16 * 1024
"""Bytes of the heads of a proxy's responses at most."""


class ProxyRefused(ConnectionFailed):
    """
    The proxy refuses the connection.  A retry does not help.
    """

    retryable = False


def proxy_refusal(proxy: Proxy, status: int, words: str, target: str) -> ConnectionFailed:
    """
    The error for a proxy that does not connect to C{target}.

    @param words: the reason phrase.
    """
    said = clean(f"{status} {words}")
    name = f"the proxy {proxy.name}"
    # Tinyproxy answers 401 to a wrong password.
    if status in (401, 407):
        why = "wants other credentials" if proxy.authorization else "wants credentials"
        return ProxyRefused(f"{name} {why} ({said}): put user:password@ into the proxy's URL")
    if status >= 500 or status in (408, 429):
        return ConnectionFailed(f"{name} cannot reach {target} ({said})")
    return ProxyRefused(
        f"{name} does not connect to {target} ({said}): permit it there, or add the host to NO_PROXY"
    )


class _Tunnel(Protocol):
    """
    A connection to a proxy, and then, through it, to a server.

    States: requested; open, when the inner protocol has the transport; lost.

    @ivar opened: fires with the inner protocol.
    """

    def __init__(self, proxy: Proxy, target: str, factory: IProtocolFactory) -> None:
        self._proxy = proxy
        self._target = target
        self._factory = factory
        self._head = b""
        self._received = self._interim = 0
        self._inner: IProtocol | None = None
        self.opened: Deferred[IProtocol] = Deferred(lambda _: self.abort())

    def connectionMade(self) -> None:
        """
        Request the tunnel.
        """
        lines = [
            f"CONNECT {self._target} HTTP/1.1",
            f"Host: {self._target}",
            f"User-Agent: xferd/{__version__}",
        ]
        if self._proxy.authorization:
            lines.append(f"Proxy-Authorization: {self._proxy.authorization.reveal()}")
        assert self.transport is not None
        self.transport.write("\r\n".join([*lines, "", ""]).encode("ascii"))

    def dataReceived(self, data: bytes) -> None:
        """
        Read the proxy's response; the bytes after it are the server's.
        """
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        if self.opened.called:
            return
        self._received += len(data)
        self._head += data
        while not self.opened.called:
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                if self._received > MAX_HEAD:
                    self._refuse(ConnectionFailed(f"the proxy {self._proxy.name} answered without an end"))
                return
            self._head = rest
            self._answered(head)

    def _answered(self, head: bytes) -> None:
        """
        Read the head of a response, which may be an interim one.
        """
        version, _, status = head.split(b"\r\n")[0].decode("ascii", "replace").partition(" ")
        code, _, words = status.partition(" ")
        if not version.startswith("HTTP/1.") or not (code.isdigit() and len(code) == 3):
            self._refuse(
                ConnectionFailed(f"the proxy {self._proxy.name} answered something that is not HTTP")
            )
        elif code[0] == "1":
            self._interim += 1
            if self._interim > MAX_INTERIM:
                self._refuse(
                    ConnectionFailed(
                        f"the proxy {self._proxy.name} sent more than {MAX_INTERIM} interim (1xx) responses"
                    )
                )
        elif code[0] == "2":
            self._open(self._head)
        else:
            self._refuse(proxy_refusal(self._proxy, int(code), words, self._target))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Report the end, and its reason.
        """
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self.opened.called:
            # The cause may be a TLS error, if the proxy is reached by TLS.
            error = ConnectionFailed(f"the proxy {self._proxy.name} closed the connection")
            error.__cause__ = reason.value
            self.opened.errback(error)

    def abort(self) -> None:
        """
        Close the connection at once.
        """
        if self.transport is not None:
            cast(ITCPTransport, self.transport).abortConnection()

    def _open(self, rest: bytes) -> None:
        """
        Pass the transport to the inner protocol.
        """
        assert self.transport is not None
        inner = self._inner = self._factory.buildProtocol(self.transport.getPeer())
        if inner is None:
            self.abort()
            self.opened.cancel()
            return
        inner.makeConnection(self.transport)
        self.opened.callback(inner)
        if rest:
            inner.dataReceived(rest)

    def _refuse(self, error: ConnectionFailed) -> None:
        self.opened.errback(error)
        self.abort()


class _TunnelFactory(Factory):
    """
    Builds L{_Tunnel}s.
    """

    noisy = False

    def __init__(self, build: Callable[[], _Tunnel]) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> _Tunnel:  # noqa: ARG002
        return self._build()


@implementer(IStreamClientEndpoint)
class ProxyEndpoint:
    """
    Connects to a proxy; errors name the proxy.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, proxy: Proxy) -> None:
        self._endpoint = endpoint
        self._proxy = proxy

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        See L{IStreamClientEndpoint.connect}.

        @raise ConnectionFailed: the connection fails.
        @raise TimedOut: it takes too long.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        try:
            return await self._endpoint.connect(factory)
        except CancelledError:
            raise
        except Exception as e:
            name = f"the proxy {self._proxy.name}"
            error = connection_error(e, name, name)
            if error is None:
                raise
            if isinstance(error, SourceError):
                error.host = ""  # The registry's host is added by the caller.
            raise error from e


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """
    Connects to a server through a proxy.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, proxy: Proxy, host: str, port: int) -> None:
        """
        @param endpoint: connects to the proxy.
        @param host: the server's name or address, without brackets, which the
            proxy resolves.
        """
        self._endpoint = endpoint
        self._proxy = proxy
        self._target = f"{f'[{host}]' if ':' in host else host}:{port}"

    def __repr__(self) -> str:
        return f"<tunnel to {self._target} through {self._proxy.name}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        See L{IStreamClientEndpoint.connect}.

        @return: fires with the protocol once the tunnel is open.
        @raise ConnectionFailed: the proxy does not open it.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        tunnels = _TunnelFactory(lambda: _Tunnel(self._proxy, self._target, factory))
        return await cast(_Tunnel, await self._endpoint.connect(tunnels)).opened
