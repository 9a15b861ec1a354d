"""
A proxy in front of a registry that is slow, and counts what passes.
"""

from __future__ import annotations

import re
import socket
from collections import Counter
from typing import Any, cast

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.protocols.portforward import ProxyClient, ProxyClientFactory, ProxyFactory, ProxyServer

reactor: Any = installed

PIECE = 16 * 1024
"""Bytes that are passed on at once."""

_REQUEST = re.compile(rb"(?:GET|HEAD|POST|PATCH|PUT|DELETE) /v2/(\S+?)/(?:blobs|manifests)/")


class _Receiving(ProxyClient):
    """
    The connection to the registry.
    """

    def connectionMade(self) -> None:
        """
        Read small pieces.
        """
        super().connectionMade()
        cast("Any", self.transport).bufferSize = PIECE

    def dataReceived(self, data: bytes) -> None:
        """
        Count a piece, and pass it on.
        """
        peer = cast("_Sending", self.peer)
        peer.proxy.passed(self, peer.proxy.received, peer.repository, data)
        super().dataReceived(data)


class _ReceivingFactory(ProxyClientFactory):
    protocol = _Receiving


class _Sending(ProxyServer):
    """
    A connection of the daemon.
    """

    clientProtocolFactory = _ReceivingFactory
    reactor = reactor
    repository = ""

    @property
    def proxy(self) -> SlowProxy:
        """
        The proxy.
        """
        return cast("SlowProxy", self.factory)

    def connectionMade(self) -> None:
        """
        Have the kernel keep little of what the daemon sends or is sent.
        """
        transport: Any = self.transport
        connection = transport.getHandle()
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            connection.setsockopt(socket.SOL_SOCKET, option, 4 * PIECE)
        transport.bufferSize = PIECE
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """
        Count a piece, and pass it on.
        """
        request = _REQUEST.match(data)
        if request is not None:
            self.repository = request[1].decode()
        self.proxy.passed(self, self.proxy.sent, self.repository, data)
        super().dataReceived(data)


class SlowProxy(ProxyFactory):
    """
    A proxy on a loopback port.

    @ivar received: the bytes that the daemon got, by repository; heads count, too.
    @ivar sent: the bytes that it sent.
    """

    protocol = _Sending
    noisy = False

    def __init__(self, upstream: str, rate: float) -> None:
        """
        @param upstream: C{host:port} of the registry.
        @param rate: bytes per second of each connection, in each direction.
        """
        host, _, port = upstream.rpartition(":")
        super().__init__(host, int(port))
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.rate = rate
        self._most: int | None = None
        self._held: list[Any] = []
        self._draining: dict[Any, float] = {}
        self._port = reactor.listenTCP(0, self, interface="127.0.0.1")

    @property
    def address(self) -> str:
        """
        Its own C{host:port}.
        """
        return f"127.0.0.1:{self._port.getHost().port}"

    def passed(self, reader: Any, counter: Counter[str], repository: str, data: bytes) -> None:
        """
        Count some bytes, and let their connection rest for their time.
        """
        counter[repository] += len(data)
        if reader in self._draining:
            reader.transport.pauseProducing()
            reactor.callLater(len(data) / self._draining[reader], self._resume, reader)
        elif self._most is not None and counter[repository] >= self._most:
            reader.transport.pauseProducing()
            self._held.append(reader)
        elif len(data) > PIECE // 4:
            reader.transport.pauseProducing()
            reactor.callLater(len(data) / self.rate, self._resume, reader)

    def hold(self, most: int) -> None:
        """
        Stop each stream when this many bytes of its repository have passed.
        """
        self._most = most

    def release(self) -> None:
        """
        Cut the streams that were stopped, with what the kernel has of them, and let all
        others pass.
        """
        self._most = None
        held, self._held = self._held, []
        for reader in held:
            reader.transport.abortConnection()

    def drain(self, rate: float) -> None:
        """
        Let the streams that were stopped continue with what the kernel has of them, and
        all others pass.

        @param rate: bytes per second of each that was stopped.
        """
        self._most = None
        held, self._held = self._held, []
        self._draining = dict.fromkeys(held, rate)
        for reader in held:
            self._resume(reader)

    def _resume(self, reader: Any) -> None:
        if reader.transport is None or not reader.transport.connected or reader.peer is None:
            return
        # A reader whose bytes are not taken is resumed when they are.
        if not reader.peer.transport.producerPaused:
            reader.transport.resumeProducing()

    def stop(self) -> Deferred[None]:
        """
        Stop listening.
        """
        return maybeDeferred(self._port.stopListening)
