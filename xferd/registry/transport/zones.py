# -*- test-case-name: tests.registry.transport.test_zones -*-
"""
Zones of addresses: public, private, loopback, link-local.

A server must not lead a client to addresses that the server itself cannot reach
(CWE-918, server-side request forgery).  Pure.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

_METADATA: Final = frozenset(
    map(
        ip_address,
        # Alibaba Cloud, Azure, Oracle Cloud, AWS and Google Cloud.
        ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"),
    )
)
"""The metadata services of clouds, besides 169.254.169.254."""

_WITH_IPV4: Final = tuple(
    map(
        IPv6Network,
        # Mapped, compatible (RFC 4291) and translated (RFC 2765) addresses, and
        # those of NAT64 (RFC 6052, RFC 8215).
        ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"),
    )
)
"""Networks whose addresses end in an IPv4 address."""

_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})
"""The bits before the IPv4 address in an address of ISATAP (RFC 5214)."""

_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")


class Zone(Enum):
    """
    The zone of an address; errors quote the value after "it is".
    """

    PUBLIC = "a public address"
    PRIVATE = "an address of a private network"
    LOOPBACK = "a loopback address of this machine"
    LINK_LOCAL = "a link-local address or the metadata service of a cloud"

    @classmethod
    def of(cls, text: str) -> Zone:
        """
        The zone of an IP address.

        @param text: C{192.0.2.1} or C{2001:db8::1}, with a scope or without.
        @raise ValueError: it is not an IP address.
        """
        return _parsed(text.partition("%")[0])

    @classmethod
    def named(cls, host: str) -> Zone | None:
        """
        The zone of a host, if its name alone shows it, or L{None}.

        @param host: a name or an address, without brackets.
        """
        name = host.removesuffix(".").lower()
        if name == "localhost" or name.endswith(".localhost"):
            return cls.LOOPBACK
        try:
            return cls.of(host)
        except ValueError:
            return None

    def allows(self, target: Zone) -> bool:
        """
        Whether a server in this zone may lead a client to one in another.
        """
        if target is Zone.PRIVATE:
            return self is not Zone.PUBLIC
        return target in (Zone.PUBLIC, self)


class OutOfZone(ValueError):
    """
    A server leads to a zone that is not permitted.

    @ivar zone: that zone.
    """

    def __init__(self, zone: Zone) -> None:
        remedy = " ('private_redirects' of the registry would allow it)" if zone is Zone.PRIVATE else ""
        super().__init__(f"it is {zone.value}{remedy}")
        self.zone = zone


@lru_cache(maxsize=1000)
def _parsed(text: str) -> Zone:
    """
    The zone of an IP address without a scope.  Thousands of responses come from
    one address.
    """
    return _zone(ip_address(text))


def _zone(address: IPv4Address | IPv6Address) -> Zone:
    """
    The zone of an address, or of the IPv4 address within it.
    """
    if address in _METADATA:
        return Zone.LINK_LOCAL
    if address.is_loopback or address.is_unspecified:
        return Zone.LOOPBACK
    if isinstance(address, IPv4Address):
        if address.is_link_local or address.is_multicast or address.is_reserved:
            return Zone.LINK_LOCAL
        # All of 0.0.0.0/8 is this machine.
        if address.packed[0] == 0:
            return Zone.LOOPBACK
    else:
        within = _within(address)
        if within is not None:
            return _zone(within)
        if address.is_link_local or address.is_multicast:
            return Zone.LINK_LOCAL
        if address not in _GLOBAL_UNICAST:
            return Zone.PRIVATE
        if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP and (
            zone := _zone(_last(address))
        ) is not Zone.PUBLIC:
            return zone
    return Zone.PUBLIC if address.is_global else Zone.PRIVATE


def _within(address: IPv6Address) -> IPv4Address | None:
    """
    The IPv4 address that an IPv6 address stands for, if it does.
    """
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    return _last(address) if any(address in network for network in _WITH_IPV4) else None


def _last(address: IPv6Address) -> IPv4Address:
    """
    The IPv4 address at the end of an IPv6 address.
    """
    return IPv4Address(int(address) & 0xFFFFFFFF)
