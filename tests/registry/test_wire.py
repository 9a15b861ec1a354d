"""
Tests for the registry client over real sockets: the behaviour of the kernel, of
OpenSSL and of broken peers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IPushProducer

from tests.registry.wire import Peer, endless
from tests.registry.wire_cases import BLOB, OK, SHORT, WireCase, send_nothing, send_whole
from xferd.errors import (
    BlobUnknown,
    ConnectionFailed,
    RegistryError,
    SizeMismatch,
    SourceError,
    TimedOut,
    Truncated,
)
from xferd.registry.hosts.configured import HostConfig
from xferd.registry.transport.limited_endpoint import UntrustedCertificate
from xferd.testing.certificates import Authority


class WireTests(WireCase):
    """
    A client that pulls.
    """

    # ------------------------------------------------------------- TLS

    async def test_own_ca(self) -> None:
        """
        A host's own CA is trusted, and its connection used again.
        """
        server = self._listen(send_whole, self.authority.options("127.0.0.1"))
        self._client(HostConfig(ca_file=str(self.ca)))
        for _ in range(3):
            self.assertEqual(await self._read(), BLOB)
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
            server = self._listen(send_whole, options)
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
        self._listen(send_whole, other.options("127.0.0.1"))
        self._client(HostConfig())
        self.assertEqual(await self._read(), BLOB)
        self._client(HostConfig(ca_file=str(self.ca)))
        await self._fails(self._open(), UntrustedCertificate)

    async def test_unverified(self) -> None:
        """
        Any certificate is accepted with C{skip_verify}, and on loopback
        without a configuration.
        """
        for config in (HostConfig(skip_verify=True), None):
            self._listen(send_whole, Authority().options("other.example"))
            self._client(config)
            self.assertEqual(await self._read(), BLOB)

    async def test_no_tls(self) -> None:
        """
        A configured host without TLS is an error, not a reason to go without.
        """

        server = self._listen(send_whole)
        self._client(HostConfig(), SHORT)
        opening = self._open()
        await self._fails(opening, SourceError)
        await server.all_closed()
        self.assertEqual(server.heads, [])
        self._no_connection_left()

    async def test_plain(self) -> None:
        """
        A loopback host may go without, which costs one request, once.
        """
        server = self._listen(send_whole)
        self._client()
        for _ in range(2):
            self.assertEqual(await self._read(), BLOB)
        self.assertEqual([h.split(" ")[1] for h in server.heads].count("/v2/"), 1)

    # ------------------------------------------------------- bad peers

    async def test_half_body(self) -> None:
        """
        A body that ends early is a truncation, one that is reset a failure of
        the connection.
        """
        for close, kind in ((Peer.close, Truncated), (Peer.reset, ConnectionFailed)):
            server = self._listen(lambda peer, _: peer.send(OK % len(BLOB) + BLOB[:1000]))
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
            peer.send(OK % len(BLOB) + BLOB[:1000])

        for tls in (None, self.authority.options("127.0.0.1")):
            server = self._listen(answer, tls)
            self._client(HostConfig(plain_http=tls is None, skip_verify=True), SHORT)
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
        If nothing listens, the error states it.
        """
        server = self._listen(send_nothing)
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
        An idle connection that the peer has closed causes no error.
        """
        server = self._listen(send_whole)
        self._client(HostConfig(plain_http=True))
        self.assertEqual(await self._read(), BLOB)
        server.peers[0].close()
        await server.all_closed()
        self.assertEqual(await self._read(), BLOB)
        self.assertEqual(len(server.peers), 2)

    # ------------------------------------------------------ cancelling

    async def test_cancelled_in_handshake(self) -> None:
        """
        Cancelling during the TLS handshake closes the connection.
        """
        server = self._listen(send_nothing)
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
        A peer that accepts the connection but no handshake times out.
        """
        server = self._listen(send_nothing)
        self._client(HostConfig(), SHORT)
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
        Cancelling while the name is resolved is reported as a cancellation.
        """
        server = self._listen(send_nothing)
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
            server = self._listen(lambda peer, _: peer.send(OK % (64 * len(BLOB)) + BLOB), tls)
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
            server = self._listen(send_whole, tls)
            self._client(HostConfig(plain_http=tls is None, skip_verify=True))
            both = DeferredList([Deferred.fromCoroutine(self._read()) for _ in range(2)])
            self.assertEqual(await both, [(True, BLOB), (True, BLOB)])
            asked: Deferred[None] = Deferred()
            server.answer = lambda _, __, asked=asked: asked.callback(None)  # type: ignore[misc]
            opening = self._open()
            await asked
            # The pool would repeat the request, because the connection had been idle.
            server.answer = send_whole
            await self.client.close()
            await self._fails(opening, ConnectionFailed)
            await server.all_closed()
            self._no_connection_left()
