"""
Tests for pushes over real sockets: connections that close, and early refusals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.internet.ssl import CertificateOptions
from twisted.logger import capturedLogs
from zope.interface import implementer

from tests.registry.wire import Listener, Peer, endless
from tests.registry.wire_cases import DIGEST, OK, SHORT, WireCase
from xferd.errors import (
    ConnectionFailed,
    Denied,
    RegistryError,
    RegistryUnavailable,
    SourceError,
    TimedOut,
)
from xferd.interfaces.registry import IContent
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest, Repository
from xferd.oci import Document
from xferd.registry.hosts.configured import HostConfig
from xferd.registry.transport.limited_endpoint import StaleConnection
from xferd.registry.transport.timeouts import Timeouts


@implementer(IContent)
class _Zeros:
    """
    Content without end, nearly.

    @ivar read_bytes: how many bytes were read.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.read_bytes = 0

    def ready(self, offset: int, size: int, least: int = 1) -> Deferred[int]:
        """
        All bytes are available.
        """
        return succeed(min(size, self.size - offset))

    def read(self, offset: int, most: int) -> Deferred[bytes]:
        """
        Read zeros.
        """
        self.read_bytes += most
        return succeed(bytes(min(most, self.size - offset)))


class ClosingTests(WireCase):
    """
    A registry that closes each connection after one response, without
    announcing it.
    """

    def _serve(self, again: Callable[[Peer], None]) -> Listener:
        """
        Take pushes.

        @param again: what becomes of a connection at its second request.
        """
        used: set[Peer] = set()

        def answer(peer: Peer, path: str) -> None:
            if peer in used:
                again(peer)
                return
            used.add(peer)
            method = server.heads[-1].partition(" ")[0]
            if method == "POST":
                peer.send(b"HTTP/1.1 202 Accepted\r\nLocation: /v2/a/u/1\r\nContent-Length: 0\r\n\r\n")
            elif method == "PUT":
                peer.send(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
            elif path == "/v2/":
                peer.send(OK % 0)
            else:
                peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        server = self._listen(answer)
        return server

    async def test_push(self) -> None:
        """
        A push succeeds, whether the connections are closed or reset: the bytes
        are sent again on a new one.
        """
        for again in (Peer.close, Peer.reset):
            server = self._serve(again)
            self._client(HostConfig(plain_http=True))
            repository = self.client.repository(Repository(self.host, "a"))
            for _ in range(3):
                pushed = await repository.push(DIGEST, _Zeros(10), [], None, lambda _: None, lambda _: None)
                self.assertEqual(pushed.how, "uploaded")
            await repository.put_manifest("1", Document(OCI_MANIFEST, b"{}", Digest.of(b"{}")))
            await self.client.close()
            await server.all_closed()

    async def test_new_connection_fails(self) -> None:
        """
        A connection that breaks before its first response is not retried at
        once.
        """
        server = self._listen(lambda peer, _: peer.reset())
        self._client(HostConfig(plain_http=True))
        target = self.client.repository(Repository(self.host, "a"))
        pushing = target.push(DIGEST, _Zeros(10), [], None, lambda _: None, lambda _: None)
        error = await self._fails(pushing, ConnectionFailed)
        self.assertNotIsInstance(error, StaleConnection)
        self.assertEqual(len(server.peers), 1)


class EarlyTests(WireCase):
    """
    A registry that answers before it has received the body, and reads no more.
    """

    def _serve(self, refuse: Callable[[Peer], None], tls: CertificateOptions | None = None) -> Listener:
        """
        Serve uploads, and refuse their bodies.
        """

        def answer(peer: Peer, path: str) -> None:
            method = server.heads[-1].partition(" ")[0]
            if method in ("PATCH", "PUT"):
                cast(IPushProducer, peer.transport).pauseProducing()
                refuse(peer)
            elif method == "POST":
                peer.send(b"HTTP/1.1 202 Accepted\r\nLocation: /v2/a/u/1\r\nContent-Length: 0\r\n\r\n")
            elif path == "/v2/":
                peer.send(OK % 0)
            else:
                peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        server = self._listen(answer, tls)
        return server

    async def _refused(self, kind: type[SourceError], timeouts: Timeouts | None = None) -> BaseException:
        """
        Push a large blob, which fails.
        """
        self._client(timeouts=timeouts)
        content = _Zeros(1 << 30)
        target = self.client.repository(Repository(self.host, "a"))
        work = target.push(DIGEST, content, [], None, lambda _: None, lambda _: None)
        error = await self._fails(work, kind)
        # The kernel's buffers, not the whole chunk of 16 MiB.
        self.assertLess(content.read_bytes, 12 << 20)
        return error

    async def test_in_parts(self) -> None:
        """
        A refusal that arrives in parts is read to its end, and then its
        connection is closed.
        """
        for tls in (None, self.authority.options("127.0.0.1")):

            def refuse(peer: Peer) -> None:
                peer.send(
                    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 9\r\n\r\n1234"
                )
                self.reactor.callLater(0.05, peer.send, b"56789")

            server = self._serve(refuse, tls)
            error = await self._refused(RegistryUnavailable)
            assert isinstance(error, RegistryUnavailable)
            self.assertEqual(error.retry_after, 7)
            for peer in server.peers:
                cast(IPushProducer, peer.transport).resumeProducing()
            await self.client.close()
            await server.all_closed()

    async def test_reset(self) -> None:
        """
        Even if the connection is reset behind it.
        """

        def refuse(peer: Peer) -> None:
            peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
            # In the turn after the next it has been written.
            self.reactor.callLater(0, self.reactor.callLater, 0, peer.reset)

        self._serve(refuse)
        await self._refused(Denied)

    async def test_without_end(self) -> None:
        """
        A refusal that does not end is dropped.
        """

        def refuse(peer: Peer) -> None:
            peer.send(b"HTTP/1.1 403 Forbidden\r\n\r\n" + b"x" * (1 << 20))

        self._serve(refuse)
        await self._refused(ConnectionFailed)

    async def test_endless_head(self) -> None:
        """
        A head without an end is refused while the blob is being sent, too.
        """
        for first, more, why in (
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "more than 10 interim"),
            (b"HTTP/1.1 403 Forbidden\r\n", b"X-A: b\r\n" * 1000, "more than 256 lines"),
        ):
            self._serve(lambda peer, first=first, more=more: endless(first, more)(peer, ""))  # type: ignore[misc]
            self.assertIn(why, str(await self._refused(RegistryError)))

    async def test_takes_nothing(self) -> None:
        """
        A registry that neither reads nor answers times out.
        """
        self._serve(_nothing)
        error = await self._refused(TimedOut, SHORT)
        assert isinstance(error, TimedOut)
        self.assertEqual(error.phase, "silence")

    async def test_continues(self) -> None:
        """
        Bytes that are not yet a response are not taken for one, and the log
        does not grow.
        """

        def refuse(peer: Peer) -> None:
            peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
            self.reactor.callLater(0.02, peer.send, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        self._serve(refuse)
        with capturedLogs() as events:
            await self._refused(Denied)
        self.assertFalse([e for e in events if str(e.get("log_namespace")).startswith("twisted.web")])


def _nothing(_: Peer) -> None:
    """
    Neither read nor answer.
    """
