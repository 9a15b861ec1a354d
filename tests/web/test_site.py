"""
Tests for L{xferd.web.site}: limits on bodies and connections.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import http

from tests.web.connection import Connection
from tests.web.world import World
from xferd.web.security_headers import SECURITY_HEADERS
from xferd.web.site import ARRIVAL, FIRST, LINGER, MAX_BODY

FIELDS = {"Host": "localhost", "Content-Type": "application/json"}


class ProtocolTests(SynchronousTestCase):
    """
    The protocol of a connection.
    """

    def test_tls(self) -> None:
        """
        TLS negotiates HTTP/1.1, also where Twisted has the packages for HTTP/2.
        """
        self.patch(http, "H2_ENABLED", True)
        self.assertEqual(World().site.acceptableProtocols(), [b"http/1.1"])


class BodyTests(SynchronousTestCase):
    """
    Small and large bodies.
    """

    def setUp(self) -> None:
        """
        Connect.
        """
        self.world = World()
        self.connection = self.world.connect()

    def send(self, body: bytes, **headers: str) -> Connection:
        """
        Start a request, with a part of its body.
        """
        self.connection.send("POST", "/api/v1/jobs", {**FIELDS, **headers}, body)
        # A job begins in a turn of its own.
        self.world.clock.advance(0)
        return self.connection

    def test_largest(self) -> None:
        """
        A body of the maximum size is read.
        """
        body = b'{"kind":"pull","reference":"a"}'.ljust(MAX_BODY)
        answer = self.send(body, **{"Content-Length": str(MAX_BODY)}).answer()
        self.assertEqual(answer.status, 202)

    def test_announced(self) -> None:
        """
        A body whose announced length is too large is refused before it is sent.
        """
        answer = self.send(b"", **{"Content-Length": str(MAX_BODY + 1), "Expect": "100-continue"}).answer()
        self.assertEqual(answer.status, 413)
        self.assertEqual(answer.headers["connection"], "close")
        self.assertEqual(answer.json()["error"]["code"], "REQUEST_ENTITY_TOO_LARGE")
        for name in SECURITY_HEADERS:
            self.assertIn(name.decode(), answer.headers)
        self.assertFalse(self.connection.transport.disconnecting)

    def test_dropped(self) -> None:
        """
        A body that is sent nevertheless is dropped; its end closes the
        connection.
        """
        self.send(b"", **{"Content-Length": str(MAX_BODY + 1)})
        self.connection.protocol.dataReceived(b"x" * MAX_BODY)
        self.assertFalse(self.connection.transport.disconnecting)
        self.connection.protocol.dataReceived(b"x")
        self.assertTrue(self.connection.transport.disconnecting)
        self.assertEqual(self.connection.received().count(b"HTTP/1.1"), 1)
        self.assertEqual(self.world.jobs.pulled, [])

    def test_stubborn(self) -> None:
        """
        A client that sends without end is disconnected.
        """
        self.send(b"", **{"Content-Length": str(100 * LINGER)})
        for _ in range(LINGER // 65536 + 1):
            self.connection.protocol.dataReceived(b"x" * 65536)
        self.assertTrue(self.connection.transport.disconnecting)

    def test_chunked(self) -> None:
        """
        A body without an announced length is refused as soon as it is too
        large, and a small one is read.
        """
        chunked = {"Transfer-Encoding": "chunked"}
        small = b'{"kind":"pull","reference":"a"}'
        self.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(small), small), **chunked)
        self.assertEqual(self.connection.answer().status, 202)
        self.send(b"4000\r\n" + b" " * 0x4000 + b"\r\n", **chunked)
        self.assertEqual(self.connection.received(), b"")
        self.connection.protocol.dataReceived(b"1\r\n \r\n")
        self.assertEqual(self.connection.answer().status, 413)
        self.connection.protocol.dataReceived(b"0\r\n\r\n")
        self.assertTrue(self.connection.transport.disconnecting)

    def test_left(self) -> None:
        """
        A client that disconnects within its body leaves no data.
        """
        self.send(b"{", **{"Content-Length": "10"})
        self.connection.lose()
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_idle(self) -> None:
        """
        A connection without a request is closed after ten seconds, and one
        without a further request after a minute.
        """
        self.world.clock.advance(FIRST - 0.1)
        self.assertFalse(self.connection.transport.disconnecting)
        self.world.clock.advance(0.1)
        self.assertTrue(self.connection.transport.disconnecting)
        self.connection = self.world.connect()
        self.send(b"{}", **{"Content-Length": "2"})
        self.world.clock.advance(59)
        self.assertFalse(self.connection.transport.disconnecting)
        self.world.clock.advance(2)
        self.assertTrue(self.connection.transport.disconnecting)

    def test_first_head(self) -> None:
        """
        The head of the first request has to arrive within ten seconds, however
        slowly; its body has more time.
        """
        self.connection.protocol.dataReceived(b"GET / HTTP/1.1\r\n")
        for _ in range(9):
            self.world.clock.advance(1)
            self.connection.protocol.dataReceived(b"A: b\r\n")
        self.assertFalse(self.connection.transport.disconnecting)
        self.world.clock.advance(1)
        self.assertTrue(self.connection.transport.disconnecting)
        self.connection = self.world.connect()
        self.send(b"{", **{"Content-Length": "2"})
        self.world.clock.advance(30)
        self.assertFalse(self.connection.transport.disconnecting)

    def test_slow(self) -> None:
        """
        A request whose head or body arrives byte by byte is cut off in the end.
        """
        whole = b'{"kind":"pull","reference":"a"}'
        first = {"Content-Length": str(len(whole))}
        for begin in (
            lambda: self.send(whole, **first),
            lambda: self.send(b"{", **{"Content-Length": "100"}),
        ):
            self.connection = self.world.connect()
            begin()
            for _ in range(int(ARRIVAL) // 50):
                self.assertFalse(self.connection.transport.disconnecting)
                self.connection.protocol.dataReceived(b"x")
                self.world.clock.advance(50)
            self.world.clock.advance(1)
            self.assertTrue(self.connection.transport.disconnecting)
            self.connection.lose()
            self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_slow_between(self) -> None:
        """
        Each request of a connection has the whole time, which does not run
        between requests.
        """
        body = b'{"kind":"pull","reference":"a"}'
        for _ in range(20):
            self.send(body, **{"Content-Length": str(len(body))})
            self.assertEqual(self.connection.answer().status, 202)
            self.world.clock.advance(50)
        self.assertFalse(self.connection.transport.disconnecting)

    def test_too_many(self) -> None:
        """
        Connections of clients without access leave some to those with access,
        and those over TCP leave some to the unix socket: further ones are
        closed at once, with one warning.
        """
        self.world = World(trusted=False, token="s3cret", connections=40)

        def connect(**where: Any) -> int:
            """
            Connect until a connection is refused.

            @return: the number of accepted connections.
            """
            count = 0
            while not self.world.connect(**where).cut:
                count += 1
            return count

        with capturedLogs() as events:
            self.assertEqual(connect(peer="192.0.2.1"), 10)
            self.assertEqual(connect(peer="192.0.2.2"), 10)
            self.assertEqual(connect(peer="192.0.2.3"), 0)
            self.assertEqual(connect(unix=True), 20)
        warned = [formatEvent(e) for e in events if e.get("log_level") is LogLevel.warn]
        self.assertEqual(warned, ["10 connections are open, and one more of 192.0.2.1 (stranger) is refused"])
        self.world.connections[0].lose()
        self.assertEqual(connect(peer="192.0.2.3"), 1)
        self.world.clock.advance(FIRST)
        self.world.close()
        self.assertEqual(self.world.web._connections.taken, 0)
        self.assertEqual(connect(peer="192.0.2.3"), 10)

    def test_logged(self) -> None:
        """
        A request that changes something or is refused has a line in the audit trail; one
        that reads has none.
        """
        for body, unix, logged in (
            (b'{"kind":"pull","reference":"a"}', False, ["202"]),
            (b'{"kind":"pull","reference":"a"}', True, ["202"]),
            (b"{}", True, ["400"]),
        ):
            with capturedLogs() as events:
                self.world.ask("POST", "/api/v1/jobs", body, unix=unix)
                self.world.ask("GET", "/api/v1/jobs", unix=unix)
            lines = [formatEvent(event) for event in events]
            self.assertEqual([line.partition("jobs: ")[2][:3] for line in lines], logged)

    def test_refused_leaves_nothing(self) -> None:
        """
        A refused connection has no timers, and its end is not counted.
        """
        world = World(connections=1)
        first, second = world.connect(), world.connect()
        self.assertEqual((first.cut, second.cut), (False, True))
        second.lose()
        self.assertEqual(world.web._connections.taken, 1)
        first.lose()
        self.assertEqual(world.web._connections.taken, 0)
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def test_form_is_not_parsed(self) -> None:
        """
        The body of a form is no job, and is not parsed.
        """
        body = b"kind=pull&reference=a"
        answer = self.send(
            body, **{"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
        ).answer()
        self.assertEqual(answer.status, 415)
