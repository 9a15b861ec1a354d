# -*- test-case-name: tests.registry.transport.test_addresses -*-
"""
The IP addresses of servers: they are checked when a connection is made, and each
response's address is noted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTime,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.web._newclient import HTTP11ClientProtocol
from zope.interface import implementer

from xferd.registry.transport.client_protocol import ClientProtocol
from xferd.registry.transport.networks import Networks, OutOfNetworks
from xferd.registry.transport.zones import OutOfZone, Zone


@implementer(IStreamClientEndpoint)
class CheckedEndpoint:
    """
    Connects to a server, at those of its addresses that are permitted.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        host: str,
        port: int,
        timeout: float,
        refusal: Callable[[str], Exception | None],
    ) -> None:
        """
        @param host: a name or an address, without brackets.
        @param timeout: seconds that one attempt may take.
        @param refusal: returns why an address is not permitted, or L{None} if it is.
        """
        self._reactor = reactor
        self._host = host
        self._port = port
        self._timeout = timeout
        self._refusal = refusal

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        See L{IStreamClientEndpoint.connect}.

        @raise Exception: what C{refusal} returned, where none of the server's
            addresses is permitted.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        resolver = _CheckedResolver(self._reactor, self._refusal)
        reactor = ResolvingReactor(self._reactor, resolver)
        endpoint = HostnameEndpoint(reactor, self._host, self._port, timeout=self._timeout)
        try:
            return await endpoint.connect(factory)
        except DNSLookupError:
            if resolver.refused is None:
                raise
            raise resolver.refused from None


class ZonedEndpoint(CheckedEndpoint):
    """
    Connects to a server that another one led to, at those of its addresses that
    are in permitted zones; fails with L{OutOfZone} if there are none.
    """

    def __init__(self, reactor: IReactorTime, host: str, port: int, timeout: float, led_from: Zone) -> None:
        """
        @param led_from: the zone of the server that led here.
        """

        def refusal(address: str) -> Exception | None:
            zone = Zone.of(address)
            return None if led_from.allows(zone) else OutOfZone(zone)

        super().__init__(reactor, host, port, timeout, refusal)


class NetworkEndpoint(CheckedEndpoint):
    """
    Connects to a server at those of its addresses that are in some networks; fails
    with L{OutOfNetworks} if there are none.
    """

    def __init__(
        self, reactor: IReactorTime, host: str, port: int, timeout: float, networks: Networks
    ) -> None:
        def refusal(address: str) -> Exception | None:
            return None if address in networks else OutOfNetworks(f"{address} is not in {networks}")

        super().__init__(reactor, host, port, timeout, refusal)


@implementer(IReactorPluggableNameResolver)
class ResolvingReactor:
    """
    A reactor with a name resolver of its own, and otherwise the reactor that it
    wraps.

    L{HostnameEndpoint} connects to addresses that its reactor's resolver
    returned, literal ones too, and to no others.
    """

    def __init__(self, reactor: object, resolver: IHostnameResolver) -> None:
        self._reactor: Any = reactor
        self.nameResolver = resolver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """
        Replace the resolver, as a real reactor does.
        """
        self.nameResolver, before = resolver, self.nameResolver
        return before


@implementer(IHostnameResolver)
class _CheckedResolver:
    """
    Resolves a name to those of its addresses that are permitted.

    @ivar refused: why an address was left out, if one was.
    """

    def __init__(self, reactor: IReactorTime, refusal: Callable[[str], Exception | None]) -> None:
        self._reactor = reactor
        self._refusal = refusal
        self.refused: Exception | None = None

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        resolver = cast(IReactorPluggableNameResolver, self._reactor).nameResolver
        receiver = _CheckedReceiver(resolutionReceiver, self._check)
        return resolver.resolveHostName(receiver, hostName, portNumber, addressTypes, transportSemantics)

    def _check(self, address: IAddress) -> bool:
        """
        Whether an address is permitted.
        """
        if not isinstance(address, IPv4Address | IPv6Address):
            return False
        refused = self._refusal(address.host)
        self.refused = refused or self.refused
        return refused is None


@implementer(IResolutionReceiver)
class _CheckedReceiver:
    """
    Receives the addresses of a name, and passes on the permitted ones.
    """

    def __init__(self, receiver: IResolutionReceiver, check: Callable[[IAddress], bool]) -> None:
        self._check = check
        self._receiver = receiver
        self.resolutionBegan = receiver.resolutionBegan
        self.resolutionComplete = receiver.resolutionComplete

    def addressResolved(self, address: IAddress) -> None:
        if self._check(address):
            self._receiver.addressResolved(address)


class AddressedFactory(Factory):
    """
    Builds the protocols of a pool of connections.
    """

    noisy = False

    def __init__(self, quiescent: Callable[[HTTP11ClientProtocol], None], name: str) -> None:
        """
        @param quiescent: called with a protocol that is free for another request.
        @param name: the server, for logs.
        """
        self._quiescent = quiescent
        self._name = name

    def __repr__(self) -> str:
        return f"<client of {self._name}>"

    def buildProtocol(self, addr: IAddress | None) -> ClientProtocol:
        """
        Build one; its responses have an address if the address of the server
        is known.
        """
        known = addr.host if isinstance(addr, IPv4Address | IPv6Address) else None
        return ClientProtocol(self._quiescent, known)
