"""
Clients of the daemon's own registry in a simulation: over HTTP, they push an image as docker
does, and pull it.
"""

from __future__ import annotations

from attrs import define
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from tests.simulation.daemon import PIECE, Daemon, images
from tests.web.connection import Answer, Connection
from xferd.interfaces.catalog import LOCAL_HOST
from xferd.names import Digest, Repository
from xferd.web.peer_trust import Trust

HERE = IPv4Address("TCP", "127.0.0.1", 5000)
PEER = IPv4Address("TCP", "127.0.0.1", 40000)

POLL = 0.05
"""Seconds between two looks for an answer."""

PAUSE = 1.0
"""Seconds after which a refused push is tried again."""


class Refused(Exception):
    """
    The registry refuses a request, for now.
    """


@define(eq=False)
class Pushing:
    """
    A client that pushes an image, again and again until it succeeds, and pulls it then.

    @ivar image: the image's name, one of L{images<tests.simulation.daemon.images>}.
    @ivar returns: whether it tries again at the next daemon.
    @ivar pushed: whether it was told that the registry has the image.
    @ivar over: whether it wants nothing more.
    @ivar problem: what was wrong; empty if nothing was.
    """

    image: str
    returns: bool
    pushed: bool = False
    over: bool = False
    problem: str = ""
    _daemon: int = 0
    _work: Deferred[None] | None = None

    def __str__(self) -> str:
        return f"a push of {self.image} to the daemon"

    @property
    def repository(self) -> Repository:
        """
        Where it goes.
        """
        return Repository(LOCAL_HOST, f"local/{self.image.replace('.', '-')}")

    def begin(self, daemon: Daemon) -> None:
        """
        Push to a daemon.
        """
        self._daemon = daemon.number
        work = self._work = Deferred.fromCoroutine(self._run(daemon))
        _ = work.addErrback(lambda failure: failure.trap(CancelledError))

    def leave(self) -> None:
        """
        Lose the daemon.
        """
        self._daemon = 0
        work, self._work = self._work, None
        if work is not None:
            work.cancel()

    def come_back(self, daemon: Daemon) -> None:
        """
        Continue with the next daemon, which may know nothing of the uploads.
        """
        if self.returns and not self.over:
            self.begin(daemon)
        else:
            self.over = True

    async def _run(self, daemon: Daemon) -> None:
        while not self.over and self._daemon == daemon.number:
            try:
                if not self.pushed:
                    await self._push(daemon)
                    self.pushed = True
                await self._pull(daemon)
            except Refused:
                await deferLater(daemon.clock, PAUSE)
            else:
                self.over = True

    async def _push(self, daemon: Daemon) -> None:
        image = images()[self.image]
        for blob in image.blobs:
            if (await self._send(daemon, "HEAD", f"blobs/{blob.digest}")).status == 200:
                continue
            data = blob.read()
            url = self._accepted(await self._send(daemon, "POST", "blobs/uploads/"), 202)
            for offset in range(0, len(data), PIECE):
                piece = data[offset : offset + PIECE]
                span = {"Content-Range": f"{offset}-{offset + len(piece) - 1}"}
                url = self._accepted(await self._send(daemon, "PATCH", url, span, piece), 202)
            self._accepted(await self._send(daemon, "PUT", f"{url}?digest={blob.digest}"), 201)
        document = image.document
        fields = {"Content-Type": document.media_type}
        self._accepted(await self._send(daemon, "PUT", "manifests/1", fields, document.data), 201)

    async def _pull(self, daemon: Daemon) -> None:
        image = images()[self.image]
        answer = await self._send(daemon, "GET", "manifests/1")
        self._accepted(answer, 200)
        if Digest.of(answer.body) != image.digest:
            self.problem = f"{self} has another manifest"
        for blob in image.blobs:
            answer = await self._send(daemon, "GET", f"blobs/{blob.digest}")
            self._accepted(answer, 200)
            if Digest.of(answer.body) != blob.digest:
                self.problem = f"{self} has wrong bytes of {blob.digest}"

    def _accepted(self, answer: Answer, status: int) -> str:
        """
        The Location of an answer.

        @raise Refused: it has another status.
        """
        if answer.status == status:
            return str(answer.headers["Location"] or "")
        if answer.status == 400:
            self.problem = f"{self} was refused: {answer.body!r}"
        raise Refused(answer.status)

    async def _send(
        self, daemon: Daemon, method: str, path: str, fields: dict[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        connection = Connection(daemon.site(Trust.ALL), PEER, HERE)
        url = path if path.startswith("/") else f"/v2/{self.repository.path}/{path}"
        headers = {"Host": "localhost:5000", "Content-Length": str(len(body)), **(fields or {})}
        try:
            connection.send(method, url, headers, body)
            return await _answer(connection, method, daemon.clock)
        finally:
            connection.lose()


async def _answer(connection: Connection, method: str, clock: IReactorTime) -> Answer:
    """
    Wait until an answer is complete.
    """
    while True:
        if connection.cut:
            raise Refused("the connection was cut")
        head, end, body = connection.transport.value().partition(b"\r\n\r\n")
        if end:
            lines = head.lower().split(b"\r\n")
            length = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
            chunked = b"transfer-encoding: chunked" in lines
            done = body.endswith(b"0\r\n\r\n") if chunked else len(body) >= sum(length)
            if done or method == "HEAD":
                return connection.answer()
        await deferLater(clock, POLL)
