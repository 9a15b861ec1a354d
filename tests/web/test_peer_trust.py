"""
Tests for L{xferd.web.peer_trust}: the user at the other end of a connection.
"""

from __future__ import annotations

import os
import socket

from attrs import define
from twisted.trial.unittest import SynchronousTestCase

from xferd.web import peer_trust
from xferd.web.peer_trust import Trust, owners, trusts, user_of


@define
class Transport:
    """
    A transport with a socket.
    """

    socket: object


class TrustTests(SynchronousTestCase):
    """
    Connections over loopback.
    """

    def accepted(self, address: str, family: int) -> tuple[socket.socket, socket.socket]:
        """
        Connect to a port of this process.

        @return: the client's end, and the accepted one.
        """
        listener = socket.socket(family)
        self.addCleanup(listener.close)
        listener.bind((address, 0))
        listener.listen()
        client = socket.create_connection(listener.getsockname()[:2])
        self.addCleanup(client.close)
        accepted, _ = listener.accept()
        self.addCleanup(accepted.close)
        return client, accepted

    def test_owner(self) -> None:
        """
        The daemon's user has access over loopback, by IPv4 and IPv6.
        """
        for address, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
            _, accepted = self.accepted(address, family)
            self.assertTrue(trusts(Trust.OWNER, user_of(Transport(accepted))), address)

    def test_closed(self) -> None:
        """
        A client that has closed its connection is unknown: the kernel reports
        root as the owner of its end.
        """
        client, accepted = self.accepted("127.0.0.1", socket.AF_INET)
        client.sendall(b"POST / HTTP/1.1\r\n\r\n")
        client.close()
        self.assertFalse(trusts(Trust.OWNER, user_of(Transport(accepted))))

    def test_other_user(self) -> None:
        """
        Another user has no access.
        """
        self.patch(peer_trust, "owners", lambda: frozenset({os.geteuid() + 1}))
        _, accepted = self.accepted("127.0.0.1", socket.AF_INET)
        self.assertFalse(trusts(Trust.OWNER, user_of(Transport(accepted))))

    def test_no_socket(self) -> None:
        """
        A connection without a known socket is not trusted.
        """
        for transport in (object(), Transport(None)):
            self.assertFalse(trusts(Trust.OWNER, user_of(transport)))

    def test_others(self) -> None:
        """
        All clients of a unix socket have access, and none of another machine.
        """
        self.assertTrue(trusts(Trust.ALL, user_of(object())))
        self.assertFalse(trusts(Trust.NONE, user_of(object())))
        _, accepted = self.accepted("127.0.0.1", socket.AF_INET)
        self.assertFalse(trusts(Trust.NONE, user_of(Transport(accepted))))

    def test_owners(self) -> None:
        """
        The owners are root and the daemon's user, but not the user who
        represents all others in a user namespace.
        """
        self.assertEqual(owners(), frozenset({0, os.geteuid()}))
        self.patch(os, "geteuid", lambda: 65534)
        path = self.mktemp()
        self.patch(peer_trust, "_UID_MAP", path)
        for table, found in (
            ("         0          0 4294967295\n", {0, 65534}),
            ("         0     100000      65536\n", {0}),
            (None, {0}),
        ):
            if table is None:
                os.remove(path)
            else:
                with open(path, "w") as file:
                    file.write(table)
            self.assertEqual(owners(), frozenset(found))
