"""
Tests for L{xferd.registry.transport.connect_tunnel}, without a network.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.error import ConnectionRefusedError as ConnectRefused
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.registry.fakes import Reader, failure_of
from xferd.errors import ConnectionFailed, is_retryable
from xferd.registry.transport.connect_tunnel import MAX_HEAD, ProxyEndpoint, TunnelEndpoint
from xferd.registry.transport.proxies import Proxy


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """
    Connects to a transport in memory, or does not.
    """

    def __init__(self) -> None:
        self.transport = StringTransport()
        self.error: Exception | None = None
        self.protocol: IProtocol | None = None

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect at once.
        """
        connecting: Deferred[IProtocol] = Deferred()
        if self.error is not None:
            connecting.errback(self.error)
            return connecting
        protocol = self.protocol = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        assert protocol is not None
        protocol.makeConnection(self.transport)
        connecting.callback(protocol)
        return connecting


class TunnelTests(SynchronousTestCase):
    """
    L{TunnelEndpoint} requests a tunnel from a proxy.
    """

    def setUp(self) -> None:
        """
        Make one.
        """
        self.inner = _Endpoint()
        self.reader = Reader()

    def connect(self, url: str = "http://p.test:3128", host: str = "r.test") -> Deferred[IProtocol]:
        """
        Begin.
        """
        proxy = Proxy.parse(url, "here")
        endpoint = TunnelEndpoint(ProxyEndpoint(self.inner, proxy), proxy, host, 443)
        verifyObject(IStreamClientEndpoint, endpoint)
        self.assertNotIn("hunter2", repr(endpoint))
        return endpoint.connect(Factory.forProtocol(lambda: self.reader))

    def answer(self, *pieces: bytes) -> None:
        """
        Let the proxy speak.
        """
        for piece in pieces:
            assert self.inner.protocol is not None
            self.inner.protocol.dataReceived(piece)

    def test_open(self) -> None:
        """
        After a 2xx, whatever pieces it comes in, all bytes are the server's.
        """
        connecting = self.connect()
        sent = self.inner.transport.value()
        self.assertTrue(sent.startswith(b"CONNECT r.test:443 HTTP/1.1\r\nHost: r.test:443\r\n"), sent)
        self.assertNotIn(b"Authorization", sent)
        self.answer(b"HTTP/1.1 100 Wait\r\n\r\nHTTP/1.0 200 OK\r\nVia: x\r\n")
        self.assertNoResult(connecting)
        self.answer(b"\r\nhel", b"lo")
        self.assertIs(self.successResultOf(connecting), self.reader)
        self.assertEqual(self.reader.data, b"hello")
        assert self.inner.protocol is not None
        self.inner.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertIsNotNone(self.reader.lost)

    def test_authorization(self) -> None:
        """
        The password goes to the proxy; an IPv6 address has its brackets.
        """
        _ = self.connect("http://a:hunter2@p.test", "fd00::1")
        sent = self.inner.transport.value()
        self.assertIn(b"CONNECT [fd00::1]:443 ", sent)
        self.assertIn(b"\r\nProxy-Authorization: Basic YTpodW50ZXIy\r\n", sent)

    def test_refused(self) -> None:
        """
        A refusal names the proxy and the remedy, and whether a retry
        can help.
        """
        for url, answer, retryable, why in (
            ("p.test", b"HTTP/1.1 407 Who\r\n\r\n", False, "wants credentials (407 Who)"),
            ("a:hunter2@p.test", b"HTTP/1.1 407 Who\r\n\r\n", False, "wants other credentials"),
            ("p.test", b"HTTP/1.1 403 No\r\n\r\n", False, "does not connect to r.test:443 (403 No)"),
            ("p.test", b"HTTP/1.1 502 Bad\r\n\r\n", True, "cannot reach r.test:443 (502 Bad)"),
            ("p.test", b"SSH-2.0\r\n\r\n", True, "not HTTP"),
            ("p.test", b"x" * (MAX_HEAD + 1), True, "without an end"),
            ("p.test", b"HTTP/1.1 100 Wait\r\n\r\n" * 5000, True, "more than 10 interim (1xx) responses"),
        ):
            self.inner = _Endpoint()
            connecting = self.connect(url)
            self.answer(answer)
            self.answer(b"more")
            error = failure_of(self, connecting, ConnectionFailed)
            self.assertIn("the proxy p.test:80", str(error))
            self.assertIn(why, str(error))
            self.assertNotIn("hunter2", str(error))
            self.assertEqual(is_retryable(error), retryable)
            self.assertTrue(self.inner.transport.disconnected)

    def test_lost(self) -> None:
        """
        A proxy that goes away, or is not there, is named.
        """
        connecting = self.connect()
        assert self.inner.protocol is not None
        self.inner.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertIn("the proxy p.test:3128 closed", str(failure_of(self, connecting, ConnectionFailed)))
        self.inner.error = ConnectRefused()
        error = failure_of(self, self.connect(), ConnectionFailed)
        self.assertIn("no answer from the proxy p.test:3128: nothing listens there", str(error))
        self.inner.error = ZeroDivisionError()
        self.failureResultOf(self.connect(), ZeroDivisionError)

    def test_cancelled(self) -> None:
        """
        Cancelling ends the connection.
        """
        connecting = self.connect()
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertTrue(self.inner.transport.disconnected)
