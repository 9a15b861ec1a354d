"""
What the tests over real sockets begin with.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.ssl import CertificateOptions
from twisted.trial.unittest import TestCase

from tests.registry.wire import Listener, Peer
from xferd.interfaces.reactor import IReactor
from xferd.interfaces.registry import IBlobBody
from xferd.names import Digest, Repository
from xferd.registry.client import Registries
from xferd.registry.hosts.configured import HostConfig
from xferd.registry.transport.timeouts import Timeouts
from xferd.testing.certificates import Authority

BLOB = b"0123456789abcdef" * 65536
DIGEST = Digest.of(b"any")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
SHORT = Timeouts(connect=0.3, tls=0.3, headers=0.3, silence=0.3, token=0.3, close=0.3)


def send_whole(peer: Peer, _: str) -> None:
    """
    Send the whole blob.
    """
    peer.send(OK % len(BLOB) + BLOB)


def send_nothing(_: Peer, __: str) -> None:
    """
    Send no response.
    """


class WireCase(TestCase):
    """
    A client over real sockets.
    """

    def setUp(self) -> None:
        """
        Nothing listens yet.
        """
        self.reactor = cast(IReactor, default_reactor)
        self.authority = Authority()
        self.ca = Path(self.mktemp())
        self.ca.write_bytes(self.authority.pem)

    def _listen(self, answer: Callable[[Peer, str], None], tls: CertificateOptions | None = None) -> Listener:
        """
        Serve on a free port; the host is C{self.host}.
        """
        server = Listener(answer)
        port: IListeningPort
        if tls is None:
            port = self.reactor.listenTCP(0, server, interface="127.0.0.1")
        else:
            port = self.reactor.listenSSL(0, server, tls, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.host = f"127.0.0.1:{port.getHost().port}"  # type: ignore[attr-defined]
        return server

    def _client(self, config: HostConfig | None = None, timeouts: Timeouts | None = None) -> Registries:
        """
        A client of that host.
        """
        self.client = Registries(
            self.reactor,
            wall_clock=time.time,
            hosts={self.host: config} if config is not None else {},
            timeouts=timeouts or Timeouts(),
        )
        self.addCleanup(self.client.close)
        return self.client

    def _open(self, offset: int = 0) -> Deferred[IBlobBody]:
        source = self.client.repository(Repository(self.host, "a"))
        return source.open(DIGEST, offset)

    async def _read(self) -> bytes:
        data = bytearray()
        await (await self._open()).deliver(data.extend)
        return bytes(data)

    async def _fails(self, work: Deferred[Any], kind: type[BaseException]) -> BaseException:
        """
        Wait for a failure.
        """
        try:
            await work
        except kind as e:
            return e
        raise AssertionError(f"no {kind.__name__}")

    def _no_connection_left(self) -> None:
        connections = self.client._connections
        assert connections is not None
        self.assertEqual(len(connections), 0)
