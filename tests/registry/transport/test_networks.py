"""
Tests for L{xferd.registry.transport.networks}, and the endpoint that uses it.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.registry.fakes import NamingReactor
from xferd.registry.transport.addresses import NetworkEndpoint
from xferd.registry.transport.networks import Networks, OutOfNetworks


class NetworksTests(SynchronousTestCase):
    """
    Tests for L{Networks}.
    """

    def test_contains(self) -> None:
        """
        Addresses are in networks, in whatever form they are written.
        """
        networks = Networks.parse(["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"])
        for inside in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "2001:db8::1%eth0", "192.0.2.1"):
            self.assertIn(inside, networks)
        for outside in ("11.0.0.1", "192.0.2.2", "2001:db9::1", "::1", "peer.example", "", "10.1"):
            self.assertNotIn(outside, networks)

    def test_none(self) -> None:
        """
        No address is in no network.
        """
        self.assertNotIn("127.0.0.1", Networks())

    def test_malformed(self) -> None:
        """
        What is no network is refused.
        """
        for bad in ("10.0.0.1/8", "peers", "", "10.0.0.0/33"):
            self.assertRaises(ValueError, Networks.parse, [bad])

    def test_endpoint(self) -> None:
        """
        Of a name with several addresses, only those in the networks are connected to;
        without any, the connection fails.
        """
        memory = MemoryReactorClock()
        reactor = NamingReactor(memory, {"peer.example": ["192.0.2.1", "10.0.0.1"], "evil": ["127.0.0.1"]})
        networks = Networks.parse(["10.0.0.0/8"])
        for host in ("peer.example", "evil"):
            endpoint = NetworkEndpoint(cast(IReactorTime, reactor), host, 5000, 3, networks)
            connecting = endpoint.connect(Factory())
            memory.advance(1)
            self.assertEqual(reactor.connected, ["10.0.0.1"])
            if host == "evil":
                self.failureResultOf(connecting, OutOfNetworks)
            else:
                connecting.cancel()
                self.failureResultOf(connecting)
