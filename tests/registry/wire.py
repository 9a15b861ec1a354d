"""
A server on a real socket, whose answers the test writes byte by byte.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from socket import SO_LINGER, SOL_SOCKET
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IPullProducer, IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.tcp import Server
from twisted.python.failure import Failure
from zope.interface import implementer


class Peer(Protocol):
    """
    One connection at the server, which reads requests and leaves the answers
    to the test.

    @ivar timer: what is still to come by it, if anything is.
    """

    def __init__(self, server: Listener) -> None:
        self._server = server
        self._buffer = b""
        self.timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """
        Be counted.
        """
        self._server.peers.append(self)
        self._server.open += 1

    def dataReceived(self, data: bytes) -> None:
        """
        Read requests, which have no bodies.
        """
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            self._server.heads.append(head.decode())
            self._server.answer(self, head.split(b" ")[1].decode())

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """
        Be counted.
        """
        self._server.open -= 1
        if self.timer is not None:
            self.timer.cancel()
        self._server.tell()

    def send(self, data: bytes) -> None:
        """
        Write some bytes.
        """
        assert self.transport is not None
        self.transport.write(data)

    def close(self) -> None:
        """
        Close in peace.
        """
        assert self.transport is not None
        self.transport.loseConnection()

    def reset(self) -> None:
        """
        Close by RST.
        """
        transport = cast(Server, self.transport)
        transport.socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        cast(ITCPTransport, transport).abortConnection()


class Listener(ServerFactory):
    """
    A server whose responses the test sends.

    @ivar heads: the requests.
    @ivar peers: all connections so far.
    @ivar open: those that are open.
    """

    noisy = False

    def __init__(self, answer: Callable[[Peer, str], None]) -> None:
        self.answer = answer
        self.heads: list[str] = []
        self.peers: list[Peer] = []
        self.open = 0
        self._waiting: list[Deferred[None]] = []

    def buildProtocol(self, addr: object) -> Peer:
        """
        Build one.
        """
        return Peer(self)

    def tell(self) -> None:
        """
        Notify waiting tests that no connection is open.
        """
        if not self.open:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    def all_closed(self) -> Deferred[None]:
        """
        Wait until no connection is open.
        """
        # Trial's own timeout ends a wait without a result.
        closed: Deferred[None] = Deferred()
        self._waiting.append(closed)
        self.tell()
        return closed


def endless(first: bytes, more: bytes) -> Callable[[Peer, str], None]:
    """
    Answer without an end, as fast as the client reads.
    """

    def answer(peer: Peer, _: str) -> None:
        peer.send(first)
        cast(IConsumer, peer.transport).registerProducer(_Endless(peer, more), False)

    return answer


def trickle(first: bytes, more: bytes, seconds: float) -> Callable[[Peer, str], None]:
    """
    Answer without an end, a little from time to time.

    @param seconds: between two pieces.
    """

    def answer(peer: Peer, _: str) -> None:
        clock = cast(IReactorTime, cast(Server, peer.transport).reactor)

        def again() -> None:
            peer.send(more)
            peer.timer = clock.callLater(seconds, again)

        peer.send(first)
        again()

    return answer


@implementer(IPullProducer)
class _Endless:
    """
    Writes the same again and again.
    """

    def __init__(self, peer: Peer, more: bytes) -> None:
        self._peer = peer
        self._more = more

    def resumeProducing(self) -> None:
        """
        Write it once more.
        """
        self._peer.send(self._more)

    def stopProducing(self) -> None:
        """
        The connection is gone.
        """
