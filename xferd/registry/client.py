# -*- test-case-name: tests.registry.test_client -*-
"""
All registries: the endpoints of each, and the credentials for them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final, cast
from weakref import WeakValueDictionary

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IAgent
from zope.interface import implementer

from xferd.credentials import Credentials
from xferd.expiring import ExpiringDict
from xferd.hosts.memory import HostMemory
from xferd.interfaces.hosts import IHostMemory
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.registry import IKeychain, IRegistries
from xferd.names import Repository
from xferd.registry.access import AuthenticatedClient, ClientContext
from xferd.registry.auth.accounts import Accounts
from xferd.registry.auth.keychain import Anonymous, ClientKeychain
from xferd.registry.capabilities import ChunkSizes, KnownCapabilities
from xferd.registry.clock_skews import ClockSkews
from xferd.registry.hosts.certs_d import CertsDirs
from xferd.registry.hosts.configured import HostConfig, Hosts, api_host
from xferd.registry.hosts.endpoint_config import EndpointConfig
from xferd.registry.mirrors import Endpoint, Endpoints
from xferd.registry.repository import RemoteRepository
from xferd.registry.transport.client_protocol import address_of
from xferd.registry.transport.connections import Connections, TransportConfig
from xferd.registry.transport.exchange import Exchange
from xferd.registry.transport.proxies import Proxies
from xferd.registry.transport.timeouts import Timeouts
from xferd.registry.transport.zones import Zone


@frozen
class View:
    """
    How registries are seen.

    @ivar anonymous: whether requests carry none of the daemon's credentials.
    @ivar public_only: whether only servers with public addresses are reached.
    """

    anonymous: bool = False
    public_only: bool = False


_UNRESTRICTED: Final = View()


@implementer(IRegistries)
class Registries:
    """
    All registries.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        *,
        wall_clock: WallClock,
        hosts: Mapping[str, HostConfig] | None = None,
        keychain: IKeychain | None = None,
        certs_dirs: CertsDirs | None = None,
        proxies: Proxies | None = None,
        timeouts: Timeouts | None = None,
        chunk_sizes: ChunkSizes | None = None,
        agent: IAgent | None = None,
        on_warning: Callable[[Repository, str], None] | None = None,
        mirrors: bool = True,
        memory: IHostMemory | None = None,
        salt: Callable[[], bytes] = lambda: b"",
        via: str = "",
    ) -> None:
        """
        @param reactor: also connects (TCP and names), unless there is an
            C{agent}.
        @param wall_clock: dates in headers are compared with it.
        @param hosts: the C{[hosts]} tables, by host.
        @param keychain: the credentials of the daemon's user.
        @param certs_dirs: the configuration of other hosts, and of mirrors.
        @param proxies: the proxies through which servers are reached.
        @param chunk_sizes: the sizes of the chunks in which large blobs are sent.
        @param agent: makes the requests instead of our own connections.
        @param on_warning: called with a repository and the text for each warning
            of its registry.
        @param mirrors: whether mirrors are used.  They do not know the client,
            and thus cannot decide what it may read.
        @param memory: the memory of hosts; by default one that ends with this
            object.
        @param salt: returns the salt of the names of accounts, which may be
            stored.
        @param via: the identity of this daemon: see L{Exchange}.
        @raise ConfigError: a CA file cannot be used.
        """
        timeouts = timeouts if timeouts is not None else Timeouts()
        self._hosts = known = Hosts(hosts if hosts is not None else {}, reactor.seconds)
        self._certs_dirs = CertsDirs(()) if certs_dirs is None else certs_dirs
        self._connections: Connections | None = None
        self._agent = agent
        self._via = via
        if agent is None:
            self._connections = Connections(
                reactor,
                timeouts=timeouts,
                tls_options=known.tls_options,
                proxies=proxies,
                remedy=self._remedy,
            )
        exchange = self._exchange(TransportConfig(), timeouts, reactor)
        self._public = self._exchange(TransportConfig(), timeouts, reactor, public_only=True)
        if memory is None:
            memory = HostMemory(reactor, wall_clock=wall_clock)
        self._context = ClientContext(
            reactor,
            wall_clock,
            exchange,
            known,
            timeouts,
            chunk_sizes or ChunkSizes(),
            KnownCapabilities(memory, reactor.seconds),
            ClockSkews(wall_clock),
            memory,
        )
        self._mirrors = mirrors
        self._accounts = Accounts(salt, reactor.seconds)
        if on_warning is not None:
            self._context = evolve(self._context, on_warning=on_warning)
        self._keychain = keychain if keychain is not None else Anonymous()
        self._anonymous = Anonymous("anonymous", "anonymous")
        self._endpoints: ExpiringDict[tuple[str, View], tuple[tuple[EndpointConfig, ...], Endpoints]]
        self._endpoints = ExpiringDict(reactor.seconds)
        # Weak: tokens of a client live no longer than its jobs.
        self._clients: WeakValueDictionary[
            tuple[str, Credentials, View, tuple[EndpointConfig, ...]], Endpoints
        ] = WeakValueDictionary()

    def repository(self, name: Repository) -> RemoteRepository:
        return RemoteRepository(self.endpoints(name.host), name)

    def check(self, host: str) -> Deferred[None]:
        return self.endpoints(host).check()

    @property
    def clock_skews(self) -> Mapping[str, float]:
        """
        The seconds by which registries' clocks are ahead of this machine's, by
        host.
        """
        return self._context.clock_skews.known()

    @property
    def authentications(self) -> Mapping[tuple[str, str], int]:
        """
        How often registries demanded authentication, and what came of it, by host and
        result: see L{AuthCounts}.
        """
        return self._context.authentications.counts

    def seen_by(self, credentials: Mapping[str, Credentials]) -> RegistriesOfClient:
        return RegistriesOfClient(self, credentials)

    def anonymous(self) -> RestrictedRegistries:
        return RestrictedRegistries(self, View(anonymous=True))

    def public_only(self) -> RestrictedRegistries:
        return RestrictedRegistries(self, View(public_only=True))

    def endpoints(
        self, host: str, credentials: Credentials | None = None, view: View = _UNRESTRICTED
    ) -> Endpoints:
        """
        The servers of a registry.  Equal credentials share them, and thereby
        their tokens.

        @param credentials: a client's own; those of the daemon's user by
            default.
        """
        configs = self._configs(host)
        own = self._anonymous if view.anonymous else self._keychain
        if credentials is None:
            known, endpoints = self._endpoints.get((host, view)) or (None, None)
            if endpoints is None or known != configs:
                endpoints = self._make(host, configs, own, view)
                self._endpoints[host, view] = (configs, endpoints)
        else:
            endpoints = self._clients.get((host, credentials, view, configs))
            if endpoints is None:
                keychain = ClientKeychain(credentials, self._accounts.name(credentials))
                endpoints = self._make(host, configs, keychain, view)
                self._clients[host, credentials, view, configs] = endpoints
        self._use(configs)
        return endpoints

    def _use(self, configs: tuple[EndpointConfig, ...]) -> None:
        """
        Count a use of what is known of some servers, which would expire.
        """
        for config in configs:
            self._context.capabilities.of(config.name)

    def _configs(self, host: str) -> tuple[EndpointConfig, ...]:
        """
        The configurations of a registry's endpoints.
        """
        found = None if self._context.hosts.configures(host) else self._certs_dirs.find(host)
        if found is None:
            return (EndpointConfig(host),)
        return found if self._mirrors else found[-1:]

    def _make(
        self, host: str, configs: tuple[EndpointConfig, ...], keychain: IKeychain, view: View
    ) -> Endpoints:
        """
        The endpoints of a registry.

        @param keychain: for the registry's own server; its mirrors get the
            credentials of the daemon's user, if any.
        """
        mirrors = self._anonymous if view.anonymous else self._keychain
        endpoints = [self._endpoint(e, mirrors if e.namespace else keychain, view) for e in configs]
        return Endpoints(host, endpoints, self._context.memory)

    def _endpoint(self, config: EndpointConfig, keychain: IKeychain, view: View) -> Endpoint:
        """
        One endpoint, with one client's credentials.
        """
        context = evolve(self._context, exchange=self._public) if view.public_only else self._context
        transport = config.transport
        if transport != TransportConfig() or config.headers:
            timeouts = context.timeouts
            if transport.connect is not None:
                timeouts = evolve(timeouts, connect=transport.connect)
            own = config.url or f"https://{api_host(config.name)}"
            exchange = self._exchange(
                transport, timeouts, context.clock, own, config.headers, view.public_only
            )
            context = evolve(context, exchange=exchange, timeouts=timeouts)
        return Endpoint(config, AuthenticatedClient(config.name, keychain, context, config))

    def _exchange(
        self,
        transport: TransportConfig,
        timeouts: Timeouts,
        clock: IReactorTime,
        own: str = "",
        own_headers: tuple[tuple[str, str], ...] = (),
        public_only: bool = False,
    ) -> Exchange:
        """
        What makes requests with one configuration of the transport.
        """
        connections, only = self._connections, self._agent

        def agents(fresh: bool, led_from: Zone | None) -> IAgent:
            if connections is None:
                return cast(IAgent, only)
            return connections.agent(transport, reuse=not fresh, led_from=led_from)

        return Exchange(
            agents,
            clock,
            timeouts,
            own=own,
            own_headers=own_headers,
            address_of=address_of,
            allows_private=self._hosts.allows_private,
            public_only=public_only,
            via=self._via,
        )

    def _remedy(self, name: str) -> str:
        """
        The advice for a server whose certificate is not trusted.
        """
        place = self._certs_dirs.remedy
        file = os.path.join(place, name, "ca.crt") if place else f'the ca_file of [hosts."{name}"]'
        system = os.environ.get("SSL_CERT_FILE", "")
        besides = f"; SSL_CERT_FILE is {system}" if system else ""
        return f"put its authority's certificate into {file}{besides}"

    def reload(self, hosts: Mapping[str, HostConfig]) -> None:
        """
        Replace the C{[hosts]} tables for all requests from now on.

        @raise ConfigError: a CA file cannot be used; then all stays as it is.
        """
        self._context.hosts.reload(hosts)

    def close(self) -> Deferred[None]:
        return succeed(None) if self._connections is None else self._connections.close()


@implementer(IRegistries)
class RestrictedRegistries:
    """
    All registries, with less than the daemon's user may do.
    """

    def __init__(self, registries: Registries, view: View) -> None:
        self._registries = registries
        self._view = view

    def repository(self, name: Repository) -> RemoteRepository:
        return RemoteRepository(self.endpoints(name.host), name)

    def check(self, host: str) -> Deferred[None]:
        return self.endpoints(host).check()

    def seen_by(self, credentials: Mapping[str, Credentials]) -> RegistriesOfClient:
        return RegistriesOfClient(self, credentials)

    def anonymous(self) -> RestrictedRegistries:
        return RestrictedRegistries(self._registries, evolve(self._view, anonymous=True))

    def public_only(self) -> RestrictedRegistries:
        return RestrictedRegistries(self._registries, evolve(self._view, public_only=True))

    def close(self) -> Deferred[None]:
        return self._registries.close()

    def endpoints(self, host: str, credentials: Credentials | None = None) -> Endpoints:
        """
        The servers of a registry.
        """
        return self._registries.endpoints(host, credentials, self._view)


@implementer(IRegistries)
class RegistriesOfClient:
    """
    All registries, with one client's credentials.  The client's tokens live as
    long as this object.
    """

    def __init__(
        self, registries: Registries | RestrictedRegistries, credentials: Mapping[str, Credentials]
    ) -> None:
        """
        @param registries: for hosts that the client has no credentials for.
        """
        self._registries = registries
        self._credentials = dict(credentials)
        self._held: dict[str, Endpoints] = {}

    def repository(self, name: Repository) -> RemoteRepository:
        return RemoteRepository(self.endpoints(name.host), name)

    def check(self, host: str) -> Deferred[None]:
        return self.endpoints(host).check()

    def seen_by(self, credentials: Mapping[str, Credentials]) -> RegistriesOfClient:
        return RegistriesOfClient(self._registries, {**self._credentials, **credentials})

    def anonymous(self) -> RestrictedRegistries:
        return self._registries.anonymous()

    def public_only(self) -> RegistriesOfClient:
        return RegistriesOfClient(self._registries.public_only(), self._credentials)

    def close(self) -> Deferred[None]:
        return self._registries.close()

    def endpoints(self, host: str) -> Endpoints:
        """
        The servers of a registry.
        """
        credentials = self._credentials.get(host.lower())
        if credentials is None:
            return self._registries.endpoints(host)
        held = self._held[host] = self._registries.endpoints(host, credentials)
        return held
