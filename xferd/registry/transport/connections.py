# -*- test-case-name: tests.registry.transport.test_connections -*-
"""
The pool of connections to registries, token servers and storage, with their TLS,
timeouts and proxies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from twisted.web.client import URI, HTTPConnectionPool, ProxyAgent
from twisted.web.error import SchemeNotSupported
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from xferd.errors import TimedOut
from xferd.registry.transport.addresses import AddressedFactory, NetworkEndpoint, ZonedEndpoint
from xferd.registry.transport.client_protocol import ClientRequest
from xferd.registry.transport.connect_tunnel import ProxyEndpoint, TunnelEndpoint, proxy_refusal
from xferd.registry.transport.limited_endpoint import LimitedEndpoint, OpenConnections
from xferd.registry.transport.networks import Networks
from xferd.registry.transport.proxies import Proxies, Proxy, ProxySettings
from xferd.registry.transport.response_body import discard
from xferd.registry.transport.timeouts import Timeouts, within
from xferd.registry.transport.tls import TLSConfig
from xferd.registry.transport.zones import Zone

_URL = re.compile(rb"(https?://[^/?#]*)([^#]*)(?:#.*)?", re.IGNORECASE | re.DOTALL)
"""An URL: its scheme and authority, and what is sent to that server."""

IDLE_PER_HOST = 8
"""Idle connections that are kept for one host.  The slots of transfers limit those
in use."""

_SWEEP = 64
"""Servers in a pool from which on unused ones are removed."""

IDLE_SECONDS = 30
"""Seconds for which an idle connection is kept: fewer than load balancers use."""


@frozen
class TransportConfig:
    """
    How to connect to one server and to those that it leads to.

    @ivar tls: the certificates; L{None} for the default of the host.
    @ivar connect: seconds that a connection may take; L{None} for the default.
    @ivar proxy: the proxy; L{None} for that of the environment or the
        configuration.
    @ivar networks: the only networks to whose addresses connections are made
        without a proxy; L{None} for all.
    """

    tls: TLSConfig | None = None
    connect: float | None = None
    proxy: Proxy | None = None
    networks: Networks | None = None


class Connections:
    """
    All connections.

    Each L{TransportConfig} has a pool of its own: a request never uses a
    connection with other certificates or through another proxy.  So has each
    zone of a server that led to another: addresses are checked only when a
    connection is made.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        *,
        timeouts: Timeouts,
        tls_options: Callable[[str, int], IOpenSSLClientConnectionCreator],
        proxies: Proxies | None = None,
        remedy: Callable[[str], str] = lambda _: "configure its CA for this host",
    ) -> None:
        """
        @param tls_options: makes the TLS options for a host and a port, by
            default.
        @param remedy: returns the advice for a server whose certificate is not
            trusted, given its host and port.
        """
        self._reactor = reactor
        self._timeouts = timeouts
        self._tls_options = tls_options
        self._proxies = Proxies(ProxySettings()) if proxies is None else proxies
        self._remedy = remedy
        self._open_connections = OpenConnections()
        self._agents: WeakValueDictionary[tuple[TransportConfig, bool, Zone | None], PooledAgent] = (
            WeakValueDictionary()
        )
        # They outlive their agents while there are idle connections.
        self._pools: WeakSet[HTTPConnectionPool] = WeakSet()

    def __len__(self) -> int:
        return len(self._open_connections)

    def agent(
        self, config: TransportConfig | None = None, *, reuse: bool = True, led_from: Zone | None = None
    ) -> IAgent:
        """
        An agent that makes requests with one configuration.

        @param config: L{None} for the default.
        @param reuse: whether a connection serves several requests.
        @param led_from: the zone of the server that named the URLs; without a
            proxy, connections are made only to addresses where it may lead.
            L{None} for URLs of the configuration.
        """
        config = TransportConfig() if config is None else config
        agent = self._agents.get((config, reuse, led_from))
        if agent is None:
            agent = self._agents[config, reuse, led_from] = PooledAgent(self, config, reuse, led_from)
        return agent

    def close(self) -> Deferred[None]:
        """
        Close all connections, those in use, too; no new ones are made.

        @return: fires when they are closed, or after C{close} seconds.
        """
        self._open_connections.closed = True
        closing = DeferredList([pool.closeCachedConnections() for pool in self._pools])
        # The pool's own way to close waits for the peer to agree.
        for connection in list(self._open_connections):
            connection.abort()
        late = TimedOut("connections that do not close", phase="silence")
        bounded = within(self._reactor, self._timeouts.close, closing, lambda: late)
        return bounded.addBoth(lambda _: succeed(None))

    # -------------------------------------------------------- for the agents

    def proxy(self, config: TransportConfig, uri: URI) -> Proxy | None:
        """
        The proxy for an URL.
        """
        if config.proxy is not None:
            return config.proxy
        return self._proxies.find(uri.scheme.decode("ascii"), _host(uri), uri.port)

    def endpoint(self, config: TransportConfig, uri: URI, led_from: Zone | None) -> IStreamClientEndpoint:
        """
        An endpoint for the server of an URL, directly or through a tunnel.
        """
        # Most requests find an idle connection, and need no endpoint.
        return _LazyEndpoint(
            f"connections to {uri.netloc.decode('ascii')}", lambda: self._endpoint(config, uri, led_from)
        )

    def _endpoint(self, config: TransportConfig, uri: URI, led_from: Zone | None) -> IStreamClientEndpoint:
        host, tls = _host(uri), uri.scheme == b"https"
        proxy = self.proxy(config, uri) if tls else None
        if proxy is None:
            endpoint: IStreamClientEndpoint = self._connect(config, host, uri.port, led_from)
        else:
            endpoint = TunnelEndpoint(self._to_proxy(config, proxy), proxy, host, uri.port)
        if tls:
            options = self._tls_options(host, uri.port) if config.tls is None else config.tls.options(host)
            endpoint = wrapClientTLS(options, endpoint)
        return self._limited(config, uri.netloc.decode("ascii"), endpoint, tls, direct=proxy is None)

    def plain_endpoint(self, config: TransportConfig, proxy: Proxy) -> IStreamClientEndpoint:
        """
        An endpoint for a proxy that receives requests for plain HTTP.
        """
        return self._limited(config, f"the proxy {proxy.name}", self._to_proxy(config, proxy), False)

    def pool(self, reuse: bool) -> HTTPConnectionPool:
        """
        A pool, which keeps idle connections or not.
        """
        pool = _Pool(self._reactor, reuse)
        pool.maxPersistentPerHost = IDLE_PER_HOST
        pool.cachedConnectionTimeout = IDLE_SECONDS
        self._pools.add(pool)
        return pool

    @property
    def reactor(self) -> IReactorTime:
        """
        The reactor that makes connections.
        """
        return self._reactor

    def _to_proxy(self, config: TransportConfig, proxy: Proxy) -> IStreamClientEndpoint:
        """
        An endpoint for a proxy, with TLS if its URL is https.
        """
        endpoint: IStreamClientEndpoint = self._connect(config, proxy.host, proxy.port)
        if proxy.scheme == "https":
            endpoint = wrapClientTLS(self._tls_options(proxy.host, proxy.port), endpoint)
        return ProxyEndpoint(endpoint, proxy)

    def _connect(
        self, config: TransportConfig, host: str, port: int, led_from: Zone | None = None
    ) -> IStreamClientEndpoint:
        seconds = self._limits(config).connect
        if config.networks is not None:
            return NetworkEndpoint(self._reactor, host, port, seconds, config.networks)
        if led_from is not None:
            return ZonedEndpoint(self._reactor, host, port, seconds, led_from)
        return HostnameEndpoint(self._reactor, host, port, timeout=seconds)

    def _limited(
        self,
        config: TransportConfig,
        name: str,
        endpoint: IStreamClientEndpoint,
        tls: bool,
        direct: bool = False,
    ) -> LimitedEndpoint:
        return LimitedEndpoint(
            name,
            endpoint,
            tls=tls,
            direct=direct,
            open_connections=self._open_connections,
            clock=self._reactor,
            timeouts=self._limits(config),
            remedy=self._remedy(name),
        )

    def _limits(self, config: TransportConfig) -> Timeouts:
        return self._timeouts if config.connect is None else evolve(self._timeouts, connect=config.connect)


@implementer(IStreamClientEndpoint)
@frozen(repr=False)
class _LazyEndpoint:
    """
    An endpoint that is built once a connection is needed.
    """

    name: str
    build: Callable[[], IStreamClientEndpoint]

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return self.build().connect(protocolFactory)


class _Pool(HTTPConnectionPool):
    """
    A pool that forgets servers without a connection; its base class keeps an
    empty list for each.
    """

    _sweep_at = _SWEEP

    def getConnection(self, key: Hashable, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """
        See L{HTTPConnectionPool.getConnection}.
        """
        known = self._connections
        if len(known) >= self._sweep_at:
            for unused in [server for server, idle in known.items() if not idle]:
                del known[unused]
            self._sweep_at = 2 * len(known) + _SWEEP
        connecting: Deferred[Any] = super().getConnection(key, endpoint)
        return connecting

    def _newConnection(self, key: Hashable, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """
        Make a connection that notes the address of its responses.
        """
        factory = AddressedFactory(lambda protocol: self._putConnection(key, protocol), repr(endpoint))
        return endpoint.connect(factory)


@frozen
class _Server:
    """
    The server of an URL.

    @ivar uri: the URL without its path.
    @ivar host: the C{Host} header of its requests.
    @ivar endpoint: connects to it, directly or through a tunnel.
    """

    uri: URI
    host: bytes
    endpoint: IStreamClientEndpoint

    @property
    def key(self) -> tuple[bytes, bytes, int]:
        """
        The key of its connections in a pool.
        """
        return self.uri.scheme, self.uri.host, self.uri.port


@implementer(IAgent)
class PooledAgent:
    """
    Makes requests with one configuration, over connections of its own.

    It sends the path of an URL as it is.  L{twisted.web}'s agent parses each URL
    three times, and makes its path by C{urlunparse}, which doubles two slashes at its
    start since Python 3.13 (U{https://github.com/python/cpython/issues/67693}).

    @ivar pool: these connections.
    """

    def __init__(
        self, connections: Connections, config: TransportConfig, reuse: bool, led_from: Zone | None
    ) -> None:
        self._connections = connections
        self._config = config
        self._led_from = led_from
        self.pool = connections.pool(reuse)
        self._plain: dict[Proxy, IAgent] = {}
        self._servers: dict[bytes, _Server] = {}

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        match = _URL.fullmatch(uri)
        if match is None:
            return fail(SchemeNotSupported("the URL is not for http or https"))
        server = self._servers.get(match[1]) or self._learn(match[1])
        headers = Headers() if headers is None else headers
        # An https URL with a proxy has a tunnel through it as its endpoint.
        plain = server.uri.scheme == b"http"
        proxy = self._connections.proxy(self._config, server.uri) if plain else None
        if proxy is None:
            path = match[2] if match[2].startswith(b"/") else b"/" + match[2]
            request = ClientRequest(method, path, headers, bodyProducer, self.pool.persistent, server.host)
            connecting = self.pool.getConnection(server.key, server.endpoint)
            connection: Any = getattr(connecting, "result", None)
            if connecting.called and not isinstance(connection, (Deferred, Failure)):
                # An idle one.  Another Deferred for each request would cost a little.
                idle: Deferred[IResponse] = connection.request(request)
                return idle
            return connecting.addCallback(lambda connection: connection.request(request))
        headers = headers.copy()
        if proxy.authorization:
            headers.setRawHeaders("Proxy-Authorization", [proxy.authorization.reveal()])
        asking = self._through(proxy).request(method, uri, headers, bodyProducer)
        let_through: Deferred[IResponse] = asking.addCallback(
            _check_refusal, proxy, server.uri.netloc.decode("ascii")
        )
        return let_through

    def _learn(self, url: bytes) -> _Server:
        """
        Parse an URL without its path, once for all requests to its server.
        """
        uri = URI.fromBytes(url)
        name = b"[%b]" % uri.host if b":" in uri.host else uri.host
        usual = (uri.scheme, uri.port) in ((b"http", 80), (b"https", 443))
        host = name if usual else b"%b:%d" % (name, uri.port)
        if len(self._servers) >= _SWEEP:
            self._servers.clear()
        server = _Server(uri, host, self._connections.endpoint(self._config, uri, self._led_from))
        self._servers[url] = server
        return server

    def _through(self, proxy: Proxy) -> IAgent:
        """
        An agent for plain HTTP through a proxy.  An https URL would be sent in
        clear, with its credentials.
        """
        agent = self._plain.get(proxy)
        if agent is None:
            endpoint = self._connections.plain_endpoint(self._config, proxy)
            agent = self._plain[proxy] = ProxyAgent(endpoint, self._connections.reactor, self.pool)
        return agent


def _host(uri: URI) -> str:
    """
    The host of an URL, without brackets.
    """
    host: str = uri.host.decode("ascii")
    return host.strip("[]")


def _check_refusal(response: IResponse, proxy: Proxy, target: str) -> IResponse:
    """
    Raise the error of a proxy that refuses.
    """
    if response.code != 407:
        return response
    discard(response)
    raise proxy_refusal(proxy, response.code, "Proxy Authentication Required", target)
