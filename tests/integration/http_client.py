"""
A client of registries that sees each byte as it comes, for the integration tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from xferd.interfaces.reactor import IReactor


@frozen
class Answer:
    """
    A whole response.

    @ivar headers: the first value of each header, by its name in lower case.
    @ivar whole: whether the body had its promised length.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True


class Download(Protocol):
    """
    A response whose body arrives.

    @ivar data: the bytes that have arrived.
    @ivar first: when the first of them did, by the reactor's clock.
    @ivar ended: fires with the response at its end, whole or not.
    """

    def __init__(self, reactor: IReactor, response: IResponse) -> None:
        self.data = bytearray()
        self.first = 0.0
        self.ended: Deferred[Answer] = Deferred()
        self.status = int(response.code)
        # The length is a header of the connection, not of the entity.
        self.headers = {
            name.decode().lower(): values[0].decode("latin-1")
            for name, values in cast(Any, response.headers).getAllRawHeaders()
        }
        self._reactor = reactor

    def dataReceived(self, data: bytes) -> None:
        """
        Keep some bytes.
        """
        self.first = self.first or self._reactor.seconds()
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The body has ended.
        """
        whole = reason.check(ResponseDone) is not None
        self.ended.callback(Answer(self.status, self.headers, bytes(self.data), whole))

    def leave(self) -> None:
        """
        Break the connection.
        """
        cast(Any, self.transport).stopProducing()

    def pause(self) -> None:
        """
        Read no more bytes for now.
        """
        cast(Any, self.transport).pauseProducing()

    def resume(self) -> None:
        """
        Read again.
        """
        cast(Any, self.transport).resumeProducing()

    async def has(self, size: int) -> None:
        """
        Wait for some bytes.
        """
        while len(self.data) < size:
            assert not self.ended.called, f"the body ended after {len(self.data)} bytes"
            await deferLater(self._reactor, 0.01)


class Client:
    """
    A client of one server, with a connection for each request.
    """

    def __init__(self, reactor: IReactor, url: str) -> None:
        """
        @param url: the beginning of all URLs.
        """
        self._reactor = reactor
        self._url = url
        self._agent = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))

    async def open(self, path: str, method: str = "GET", **headers: str) -> Download:
        """
        Make a request; fires with the head of the response.

        @param headers: with underscores in place of hyphens.
        """
        fields = Headers({name.replace("_", "-"): [value] for name, value in headers.items()})
        response = await self._agent.request(method.encode(), f"{self._url}{path}".encode(), fields, None)
        download = Download(self._reactor, response)
        response.deliverBody(download)
        return download

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """
        Make a request, and read the whole response.
        """
        download = await self.open(path, method, **headers)
        return await download.ended
