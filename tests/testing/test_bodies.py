"""
Tests for L{xferd.testing.bodies}, over sockets written to byte by byte.
"""

from __future__ import annotations

from typing import cast

from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from xferd.interfaces.reactor import IReactor
from xferd.testing.answers import Answer
from xferd.testing.faults import CutBody, RefuseBody, too_large
from xferd.testing.registry import Registry


class Wire(Protocol):
    """
    A connection.

    @ivar data: what came.
    @ivar lost: fires at its end.
    @ivar reason: why it ended.
    """

    def __init__(self) -> None:
        self.data = b""
        self.lost: Deferred[None] = Deferred()
        self.reason: type[BaseException] | None = None
        self._waiting: list[tuple[bytes, Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        """
        Collect the bytes.
        """
        self.data += data
        for text, found in list(self._waiting):
            if text in self.data:
                self._waiting.remove((text, found))
                found.callback(None)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """
        Report the end.
        """
        self.reason = reason.type
        self.lost.callback(None)

    def until(self, text: bytes) -> Deferred[None]:
        """
        Wait for some bytes.
        """
        found: Deferred[None] = Deferred()
        self._waiting.append((text, found))
        self.dataReceived(b"")
        return found

    def send(self, data: bytes) -> None:
        """
        Write.
        """
        cast(ITCPTransport, self.transport).write(data)


class BodyTests(TestCase):
    """
    Faults in the bodies of requests.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start a server, and begin an upload.
        """
        self.reactor = cast(IReactor, default_reactor)
        self.registry = Registry(self.reactor)
        await self.registry.listen(self.reactor)
        self.addCleanup(self.registry.stop)
        self.upload = self.registry.storage.begin("a")
        self.registry._uploads[self.upload.id] = self.upload
        self.path = f"/v2/a/blobs/uploads/{self.upload.id}"

    async def connect(self) -> Wire:
        """
        Connect.
        """
        port = int(self.registry.host.rpartition(":")[2])
        wire = Wire()
        await connectProtocol(TCP4ClientEndpoint(self.reactor, "127.0.0.1", port), wire)
        self.addCleanup(cast(ITCPTransport, wire.transport).abortConnection)
        return wire

    def patch(self, length: int, path: str = "") -> bytes:  # type: ignore[override]
        """
        The head of a PATCH.
        """
        head = f"PATCH {path or self.path}?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
        return head.encode()

    async def test_counted(self) -> None:
        """
        Complete bodies are counted.
        """
        wire = await self.connect()
        wire.send(self.patch(5) + b"abcde")
        await wire.until(b"202 Accepted")
        self.assertEqual((self.upload.size, self.registry.bytes_received), (5, 5))
        self.assertEqual(self.registry.sessions, 1)

    async def test_cut(self) -> None:
        """
        A body is cut after a number of bytes; the registry decides what it keeps of them.
        """
        for breaks, kept, open_ in (("keep", 3, 1), ("drop", 3, 1), ("forget", 3, 0)):
            self.registry.breaks = breaks
            self.registry.faults.plant(CutBody(3), "/uploads/")
            wire = await self.connect()
            wire.send(self.patch(10) + b"abcde")
            await wire.lost
            self.assertEqual((self.upload.size, self.registry.sessions), (kept, open_))
            self.assertEqual(wire.data, b"")
        exchange = self.registry.log[-1]
        self.assertEqual((exchange.method, exchange.path, exchange.state), ("PATCH", self.path, "broken"))
        self.assertEqual((exchange.bytes_received, exchange.status), (3, None))
        self.registry.forget_uploads()

    async def test_cut_by_connection(self) -> None:
        """
        The bytes of all bodies of a connection may count.
        """
        self.registry.faults.plant(CutBody(8, connection=True), "/uploads/", times=None)
        wire = await self.connect()
        wire.send(self.patch(5) + b"abcde")
        await wire.until(b"202 Accepted")
        wire.send(self.patch(3) + b"fgh")
        await wire.lost
        self.assertEqual(self.upload.size, 8)

    async def test_client_leaves(self) -> None:
        """
        The bytes sent before a client disconnects are kept, in uploads only.
        """
        for path in (self.path, "/v2/a/manifests/1"):
            wire = await self.connect()
            wire.send(self.patch(5, path) + b"ab")
            while not any(self.registry._received.values()):
                await self._turn()
            self.registry._received.clear()
            cast(ITCPTransport, wire.transport).loseConnection()
            await wire.lost
            while not self.registry.log or self.registry.log[-1].path != path:
                await self._turn()
        self.assertEqual(self.upload.size, 2)

    async def test_refused(self) -> None:
        """
        A body is refused by its Content-Length if that is too large, else when its bytes
        are too many; the connection ends.
        """
        self.registry.faults.plant(too_large(4), "/uploads/", times=None)
        wire = await self.connect()
        wire.send(self.patch(5))
        await wire.lost
        self.assertIs(wire.reason, ConnectionDone)
        self.assertIn(b"HTTP/1.1 413 ", wire.data)
        wire = await self.connect()
        wire.send(self.patch(4) + b"abcd")
        await wire.until(b"202 Accepted")
        self.registry.faults.clear()
        self.registry.faults.plant(RefuseBody(Answer(418, {"A": "b"}, b"tea"), 3), "/uploads/")
        wire.send(f"PATCH {self.path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        wire.send(b"5\r\nabcde\r\n0\r\n\r\n")
        await wire.lost
        self.assertTrue(wire.data.endswith(b"A: b\r\nContent-Length: 3\r\nConnection: close\r\n\r\ntea"))
        self.assertEqual([e.status for e in self.registry.log], [413, 202, 418])
        self.assertEqual(self.upload.size, 4)

    def _turn(self) -> Deferred[None]:
        turn: Deferred[None] = Deferred()
        self.reactor.callLater(0.001, turn.callback, None)
        return turn
