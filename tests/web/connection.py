"""
A client of a site in memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.message import Message
from email.parser import BytesParser
from typing import Any

from attrs import frozen
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.server import Site


@frozen
class Answer:
    """
    A response.
    """

    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        """
        The body, parsed.
        """
        return json.loads(self.body)


class Connection:
    """
    A connection to a L{Site} in memory.
    """

    def __init__(self, site: Site, peer: IAddress, host: IAddress) -> None:
        protocol = site.buildProtocol(peer)
        assert protocol is not None
        self.protocol: Protocol = protocol
        self.lost = False
        self.transport = StringTransport(hostAddress=host, peerAddress=peer)
        self.protocol.makeConnection(self.transport)

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """
        Send a request.
        """
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self.protocol.dataReceived("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def received(self) -> bytes:
        """
        The bytes received since the last call.
        """
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def answer(self) -> Answer:
        """
        One complete response.
        """
        head, _, body = self.received().partition(b"\r\n\r\n")
        status, _, fields = head.partition(b"\r\n")
        headers = BytesParser().parsebytes(fields + b"\r\n\r\n")
        if headers.get("transfer-encoding") == "chunked":
            body = unchunk(body)
        return Answer(int(status.split()[1]), headers, body)

    @property
    def cut(self) -> bool:
        """
        Whether the server aborted the connection.
        """
        return bool(self.transport.disconnected)

    def pause(self) -> None:
        """
        Stop reading: further output of the server stays in its transport.
        """
        assert self.transport.producer is not None
        self.transport.producer.pauseProducing()

    def resume(self) -> None:
        """
        Resume reading.
        """
        assert self.transport.producer is not None
        self.transport.producer.resumeProducing()

    def lose(self) -> None:
        """
        Break the connection from the client's side.  Idempotent.
        """
        if self.lost:
            return
        self.lost = True
        # In the order of a real transport: first its producer, then its protocol.
        if self.transport.producer is not None:
            self.transport.producer.stopProducing()
        self.protocol.connectionLost(Failure(ConnectionLost()))


def unchunk(data: bytes) -> bytes:
    """
    Decode the HTTP chunks that have arrived.
    """
    whole = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        whole += data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]
    return whole
