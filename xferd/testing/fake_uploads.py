# -*- test-case-name: tests.testing.test_fake_uploads -*-
"""
Pushes of blobs to a fake registry, and their contents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, succeed
from zope.interface import implementer

from xferd.errors import ConnectionFailed, DigestMismatch
from xferd.interfaces.registry import IContent, Pushed, UploadSession
from xferd.names import Digest, Repository
from xferd.testing.gate import Gate

PIECE = 16 * 1024
"""The most bytes that are read at once."""


@implementer(IContent)
class FakeContent:
    """
    The bytes of a blob, some of which may not have arrived yet.

    @ivar reads: the offset and the size of each read.
    """

    def __init__(self, data: bytes, arrived: int | None = None) -> None:
        """
        @param arrived: the number of bytes that have arrived; all by default.
        """
        self.size = len(data)
        self.reads: list[tuple[int, int]] = []
        self._data = data
        self._arrived = len(data) if arrived is None else arrived
        self._error: Exception | None = None
        self._waiting: list[Deferred[None]] = []

    def ready(self, offset: int, size: int, least: int = 1) -> Deferred[int]:  # noqa: ARG002
        return Deferred.fromCoroutine(self._ready(offset, size))

    def read(self, offset: int, most: int) -> Deferred[bytes]:
        self.reads.append((offset, most))
        return Deferred.fromCoroutine(self._read(offset, most))

    def arrive(self, size: int) -> None:
        """
        Let C{size} more bytes arrive.
        """
        self._arrived = min(self._arrived + size, self.size)
        self._wake()

    def fail(self, error: Exception) -> None:
        """
        Let no more bytes arrive.
        """
        self._error = error
        self._wake()

    @property
    def waited_for(self) -> bool:
        """
        Whether a reader waits for bytes.
        """
        return bool(self._waiting)

    async def _ready(self, offset: int, size: int) -> int:
        end = min(offset + size, self.size)
        await self._until(end)
        if self._error is not None and end > self._arrived:
            raise self._error
        return end - offset

    async def _until(self, end: int) -> None:
        """
        Wait until the first C{end} bytes have arrived.
        """
        while self._error is None and end > self._arrived:
            turn: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(turn)
            await turn

    async def _read(self, offset: int, most: int) -> bytes:
        await self._until(min(offset + 1, self.size))
        if self._error is not None and offset >= self._arrived:
            raise self._error
        return self._data[offset : min(offset + most, self._arrived)]

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            turn.callback(None)


@define(eq=False)
class StoredSession:
    """
    An upload session of the registry.

    @ivar location: its URL.
    @ivar repository: the repository's path.
    @ivar data: the received bytes.
    """

    location: str
    repository: str
    data: bytearray = field(factory=bytearray)

    @property
    def state(self) -> UploadSession:
        """
        The session as the client knows it.
        """
        return UploadSession(self.location, len(self.data))


class FakeUpload:
    """
    One attempt to send one blob.

    Life cycle: begun, sending, then ended: done, failed or cancelled.

    @ivar digest: the blob.
    @ivar session: its upload session.
    @ivar sent: the bytes sent by this attempt.
    @ivar ended: whether its connection is free again.
    """

    def __init__(self, digest: Digest, session: StoredSession) -> None:
        self.digest = digest
        self.session = session
        self.sent = 0
        self.ended = False
        self._allowed: int | None = None
        self._failure: Exception | None = None
        self._turn: Deferred[None] | None = None

    def stall(self) -> None:
        """
        Accept nothing until C{feed} or C{finish}.
        """
        self._allowed = 0

    def feed(self, size: int) -> None:
        """
        Accept C{size} more bytes, and wait again.
        """
        self._allowed = (self._allowed or 0) + size
        self._wake()

    def finish(self) -> None:
        """
        Accept the rest.
        """
        self._allowed = None
        self._wake()

    def fail(self, error: Exception) -> None:
        """
        Break the connection.  Accepted bytes are kept.
        """
        self._failure = error
        self._wake()

    async def send(
        self,
        content: IContent,
        remember: Callable[[UploadSession | None], None],
        report: Callable[[int], None],
    ) -> None:
        """
        Accept the bytes that the test permits.
        """
        session = self.session
        try:
            remember(session.state)
            report(len(session.data))
            while len(session.data) < content.size:
                most = await self._permit()
                await content.ready(len(session.data), 1)
                data = await content.read(len(session.data), most)
                if not data:
                    raise AssertionError(f"the content ended at {len(session.data)} of {content.size} bytes")
                session.data.extend(data)
                self.sent += len(data)
                if self._allowed is not None:
                    self._allowed = max(0, self._allowed - len(data))
                report(len(session.data))
                remember(session.state)
            await self._permit(last=True)
        finally:
            self.ended = True

    async def _permit(self, last: bool = False) -> int:
        """
        Wait until bytes are permitted.

        @return: their largest number.
        """
        while self._failure is None and self._allowed == 0:
            if last:
                break
            self._turn = Deferred()  # Only the push waits for it, and cancels it.
            await self._turn
        if self._failure is not None:
            raise self._failure
        return PIECE if self._allowed is None else min(PIECE, self._allowed)

    def _wake(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None and not turn.called:
            turn.callback(None)


class BlobStore(Protocol):
    """
    The registry of L{FakeUploads}.
    """

    host: str
    gate: Gate

    def note(self, kind: str, repository: str, wanted: object, offset: int = 0) -> None:
        """
        Log a request.
        """

    def has_blob(self, repository: str, digest: Digest) -> bool:
        """
        Whether a repository has a blob.
        """

    def blob(self, repository: Repository, digest: Digest) -> bytes:
        """
        A blob's bytes.
        """

    def put_blob(self, repository: str, digest: Digest, data: bytes) -> None:
        """
        Put a blob into a repository.
        """


class FakeUploads:
    """
    The pushes of blobs to a fake registry.

    @ivar attempts: every attempt that sent bytes, the oldest first.
    @ivar sessions: the sessions that are open, by location.
    @ivar aborted: the locations of those that were deleted by clients.
    @ivar mounts: whether blobs can be mounted.
    """

    def __init__(self, registry: BlobStore) -> None:
        self.attempts: list[FakeUpload] = []
        self.sessions: dict[str, StoredSession] = {}
        self.aborted: list[str] = []
        self.mounts = True
        self._registry = registry
        self._stalled: set[Digest] = set()
        self._begun = 0

    # ------------------------------------------------------ what a test decides

    def running(self, digest: Digest | None = None) -> list[FakeUpload]:
        """
        The running attempts, of one blob or of all.
        """
        return [a for a in self.attempts if not a.ended and digest in (None, a.digest)]

    def stall(self, digest: Digest) -> None:
        """
        Accept from now on only those bytes of a blob that L{feed} permits.
        """
        self._stalled.add(digest)
        for attempt in self.running(digest):
            attempt.stall()

    def feed(self, digest: Digest, size: int) -> None:
        """
        Accept C{size} bytes of a stalled blob.
        """
        for attempt in self._sending(digest):
            attempt.feed(size)

    def finish(self, digest: Digest) -> None:
        """
        End the stall of a blob.
        """
        self._stalled.discard(digest)
        for attempt in self.running(digest):
            attempt.finish()

    def fail(self, digest: Digest, error: Exception | None = None) -> None:
        """
        Break the connections that send a blob; the sessions remain.

        @param error: L{ConnectionFailed} by default.
        """
        host = self._registry.host
        for attempt in self._sending(digest):
            attempt.fail(error or ConnectionFailed(f"the connection to {host} broke", host=host))

    def forget(self) -> None:
        """
        Forget all sessions.
        """
        self.sessions.clear()

    # ------------------------------------------------------------- the Interface

    async def push(
        self,
        repository: Repository,
        digest: Digest,
        content: IContent,
        candidates: Sequence[Repository],
        session: UploadSession | None,
        remember: Callable[[UploadSession | None], None],
        report: Callable[[int], None],
    ) -> Pushed:
        """
        Answer L{IRepository.push<xferd.interfaces.registry.IRepository.push>}.
        """
        registry, path = self._registry, repository.path
        registry.note("push", path, digest, 0 if session is None else session.offset)
        await registry.gate.enter("push", digest)
        if registry.has_blob(path, digest):
            return Pushed("exists")
        stored = None if session is None else self.sessions.get(session.location)
        if stored is None:
            if session is not None:
                remember(None)
            for candidate in candidates if self.mounts else ():
                if candidate.host == registry.host and registry.has_blob(candidate.path, digest):
                    registry.put_blob(path, digest, registry.blob(candidate, digest))
                    return Pushed("mounted", candidate)
            stored = self._begin(path)
        attempt = FakeUpload(digest, stored)
        if digest in self._stalled:
            attempt.stall()
        self.attempts.append(attempt)
        await attempt.send(content, remember, report)
        self.sessions.pop(stored.location, None)
        remember(None)
        data = bytes(stored.data)
        if Digest.of(data, digest.algorithm) != digest:
            raise DigestMismatch(f"{registry.host} did not get {digest}", host=registry.host, status=400)
        registry.put_blob(path, digest, data)
        return Pushed("uploaded")

    def abort(self, session: UploadSession) -> Deferred[None]:
        """
        Answer L{IRepository.abort<xferd.interfaces.registry.IRepository.abort>}.
        """

        def forget(result: object) -> Deferred[None] | None:
            if isinstance(getattr(result, "value", None), CancelledError):
                return None
            if self.sessions.pop(session.location, None) is not None:
                self.aborted.append(session.location)
            return succeed(None)

        return self._registry.gate.enter("abort", session.location).addBoth(forget)

    def _begin(self, path: str) -> StoredSession:
        self._begun += 1
        location = f"https://{self._registry.host}/v2/{path}/blobs/uploads/{self._begun}"
        stored = self.sessions[location] = StoredSession(location, path)
        return stored

    def _sending(self, digest: Digest) -> list[FakeUpload]:
        found = self.running(digest)
        if not found:
            raise AssertionError(f"there is no sender of {digest} to {self._registry.host}")
        return found
