"""
Tests for L{xferd.registry.transport.zones}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.registry.transport.zones import Zone

_ADDRESSES = {
    Zone.PUBLIC: (
        "8.8.8.8",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
        "2606:4700::1",
        "2606:4700::5efe:808:808",
    ),
    Zone.PRIVATE: (
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "100.64.0.1",
        "198.18.0.1",
        "fc00::1",
        "fd12::1",
        "fec0::1",
        "4000::1",
        "::ffff:10.0.0.1",
        "::10.0.0.1",
        "::ffff:0:10.0.0.1",
        "64:ff9b::a00:1",
        "64:ff9b:1::a00:1",
        "2002:a00:1::5",
        "2606:4700::5efe:a00:1",
    ),
    Zone.LOOPBACK: (
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:0.0.0.0",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
        "2606:4700::200:5efe:7f00:1",
    ),
    Zone.LINK_LOCAL: (
        "169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "ff02::1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "fd00:ec2::254",
        "fd00:ec2::254%eth0",
        "168.63.129.16",
        "100.100.100.200",
    ),
}


class ZoneTests(SynchronousTestCase):
    """
    L{Zone} knows from where an address can be reached.
    """

    def test_addresses(self) -> None:
        """
        Addresses are in their zone, also as a part of an IPv6 address that a
        translator or a tunnel leads to them.
        """
        for zone, addresses in _ADDRESSES.items():
            for address in addresses:
                self.assertIs(Zone.of(address), zone, address)

    def test_edges(self) -> None:
        """
        Each private network ends where it does.
        """
        for private, public in (
            ("10.255.255.255", "11.0.0.0"),
            ("172.31.255.255", "172.32.0.0"),
            ("192.168.255.255", "192.169.0.0"),
            ("100.127.255.255", "100.128.0.0"),
            ("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2600::"),
        ):
            self.assertIs(Zone.of(private), Zone.PRIVATE, private)
            self.assertIs(Zone.of(public), Zone.PUBLIC, public)

    def test_no_address(self) -> None:
        """
        Names are in no zone, but for those of this machine.
        """
        self.assertRaises(ValueError, Zone.of, "hub.example")
        for host in ("hub.example", "localhost.example", "2130706433", ""):
            self.assertIsNone(Zone.named(host), host)
        for host in ("localhost", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1", "::1"):
            self.assertIs(Zone.named(host), Zone.LOOPBACK, host)

    def test_allows(self) -> None:
        """
        A server may lead to its own zone and to public ones, and to private
        ones from within a network; never from there to a machine's own.
        """
        public, private, loopback, link_local = Zone
        allowed = {(a, b) for a in Zone for b in Zone if a.allows(b)}
        self.assertEqual(
            allowed,
            {
                (public, public),
                (private, public),
                (private, private),
                (loopback, public),
                (loopback, private),
                (loopback, loopback),
                (link_local, public),
                (link_local, private),
                (link_local, link_local),
            },
        )
