# -*- test-case-name: tests.engines.grpc.test_listener -*-
"""
The unix socket that a gRPC server listens on: mode 0600, and for one process alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort

from xferd.engines.grpc.server import GrpcFactory
from xferd.engines.grpc.service import GrpcService
from xferd.errors import ConfigError
from xferd.interfaces.reactor import IUnixReactor
from xferd.unix_socket import SocketInUse, UnixSocket, make_directory

GRACE: Final = 1.0
"""Seconds that running calls have when the server stops: most take milliseconds, and
those that wait for a download end with C{UNAVAILABLE}, upon which their client acts."""


class GrpcListener:
    """
    Serves services on a unix socket, to root's processes and those of our own user.

    States: new; listening; stopped.
    """

    def __init__(self, path: str, services: Iterable[GrpcService], reactor: IUnixReactor) -> None:
        self.path = path
        self.factory = GrpcFactory(services, reactor)
        self._reactor = reactor
        self._socket = UnixSocket(path)
        self._port: IListeningPort | None = None

    def start(self) -> None:
        """
        Listen.

        @raise ConfigError: the socket is in use, or cannot be made.
        """
        try:
            make_directory(self.path)
            self._socket.claim()
            # Twisted listens after it has set the mode.
            port = self._reactor.listenUNIX(self.path, self.factory, mode=0o600)
        except SocketInUse as e:
            raise ConfigError(f"cannot listen on {self.path}: {e}") from e
        except CannotListenError as e:
            self._socket.release()
            # An error of Python's own has no strerror.
            why = getattr(e.socketError, "strerror", None) or e.socketError
            raise ConfigError(f"cannot listen on {self.path}: {why}") from e
        except OSError as e:
            raise ConfigError(f"cannot listen on {self.path}: {e.strerror}") from e
        self._port = port

    def stop(self, grace: float = GRACE) -> Deferred[None]:
        """
        Stop listening, let running calls end for C{grace} seconds, and cancel the
        others.  Idempotent, also without L{start}.

        @return: fires when no client is left; cancelling it ends the grace.
        """
        return Deferred.fromCoroutine(self._stop(grace))

    async def _stop(self, grace: float) -> None:
        port, self._port = self._port, None
        if port is None:
            return
        try:
            await maybeDeferred(port.stopListening)
            await self.factory.stop(grace)
        finally:
            self._socket.release()
