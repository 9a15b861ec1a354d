"""
A client's connection and a server's, joined in memory.
"""

from __future__ import annotations

from twisted.internet.error import ConnectError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from tests.engines.grpc.wire import MemoryTransport
from xferd.engines.grpc.connection import Connection
from xferd.engines.grpc.server import GrpcFactory


class Pipe:
    """
    The two ends of a connection.
    """

    def __init__(self, client: Connection, server: Connection) -> None:
        self.ends = (client, server)
        self.transports = (MemoryTransport(), MemoryTransport())
        for end, transport in zip(self.ends, self.transports, strict=True):
            transport.protocol = end
            end.makeConnection(transport)

    @classmethod
    def accept(cls, reactor: MemoryReactorClock, server: GrpcFactory) -> Pipe:
        """
        Accept the connection that a client attempts.
        """
        _, factory, _, _ = reactor.unixClients.pop()
        client = factory.buildProtocol(None)
        protocol = server.buildProtocol(None)
        assert protocol is not None
        pipe = cls(client._wrappedProtocol, protocol)
        client._connectedDeferred.callback(client._wrappedProtocol)
        pipe.exchange()
        return pipe

    @staticmethod
    def refuse(reactor: MemoryReactorClock, error: int | None = None) -> None:
        """
        Refuse it, with an error of the system if one is given.
        """
        _, factory, _, _ = reactor.unixClients.pop()
        factory.clientConnectionFailed(None, Failure(ConnectError(error, "no server")))

    def lose(self) -> None:
        """
        Close both ends.
        """
        for transport in self.transports:
            transport.loseConnection()

    def exchange(self) -> None:
        """
        Deliver until nothing moves.
        """
        moved = True
        while moved:
            moved = False
            for end, transport in zip(self.ends, reversed(self.transports), strict=True):
                data = transport.value()
                transport.clear()
                if data:
                    moved = True
                    end.dataReceived(data)
        for at, transport in enumerate(self.transports):
            if not transport.connected and self.transports[1 - at].connected:
                self.transports[1 - at].loseConnection()
