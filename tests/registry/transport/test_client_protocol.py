"""
Tests for L{xferd.registry.transport.client_protocol}.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any, cast

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web._newclient import (
    BadHeaders,
    HTTP11ClientProtocol,
    Request,
    RequestGenerationFailed,
    RequestNotSent,
    RequestTransmissionFailed,
    ResponseNeverReceived,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from xferd.interfaces.reactor import IReactor
from xferd.registry.transport.addresses import AddressedFactory
from xferd.registry.transport.client_protocol import ClientProtocol, ClientRequest, address_of, parse_whole
from xferd.registry.transport.request_body import BytesBody

HEAD = b"HTTP/1.1 200 OK\r\nServer: x\r\nX-Two: a\r\nx-two:  b \r\n"
WHOLE = HEAD + b"Content-Length: 5\r\n\r\nhello"

ORDINARY = (
    WHOLE,
    HEAD + b"Content-Length: 0\r\n\r\n",
    HEAD + b"Content-Length: 2\r\nConnection: close\r\n\r\nok",
    HEAD + b"content-LENGTH:\t3 \r\nKeep-Alive: timeout=5\r\n\r\nabc",
    b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nX-Empty:\r\n\r\n",
    b"HTTP/1.1 201 Created\r\nLocation: /v2/a?b=c:d\r\nContent-Length: 0\r\n\r\n",
)
"""Responses that are read in one step."""

OTHERS = (
    HEAD + b"\r\nuntil the end",
    HEAD + b"Content-Length: 9\r\n\r\nhello",
    HEAD + b"Content-Length: 3\r\n\r\nhello",
    HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    HEAD + b"Content-Length: 5\r\nContent-Length: 4\r\n\r\nhello",
    HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
    HEAD + b"Content-Length: +5\r\n\r\nhello",
    HEAD + b"Content-Length: -5\r\n\r\nhello",
    HEAD + b"Content-Length: \r\n\r\nhello",
    HEAD + b"Content-Length : 5\r\n\r\nhello",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    HEAD + b" folded\r\nContent-Length: 5\r\n\r\nhello",
    HEAD + b"no colon\r\nContent-Length: 5\r\n\r\nhello",
    HEAD + b": no name\r\nContent-Length: 5\r\n\r\nhello",
    HEAD + b"Bare: re\rturn\r\nContent-Length: 5\r\n\r\nhello",
    HEAD + b"Bare: line\nContent-Length: 5\r\n\r\nhello",
    HEAD + b"Content-Length: 5\n\nhello",
    WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"),
    WHOLE.replace(b"HTTP/1.1", b"HTTP/x"),
    WHOLE.replace(b"200", b"2oo"),
    WHOLE.replace(b"200", b"999"),
    WHOLE.replace(b" 200 OK", b""),
    b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE,
    b"\r\n" + WHOLE,
    b"SSH-2.0-OpenSSH\r\n\r\n",
)
"""Those that are left to L{twisted.web}."""


class Collected(Protocol):
    """
    A body.
    """

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def dataReceived(self, data: bytes) -> None:
        """
        Note a piece.
        """
        self._seen.body += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Note the end.
        """
        self._seen.end = type(reason.value).__name__


@define
class Seen:
    """
    What a client sees of one response.
    """

    status: object = None
    headers: list[tuple[bytes, list[bytes]]] = field(factory=list)
    length: object = None
    body: bytes = b""
    end: str = ""
    error: str = ""
    free: int = 0
    closed: bool = False


def request(method: bytes = b"GET", body: BytesBody | None = None) -> ClientRequest:
    """
    A request.
    """
    return ClientRequest(method, b"/v2/", Headers(), body, True, b"r.test")


def see(
    make: Callable[[Callable[[object], None]], HTTP11ClientProtocol],
    pieces: list[bytes],
    method: bytes,
    kept: list[bytes],
) -> Seen:
    """
    Make a request, and deliver a response, then the end of the connection.

    @param kept: receives what was written.
    """
    seen = Seen()

    def free(_: object) -> None:
        seen.free += 1

    def arrived(response: IResponse) -> None:
        seen.status = response.version, response.code, response.phrase
        seen.headers = sorted((n, list(v)) for n, v in response.headers.getAllRawHeaders())
        seen.length = response.length
        response.deliverBody(Collected(seen))

    def failed(failure: Failure) -> None:
        seen.error = type(failure.value).__name__

    protocol = make(free)
    transport = StringTransportWithDisconnection()
    transport.protocol = protocol
    protocol.makeConnection(transport)
    _ = protocol.request(request(method)).addCallbacks(arrived, failed)
    kept.append(transport.value())
    for piece in pieces:
        if transport.connected:
            protocol.dataReceived(piece)
    seen.closed = not transport.connected
    if transport.connected:
        transport.loseConnection()
    return seen


class ResponseTests(SynchronousTestCase):
    """
    A client sees the same as of L{twisted.web}'s protocol.
    """

    def _compare(self, pieces: list[bytes], method: bytes = b"GET") -> Seen:
        """
        Deliver a response to both.
        """
        kept: list[bytes] = []
        theirs = see(lambda free: HTTP11ClientProtocol(free), pieces, method, kept)
        ours = see(lambda free: ClientProtocol(free, None), pieces, method, kept)
        # twisted.web logs what it could not deliver.
        self.flushLoggedErrors()
        self.assertEqual(ours, theirs, pieces)
        return ours

    def test_ordinary(self) -> None:
        """
        Ordinary responses, whole and in two pieces.
        """
        for data in ORDINARY:
            self.assertIsNotNone(parse_whole(data, b"GET"), data)
            seen = self._compare([data])
            self.assertEqual((seen.end, seen.error, seen.closed), ("ResponseDone", "", b"close" in data))
            self.assertEqual(seen.free, not seen.closed)
            for at in (1, 20, len(data) - 1):
                self._compare([data[:at], data[at:]])

    def test_others(self) -> None:
        """
        Responses that are not ordinary, malformed ones among them.
        """
        for data in OTHERS:
            self.assertIsNone(parse_whole(data, b"GET"), data)
            self._compare([data])

    def test_head(self) -> None:
        """
        The response to a HEAD has no body, whatever its length says.
        """
        data = HEAD + b"Content-Length: 5000\r\n\r\n"
        self.assertIsNotNone(parse_whole(data, b"HEAD"))
        seen = self._compare([data], b"HEAD")
        self.assertEqual((seen.length, seen.body, seen.end), (0, b"", "ResponseDone"))
        self.assertIn((b"Content-Length", [b"5000"]), seen.headers)
        self.assertIsNone(parse_whole(data + b"hello", b"HEAD"))
        self._compare([data + b"hello"], b"HEAD")

    def test_name(self) -> None:
        """
        A field whose name is no token ends the connection.
        """
        data = HEAD + b"B[d: 1\r\nContent-Length: 0\r\n\r\n"
        self.assertIsNotNone(parse_whole(data, b"GET"))
        seen = self._compare([data])
        self.assertEqual((seen.error, seen.closed), ("ResponseFailed", True))

    def test_long(self) -> None:
        """
        A long head is left to L{twisted.web}.
        """
        data = HEAD + b"X-Long: %b\r\nContent-Length: 0\r\n\r\n" % (b"a" * 20_000)
        self.assertIsNone(parse_whole(data, b"GET"))
        self._compare([data])

    @given(st.data())
    def test_anything(self, data: Any) -> None:
        """
        Heads of fragments that matter, cut anywhere.
        """
        line = st.sampled_from(
            [
                b"Content-Length: 5",
                b"Content-Length: 0",
                b"content-length:5",
                b"Transfer-Encoding: chunked",
                b"Connection: close",
                b"A: 1",
                b" x",
                b"\t",
                b"",
                b"a",
                b":",
                b"A:\r",
                b"A: 1\n",
            ]
        )
        status = data.draw(
            st.sampled_from(
                [b"HTTP/1.1 200 OK", b"HTTP/1.1 204 ", b"HTTP/1.0 200 OK", b"HTTP/1.1 100 C", b"x"]
            )
        )
        lines = data.draw(st.lists(line, max_size=5))
        body = data.draw(st.sampled_from([b"", b"hello", b"hell", b"hello!", b"5\r\nhello\r\n0\r\n\r\n"]))
        whole = b"\r\n".join([status, *lines, b"", body])
        at = data.draw(st.integers(0, len(whole)))
        method = data.draw(st.sampled_from([b"GET", b"HEAD", b"PUT"]))
        self._compare([whole] if at == 0 else [whole[:at], whole[at:]], method)


class ProtocolTests(SynchronousTestCase):
    """
    L{ClientProtocol} beyond single responses.
    """

    def setUp(self) -> None:
        """
        Connect.
        """
        self.free: list[object] = []
        self.protocol = ClientProtocol(self.free.append, "192.0.2.1")
        self.transport = StringTransportWithDisconnection()
        self.transport.protocol = self.protocol
        self.protocol.makeConnection(self.transport)

    def test_next(self) -> None:
        """
        The connection is free for another request before the response is delivered,
        and the address of each response is noted.
        """
        free_before: list[int] = []

        def arrived(response: IResponse) -> IResponse:
            free_before.append(len(self.free))
            return response

        first = self.protocol.request(request()).addCallback(arrived)
        self.protocol.dataReceived(WHOLE)
        response = self.successResultOf(first)
        self.assertEqual((free_before, self.protocol.state), ([1], "QUIESCENT"))
        self.assertEqual(address_of(response), "192.0.2.1")
        second = self.protocol.request(request())
        self.protocol.dataReceived(WHOLE)
        self.assertEqual(self.successResultOf(second).code, 200)
        self.assertEqual(self.transport.producerState, "producing")

    def test_early(self) -> None:
        """
        A whole response that arrives while the body is being sent is delivered, and
        the connection is not used again.
        """

        class Endless(BytesBody):
            """
            A body that does not end by itself.
            """

            def startProducing(self, consumer: object) -> Deferred[None]:
                return Deferred(lambda _: None)

        asking = self.protocol.request(request(b"PUT", Endless(b"12345")))
        self.protocol.dataReceived(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno")
        response = self.successResultOf(asking)
        seen = Seen()
        response.deliverBody(Collected(seen))
        self.assertEqual((response.code, seen.body, seen.end), (401, b"no", "ResponseDone"))
        self.assertEqual((self.free, self.transport.connected), ([], False))

    def test_cancelled(self) -> None:
        """
        A request that is cancelled before its response closes the connection.
        """
        asking = self.protocol.request(request())
        asking.cancel()
        self.failureResultOf(asking, ResponseNeverReceived)
        self.assertFalse(self.transport.connected)

    def test_lost(self) -> None:
        """
        The error for a connection that ends before the response has the reason.
        """
        asking = self.protocol.request(request())
        self.transport.loseConnection()
        failure = self.failureResultOf(asking, ResponseNeverReceived)
        self.assertTrue(failure.value.reasons[0].check(ConnectionDone))

    def test_unread(self) -> None:
        """
        The body of a whole response is read later, when the connection may serve
        another request already.
        """
        first = self.protocol.request(request())
        self.protocol.dataReceived(WHOLE)
        second = self.protocol.request(request())
        seen = Seen()
        self.successResultOf(first).deliverBody(Collected(seen))
        self.assertEqual((seen.body, seen.end), (b"hello", "ResponseDone"))
        self.assertNoResult(second)
        self.assertTrue(self.transport.connected)


class RequestTests(SynchronousTestCase):
    """
    L{ClientRequest} writes what L{twisted.web}'s request writes.
    """

    def test_written(self) -> None:
        """
        The heads are equal, and arrive in one piece.
        """
        for method, body in ((b"GET", None), (b"PUT", None), (b"POST", b""), (b"PATCH", b"12345")):
            for persistent in (True, False):
                headers = Headers({b"Host": [b"r.test"], b"A": [b"1", b"2"]})
                others = Headers({b"A": [b"1", b"2"]})
                made = [
                    Request(method, b"/v2/?a=b", headers, _body(body), persistent),
                    ClientRequest(method, b"/v2/?a=b", headers, _body(body), persistent, b"not.used"),
                    ClientRequest(method, b"/v2/?a=b", others, _body(body), persistent, b"r.test"),
                ]
                written = []
                for each in made:
                    transport = StringTransportWithDisconnection()
                    self.successResultOf(each.writeTo(transport))
                    written.append(transport.value())
                self.assertEqual(written, written[:1] * 3)

    def test_hosts(self) -> None:
        """
        A request has one C{Host}.
        """
        protocol = ClientProtocol(lambda _: None, None)
        transport = StringTransportWithDisconnection()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        made = ClientRequest(b"GET", b"/", Headers({b"Host": [b"a", b"b"]}), None, True, b"c")
        failure = self.failureResultOf(protocol.request(made), RequestGenerationFailed)
        self.assertTrue(failure.value.reasons[0].check(BadHeaders))

    def test_refused(self) -> None:
        """
        No method and no URI can have characters that would begin another line.
        """
        for method, uri in ((b"GET\r\nA: b", b"/"), (b"GET", b"/\r\nA: b"), (b"GET", b"/ a")):
            with self.assertRaises(ValueError):
                ClientRequest(method, uri, Headers(), None, True, b"r.test")


def _body(data: bytes | None) -> BytesBody | None:
    """
    A body, unless there is none.
    """
    return None if data is None else BytesBody(data)


def reset(peer: socket.socket) -> None:
    """
    Close a connection by RST.
    """
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


class SocketTests(TestCase):
    """
    L{ClientProtocol} on a socket.
    """

    async def connect(self) -> tuple[ClientProtocol, socket.socket]:
        """
        Connect a protocol with a socket that only this test reads.
        """
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        endpoint = TCP4ClientEndpoint(
            cast(IReactor, default_reactor), "127.0.0.1", listening.getsockname()[1]
        )
        protocol = cast(
            ClientProtocol, await endpoint.connect(AddressedFactory(lambda _: None, "the server"))
        )
        peer, _ = listening.accept()
        peer.settimeout(5)
        self.addCleanup(peer.close)
        return protocol, peer

    async def test_at_once(self) -> None:
        """
        A request leaves at once, with its body, and not in the next turn of the reactor.
        """
        protocol, peer = await self.connect()
        asking = protocol.request(request(b"PUT", BytesBody(b"the body")))
        sent = b""
        while not sent.endswith(b"the body"):
            # The reactor cannot send anything meanwhile.
            sent += peer.recv(1000)
        peer.sendall(WHOLE)
        self.assertEqual((await asking).code, 200)
        await protocol.abort()

    async def test_broken(self) -> None:
        """
        A connection that the peer has reset fails the request.
        """
        protocol, peer = await self.connect()
        reset(peer)
        asking = protocol.request(request(b"PUT", BytesBody(b"the body")))
        try:
            await asking
        except (ResponseNeverReceived, RequestTransmissionFailed):
            return
        self.fail("there is a response")

    async def test_lost(self) -> None:
        """
        A connection that is lost refuses a request.
        """
        for close in (socket.socket.close, reset):
            protocol, peer = await self.connect()
            close(peer)
            while protocol.state != "CONNECTION_LOST":
                turn: Deferred[None] = Deferred()
                cast(IReactor, default_reactor).callLater(0.001, turn.callback, None)
                await turn
            await self.assertFailure(protocol.request(request()), RequestNotSent)
