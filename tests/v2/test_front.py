"""
Tests for L{xferd.v2.front}, and for the limits of the registry's connections.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address

from tests.v2.case import RegistryCase
from tests.web.connection import Connection
from xferd.oci import Document
from xferd.web.peer_trust import Trust
from xferd.web.security_headers import SECURITY_HEADERS
from xferd.web.site import FIRST


class FrontTests(RegistryCase):
    """
    Every request.
    """

    def test_headers(self) -> None:
        """
        A browser takes no response for a page, whatever type an upstream gives it.
        """
        page = Document.verified("text/html", b"<script>alert(1)</script>")
        self.registry.add_document(page, "app", "page")
        for path in ("/v2/", "/v2/app/manifests/page", "/v2/app/manifests/none", "/", "/v2/\xa5"):
            answer = self.request(path)
            for name, value in SECURITY_HEADERS.items():
                self.assertEqual(answer.headers[name.decode()], value.decode(), (path, name))

    def test_path(self) -> None:
        """
        A path that is not text is refused in the form of the specification.
        """
        for path in ("/v2/a\xa5/manifests/1", "/v2/%A5/manifests/1"):
            answer = self.request(path)
            self.assertEqual((answer.status, answer.json()["errors"][0]["code"]), (400, "UNSUPPORTED"))
        self.assertEqual(self.flushLoggedErrors(), [])


class ConnectionTests(RegistryCase):
    """
    Many and slow clients.
    """

    connections = 16

    def stranger(self, address: str) -> Connection:
        """
        Open a connection from another machine.
        """
        return self.connect(Trust.NONE, IPv4Address("TCP", address, 40000))

    def test_strangers(self) -> None:
        """
        One stranger may have a quarter of the connections, all together a half; clients of
        this machine are still admitted.
        """
        self.assertEqual([self.stranger("192.0.2.1").cut for _ in range(6)], [False] * 4 + [True] * 2)
        self.assertEqual([self.stranger("192.0.2.2").cut for _ in range(5)], [False] * 4 + [True])
        self.assertTrue(self.stranger("192.0.2.3").cut)
        self.assertFalse(self.connect(Trust.ALL).cut)

    def test_slow_head(self) -> None:
        """
        A connection whose first request does not arrive is closed.
        """
        connection = self.stranger("192.0.2.1")
        connection.protocol.dataReceived(b"GET /v2/ HTTP/1.1\r\n")
        self.clock.advance(FIRST)
        self.assertTrue(connection.transport.disconnecting or connection.cut)

    def test_large_head(self) -> None:
        """
        A large head is refused.
        """
        connection = self.stranger("192.0.2.1")
        connection.protocol.dataReceived(b"GET /v2/ HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n")
        self.assertTrue(connection.transport.disconnecting or connection.cut)
        self.assertNotIn(b"200 OK", connection.received())
