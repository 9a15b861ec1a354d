"""
Tests for L{xferd.testing.memory_network}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectionLost, DNSLookupError
from twisted.internet.error import ConnectionRefusedError as ConnectRefused
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from xferd.testing.memory_network import BUFFER, MemoryNetwork


class Ear(Protocol):
    """
    Keeps what it hears.
    """

    def __init__(self) -> None:
        self.heard = b""
        self.lost: BaseException | None = None

    def dataReceived(self, data: bytes) -> None:
        """
        Keep it.
        """
        self.heard += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """
        Keep the reason.
        """
        self.lost = reason.value


class NetworkTests(SynchronousTestCase):
    """
    Tests for L{MemoryNetwork}: host 10.0.0.1 connects to 10.0.0.2.
    """

    def setUp(self) -> None:
        """
        Listen.
        """
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.accepted: list[Ear] = []
        self.network.listen("10.0.0.2", 80, self.factory(self.accepted))
        self.reactor: Any = self.network.reactor("10.0.0.1")

    def factory(self, made: list[Ear]) -> Factory:
        """
        A factory that keeps its protocols.
        """

        def build() -> Ear:
            made.append(Ear())
            return made[-1]

        return Factory.forProtocol(build)

    def connect(self, host: str = "10.0.0.2", port: int = 80) -> Deferred[Any]:
        """
        Connect.
        """
        connecting: Deferred[Any] = HostnameEndpoint(self.reactor, host, port, timeout=3).connect(
            self.factory([])
        )
        for _ in range(8):
            self.clock.advance(0.1)
        return connecting

    def pair(self) -> tuple[Any, Any]:
        """
        Both ends of a connection.
        """
        return self.successResultOf(self.connect()), self.accepted[-1]

    def test_bytes(self) -> None:
        """
        Bytes pass in both directions; what was written before the end arrives.
        """
        ours, theirs = self.pair()
        ours.transport.write(b"question")
        theirs.transport.write(b"answer")
        theirs.transport.loseConnection()
        self.clock.advance(0)
        self.assertEqual((theirs.heard, ours.heard), (b"question", b"answer"))
        self.assertIsNotNone(ours.lost)

    def test_refused(self) -> None:
        """
        Where nothing listens, a connection is refused; a name that is not known has no
        address.
        """
        self.failureResultOf(self.connect(port=81), ConnectRefused)
        self.failureResultOf(self.connect("unknown.example"), DNSLookupError)
        self.reactor.names["known.example"] = "10.0.0.2"
        self.successResultOf(self.connect("known.example"))
        self.assertEqual(self.network.tried, [("10.0.0.2", 81), ("10.0.0.2", 80)])

    def test_kill(self) -> None:
        """
        A host that ends breaks its connections, and accepts none until it is back.
        """
        ours, theirs = self.pair()
        self.network.kill("10.0.0.2")
        self.clock.advance(0)
        self.assertIsInstance(ours.lost, ConnectionLost)
        self.assertIsInstance(theirs.lost, ConnectionLost)
        self.failureResultOf(self.connect(), ConnectRefused)
        self.network.revive("10.0.0.2")
        self.successResultOf(self.connect())

    def test_freeze(self) -> None:
        """
        Of a frozen host nothing is heard, until it is thawed.
        """
        ours, theirs = self.pair()
        self.network.freeze("10.0.0.2")
        theirs.transport.write(b"answer")
        self.clock.advance(10)
        self.assertEqual((ours.heard, ours.lost), (b"", None))
        connecting = self.connect()
        self.clock.advance(3)
        self.failureResultOf(connecting, ConnectTimeout)
        self.network.thaw("10.0.0.2")
        self.clock.advance(0)
        self.assertEqual(ours.heard, b"answer")

    def test_split(self) -> None:
        """
        Between some hosts nothing passes.
        """
        ours, theirs = self.pair()
        self.network.split(lambda one, other: {one, other} == {"10.0.0.1", "10.0.0.2"})
        theirs.transport.write(b"answer")
        self.clock.advance(1)
        self.assertEqual(ours.heard, b"")
        self.network.split(lambda *_: False)
        self.clock.advance(0)
        self.assertEqual(ours.heard, b"answer")

    def test_twist(self) -> None:
        """
        What leaves a host can be changed.
        """
        ours, theirs = self.pair()
        self.network.twist("10.0.0.2", bytes.upper)
        theirs.transport.write(b"answer")
        ours.transport.write(b"question")
        self.clock.advance(0)
        self.assertEqual((theirs.heard, ours.heard), (b"question", b"ANSWER"))
        self.network.twist("10.0.0.2", None)

    def test_backpressure(self) -> None:
        """
        A reader that pauses pauses the producer at the other end.
        """
        ours, theirs = self.pair()
        calls: list[str] = []

        class Producer:
            pauseProducing = lambda _: calls.append("pause")  # noqa: E731
            resumeProducing = lambda _: calls.append("resume")  # noqa: E731
            stopProducing = lambda _: calls.append("stop")  # noqa: E731

        theirs.transport.registerProducer(Producer(), True)
        ours.transport.pauseProducing()
        theirs.transport.write(bytes(BUFFER + 1))
        self.clock.advance(0)
        self.assertEqual((calls, ours.heard), (["pause"], b""))
        ours.transport.resumeProducing()
        self.clock.advance(0)
        self.assertEqual((calls, len(ours.heard)), (["pause", "resume"], BUFFER + 1))
        ours.transport.abortConnection()
        self.clock.advance(0)
        self.assertEqual(calls[-1], "stop")

    def test_slow(self) -> None:
        """
        A slow host sends at its rate, over all its connections.
        """
        one, two = self.pair(), self.pair()
        self.network.slow("10.0.0.1", 1000)
        for ours, _ in (one, two):
            ours.transport.write(bytes(1000))
        for _ in range(10):
            self.clock.advance(0.1)
        self.assertEqual(sum(len(theirs.heard) for _, theirs in (one, two)), 1000)
        for _ in range(10):
            self.clock.advance(0.1)
        self.assertEqual([len(theirs.heard) for _, theirs in (one, two)], [1000, 1000])

    def test_clocks(self) -> None:
        """
        A host with a clock of its own receives bytes only while that one goes on.
        """
        other = Clock()
        self.network.reactor("10.0.0.2", other)
        ours, theirs = self.pair()
        ours.transport.write(b"question")
        self.clock.advance(10)
        self.assertEqual(theirs.heard, b"")
        other.advance(0)
        self.assertEqual(theirs.heard, b"question")
