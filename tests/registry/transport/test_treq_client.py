"""
Tests for L{xferd.registry.transport.treq_client}: what treq would change, over a real
socket and without one.
"""

from __future__ import annotations

import gzip
import string
import sys
import time
from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as default_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.tcp import Port
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse
from zope.interface.verify import verifyObject

from tests.registry.fakes import FakeResponse, ScriptedAgent
from tests.registry.wire import Listener
from xferd._version import __version__
from xferd.interfaces.reactor import IReactor
from xferd.registry.hosts.configured import Hosts
from xferd.registry.transport.connections import Connections
from xferd.registry.transport.request_body import BytesBody
from xferd.registry.transport.response_body import discard
from xferd.registry.transport.timeouts import Timeouts
from xferd.registry.transport.treq_client import _IdentityAgent, make_request

_TARGETS = (
    "/",
    "//a//b/",
    "/a/../b/./c",
    "/v2/a/blobs/sha256:0123?ns=docker.io",
    "/a%2fb%2F%7e~%41?x=%2f+y%20z&&w=&q==a=b;c&=&v",
    "/a;b=c/d:e@f!$&'()*+,?/?:@[]|^`{}<>\"\\",
    "/a?X-Amz-Signature=0aB%2B%2f==&X-Amz-Credential=a/b%2Fc",
    "/%zz/%?%",
)


class _Collector(Protocol):
    """
    Collects a body.

    @ivar ended: fires with the body, or with the reason why it ended early.
    """

    def __init__(self) -> None:
        self.data = b""
        self.ended: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(self.data)


class WireTests(TestCase):
    """
    Requests as a server receives them, and responses as it sends them.
    """

    def setUp(self) -> None:
        """
        Listen on a loopback port.
        """
        self.reactor = cast(IReactor, default_reactor)
        self.server = Listener(lambda peer, _: peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
        port = cast(Port, self.reactor.listenTCP(0, self.server, interface="127.0.0.1"))
        self.addCleanup(port.stopListening)
        self.host = f"127.0.0.1:{port.getHost().port}"
        connections = Connections(
            self.reactor, timeouts=Timeouts(), tls_options=Hosts({}, time.monotonic).tls_options
        )
        self.addCleanup(connections.close)
        self.agent = connections.agent()

    def _request(self, target: str, headers: Headers | None = None) -> Deferred[IResponse]:
        """
        Send a request to the server.
        """
        return make_request(
            self.agent, "GET", f"http://{self.host}{target}", headers or Headers(), None, reactor=self.reactor
        )

    async def test_targets(self) -> None:
        """
        Percent-encoding, empty segments and queries arrive unchanged.
        """
        for target in _TARGETS:
            discard(await self._request(target))
        self.assertEqual([h.split(" ")[1] for h in self.server.heads], list(_TARGETS))
        self.assertEqual({h.split("Host: ")[1].split("\r\n")[0] for h in self.server.heads}, {self.host})

    async def test_bodies(self) -> None:
        """
        A gzip body arrives unchanged: of one member, of two, truncated or not
        gzip at all; and its C{Content-Encoding} remains.
        """
        whole = gzip.compress(b"0123456789" * 1000)
        for body in (whole, whole + whole, whole[:-10], b"no gzip"):
            head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
            self.server.answer = lambda peer, _, sent=head + body: peer.send(sent)  # type: ignore[misc]
            response = await self._request("/")
            self.assertEqual(response.length, len(body))
            self.assertEqual(response.headers.getRawHeaders("Content-Encoding"), ["gzip"])
            collector = _Collector()
            response.deliverBody(collector)
            self.assertEqual(await collector.ended, body)

    async def test_cookies(self) -> None:
        """
        No cookie is sent back, on the same connection or elsewhere.
        """
        self.server.answer = lambda peer, _: peer.send(
            b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
        )
        for _ in range(3):
            response = await self._request("/")
            response.deliverBody(_Collector())
        self.assertEqual(len(self.server.peers), 1)
        self.assertEqual(len(self.server.heads), 3)
        self.assertNotIn("cookie", "".join(self.server.heads).lower())

    async def test_redirect(self) -> None:
        """
        A redirect is a response as any other.
        """
        self.server.answer = lambda peer, _: peer.send(
            b"HTTP/1.1 307 Elsewhere\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"
        )
        response = await self._request("/")
        discard(response)
        self.assertEqual((response.code, len(self.server.heads)), (307, 1))


class MakeRequestTests(SynchronousTestCase):
    """
    L{make_request} passes a request on to an agent as the caller made it.
    """

    def setUp(self) -> None:
        """
        Script an agent.
        """
        self.agent = ScriptedAgent()
        self.clock = Clock()

    def _request(self, url: str = "http://h/", headers: Headers | None = None) -> Deferred[IResponse]:
        return make_request(self.agent, "GET", url, headers or Headers(), None, reactor=self.clock)

    def test_interface(self) -> None:
        """
        The agent below treq provides L{IAgent}.
        """
        verifyObject(IAgent, _IdentityAgent(self.agent, b"http://r.test/"))

    @given(st.text(string.ascii_letters + string.digits + string.punctuation.replace("#", "")))
    def test_any_target(self, target: str) -> None:
        """
        Any printable ASCII is sent as it is.
        """
        _ = self._request(f"https://h.example/{target}")
        self.assertEqual(self.agent.last.url, f"https://h.example/{target}")

    def test_hosts(self) -> None:
        """
        Hosts that treq would refuse or rewrite are sent as they are.
        """
        for host in ("[::1]:5000", "my_registry:5000", "xn--a", "h:80", "REGISTRY.example"):
            _ = self._request(f"http://{host}/v2/")
            self.assertEqual(self.agent.last.url, f"http://{host}/v2/")

    def test_headers(self) -> None:
        """
        Content is requested without an encoding, whatever the caller's
        headers are, and with xferd's name; the caller's own headers are
        unchanged.
        """
        own = Headers({"Accept-Encoding": ["gzip"], "Range": ["bytes=5-"]})
        _ = self._request(headers=own)
        sent = dict(self.agent.last.headers.getAllRawHeaders())
        self.assertEqual(
            sent,
            {
                b"Accept-Encoding": [b"identity"],
                b"Range": [b"bytes=5-"],
                b"User-Agent": [f"xferd/{__version__}".encode()],
            },
        )
        self.assertEqual(own.getRawHeaders("Accept-Encoding"), ["gzip"])
        self.assertFalse(own.hasHeader("User-Agent"))

    def test_body(self) -> None:
        """
        A body is sent by its own producer, an empty one, too.
        """
        for data in (b"data", b""):
            body = BytesBody(data)
            _ = make_request(self.agent, "PATCH", "http://h/", Headers(), body, reactor=self.clock)
            self.assertEqual(self.agent.last.method, b"PATCH")
            self.assertIs(self.agent.last.body, body)
            self.assertFalse(self.agent.last.headers.hasHeader("Content-Type"))

    def test_content_encoding(self) -> None:
        """
        A response keeps its C{Content-Encoding}, of any number of values, and
        gains none.
        """
        for values in (["gzip"], ["br, gzip"], ["gzip", "identity"], None):
            requesting = self._request()
            response = FakeResponse(200, {})
            if values is not None:
                response.headers.setRawHeaders("Content-Encoding", values)
            self.agent.last.answer.callback(response)
            headers = self.successResultOf(requesting).headers
            self.assertEqual(headers.getRawHeaders("Content-Encoding"), values)

    def test_unbuffered(self) -> None:
        """
        No piece of a body is kept once it is delivered.
        """
        requesting = self._request()
        response = self.agent.respond(200, body=None)
        received: list[int] = []
        reader = Protocol()
        reader.dataReceived = lambda data: received.append(len(data))  # type: ignore[method-assign]
        self.successResultOf(requesting).deliverBody(reader)
        piece = bytes(100_000)
        before = sys.getrefcount(piece)
        response.send(piece)
        self.assertEqual(received, [100_000])
        self.assertEqual(sys.getrefcount(piece), before)

    def test_cancelled(self) -> None:
        """
        A cancel reaches the agent.
        """
        requesting = self._request()
        requesting.cancel()
        self.assertTrue(self.agent.last.cancelled)
        self.failureResultOf(requesting, CancelledError)

    def test_failed(self) -> None:
        """
        The agent's failure is the request's.
        """
        requesting = self._request()
        self.agent.last.answer.errback(ConnectionLost())
        self.failureResultOf(requesting, ConnectionLost)

    def test_no_clock(self) -> None:
        """
        treq sets no timer: its caller limits the time of a request.
        """
        _ = self._request()
        self.assertEqual(self.clock.getDelayedCalls(), [])
