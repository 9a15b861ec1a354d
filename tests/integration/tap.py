"""
A proxy between a client and a registry that records their requests and responses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from attrs import frozen
from twisted.internet import reactor as installed
from twisted.internet.defer import maybeDeferred
from twisted.protocols.portforward import ProxyClient, ProxyClientFactory, ProxyFactory, ProxyServer

reactor: Any = installed

_END: Final = b"\r\n\r\n"
_REQUEST: Final = re.compile(rb"(GET|HEAD) (\S+) HTTP/1\.1\r\n")


@frozen
class Exchange:
    """
    A request without a body, and its response so far.

    @ivar path: with the query.
    @ivar status: 0 before there is a response.
    @ivar headers: those of the response, by their names in lower case.
    @ivar size: the bytes of the response's body.
    @ivar whole: whether that is all of the body.
    """

    method: str
    path: str
    status: int = 0
    headers: Mapping[str, str] = {}
    size: int = 0
    whole: bool = False


class _ToServer(ProxyClient):
    def dataReceived(self, data: bytes) -> None:
        cast("_FromClient", self.peer).responses += data
        super().dataReceived(data)


class _ToServerFactory(ProxyClientFactory):
    protocol = _ToServer


class _FromClient(ProxyServer):
    """
    A connection of the client.
    """

    clientProtocolFactory = _ToServerFactory
    reactor = reactor

    def connectionMade(self) -> None:
        """
        Begin to record.
        """
        self.requests, self.responses = bytearray(), bytearray()
        cast("Tap", self.factory).connections.append(self)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """
        Record what the client sends.
        """
        self.requests += data
        super().dataReceived(data)

    def exchanges(self) -> Iterator[Exchange]:
        """
        The exchanges so far; none if the client began with TLS.
        """
        at, responses = 0, self.responses
        for text in bytes(self.requests).split(_END)[:-1]:
            request = _REQUEST.match(text + b"\r\n")
            if request is None:
                return
            method, path = request[1].decode(), request[2].decode()
            end = responses.find(_END, at)
            if end < 0:
                yield Exchange(method, path)
                continue
            first, *lines = bytes(responses[at:end]).decode("latin-1").split("\r\n")
            pairs = (line.split(": ", 1) for line in lines)
            headers = {name.lower(): value for name, value in pairs}
            at = end + len(_END)
            length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
            size = min(length, len(responses) - at)
            at += size
            yield Exchange(method, path, int(first.split()[1]), headers, size, size == length)


class Tap(ProxyFactory):
    """
    The proxy of one client, on a loopback port.

    Life cycle: listens; can be stopped, and listen at its port again.

    @ivar address: its own C{host:port}.
    @ivar connections: all connections of the client.
    """

    protocol = _FromClient
    noisy = False

    def __init__(self, server: str) -> None:
        """
        @param server: C{host:port} of the registry.
        """
        host, _, port = server.rpartition(":")
        super().__init__(host, int(port))
        self.connections: list[_FromClient] = []
        self._number = 0
        self.listen()
        self.address = f"127.0.0.1:{self._number}"

    def listen(self) -> None:
        """
        Listen, at the same port as before.
        """
        self._port = reactor.listenTCP(self._number, self, interface="127.0.0.1")
        self._number = self._port.getHost().port

    async def stop(self) -> None:
        """
        Refuse new connections, as a registry does that is down.  Idempotent.
        """
        await maybeDeferred(self._port.stopListening)

    def exchanges(self, wanted: object) -> list[Exchange]:
        """
        The exchanges whose path ends in a tag or digest.
        """
        return [
            exchange
            for connection in self.connections
            for exchange in connection.exchanges()
            if exchange.path.partition("?")[0].endswith(f"/{wanted}")
        ]

    def received(self, wanted: object) -> int:
        """
        The bytes of the bodies of those that the client has got.
        """
        return sum(exchange.size for exchange in self.exchanges(wanted))
