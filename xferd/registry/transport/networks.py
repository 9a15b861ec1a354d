# -*- test-case-name: tests.registry.transport.test_networks -*-
"""
Networks that connections are limited to.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from attrs import frozen

from xferd.errors import ConnectionFailed


class OutOfNetworks(ConnectionFailed):
    """
    A server is in none of the networks that connections may be made to.
    """


@frozen
class Networks:
    """
    Some networks.
    """

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Networks:
        """
        Read networks, C{10.0.0.0/8} or C{2001:db8::/32}, and single addresses.

        @raise ValueError: one of them is malformed.
        """
        return cls(tuple(ip_network(text) for text in texts))

    def __contains__(self, text: object) -> bool:
        """
        Whether an address, C{192.0.2.1} or C{2001:db8::1}, is in one of them.

        An IPv4 address that is written as an IPv6 address counts as what it is.
        """
        try:
            address = ip_address(str(text).partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.networks)

    def __str__(self) -> str:
        return ", ".join(map(str, self.networks))
