"""
Tests for L{xferd.registry.transport.addresses}.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.address import HostnameAddress, IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import IConnector, IProtocol, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.registry.fakes import NamingReactor
from xferd.registry.transport.addresses import AddressedFactory, ZonedEndpoint
from xferd.registry.transport.zones import OutOfZone, Zone


class ZonedEndpointTests(SynchronousTestCase):
    """
    L{ZonedEndpoint} connects where the server that led to it may lead.
    """

    def setUp(self) -> None:
        """
        Make a reactor that connects to nothing.
        """
        self.memory = MemoryReactorClock()
        self.reactor = NamingReactor(self.memory, {})

    def _connect(self, host: str, led_from: Zone) -> Deferred[IProtocol]:
        endpoint = ZonedEndpoint(cast(IReactorTime, self.reactor), host, 443, 10, led_from)
        return endpoint.connect(Factory())

    def _tried(self) -> list[str]:
        """
        Let all attempts begin, and fail; the addresses that were tried.
        """
        for _ in range(9):
            self.memory.advance(1)
        tried = list(self.reactor.connected)
        self.reactor.connected.clear()
        for _, _, factory, *_ in self.memory.tcpClients:
            factory.clientConnectionFailed(cast(IConnector, None), Failure(ConnectError()))
        return tried

    def test_each_address(self) -> None:
        """
        Of a name with several addresses, only those are tried, one after the
        other, that may be.
        """
        self.reactor.names["cdn.example"] = ["10.0.0.1", "8.8.8.8", "::1", "2606:4700::1", "127.0.0.1"]
        for led_from, expected in (
            (Zone.PUBLIC, ["8.8.8.8", "2606:4700::1"]),
            (Zone.PRIVATE, ["10.0.0.1", "8.8.8.8", "2606:4700::1"]),
        ):
            self.memory.tcpClients.clear()
            connecting = self._connect("cdn.example", led_from)
            self.assertEqual(self._tried(), expected)
            self.failureResultOf(connecting, ConnectError)

    def test_refused(self) -> None:
        """
        A name or an address that leads only to forbidden addresses is refused,
        without a connection.
        """
        for address, led_from, zone in (
            ("127.0.0.1", Zone.PUBLIC, Zone.LOOPBACK),
            ("::ffff:127.0.0.1", Zone.PUBLIC, Zone.LOOPBACK),
            ("10.0.0.1", Zone.PUBLIC, Zone.PRIVATE),
            ("127.0.0.1", Zone.PRIVATE, Zone.LOOPBACK),
            ("169.254.169.254", Zone.PRIVATE, Zone.LINK_LOCAL),
            ("169.254.169.254", Zone.LOOPBACK, Zone.LINK_LOCAL),
        ):
            self.reactor.names["cdn.example"] = [address]
            for host in ("cdn.example", address):
                error = self.failureResultOf(self._connect(host, led_from), OutOfZone).value
                self.assertIs(error.zone, zone)
        self.assertEqual(self.memory.tcpClients, [])

    def test_asked_each_time(self) -> None:
        """
        A name that has another address at the next connection is checked
        again.
        """
        self.reactor.names["cdn.example"] = ["8.8.8.8"]
        connecting = self._connect("cdn.example", Zone.PUBLIC)
        self.assertEqual(self._tried(), ["8.8.8.8"])
        self.failureResultOf(connecting, ConnectError)
        self.reactor.names["cdn.example"] = ["127.0.0.1"]
        self.failureResultOf(self._connect("cdn.example", Zone.PUBLIC), OutOfZone)

    def test_unknown(self) -> None:
        """
        A name without addresses is unknown, not refused.
        """
        self.failureResultOf(self._connect("none.example", Zone.PUBLIC), DNSLookupError)

    def test_cancelled(self) -> None:
        """
        An attempt can be cancelled, and leaves no timer.
        """
        self.reactor.names["cdn.example"] = ["8.8.8.8"]
        connecting = self._connect("cdn.example", Zone.PUBLIC)
        connecting.cancel()
        failure = self.failureResultOf(connecting)
        self.assertTrue(failure.check(ConnectingCancelledError, CancelledError), failure)
        self.assertEqual(self.memory.getDelayedCalls(), [])


class AddressedFactoryTests(SynchronousTestCase):
    """
    L{AddressedFactory} builds protocols that note addresses.
    """

    def test_built(self) -> None:
        """
        Only an IP address is one that responses are known by.
        """
        factory = AddressedFactory(lambda _: None, "a server")
        self.assertEqual(factory.buildProtocol(IPv4Address("TCP", "8.8.8.8", 1))._address, "8.8.8.8")
        for address in (None, HostnameAddress(b"proxy.example", 1)):
            self.assertIsNone(factory.buildProtocol(address)._address)
        self.assertIn("a server", repr(factory))
