# -*- test-case-name: tests.integration.test_systemd -*-
"""
Listening sockets that the daemon inherits from systemd.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorFDSet
from twisted.internet.unix import Port
from twisted.python.failure import Failure

_FIRST_INHERITED: Final = 3
"""The first descriptor that systemd passes: C{SD_LISTEN_FDS_START}."""

_MAX_INHERITED: Final = 16
"""The number of descriptors that are searched for a socket."""


def inherited_socket(path: str) -> int | None:
    """
    Find a unix socket that the process has inherited from systemd, as described in
    C{sd_listen_fds(3)}.  The variables of its environment are of no use: Twisted removes them.

    @param path: the path of the socket, or the empty string for none.
    @return: its index for the endpoint C{systemd:UNIX:index=}, or L{None} if the process has no such
        socket.
    """
    for index in range(_MAX_INHERITED if path else 0):
        try:
            found = socket.socket(fileno=_FIRST_INHERITED + index)
        except OSError:
            # The descriptor is closed, or a file.
            continue
        try:
            is_stream = found.family == socket.AF_UNIX and found.type == socket.SOCK_STREAM
            if is_stream and found.getsockname() == path:
                return index
        finally:
            found.detach()
    return None


class _BoundSocket(socket.socket):
    """
    A socket that is bound already.
    """

    def bind(self, _address: object) -> None:
        """
        Do nothing.
        """


class _InheritedPort(Port):
    """
    An inherited unix socket, with the mode that it has.

    The port that Twisted makes of it would let every user connect.
    """

    def __init__(self, descriptor: int, factory: IProtocolFactory, reactor: IReactorFDSet) -> None:
        self._inherited = _BoundSocket(fileno=descriptor)
        self._inherited.setblocking(False)
        self._inherited.set_inheritable(False)
        path = os.fsencode(self._inherited.getsockname())
        mode = 0 if path.startswith(b"\0") else stat.S_IMODE(os.stat(path).st_mode)
        super().__init__(path, factory, socket.SOMAXCONN, mode, reactor)

    def createInternetSocket(self) -> socket.socket:
        """
        Return the socket.
        """
        return self._inherited


class InheritedListener(Service):
    """
    Serves a socket of systemd, which stays as it is when the daemon stops: connections wait
    in it for the next daemon.

    Twisted would shut the socket down and remove its path.
    """

    def __init__(
        self, endpoint: AdoptedStreamServerEndpoint, factory: IProtocolFactory, reactor: IReactorFDSet
    ) -> None:
        """
        @param endpoint: one of C{systemd:}.
        """
        self._endpoint = endpoint
        self._factory = factory
        self._reactor = reactor
        self._port: Any = None

    def privilegedStartService(self) -> None:
        """
        Listen.

        @raise Exception: the socket cannot be used.
        """
        if self._endpoint.addressFamily == socket.AF_UNIX:
            port = _InheritedPort(self._endpoint.fileno, self._factory, self._reactor)
            port.startListening()
            self._port = port
            return
        failures: list[Failure] = []
        _ = self._endpoint.listen(self._factory).addCallbacks(self._listens, failures.append)
        if failures:
            failures[0].raiseException()

    def startService(self) -> None:
        """
        Listen, unless this was done with privileges.
        """
        if self._port is None:
            self.privilegedStartService()
        super().startService()

    def stopService(self) -> None:
        """
        Accept no more connections.
        """
        super().stopService()
        if self._port is not None:
            self._reactor.removeReader(self._port)
            self._port = None
            self._factory.doStop()

    def _listens(self, port: IListeningPort) -> None:
        self._port = port
