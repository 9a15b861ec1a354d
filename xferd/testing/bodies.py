# -*- test-case-name: tests.testing.test_bodies -*-
"""
Requests whose bodies are processed while they arrive: counted, cut off, or
answered before they are complete.

twisted.web passes a request to a route only when its body is complete.  The
servers for tests use these requests on a socket; in memory, bodies have no faults.
"""

from __future__ import annotations

from typing import Any, BinaryIO, Protocol, cast

from twisted.internet.interfaces import ITCPTransport
from twisted.python.failure import Failure
from twisted.web.http import RESPONSES
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from xferd.testing.answers import Answer, Exchange
from xferd.testing.faults import BodyFault, CutBody, Faults, RefuseBody


class BodyServer(Protocol):
    """
    What a site needs of its server.

    @ivar log: the exchanges so far, the oldest first.
    @ivar faults: the faults that are planted.
    """

    log: list[Exchange]
    faults: Faults

    def resource(self) -> IResource:
        """
        The root resource.
        """

    def received(self, connection: object, size: int) -> None:
        """
        Count C{size} bytes of a request's body.
        """

    def received_by(self, connection: object) -> int:
        """
        The bytes of bodies that a connection has received so far.
        """

    def arriving(self, path: str, size: int) -> None:
        """
        Count C{size} bytes, negative at its end, of a request that is not whole.
        """

    def interrupted(self, method: str, path: str, content: BinaryIO) -> None:
        """
        A request ended before its body was whole.

        @param content: what arrived of it.
        """


class BodySite(Site):
    """
    A site of one server for tests.

    @ivar server: the server.
    """

    noisy = False

    def __init__(self, server: BodyServer, **options: Any) -> None:
        super().__init__(server.resource(), requestFactory=BodyRequest, **options)
        self.server = server


class BodyRequest(Request):
    """
    A request with a fault in its body.

    States: headers received; receiving the body; complete, cut off, or answered
    early.
    """

    _fault: BodyFault | None = None
    _asked: tuple[str, str] | None = None
    _early: int | None = None
    _received = 0
    _is_whole = _is_over = False

    def gotLength(self, length: int | None) -> None:
        super().gotLength(length)
        # twisted.web keeps both to itself until the body is whole.
        channel = cast(Any, self.channel)
        path: bytes = channel._path  # noqa: SLF001
        self._asked = channel._command.decode("ascii"), path.partition(b"?")[0].decode("ascii")  # noqa: SLF001
        self._fault = self._server.faults.take_body(*self._asked)
        if isinstance(self._fault, RefuseBody) and self._fault.at_once(length):
            self._answer(self._fault.answer)

    def handleContentChunk(self, data: bytes) -> None:
        if self._is_over:
            return
        fault = self._fault
        if isinstance(fault, CutBody):
            already = self._server.received_by(self.channel) if fault.connection else self._received
            self._is_over = already + len(data) >= fault.after
            data = data[: max(0, fault.after - already)]
        self._received += len(data)
        self._server.received(self.channel, len(data))
        self._arrives(len(data))
        super().handleContentChunk(data)
        if self._is_over:
            self._transport.abortConnection()
        elif isinstance(fault, RefuseBody) and self._received > fault.most:
            self._answer(fault.answer)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if not self._is_over:
            self._is_whole = True
            self._arrives(-self._received)
            super().requestReceived(command, path, version)

    def connectionLost(self, reason: Failure) -> None:
        if not self._is_whole and self._asked is not None:
            self._arrives(-self._received)
            method, path = self._asked
            if self._received or self._is_over:
                self._server.log.append(
                    Exchange(method, path, state="broken", bytes_received=self._received, status=self._early)
                )
            if self._early is None and self.content is not None:
                self._server.interrupted(method, path, cast(BinaryIO, self.content))
        super().connectionLost(reason)

    def _arrives(self, size: int) -> None:
        if self._asked is not None:
            self._server.arriving(self._asked[1], size)

    def _answer(self, answer: Answer) -> None:
        """
        Answer before the body is whole, and read no more of it.
        """
        self._is_over = True
        self._early = answer.status
        body = answer.open().read()
        head = [f"HTTP/1.1 {answer.status} {RESPONSES.get(answer.status, b'').decode()}"]
        head += [f"{name}: {value}" for name, value in answer.headers.items()]
        head += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
        transport = self._transport
        transport.write("\r\n".join(head).encode() + body)
        transport.loseConnection()

    @property
    def _server(self) -> BodyServer:
        return cast(BodySite, cast(Any, self.channel).site).server

    @property
    def _transport(self) -> ITCPTransport:
        return cast(ITCPTransport, cast(Any, self.channel).transport)
