# -*- test-case-name: tests.engines.grpc.test_server -*-
"""
A gRPC server: the connections of clients, and their calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from h2.errors import ErrorCodes
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from xferd.engines.grpc.connection import MAX_STREAMS, Connection, Transport
from xferd.engines.grpc.server_stream import CallHost, ServerStream
from xferd.engines.grpc.service import GrpcService, Method
from xferd.engines.grpc.status import GrpcError, Status
from xferd.peer_credentials import peer_uid

CANCEL_TIME: Final = 5.0
"""Seconds that cancelled methods have to end when the server stops."""

MAX_CONNECTIONS: Final = 100
"""Connections at once: an engine has one or a few.  One that does not close its old ones
takes no more descriptors from the daemon."""

MAX_RUNNING: Final = 2 * MAX_STREAMS
"""Methods that work for one connection, those of calls that are gone included."""

MAX_RESETS: Final = 1000
RESETS_PER_SECOND: Final = 100
"""Streams that a client may reset in a burst, and in the long run.  A client that makes
requests and resets them at once costs more than it pays (CVE-2023-44487); one that
cancels all of its calls at once does not reach this."""


class GrpcFactory(Factory):
    """
    Serves services to the clients of a listening socket.

    @ivar connections: those that are open.
    @ivar running: the methods that work, of connections that are lost, too.
    """

    _log = Logger()

    noisy = False

    def __init__(
        self,
        services: Iterable[GrpcService],
        clock: IReactorTime,
        uid_of: Callable[[Transport], int | None] | None = None,
    ) -> None:
        """
        @param uid_of: reports the user of the process at the other end of a
            connection; others than root and our own user are not served.
        """
        self.clock = clock
        self.uid_of = _uid_of if uid_of is None else uid_of
        self.connections: set[ServerConnection] = set()
        self._services = {service.name: service for service in services}
        self.running = 0
        self._full = False
        self._stopping: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None

    def buildProtocol(self, addr: IAddress | None) -> ServerConnection | None:  # type: ignore[override]  # noqa: ARG002
        if self._stopping is not None:
            return None
        if len(self.connections) >= MAX_CONNECTIONS:
            if not self._full:
                self._full = True
                self._log.warn("an engine has {most} connections, and gets no more", most=MAX_CONNECTIONS)
            return None
        connection = ServerConnection(self)
        connection.factory = self
        return connection

    def method(self, path: str) -> Method[Any]:
        """
        The method of a path.

        @raise GrpcError: there is none.
        """
        _, service, name = path.split("/") if path.count("/") == 2 else ("", "", "")
        found = self._services[service].method(name) if service in self._services else None
        if found is None:
            raise GrpcError(Status.UNIMPLEMENTED, f"there is no method {path[:200]}")
        return found

    def stop(self, grace: float) -> Deferred[None]:
        """
        Request all clients to begin no more calls, and close each connection when its
        calls have ended, or after C{grace} seconds, which cancels them.  To be called
        once; the caller closes the listening socket before.

        @return: fires when no connection is left and no method works, or
            L{CANCEL_TIME} after the methods were cancelled.  Cancelling it ends the
            grace.
        """
        self._stopping = Deferred(lambda _: self._end_calls())
        self._timer = self.clock.callLater(grace, self._end_calls)
        stopping = self._stopping
        for connection in list(self.connections):
            connection.go_away()
            connection.close_if_idle()
        self.check_stopped()
        return stopping

    def remove(self, connection: ServerConnection) -> None:
        """
        Forget a connection that is lost.
        """
        self.connections.discard(connection)
        self._full = False
        self.check_stopped()

    def check_stopped(self) -> None:
        """
        Fire what L{stop} returned, if all has ended.
        """
        if not self.connections and not self.running:
            self._stopped()

    def _end_calls(self) -> None:
        """
        The grace is over.
        """
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self.clock.callLater(CANCEL_TIME, self._give_up)
        for connection in list(self.connections):
            connection.cancel_calls()

    def _give_up(self) -> None:
        self._log.warn("stopping while {count} calls of an engine do not end", count=self.running)
        for connection in list(self.connections):
            connection.abort()
        self._stopped()

    def _stopped(self) -> None:
        stopping = self._stopping
        if stopping is None or stopping.called:
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        stopping.callback(None)


class ServerConnection(Connection, CallHost):
    """
    The connection of one client.
    """

    factory: GrpcFactory

    def __init__(self, factory: GrpcFactory) -> None:
        super().__init__(client_side=False)
        self.factory = factory
        self.clock = factory.clock
        self.peer_uid = -1
        self.held = 0
        self.running = 0
        self._resets = float(MAX_RESETS)
        self._reset_at = 0.0

    def connectionMade(self) -> None:
        uid = self.factory.uid_of(self._transport)
        if uid is None or uid not in (0, os.geteuid()):
            self._log.warn(
                "refused a client of an engine's socket: it belongs to user {uid}, not to root", uid=uid
            )
            self.closing = self._lost = True
            self._transport.abortConnection()
            return
        self.peer_uid = uid
        self.factory.connections.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.factory.remove(self)

    def stream_opened(self, stream_id: int, headers: Mapping[str, str]) -> None:
        stream = ServerStream(self, stream_id)
        self.add(stream)
        # A call that was cancelled counts until its method has ended.
        if self.closing or self.running >= MAX_RUNNING:
            stream.reset(ErrorCodes.REFUSED_STREAM)
            return
        stream.begin(headers)

    def stream_reset_by_peer(self) -> None:
        now = self.clock.seconds()
        self._resets = min(MAX_RESETS, self._resets + (now - self._reset_at) * RESETS_PER_SECOND) - 1
        self._reset_at = now
        if self._resets < 0:
            self._log.warn("closing a connection of an engine: it resets its calls too often")
            self.go_away(ErrorCodes.ENHANCE_YOUR_CALM)
            self.close()

    def terminated(self) -> None:
        # h2 sends nothing more after the peer's GOAWAY.
        self.close()

    def method(self, path: str) -> Method[Any]:
        return self.factory.method(path)

    def began_one(self) -> None:
        self.running += 1
        self.factory.running += 1

    def ended_one(self) -> None:
        self.running -= 1
        self.factory.running -= 1
        self.factory.check_stopped()

    def cancel_calls(self) -> None:
        """
        End all calls with C{UNAVAILABLE}, and the connection with them.
        """
        for stream in list(self.streams.values()):
            assert isinstance(stream, ServerStream)
            stream.fail(GrpcError(Status.UNAVAILABLE, "xferd is stopping"))
        self.close()

    def close_if_idle(self) -> None:
        if self.closing and not self.streams:
            self.close()


def _uid_of(transport: Transport) -> int | None:
    """
    The user at the other end of a unix socket.
    """
    return peer_uid(transport.getHandle())
