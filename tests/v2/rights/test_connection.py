"""
Tests for L{xferd.v2.rights.connection}.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from socket import socketpair
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request
from twisted.web.test.requesthelper import DummyChannel

from xferd.v2.rights.connection import is_trusted, local_user

LOOPBACK = IPv4Address("TCP", "127.0.0.1", 5000)


class LocalUserTests(SynchronousTestCase):
    """
    The user of this machine who sends a request.
    """

    def user(self, uid: int | None, transport: object = None, **headers: str) -> int | None:
        """
        The user of a request.

        @param uid: the user that was found when the connection was accepted.
        """
        channel: Any = DummyChannel()
        request = Request(channel)
        channel.uid, channel.transport = uid, transport
        for name, value in headers.items():
            request.requestHeaders.addRawHeader(name.encode(), value.encode())
        return local_user(request)

    def test_known(self) -> None:
        """
        The user that was found at the start.
        """
        self.assertEqual(self.user(7), 7)

    def test_other_listener(self) -> None:
        """
        At a listener that other machines can reach, the user is looked up; there is none of
        another machine.
        """
        ours, theirs = socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        transport = SimpleNamespace(socket=ours)
        self.assertEqual(self.user(None, transport), os.geteuid())
        self.assertIsNone(self.user(None))

    def test_proxy(self) -> None:
        """
        A proxy forwards requests of others.
        """
        self.assertIsNone(self.user(7, via="1.1 proxy"))


class TrustTests(SynchronousTestCase):
    """
    The trust in a request.
    """

    def trusted(
        self,
        host: str | None,
        trusted: bool = True,
        address: IAddress = LOOPBACK,
        headers: Mapping[str, str] | None = None,
    ) -> bool:
        """
        Whether a request is trusted.

        @param trusted: whether its connection is.
        """
        channel: Any = DummyChannel()
        channel.trusted = trusted
        request = Request(channel)
        request.getHost = lambda: address  # type: ignore[method-assign]
        if host is not None:
            request.requestHeaders.addRawHeader(b"host", host.encode())
        for name, value in (headers or {}).items():
            request.requestHeaders.addRawHeader(name.encode(), value.encode())
        return is_trusted(cast("Any", request), frozenset({"registry.lan"}))

    def test_names(self) -> None:
        """
        A trusted connection counts under names of loopback and of the daemon only:
        any other name may be that of a web site (DNS rebinding).
        """
        for host in ("localhost:5000", "127.0.0.1", "[::1]:5000", "registry.lan:5000", "REGISTRY.LAN"):
            self.assertTrue(self.trusted(host), host)
        for name in ("evil.example", "evil.example:5000", "", "a b", None):
            self.assertFalse(self.trusted(name), name)

    def test_stranger(self) -> None:
        """
        A name gives no trust to another connection.
        """
        self.assertFalse(self.trusted("localhost", trusted=False))

    def test_unix_socket(self) -> None:
        """
        No name of the DNS leads to a unix socket.
        """
        self.assertTrue(self.trusted("anything", address=UNIXAddress(b"/run/x.sock")))

    def test_proxies(self) -> None:
        """
        A request that a reverse proxy of root forwards is its client's.
        """
        for name in ("Forwarded", "Via", "X-Forwarded-For", "X-Real-IP"):
            self.assertFalse(self.trusted("localhost:5000", headers={name: "192.0.2.1"}), name)

    def test_browsers(self) -> None:
        """
        A request that a page of another site causes is not trusted.
        """
        self.assertTrue(self.trusted("localhost:5000", headers={"origin": "http://localhost:5000"}))
        self.assertTrue(self.trusted("localhost:5000", headers={"sec-fetch-site": "none"}))
        for address in (LOOPBACK, UNIXAddress(b"/run/x.sock")):
            for headers in (
                {"origin": "http://evil.example"},
                {"origin": "http://localhost:8000"},
                {"origin": "null"},
                {"sec-fetch-site": "cross-site"},
                {"sec-fetch-site": "same-site"},
            ):
                self.assertFalse(self.trusted("localhost:5000", address=address, headers=headers), headers)
