"""
Tests for L{xferd.web.client_limits}.
"""

from __future__ import annotations

import os
import socket

from attrs import define
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.trial.unittest import SynchronousTestCase

from xferd.web.client_limits import Client, ClientLimits, Kind, client_of


@define
class Transport:
    """
    A connection that was accepted.
    """

    host: IAddress
    peer: IAddress
    socket: socket.socket | None = None

    def getHost(self) -> IAddress:
        """
        The daemon's end.
        """
        return self.host

    def getPeer(self) -> IAddress:
        """
        The client's end.
        """
        return self.peer


class PlacesTests(SynchronousTestCase):
    """
    L{ClientLimits}.
    """

    def setUp(self) -> None:
        """
        Make 16 places.
        """
        self.most = 16
        self.places = ClientLimits(lambda: self.most)

    def fill(self, kind: Kind, name: str) -> int:
        """
        Occupy all free places.

        @return: their number.
        """
        count = 0
        while self.places.enter(Client(kind, name)):
            count += 1
        return count

    def test_strangers(self) -> None:
        """
        One client without access may have a quarter, and all such clients a
        half.
        """
        self.assertEqual([self.fill(Kind.STRANGER, name) for name in "abc"], [4, 4, 0])
        self.assertEqual([self.fill(Kind.TRUSTED, name) for name in "ab"], [4, 0])
        self.assertEqual([self.fill(Kind.SOCKET, name) for name in "ab"], [4, 0])

    def test_trusted(self) -> None:
        """
        One client over TCP may have a half, and all three quarters, with or
        without access.
        """
        self.assertEqual([self.fill(Kind.TRUSTED, name) for name in "abc"], [8, 4, 0])
        self.assertEqual(self.fill(Kind.STRANGER, "a"), 0)
        self.assertEqual(self.fill(Kind.SOCKET, "a"), 4)

    def test_socket(self) -> None:
        """
        One user of the unix socket may have three quarters, and the socket all.
        """
        self.assertEqual([self.fill(Kind.SOCKET, name) for name in "ab"], [12, 4])
        self.assertEqual(self.places.taken, 16)
        self.assertEqual(self.fill(Kind.TRUSTED, "a"), 0)

    def test_left(self) -> None:
        """
        A place that was released is available to others.
        """
        one, other = Client(Kind.STRANGER, "a"), Client(Kind.STRANGER, "b")
        self.fill(Kind.STRANGER, "a")
        self.fill(Kind.STRANGER, "b")
        self.places.leave(one)
        self.assertFalse(self.places.has_room(other))
        self.assertTrue(self.places.enter(one))
        for client in (one, other):
            for _ in range(4):
                self.places.leave(client)
        self.assertEqual(self.places.taken, 0)
        self.assertEqual(self.fill(Kind.TRUSTED, "a"), 8)

    def test_few(self) -> None:
        """
        Of one or two places, each group has one; if more are occupied than a
        lower limit permits, no further one is available.
        """
        self.most = 1
        self.assertTrue(self.places.enter(Client(Kind.STRANGER, "a")))
        self.most = 0
        self.assertFalse(self.places.has_room(Client(Kind.SOCKET, "a")))


class ClientTests(SynchronousTestCase):
    """
    L{client_of}.
    """

    def test_addresses(self) -> None:
        """
        A client of another machine is its address; a whole IPv6 network is one
        client, because one machine can choose any address of it.
        """
        host = IPv4Address("TCP", "192.0.2.9", 9337)
        peers = (
            (IPv4Address("TCP", "192.0.2.1", 1), "192.0.2.1"),
            (IPv6Address("TCP", "::ffff:192.0.2.1", 1), "192.0.2.1"),
            (IPv6Address("TCP", "2001:db8::1", 1), "2001:db8::/64"),
            (IPv6Address("TCP", "2001:db8::ffff:1", 1), "2001:db8::/64"),
            (IPv6Address("TCP", "fe80::1%eth0", 1), "fe80::/64"),
            (UNIXAddress(None), ""),
        )
        for peer, name in peers:
            self.assertEqual(client_of(Transport(host, peer), False), Client(Kind.STRANGER, name))
            self.assertEqual(client_of(Transport(host, peer), True), Client(Kind.TRUSTED, name))

    def test_users(self) -> None:
        """
        A client on this machine is a user, over loopback and the unix socket.
        """
        uid = os.geteuid()
        name = f"user {uid}"
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as client,
        ):
            accepted, _ = server.accept()
            with accepted:
                host = IPv4Address("TCP", *server.getsockname())
                peer = IPv4Address("TCP", *client.getsockname())
                self.assertEqual(
                    client_of(Transport(host, peer, accepted), True), Client(Kind.TRUSTED, name, uid)
                )
                # A user that was found before is not looked up.
                known = client_of(Transport(host, peer), True, uid)
                self.assertEqual(known, Client(Kind.TRUSTED, name, uid))
        one, other = socket.socketpair()
        with one, other:
            transport = Transport(UNIXAddress(b"/s"), UNIXAddress(None), one)
            self.assertEqual(client_of(transport, True), Client(Kind.SOCKET, name, uid))

    def test_unknown(self) -> None:
        """
        An unknown user counts as one client.
        """
        host = IPv6Address("TCP", "::1", 9337)
        client = client_of(Transport(host, IPv6Address("TCP", "::1", 1)), False)
        self.assertEqual(client, Client(Kind.STRANGER, "user None"))
