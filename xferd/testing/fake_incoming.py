# -*- test-case-name: tests.testing.test_fake_store -*-
"""
The upload sessions of a store in memory.
"""

from __future__ import annotations

from itertools import count

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from xferd.errors import DigestMismatch, TooManyUploads, UploadBusy, UploadUnknown
from xferd.interfaces.incoming import IIncomingBlob, IIncomingBlobs
from xferd.jobs.deferreds import then_cancelled
from xferd.names import Digest, Repository
from xferd.testing.fake_blobs import FakeBlobs
from xferd.testing.gate import Gate


@define(eq=False)
class FakeSession:
    """
    An upload session.
    """

    id: str
    repository: Repository
    brief: bool
    client: str
    data: bytearray = field(factory=bytearray)
    busy: bool = True


@implementer(IIncomingBlob)
class FakeIncomingBlob:
    """
    The use of a session by one request.
    """

    def __init__(self, sessions: FakeIncomingBlobs, session: FakeSession) -> None:
        self.id = session.id
        self._sessions = sessions
        self._session = session
        self._state = "open"
        self._release_later = False

    @property
    def offset(self) -> int:
        return len(self._session.data)

    def write(self, data: bytes) -> None:
        self._check()
        self._sessions.gate.check("incoming.write", self.id)
        self._sessions.blobs.spend(len(data))
        self._session.data += data

    def commit(self, digest: Digest) -> Deferred[int]:
        return Deferred.fromCoroutine(then_cancelled(Deferred.fromCoroutine(self._commit(digest))))

    def remove(self) -> Deferred[None]:
        return Deferred.fromCoroutine(then_cancelled(Deferred.fromCoroutine(self._remove())))

    def release(self) -> None:
        if self._state == "committing":
            self._release_later = True
        elif self._state == "open":
            self._state = "over"
            self._session.busy = False
            if self._session.brief:
                del self._sessions.sessions[self.id]

    async def _commit(self, digest: Digest) -> int:
        self._check()
        self._state = "committing"
        try:
            await self._sessions.gate.enter("incoming.commit", digest)
        except BaseException:
            self._state = "open"
            if self._release_later:
                self.release()
            raise
        self._state = "over"
        del self._sessions.sessions[self.id]
        data = bytes(self._session.data)
        if Digest.of(data, digest.algorithm) != digest:
            raise DigestMismatch(f"the bytes that were uploaded are not {digest}")
        self._sessions.blobs.touch(digest)
        self._sessions.blobs.contents[digest] = data
        self._sessions.blobs.mirror(self._sessions.blobs.path(digest), data)
        return len(data)

    async def _remove(self) -> None:
        self._check()
        self._state = "over"
        del self._sessions.sessions[self.id]

    def _check(self) -> None:
        if self._state != "open":
            raise UploadUnknown(f"upload {self.id} has ended")


@implementer(IIncomingBlobs)
class FakeIncomingBlobs:
    """
    The upload sessions.

    @ivar sessions: those that have not ended, by their identities.
    @ivar most: the most sessions of one client.
    """

    def __init__(self, blobs: FakeBlobs, gate: Gate) -> None:
        self.blobs = blobs
        self.gate = gate
        self.sessions: dict[str, FakeSession] = {}
        self.most = 100
        self._numbers = count(1)

    def begin(
        self,
        repository: Repository,
        client: str,
        algorithm: str = "sha256",  # noqa: ARG002
        *,
        brief: bool = False,
    ) -> Deferred[IIncomingBlob]:
        return Deferred.fromCoroutine(self._begin(repository, client, brief))

    def open(self, repository: Repository, session: str) -> Deferred[IIncomingBlob]:
        return Deferred.fromCoroutine(self._open(repository, session))

    def offset(self, repository: Repository, session: str) -> int:
        return len(self._find(repository, session).data)

    async def _begin(self, repository: Repository, client: str, brief: bool) -> IIncomingBlob:
        if sum(each.client == client for each in self.sessions.values()) >= self.most:
            raise TooManyUploads("too many uploads are unfinished")
        session = FakeSession(f"{next(self._numbers):032x}", repository, brief, client)
        await self.gate.enter("incoming.begin", repository)
        self.sessions[session.id] = session
        return FakeIncomingBlob(self, session)

    async def _open(self, repository: Repository, name: str) -> IIncomingBlob:
        session = self._find(repository, name)
        if session.busy:
            raise UploadBusy(f"another request uses upload {name}")
        session.busy = True
        try:
            await self.gate.enter("incoming.open", name)
        except BaseException:
            session.busy = False
            raise
        return FakeIncomingBlob(self, session)

    def _find(self, repository: Repository, name: str) -> FakeSession:
        session = self.sessions.get(name)
        if session is None or session.repository != repository:
            raise UploadUnknown(f"{repository.path} has no upload {name}")
        return session
