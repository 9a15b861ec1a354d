"""
Tests for L{xferd.web.site}: the bound on bodies.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from tests.web.fakes import Connection, World
from xferd.web.guard import HEADERS
from xferd.web.site import ARRIVAL, LINGER, MAX_BODY, WebSite

FIELDS = {"Host": "localhost", "Content-Type": "application/json"}


class BodyTests(SynchronousTestCase):
    """
    Bodies, small and large.
    """

    def setUp(self) -> None:
        """
        Connect.
        """
        self.world = World()
        self.connection = self.world.connect()

    def send(self, body: bytes, **headers: str) -> Connection:
        """
        Begin a request, with some of its body.
        """
        self.connection.send("POST", "/api/v1/jobs", {**FIELDS, **headers}, body)
        return self.connection

    def test_largest(self) -> None:
        """
        A body of just the largest size is read.
        """
        body = b'{"kind":"pull","reference":"a"}'.ljust(MAX_BODY)
        answer = self.send(body, **{"Content-Length": str(MAX_BODY)}).answer()
        self.assertEqual(answer.status, 202)

    def test_announced(self) -> None:
        """
        A body that is announced too large is refused before it is sent.
        """
        answer = self.send(b"", **{"Content-Length": str(MAX_BODY + 1), "Expect": "100-continue"}).answer()
        self.assertEqual(answer.status, 413)
        self.assertEqual(answer.headers["connection"], "close")
        self.assertEqual(answer.json()["error"]["code"], "REQUEST_ENTITY_TOO_LARGE")
        for name in HEADERS:
            self.assertIn(name.decode(), answer.headers)
        self.assertFalse(self.connection.transport.disconnecting)

    def test_dropped(self) -> None:
        """
        What is sent all the same is dropped; its end is the connection's.
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
        Who goes on sending without end is cut off.
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
        A client that leaves in the middle of its body leaves nothing behind.
        """
        self.send(b"{", **{"Content-Length": "10"})
        self.connection.lose()
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_idle(self) -> None:
        """
        A connection on which nothing is asked is closed after a while.
        """
        self.world.clock.advance(61)
        self.assertTrue(self.connection.transport.disconnecting)

    def test_slow(self) -> None:
        """
        A request that arrives byte by byte is cut off in the end, its head or
        its body.
        """
        for begin in (lambda: None, lambda: self.send(b"{", **{"Content-Length": "100"})):
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
        Each request of a connection has that time for itself, and none of it
        passes between them.
        """
        body = b'{"kind":"pull","reference":"a"}'
        for _ in range(20):
            self.send(body, **{"Content-Length": str(len(body))})
            self.assertEqual(self.connection.answer().status, 202)
            self.world.clock.advance(50)
        self.assertFalse(self.connection.transport.disconnecting)

    def test_too_many(self) -> None:
        """
        Of too many connections, the last are closed at once, and warned of
        once; when others have gone, there is room.
        """
        site = WebSite(Resource(), self.world.clock, most=lambda: 2)
        channels = []

        def connect() -> bool:
            channel = site.buildProtocol(None)
            if channel is not None:
                channel.makeConnection(StringTransport())
                channels.append(channel)
            return channel is not None

        with capturedLogs() as events:
            self.assertEqual([connect() for _ in range(4)], [True, True, False, False])
        self.assertEqual([e["count"] for e in events if e.get("log_level") is LogLevel.warn], [2])
        channels.pop().connectionLost(Failure(ConnectionDone()))
        self.assertTrue(connect())
        for channel in channels:
            channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(site.open, 0)

    def test_form_is_not_parsed(self) -> None:
        """
        A form is no job, and is not taken apart.
        """
        body = b"kind=pull&reference=a"
        answer = self.send(
            body, **{"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
        ).answer()
        self.assertEqual(answer.status, 415)
