"""
Tests for L{xferd.web.site}: the bound on bodies.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.web.fakes import Connection, World
from xferd.web.security_headers import SECURITY_HEADERS
from xferd.web.site import ARRIVAL, FIRST, LINGER, MAX_BODY

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
        for name in SECURITY_HEADERS:
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
        A connection on which nothing is asked is closed after ten seconds,
        and one on which nothing more is asked after a minute.
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
        The head of a first request has ten seconds, however it trickles in;
        its body has longer.
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
        A request that arrives byte by byte is cut off in the end, its head or
        its body.
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
        Strangers who connect and ask nothing leave room for those who may
        act, and those over TCP for the unix socket: what comes beyond is closed
        at once, and warned of once.
        """
        self.world = World(trusted=False, token="s3cret", connections=40)

        def connect(**where: Any) -> int:
            """
            Connect until it is refused.

            @return: how often it was not.
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

    def test_refused_leaves_nothing(self) -> None:
        """
        A connection that is refused has no timers, and its end is not counted.
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
        A form is no job, and is not taken apart.
        """
        body = b"kind=pull&reference=a"
        answer = self.send(
            body, **{"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
        ).answer()
        self.assertEqual(answer.status, 415)
