"""
A client of the servers under test, without a socket.
"""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

from attrs import frozen
from treq import collect
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, Cooperator
from twisted.python.failure import Failure
from twisted.web.client import FileBodyProducer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from xferd.testing.server import Server


@frozen
class Reply:
    """
    What came back.

    @ivar headers: values by name in lower case.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """
        The body as JSON.
        """
        return json.loads(self.body)


class Client:
    """
    Asks a server and waits for all of the answer.

    @ivar received: the newest body, as far as it came.
    """

    def __init__(self, server: Server, clock: Clock) -> None:
        self._agent = RequestTraversalAgent(server.resource())
        self._clock = clock
        self.received = bytearray()

    def begin(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Deferred[Reply]:
        """
        Ask, and take what comes at once.
        """
        sent = Headers({name: [value] for name, value in (headers or {}).items()})
        producer = None
        if body is not None:
            eager = Cooperator(scheduler=lambda f: self._clock.callLater(0, f))
            producer = FileBodyProducer(BytesIO(body), cooperator=eager, readSize=1 << 20)
        asked = self._agent.request(method.encode(), b"http://registry.test" + path.encode(), sent, producer)
        replied: Deferred[Reply] = asked.addCallback(self._read)
        self.flush()
        return replied

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Reply:
        """
        Ask, and give the whole answer.
        """
        results: list[Reply | Failure] = []
        self.begin(method, path, headers, body).addBoth(results.append)  # type: ignore[unused-awaitable]
        self.flush()
        (result,) = results
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def flush(self) -> None:
        """
        Let bytes and turns pass.
        """
        for _ in range(4):
            self._clock.advance(0)
            self._agent.flush()

    def _read(self, response: IResponse) -> Deferred[Reply]:
        headers = {k.decode().lower(): v[-1].decode() for k, v in response.headers.getAllRawHeaders()}
        self.received.clear()
        collected: Deferred[None] = collect(response, self.received.extend)
        return collected.addCallback(lambda _: Reply(response.code, headers, bytes(self.received)))
