"""
Tests for L{xferd.registry.transport.limited_endpoint}, without a network.
"""

from __future__ import annotations

from attrs import define, field
from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.error import ConnectionRefusedError as ConnectRefused
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.registry.fakes import Reader, failure_of
from xferd.errors import ConnectionFailed, TimedOut, is_retryable
from xferd.registry.transport.limited_endpoint import (
    LimitedEndpoint,
    OpenConnections,
    UntrustedCertificate,
    _Connection,
    _ConnectionFactory,
)
from xferd.registry.transport.timeouts import Timeouts


@implementer(IStreamClientEndpoint)
@define
class _Endpoint:
    """
    Connects when the test fires its Deferred.
    """

    factory: IProtocolFactory | None = None
    connected: Deferred[IProtocol] = field(factory=Deferred)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Wait for the test.
        """
        self.factory = protocolFactory
        return self.connected


class LimitedEndpointTests(SynchronousTestCase):
    """
    L{LimitedEndpoint} holds connects and handshakes to their limits.
    """

    def setUp(self) -> None:
        """
        Make an endpoint over one of ours.
        """
        self.clock = Clock()
        self.inner = _Endpoint()
        self.open_connections = OpenConnections()
        self.transport = StringTransport()
        self.reader = Reader()

    def tearDown(self) -> None:
        """
        Whatever happened, no timer is left.
        """
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def _connect(self, tls: bool) -> Deferred[IProtocol]:
        endpoint = LimitedEndpoint(
            "h:1",
            self.inner,
            tls=tls,
            open_connections=self.open_connections,
            clock=self.clock,
            timeouts=Timeouts(connect=3, tls=4),
        )
        self.assertEqual(repr(endpoint), "<connections to h:1>")
        verifyObject(IStreamClientEndpoint, endpoint)
        return endpoint.connect(Factory.forProtocol(lambda: self.reader))

    def _arrive(self) -> _Connection:
        """
        Let the TCP connection come about.
        """
        assert self.inner.factory is not None
        connection = self.inner.factory.buildProtocol(None)  # type: ignore[arg-type]
        assert isinstance(connection, _Connection)
        connection.makeConnection(self.transport)
        self.inner.connected.callback(connection)
        return connection

    def test_plain(self) -> None:
        """
        Without TLS, the connection is ready at once, and lives until it is
        lost.
        """
        connecting = self._connect(False)
        connection = self._arrive()
        self.assertIs(self.successResultOf(connecting), self.reader)
        self.assertEqual(self.open_connections, {connection})
        connection.dataReceived(b"abc\n")
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.reader.data, b"abc\n")
        self.assertIsNotNone(self.reader.lost)
        self.assertEqual(self.open_connections, OpenConnections())

    def test_tls(self) -> None:
        """
        With TLS, it is ready after the handshake, and not used before.
        """
        connecting = self._connect(True)
        connection = self._arrive()
        self.assertNoResult(connecting)
        self.assertIsNone(self.reader.transport)
        connection.handshakeCompleted()
        self.assertIs(self.successResultOf(connecting), self.reader)
        self.assertIs(self.reader.transport, self.transport)

    def test_slow_connect(self) -> None:
        """
        A connect that takes too long fails, and is cancelled.
        """
        connecting = self._connect(False)
        self.clock.advance(3)
        self.assertEqual(getattr(failure_of(self, connecting, TimedOut), "phase", ""), "connect")

    def test_late_connect(self) -> None:
        """
        A connection that comes about as it is cancelled is ended.
        """

        def arrive(_: Deferred[IProtocol]) -> None:
            self._arrive()

        self.inner.connected = Deferred(arrive)
        connecting = self._connect(False)
        self.clock.advance(3)
        failure_of(self, connecting, TimedOut)
        self.assertTrue(self.transport.disconnected)

    def test_slow_handshake(self) -> None:
        """
        A handshake that takes too long ends the connection.
        """
        connecting = self._connect(True)
        connection = self._arrive()
        self.clock.advance(4)
        failure_of(self, connecting, TimedOut)
        self.assertTrue(self.transport.disconnected)
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertIsNone(self.reader.lost)
        self.assertEqual(self.open_connections, OpenConnections())

    def test_cancelled(self) -> None:
        """
        Cancelling ends a connect, and a handshake with its connection.
        """
        connecting = self._connect(True)
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.inner = _Endpoint()
        connecting = self._connect(True)
        self._arrive()
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertTrue(self.transport.disconnected)

    def test_closed(self) -> None:
        """
        What comes about after the end is ended.
        """
        self.open_connections.closed = True
        _ = self._connect(False)
        self._arrive()
        self.assertTrue(self.transport.disconnected)

    def test_refused(self) -> None:
        """
        A connect's own failure comes through.
        """
        connecting = self._connect(True)
        self.inner.connected.errback(ConnectRefused())
        self.failureResultOf(connecting, ConnectRefused)

    def test_no_protocol(self) -> None:
        """
        A factory may decline.
        """
        declining = Factory()
        declining.buildProtocol = lambda addr: None  # type: ignore[method-assign]
        factory = _ConnectionFactory(declining, False, self.open_connections, "h:1", True)
        self.assertIsNone(factory.buildProtocol(None))

    def test_handshake_fails(self) -> None:
        """
        A handshake's failure has a reason, and whether a retry can help.
        """
        for reason, retryable, why in (
            (TLSError([("SSL routines", "", "certificate verify failed")]), False, "trusted authority"),
            (VerificationError(errors=[]), False, "another host"),
            (TLSError([("SSL routines", "", "wrong version number")]), True, "wrong version number"),
            (TLSError(), True, "no reason given"),
            (ConnectionDone(), True, "closed"),
        ):
            self.inner = _Endpoint()
            connecting = self._connect(True)
            self._arrive().connectionLost(Failure(reason))
            error = failure_of(self, connecting, ConnectionFailed)
            self.assertIn(why, str(error))
            self.assertIn("h:1", str(error))
            self.assertEqual(is_retryable(error), retryable)
            self.assertEqual(isinstance(error, UntrustedCertificate), not retryable)

    def test_abort_unconnected(self) -> None:
        """
        What has no transport yet has nothing to end.
        """
        connection = _Connection(self.reader, False, self.open_connections, "h:1")
        connection.abort()
        self.assertEqual(self.open_connections, OpenConnections())
