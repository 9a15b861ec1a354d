"""
Tests for L{xferd.v2.file_sender}, with real sockets.
"""

from __future__ import annotations

import errno
import os
import socket
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import ClassVar

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from xferd.errors import StoreError
from xferd.server_certificate import CertificateFiles, ServerCertificate
from xferd.testing.certificates import Authority
from xferd.v2.file_sender import AHEAD, PIECE, WINDOW, FileSender, is_cached
from xferd.web.backpressure import Backpressure
from xferd.web.client_limits import ClientLimits
from xferd.web.peer_trust import Trust
from xferd.web.site import WebSite

SIZE = 16 * WINDOW + 12345
"""More than the kernel buffers for one connection."""

DATA = Random(1).randbytes(SIZE)


def tells_cached(file: int) -> bool:
    """
    Whether the file system of a file tells what it has in memory.
    """
    try:
        os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT)
    except OSError as e:
        return e.errno != errno.EOPNOTSUPP
    return True


class CacheTests(SynchronousTestCase):
    """
    What the kernel has in memory.
    """

    def test_cached(self) -> None:
        """
        A file that was just read is cached; one that was dropped from the cache is
        not, and is again when it was read.  Overlayfs and tmpfs cannot tell: there,
        all counts as cached.
        """
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(DATA)
            file.flush()
            os.fsync(file.fileno())
        handle = os.open(path, os.O_RDONLY)
        self.addCleanup(os.close, handle)
        self.assertTrue(is_cached(handle, 0, SIZE))
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        self.assertNotEqual(is_cached(handle, 2 * PIECE, PIECE), tells_cached(handle))
        self.assertEqual(os.pread(handle, SIZE, 0), DATA)
        self.assertTrue(is_cached(handle, 2 * PIECE, PIECE))

    def test_unknown(self) -> None:
        """
        Where the kernel cannot tell, the file counts as cached.
        """
        there, here = socket.socketpair()
        self.addCleanup(there.close)
        self.addCleanup(here.close)
        self.assertTrue(is_cached(here.fileno(), 0, 1))


class FileResource(Resource):
    """
    Sends a file to each client.
    """

    isLeaf = True

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.preloaded: list[tuple[int, int]] = []
        self.ended: Deferred[object] = Deferred()
        self.flow: Backpressure
        self.request: Request | None = None
        self.length = SIZE
        self.stops: list[int] = []

    def sent(self) -> int:
        """
        The bytes that were passed to the transport.
        """
        return 0 if self.request is None else self.request.sentLength

    def preload(self, offset: int, size: int) -> Deferred[None]:
        """
        Read a part of the file.
        """
        self.preloaded.append((offset, size))
        with open(self.path, "rb") as file:
            file.seek(offset)
            file.read(size)
        return succeed(None)

    def render_GET(self, request: Request) -> int:
        """
        Send the file.
        """
        self.request = request
        request.setHeader(b"content-length", b"%d" % self.length)
        request.setHeader(b"connection", b"keep-alive")
        sending = Deferred.fromCoroutine(self._send(request))
        # As Klein does.
        _ = request.notifyFinish().addErrback(lambda _: sending.cancel())
        _ = sending.addBoth(self._over)
        return NOT_DONE_YET

    async def _send(self, request: Request) -> bool:
        file = os.open(self.path, os.O_RDONLY)
        self.flow = Backpressure(request, reactor, stall=60, noun="file")
        self.flow.begin()
        try:
            sender = FileSender(request, self.flow, file, self.preload, reactor)
            for start, stop in pairwise([0, *self.stops]):
                await sender.send(start, stop, fresh=True)
            await sender.send(self.stops[-1] if self.stops else 0, self.length)
        except StoreError:
            self.flow.abort()
            raise
        finally:
            os.close(file)
            self.flow.end()
        request.finish()
        return True

    def _over(self, result: object) -> None:
        ended, self.ended = self.ended, Deferred()
        ended.callback(result)


class Client(Protocol):
    """
    Collects what a server sends.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.lost: Deferred[None] = Deferred()
        self.wanted = 0
        self.enough: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """
        Keep it.
        """
        self.data += data
        if self.wanted and len(self.data) >= self.wanted:
            self.wanted = 0
            self.enough.callback(None)

    def until(self, size: int) -> Deferred[None]:
        """
        Wait for so many bytes.
        """
        self.enough, self.wanted = Deferred(), size
        self.dataReceived(b"")
        return self.enough

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """
        Note it.
        """
        self.lost.callback(None)

    def get(self) -> None:
        """
        Make a request.
        """
        assert self.transport is not None
        self.transport.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")

    def body(self) -> bytes:
        """
        The body of the first response.
        """
        return bytes(self.data).partition(b"\r\n\r\n")[2]

    def head(self) -> int:
        """
        The bytes of the first response's head.
        """
        return len(self.data) - len(self.body())


class SenderTests(TestCase):
    """
    Files over a plain connection.
    """

    tls: ClassVar = False

    def factory(self, site: WebSite, authority: Authority) -> IProtocolFactory:
        """
        What listens.
        """
        return site

    async def connect(self) -> Client:
        """
        Serve a file on loopback, and connect.
        """
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(DATA)
        self.resource = FileResource(path)
        site = WebSite(
            self.resource,
            reactor,
            places=ClientLimits(lambda: 100),
            trust=Trust.NONE,
        )
        authority = Authority()
        factory = self.factory(site, authority)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[arg-type]
        self.addCleanup(port.stopListening)
        endpoint: IStreamClientEndpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)  # type: ignore[attr-defined]
        if self.tls:
            trusted = trustRootFromCertificates([Certificate.loadPEM(authority.pem)])
            endpoint = wrapClientTLS(optionsForClientTLS("localhost", trusted), endpoint)
        client: Client = await connectProtocol(endpoint, Client())
        self.addCleanup(self.drop, client)
        return client

    async def drop(self, client: Client) -> None:
        """
        Close the connection.
        """
        if not client.lost.called:
            client.transport.abortConnection()  # type: ignore[union-attr]
            await client.lost

    async def test_whole(self) -> None:
        """
        A file arrives whole, twice over one connection.
        """
        client = await self.connect()
        for _ in range(2):
            client.data.clear()
            client.get()
            self.assertIs(await self.resource.ended, True)
            await client.until(client.head() + SIZE)
            self.assertEqual(client.body(), DATA)

    async def test_parts(self) -> None:
        """
        Parts arrive in their order, whether the socket has room for them at once or not.
        """
        client = await self.connect()
        self.resource.stops = [1, 1000, 70_000, 70_001, WINDOW + 5, *range(2 * WINDOW, SIZE, 3 * WINDOW)]
        client.get()
        self.assertIs(await self.resource.ended, True)
        await client.until(client.head() + SIZE)
        self.assertEqual(client.body(), DATA)
        self.assertEqual(self.resource.sent(), SIZE)

    async def test_cold(self) -> None:
        """
        What the kernel has not in memory is read by a thread first, several windows
        at once; nothing is where it cannot tell.
        """
        client = await self.connect()
        file = os.open(self.resource.path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        tells = tells_cached(file)
        os.close(file)
        client.get()
        self.assertIs(await self.resource.ended, True)
        # The kernel may read more than it was asked for.
        self.assertEqual(self.resource.preloaded[:1], [(0, AHEAD)] if tells else [])
        starts = [start for start, _ in self.resource.preloaded]
        self.assertTrue(all(after - before >= AHEAD for before, after in pairwise(starts)), starts)
        await client.until(client.head() + SIZE)
        self.assertEqual(client.body(), DATA)

    async def test_slow_client(self) -> None:
        """
        A client that reads nothing stops the sender, and gets the rest later.
        """
        client = await self.connect()
        assert client.transport is not None
        client.get()
        # A client that pauses before its handshake would send no request.
        await client.until(1)
        client.transport.pauseProducing()  # type: ignore[attr-defined]
        sent, turns = -1, 0
        while turns < 100:
            await self.turn()
            moved = self.resource.sent() != sent or not sent
            sent, turns = self.resource.sent(), 0 if moved else turns + 1
        self.assertTrue(self.resource.flow.paused)
        self.assertLess(sent, SIZE)
        client.transport.resumeProducing()  # type: ignore[attr-defined]
        self.assertIs(await self.resource.ended, True)
        await client.until(client.head() + SIZE)
        self.assertEqual(client.body(), DATA)

    async def test_client_leaves(self) -> None:
        """
        A client that leaves in the middle ends the sender.
        """
        client = await self.connect()
        client.get()
        await client.until(WINDOW // 4)
        ended = self.resource.ended
        client.transport.abortConnection()  # type: ignore[union-attr]
        await self.assertFailure(ended, CancelledError)

    async def test_short_file(self) -> None:
        """
        A file that is shorter than announced is an error; the client sees a cut.
        """
        client = await self.connect()
        self.resource.length = SIZE + 1
        ended = self.resource.ended
        client.get()
        await self.assertFailure(ended, StoreError)
        await client.lost
        self.assertLessEqual(len(client.body()), SIZE)

    def turn(self) -> Deferred[None]:
        """
        Let the reactor run.
        """
        waiting: Deferred[None] = Deferred()
        reactor.callLater(0, waiting.callback, None)
        return waiting


class TLSTests(SenderTests):
    """
    Files over TLS, as the daemon listens.
    """

    tls = True

    def factory(self, site: WebSite, authority: Authority) -> IProtocolFactory:
        """
        What listens.
        """
        names = self.mktemp(), self.mktemp()
        for name, data in zip(names, authority.issue(), strict=True):
            Path(name).write_bytes(data)
        certificate, key = names
        made = TLSMemoryBIOFactory(ServerCertificate(CertificateFiles(key, certificate)), False, site)
        made.protocol = TLSMemoryBIOProtocol
        return made


class SmallRecordsTests(TLSTests):
    """
    Files over TLS, where OpenSSL takes a record with each call.
    """

    def factory(self, site: WebSite, authority: Authority) -> IProtocolFactory:
        """
        What listens.
        """
        made = TLSMemoryBIOFactory(authority.options(), False, site)
        made.protocol = TLSMemoryBIOProtocol
        return made


class GatheringTests(TLSTests):
    """
    Files over a TLS transport that gathers writes.
    """

    def factory(self, site: WebSite, authority: Authority) -> IProtocolFactory:
        """
        What listens.
        """
        return TLSMemoryBIOFactory(authority.options(), False, site)
