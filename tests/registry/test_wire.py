"""
Tests for this room over real sockets: what only a kernel, OpenSSL and a badly
behaved peer show.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor as default_reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.interfaces import IListeningPort, IPushProducer
from twisted.internet.ssl import CertificateOptions
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.registry.wire import Listener, Peer, endless
from xferd.errors import (
    BlobUnknown,
    ConnectionFailed,
    Denied,
    RegistryError,
    RegistryUnavailable,
    SizeMismatch,
    SourceError,
    TimedOut,
    Truncated,
)
from xferd.interfaces.reactor import IReactor
from xferd.interfaces.registry import IBlobBody, IContent
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest, Repository
from xferd.oci import Document
from xferd.registry.client import Registries
from xferd.registry.hosts.configured import HostConfig
from xferd.registry.transport.limited_endpoint import StaleConnection, UntrustedCertificate
from xferd.registry.transport.timeouts import Timeouts
from xferd.testing.certificates import Authority

_BLOB = b"0123456789abcdef" * 65536
_DIGEST = Digest.of(b"any")
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
_SHORT = Timeouts(connect=0.3, tls=0.3, headers=0.3, silence=0.3, token=0.3, close=0.3)


def _whole(peer: Peer, _: str) -> None:
    peer.send(_OK % len(_BLOB) + _BLOB)


def _silent(_: Peer, __: str) -> None:
    """
    Give no answer.
    """


class WireCase(TestCase):
    """
    A client over real sockets.
    """

    timeout = 20

    def setUp(self) -> None:
        """
        Nothing listens yet.
        """
        self.reactor = cast(IReactor, default_reactor)
        self.authority = Authority()
        self.ca = Path(self.mktemp())
        self.ca.write_bytes(self.authority.pem)

    def _listen(self, answer: Callable[[Peer, str], None], tls: CertificateOptions | None = None) -> Listener:
        """
        Serve on a free port; the host is C{self.host}.
        """
        server = Listener(answer)
        port: IListeningPort
        if tls is None:
            port = self.reactor.listenTCP(0, server, interface="127.0.0.1")
        else:
            port = self.reactor.listenSSL(0, server, tls, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.host = f"127.0.0.1:{port.getHost().port}"  # type: ignore[attr-defined]
        return server

    def _client(self, config: HostConfig | None = None, timeouts: Timeouts | None = None) -> Registries:
        """
        A client of that host.
        """
        self.client = Registries(
            self.reactor,
            wall_clock=time.time,
            hosts={self.host: config} if config is not None else {},
            timeouts=timeouts or Timeouts(),
        )
        self.addCleanup(self.client.close)
        return self.client

    def _open(self, offset: int = 0) -> Deferred[IBlobBody]:
        source = self.client.repository(Repository(self.host, "a"))
        return source.open(_DIGEST, offset)

    async def _read(self) -> bytes:
        data = bytearray()
        await (await self._open()).deliver(data.extend)
        return bytes(data)

    async def _fails(self, work: Deferred[Any], kind: type[BaseException]) -> BaseException:
        """
        Wait for a failure.
        """
        try:
            await work
        except kind as e:
            return e
        raise AssertionError(f"no {kind.__name__}")

    def _no_connection_left(self) -> None:
        connections = self.client._connections
        assert connections is not None
        self.assertEqual(len(connections), 0)


class WireTests(WireCase):
    """
    A client that pulls.
    """

    # ------------------------------------------------------------- TLS

    async def test_own_ca(self) -> None:
        """
        A host's own CA is trusted, and its connection used again.
        """
        server = self._listen(_whole, self.authority.options("127.0.0.1"))
        self._client(HostConfig(ca_file=str(self.ca)))
        for _ in range(3):
            self.assertEqual(await self._read(), _BLOB)
        self.assertEqual(len(server.peers), 1)
        self.assertIn("User-Agent: xferd/", server.heads[0])
        await self.client.close()
        await server.all_closed()
        self._no_connection_left()

    async def test_untrusted(self) -> None:
        """
        Another CA, or another host's certificate, is refused for good.
        """
        for options, config, why in (
            (Authority().options("127.0.0.1"), HostConfig(ca_file=str(self.ca)), "trusted authority"),
            (self.authority.options("127.0.0.1"), HostConfig(), "trusted authority"),
            (self.authority.options("other.example"), HostConfig(ca_file=str(self.ca)), "another host"),
        ):
            server = self._listen(_whole, options)
            self._client(config)
            error = await self._fails(self._open(), UntrustedCertificate)
            self.assertIn(why, str(error))
            self.assertIn(self.host, str(error))
            await server.all_closed()
            self._no_connection_left()

    async def test_exclusive(self) -> None:
        """
        A host's own CA is trusted instead of the system's, which are trusted
        for a host without one.
        """
        other = Authority()
        system = Path(self.mktemp())
        system.write_bytes(other.pem)
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = str(system)

        def restore() -> None:
            del os.environ["SSL_CERT_FILE"]
            if before is not None:
                os.environ["SSL_CERT_FILE"] = before

        self.addCleanup(restore)
        self._listen(_whole, other.options("127.0.0.1"))
        self._client(HostConfig())
        self.assertEqual(await self._read(), _BLOB)
        self._client(HostConfig(ca_file=str(self.ca)))
        await self._fails(self._open(), UntrustedCertificate)

    async def test_unverified(self) -> None:
        """
        Any certificate does where the operator says so, and on loopback where
        nobody says anything.
        """
        for config in (HostConfig(skip_verify=True), None):
            self._listen(_whole, Authority().options("other.example"))
            self._client(config)
            self.assertEqual(await self._read(), _BLOB)

    async def test_no_tls(self) -> None:
        """
        A configured host without TLS is an error, not a reason to go without.
        """

        server = self._listen(_whole)
        self._client(HostConfig(), _SHORT)
        opening = self._open()
        await self._fails(opening, SourceError)
        await server.all_closed()
        self.assertEqual(server.heads, [])
        self._no_connection_left()

    async def test_plain(self) -> None:
        """
        A loopback host may go without, which costs one request, once.
        """
        server = self._listen(_whole)
        self._client()
        for _ in range(2):
            self.assertEqual(await self._read(), _BLOB)
        self.assertEqual([h.split(" ")[1] for h in server.heads].count("/v2/"), 1)

    # ------------------------------------------------------- bad peers

    async def test_half_body(self) -> None:
        """
        A body that ends early is a truncation, one that is reset a failure of
        the connection.
        """
        for close, kind in ((Peer.close, Truncated), (Peer.reset, ConnectionFailed)):
            server = self._listen(lambda peer, _: peer.send(_OK % len(_BLOB) + _BLOB[:1000]))
            self._client(HostConfig(plain_http=True))
            body = await self._open()
            first: Deferred[None] = Deferred()
            done = body.deliver(lambda _, first=first: first.callback(None))  # type: ignore[misc]
            await first
            close(server.peers[-1])
            await self._fails(done, kind)
            await server.all_closed()
            self._no_connection_left()

    async def test_stalled_body(self) -> None:
        """
        A body that stops coming is dropped, with its connection, by TCP and
        by TLS.
        """

        def answer(peer: Peer, _: str) -> None:
            peer.send(_OK % len(_BLOB) + _BLOB[:1000])

        for tls in (None, self.authority.options("127.0.0.1")):
            server = self._listen(answer, tls)
            self._client(HostConfig(plain_http=tls is None, skip_verify=True), _SHORT)
            body = await self._open()
            error = await self._fails(body.deliver(lambda _: None), TimedOut)
            self.assertEqual(getattr(error, "phase", ""), "silence")
            await server.all_closed()
            self._no_connection_left()

    async def test_reset_instead_of_answer(self) -> None:
        """
        A reset before the answer is a failure of the connection.
        """
        self._listen(lambda peer, _: peer.reset())
        self._client(HostConfig(plain_http=True))
        error = await self._fails(self._open(), ConnectionFailed)
        self.assertIn(self.host, str(error))

    async def test_not_http(self) -> None:
        """
        An answer that is not HTTP is named as such.
        """
        self._listen(lambda peer, _: peer.send(b"SSH-2.0-OpenSSH\r\n"))
        self._client(HostConfig(plain_http=True))
        error = await self._fails(self._open(), RegistryError)
        self.assertIn("not HTTP", str(error))

    async def test_endless_head(self) -> None:
        """
        A head without an end, of lines, of one line or of interim responses,
        ends the connection with one error, by TCP and by TLS.
        """
        heads = (
            (b"HTTP/1.1 200 OK\r\n", b"X-A: 0123456789\r\n" * 1000, "more than 256 lines"),
            (b"HTTP/1.1 200 OK\r\nX-A: ", b"0" * 10_000, "a line of more than 16384 bytes"),
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "more than 10 interim"),
        )
        for tls in (None, self.authority.options("127.0.0.1")):
            for first, more, why in heads:
                server = self._listen(endless(first, more), tls)
                self._client(HostConfig(plain_http=tls is None, skip_verify=True))
                error = await self._fails(self._open(), RegistryError)
                self.assertIn(why, str(error))
                self.assertIn(self.host, str(error))
                await server.all_closed()
                self._no_connection_left()
                self.assertEqual(len(server.heads), 1)

    async def test_endless_second_head(self) -> None:
        """
        The limit counts for each response of a connection that is used again.
        """
        head = b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 200 + b"Content-Length: 1\r\n\r\nx"
        server = self._listen(lambda peer, _: peer.send(head))
        self._client(HostConfig(plain_http=True))
        for _ in range(3):
            self.assertEqual(await self._read(), b"x")
        self.assertEqual(len(server.peers), 1)
        server.answer = endless(b"HTTP/1.1 200 OK\r\n", b"X-A: 0123456789\r\n" * 1000)
        await self._fails(self._open(), RegistryError)
        await server.all_closed()

    async def test_endless_framing(self) -> None:
        """
        A chunk extension and a trailer without an end end the connection.
        """
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for tls in (None, self.authority.options("127.0.0.1")):
            for first, more in ((b"1;a=", b"b" * 10_000), (b"0\r\n", b"X-A: b\r\n" * 1000)):
                server = self._listen(endless(head + first, more), tls)
                self._client(HostConfig(plain_http=tls is None, skip_verify=True))
                error = await self._fails(Deferred.fromCoroutine(self._read()), ConnectionFailed)
                self.assertIn("chunked encoding", str(error))
                await server.all_closed()
                self._no_connection_left()

    async def test_never_agrees_to_close(self) -> None:
        """
        A TLS server that neither answers a close nor closes holds no
        connection: it is ended when the next one is made.
        """

        def answer(peer: Peer, _: str) -> None:
            # Deaf to what comes, a close among it.
            cast(IPushProducer, peer.transport).pauseProducing()
            peer.send(b"HTTP/1.1 404 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

        server = self._listen(answer, self.authority.options("127.0.0.1"))
        self._client(HostConfig(skip_verify=True))
        for _ in range(4):
            await self._fails(self._open(), BlobUnknown)
        connections = self.client._connections
        assert connections is not None
        self.assertEqual(len(connections), 1)
        await self.client.close()
        for peer in server.peers:
            peer.reset()
        await server.all_closed()

    async def test_refused(self) -> None:
        """
        Where nothing listens, the error says so.
        """
        server = self._listen(_silent)
        self._client(HostConfig(plain_http=True))
        self.host = "127.0.0.1:1"
        error = await self._fails(self._open(), ConnectionFailed)
        self.assertIn("127.0.0.1:1", str(error))
        self.assertEqual(server.peers, [])

    async def test_refusals_keep_the_connection(self) -> None:
        """
        Refusals with their small bodies leave the connection to the next
        request.
        """

        def answer(peer: Peer, _: str) -> None:
            peer.send(b"HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nnone")

        server = self._listen(answer)
        self._client(HostConfig(plain_http=True))
        for _ in range(3):
            await self._fails(self._open(), BlobUnknown)
        self.assertEqual(len(server.peers), 1)
        server.answer = lambda peer, _: peer.send(
            b"HTTP/1.1 416 No\r\nContent-Range: bytes */5\r\nContent-Length: 0\r\n\r\n"
        )
        await self._fails(self._open(5), SizeMismatch)
        self.assertEqual(len(server.peers), 1)

    async def test_idle_connection_died(self) -> None:
        """
        An idle connection that the peer has closed costs nobody an error.
        """
        server = self._listen(_whole)
        self._client(HostConfig(plain_http=True))
        self.assertEqual(await self._read(), _BLOB)
        server.peers[0].close()
        await server.all_closed()
        self.assertEqual(await self._read(), _BLOB)
        self.assertEqual(len(server.peers), 2)

    # ------------------------------------------------------ cancelling

    async def test_cancelled_in_handshake(self) -> None:
        """
        Cancelling during the TLS handshake closes the connection.
        """
        server = self._listen(_silent)
        self._client(HostConfig())
        arrived: Deferred[None] = Deferred()
        builder = server.buildProtocol

        def build(addr: object) -> Peer:
            self.reactor.callLater(0, arrived.callback, None)
            return builder(addr)

        server.buildProtocol = build  # type: ignore[method-assign]
        opening = self._open()
        await arrived
        opening.cancel()
        await self._fails(opening, CancelledError)
        await server.all_closed()
        self._no_connection_left()

    async def test_slow_handshake(self) -> None:
        """
        A peer that takes the connection and no handshake is given up.
        """
        server = self._listen(_silent)
        self._client(HostConfig(), _SHORT)
        error = await self._fails(self._open(), TimedOut)
        self.assertEqual(getattr(error, "phase", ""), "connect")
        await server.all_closed()

    async def test_cancelled_at_headers(self) -> None:
        """
        Cancelling while the answer is awaited closes the connection, by TCP
        and by TLS.
        """
        for tls in (None, self.authority.options("127.0.0.1")):
            asked: Deferred[None] = Deferred()
            server = self._listen(lambda _, __, asked=asked: asked.callback(None), tls)  # type: ignore[misc]
            self._client(HostConfig(plain_http=tls is None, skip_verify=True))
            opening = self._open()
            await asked
            opening.cancel()
            await self._fails(opening, CancelledError)
            await server.all_closed()
            self._no_connection_left()

    async def test_cancelled_early(self) -> None:
        """
        Cancelling while the name is resolved is told as a cancellation.
        """
        server = self._listen(_silent)
        self._client(HostConfig(plain_http=True))
        opening = self._open()
        opening.cancel()
        await self._fails(opening, CancelledError)
        self.assertEqual(server.heads, [])

    async def test_cancelled_in_body(self) -> None:
        """
        Cancelling in mid-body closes the connection at once, though the peer
        has more to send, by TCP and by TLS; so does abandoning it unread.
        """
        for tls in (None, self.authority.options("127.0.0.1")):
            server = self._listen(lambda peer, _: peer.send(_OK % (64 * len(_BLOB)) + _BLOB), tls)
            self._client(HostConfig(plain_http=tls is None, skip_verify=True))
            first: Deferred[None] = Deferred()
            body = await self._open()
            done = body.deliver(lambda _, first=first: None if first.called else first.callback(None))  # type: ignore[misc]
            await first
            done.cancel()
            await self._fails(done, CancelledError)
            await server.all_closed()
            (await self._open()).abandon()
            await server.all_closed()
            self._no_connection_left()

    async def test_cancelled_at_token(self) -> None:
        """
        Cancelling while a token is fetched closes the connection to the token
        server.
        """
        asked: Deferred[None] = Deferred()

        def answer(peer: Peer, path: str) -> None:
            if path.startswith("/token"):
                asked.callback(None)
                return
            peer.send(
                b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n"
                b'WWW-Authenticate: Bearer realm="http://%s/token"\r\n\r\n' % self.host.encode()
            )

        server = self._listen(answer)
        self._client(HostConfig(plain_http=True))
        opening = self._open()
        await asked
        opening.cancel()
        await self._fails(opening, CancelledError)
        await self.client.close()
        await server.all_closed()
        self._no_connection_left()

    # --------------------------------------------------------- closing

    async def test_close(self) -> None:
        """
        Closing ends idle connections and those in use, soon, though the peer
        does not agree.
        """
        for tls in (None, self.authority.options("127.0.0.1")):
            server = self._listen(_whole, tls)
            self._client(HostConfig(plain_http=tls is None, skip_verify=True))
            both = DeferredList([Deferred.fromCoroutine(self._read()) for _ in range(2)])
            self.assertEqual(await both, [(True, _BLOB), (True, _BLOB)])
            asked: Deferred[None] = Deferred()
            server.answer = lambda _, __, asked=asked: asked.callback(None)  # type: ignore[misc]
            opening = self._open()
            await asked
            # The pool would ask again, as the connection had been idle.
            server.answer = _whole
            await self.client.close()
            await self._fails(opening, ConnectionFailed)
            await server.all_closed()
            self._no_connection_left()


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
        All is there.
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
    A registry that closes each connection after one response, and does not
    say so.
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
                peer.send(_OK % 0)
            else:
                peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        server = self._listen(answer)
        return server

    async def test_push(self) -> None:
        """
        A push succeeds, whether the connections are closed in peace or reset:
        what is sent is sent again on a new one.
        """
        for again in (Peer.close, Peer.reset):
            server = self._serve(again)
            self._client(HostConfig(plain_http=True))
            repository = self.client.repository(Repository(self.host, "a"))
            for _ in range(3):
                pushed = await repository.push(_DIGEST, _Zeros(10), [], None, lambda _: None, lambda _: None)
                self.assertEqual(pushed.how, "uploaded")
            await repository.put_manifest("1", Document(OCI_MANIFEST, b"{}", Digest.of(b"{}")))
            await self.client.close()
            await server.all_closed()

    async def test_new_connection_fails(self) -> None:
        """
        A connection that breaks before its first response is not tried again
        at once.
        """
        server = self._listen(lambda peer, _: peer.reset())
        self._client(HostConfig(plain_http=True))
        target = self.client.repository(Repository(self.host, "a"))
        pushing = target.push(_DIGEST, _Zeros(10), [], None, lambda _: None, lambda _: None)
        error = await self._fails(pushing, ConnectionFailed)
        self.assertNotIsInstance(error, StaleConnection)
        self.assertEqual(len(server.peers), 1)


class EarlyTests(WireCase):
    """
    A registry that answers before it has got all, and reads no more.
    """

    def _serve(self, refuse: Callable[[Peer], None], tls: CertificateOptions | None = None) -> Listener:
        """
        Begin uploads, and refuse what is sent.
        """

        def answer(peer: Peer, path: str) -> None:
            method = server.heads[-1].partition(" ")[0]
            if method in ("PATCH", "PUT"):
                cast(IPushProducer, peer.transport).pauseProducing()
                refuse(peer)
            elif method == "POST":
                peer.send(b"HTTP/1.1 202 Accepted\r\nLocation: /v2/a/u/1\r\nContent-Length: 0\r\n\r\n")
            elif path == "/v2/":
                peer.send(_OK % 0)
            else:
                peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        server = self._listen(answer, tls)
        return server

    async def _refused(self, kind: type[SourceError], timeouts: Timeouts | None = None) -> BaseException:
        """
        Push a large blob in vain.
        """
        self._client(timeouts=timeouts)
        content = _Zeros(1 << 30)
        target = self.client.repository(Repository(self.host, "a"))
        work = target.push(_DIGEST, content, [], None, lambda _: None, lambda _: None)
        error = await self._fails(work, kind)
        # What the kernel has taken, not the whole chunk of 16 MiB.
        self.assertLess(content.read_bytes, 12 << 20)
        return error

    async def test_in_parts(self) -> None:
        """
        A refusal that comes in parts is read to its end, and its connection
        ends then.
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
        A registry that neither reads nor answers is given up.
        """
        self._serve(_nothing)
        error = await self._refused(TimedOut, _SHORT)
        assert isinstance(error, TimedOut)
        self.assertEqual(error.phase, "silence")

    async def test_continues(self) -> None:
        """
        What is no answer yet is not taken for one, and no log grows by it.
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
