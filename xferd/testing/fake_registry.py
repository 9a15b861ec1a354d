# -*- test-case-name: tests.testing.test_fake_registry -*-
"""
Registries in memory, for tests.

Responses arrive in the next turn of the clock.  A test holds calls, or makes them
fail, by the registry's L{Gate} (C{manifest}, C{resolve}, C{document}, C{open}, C{confirm},
C{push}, C{abort}, C{put_manifest}, C{referrers} and C{check}), and controls bytes
in transit by the registry itself and its C{uploads}.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable, Sequence
from typing import Any, TypeVar

from attrs import define, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from xferd.errors import BlobUnknown, ConnectionFailed, Denied, DigestMismatch, ManifestUnknown, SizeMismatch
from xferd.interfaces.registry import (
    IBlobBody,
    IContent,
    IRepository,
    Pushed,
    UploadSession,
)
from xferd.names import Digest, Repository
from xferd.oci import Descriptor, Document, Index, parse_document
from xferd.realms import origin
from xferd.testing.fake_body import FakeBody
from xferd.testing.fake_uploads import FakeUploads
from xferd.testing.gate import Gate
from xferd.testing.images import SampleImage, SampleIndex
from xferd.testing.subjects import referrer

T = TypeVar("T")


@frozen
class Request:
    """
    One request to a fake registry.

    @ivar kind: C{manifest}, C{resolve}, C{document}, C{blob}, C{confirm}, C{push}, C{put},
        C{referrers} or C{check}.
    @ivar repository: the repository's path.
    @ivar wanted: a tag or a digest; the user, for a C{check}.
    @ivar offset: the first requested byte of a blob, or the offset at which a
        push resumes.
    """

    kind: str
    repository: str
    wanted: str
    offset: int = 0


@define(eq=False)
class _Fault:
    """
    A fault of the next bodies of a blob.
    """

    data: bytes | None
    ignore_range: bool
    times: int


@implementer(IRepository)
class FakeRepository:
    """
    One repository of a fake registry.
    """

    def __init__(self, registry: FakeRegistry, name: Repository, *, anonymous: bool = False) -> None:
        """
        @param anonymous: whether the client has no credentials.
        """
        user = "anonymous" if anonymous else registry.user
        self.name = name
        self.host = registry.host
        self.label = str(name)
        self.identity: Hashable = (registry.host, name.path, user)
        self.account: Hashable = user or None
        self.origin = origin(name, anonymous=anonymous)
        self._anonymous = anonymous
        self._registry = registry

    def manifest(self, wanted: str) -> Deferred[Document]:
        return self._read(lambda: self._registry.manifest(self.name, wanted))

    def resolve(self, wanted: str, *, confirm: bool = False) -> Deferred[Digest]:
        return self._read(lambda: self._registry.resolve(self.name, wanted, confirm))

    def config(self, descriptor: Descriptor) -> Deferred[bytes]:
        return self._read(lambda: self._registry.config(self.name, descriptor))

    def open(self, digest: Digest, offset: int, end: int | None = None) -> Deferred[IBlobBody]:
        return self._read(lambda: self._registry.open(self.name, digest, offset, end))

    def confirm(self, digest: Digest) -> Deferred[int | None]:
        return self._read(lambda: self._registry.confirm(self.name, digest))

    def distrust(self, digest: Digest) -> None:
        self._registry.distrusted.append(digest)

    def push(
        self,
        digest: Digest,
        content: IContent,
        candidates: Sequence[Repository],
        session: UploadSession | None,
        remember: Callable[[UploadSession | None], None],
        report: Callable[[int], None],
    ) -> Deferred[Pushed]:
        return Deferred.fromCoroutine(
            self._registry.uploads.push(self.name, digest, content, candidates, session, remember, report)
        )

    def abort(self, session: UploadSession) -> Deferred[None]:
        return self._registry.uploads.abort(session)

    def put_manifest(self, wanted: str, document: Document) -> Deferred[None]:
        return Deferred.fromCoroutine(self._registry.put_manifest(self.name, wanted, document))

    def referrers(self, digest: Digest) -> Deferred[tuple[Descriptor, ...]]:
        return self._read(lambda: self._registry.referrers(self.name, digest))

    def tags(self) -> Deferred[tuple[str, ...]]:
        return self._read(lambda: self._registry.tags(self.name))

    def _read(self, work: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> Deferred[T]:
        async def read() -> T:
            if self._anonymous and self.name.path in self._registry.private:
                raise Denied(f"{self.host} demands credentials for {self.name.path}", host=self.host)
            return await work()

        return Deferred.fromCoroutine(read())


class FakeRegistry:
    """
    One registry.

    @ivar requests: all requests, in order.
    @ivar gate: the gate of its calls; the keys are the tag or digest as text, and
        the L{Digest}.
    @ivar bodies: all opened bodies, the oldest first.
    @ivar distrusted: the digests of blobs with wrong bytes, the oldest first.
    @ivar uploads: the pushes of blobs.
    @ivar user: the user of the credentials, a part of a source's identity.
    @ivar private: the paths of the repositories that anonymous clients may not read.
    """

    def __init__(self, host: str, clock: IReactorTime, user: str = "") -> None:
        self.host = host
        self.user = user
        self.gate = Gate(clock)
        self.requests: list[Request] = []
        self.private: set[str] = set()
        self.distrusted: list[Digest] = []
        self.bodies: list[FakeBody] = []
        self.uploads = FakeUploads(self)
        self._clock = clock
        self._documents: dict[tuple[str, str], Document] = {}
        self._blobs: dict[tuple[str, Digest], bytes] = {}
        self._stalled: set[Digest] = set()
        self._faults: dict[Digest, list[_Fault]] = {}

    # ------------------------------------------------------------- the content

    def add(self, image: SampleImage | SampleIndex, repository: str, tag: str | None = "latest") -> None:
        """
        Put an image into a repository.

        @param repository: the path, C{library/alpine}.
        @param tag: L{None} for an image without a tag.
        """
        for document in image.documents:
            self._documents[repository, str(document.digest)] = document
        for blob in image.blobs:
            self._blobs[repository, blob.digest] = blob.read()
        if tag is not None:
            self._documents[repository, tag] = image.document

    def add_document(self, document: Document, repository: str, tag: str) -> None:
        """
        Put a manifest into a repository, without checks.
        """
        self._documents[repository, tag] = self._documents[repository, str(document.digest)] = document

    def put_blob(self, repository: str, digest: Digest, data: bytes) -> None:
        """
        Put a blob into a repository.
        """
        self._blobs[repository, digest] = data

    def has_blob(self, repository: str, digest: Digest) -> bool:
        """
        Whether a repository has a blob.
        """
        return (repository, digest) in self._blobs

    def blob(self, repository: Repository, digest: Digest) -> bytes:
        """
        A blob's bytes.

        @raise BlobUnknown: it is not there.
        """
        return self._blob(repository, digest)

    def document_of(self, repository: str, wanted: str) -> Document | None:
        """
        The manifest of a tag or digest, if there is one.
        """
        return self._documents.get((repository, wanted))

    def remove_blob(self, repository: str, digest: Digest) -> None:
        """
        Remove a blob from a repository.
        """
        del self._blobs[repository, digest]

    # ------------------------------------------------------ what a test decides

    def count(self, kind: str, wanted: object) -> int:
        """
        The number of requests of a kind for a tag or digest.
        """
        return sum(1 for r in self.requests if r.kind == kind and r.wanted == str(wanted))

    def open_bodies(self, digest: Digest | None = None) -> list[FakeBody]:
        """
        The bodies with a connection in use, of one blob or of all.
        """
        return [b for b in self.bodies if not b.ended and digest in (None, b.digest)]

    def stall(self, digest: Digest) -> None:
        """
        Deliver from now on only those bytes of a blob that L{feed} permits.
        """
        self._stalled.add(digest)
        for body in self.open_bodies(digest):
            body.stall()

    def feed(self, digest: Digest, size: int) -> None:
        """
        Deliver C{size} bytes of a stalled blob to each of its readers.
        """
        for body in self._reading(digest):
            body.feed(size)

    def finish(self, digest: Digest) -> None:
        """
        End the stall of a blob.
        """
        self._stalled.discard(digest)
        for body in self.open_bodies(digest):
            body.finish()

    def fail(self, digest: Digest, error: Exception | None = None) -> None:
        """
        Break the connections that deliver a blob.

        @param error: L{ConnectionFailed} by default.
        """
        for body in self._reading(digest):
            body.fail(error or ConnectionFailed(f"the connection to {self.host} broke", host=self.host))

    def cut(self, digest: Digest) -> None:
        """
        End the responses with a blob, without an error.
        """
        for body in self._reading(digest):
            body.cut()

    def corrupt(self, digest: Digest, data: bytes, times: int = 1) -> None:
        """
        Deliver other bytes for the next requests of a blob.
        """
        self._faults.setdefault(digest, []).append(_Fault(data, False, times))

    def ignore_range(self, digest: Digest, times: int = 1) -> None:
        """
        Ignore the range of the next requests of a blob.
        """
        self._faults.setdefault(digest, []).append(_Fault(None, True, times))

    # -------------------------------------------------------------- the Interface

    def repository(self, path: str) -> FakeRepository:
        """
        A repository, by its path.
        """
        return FakeRepository(self, Repository(self.host, path))

    def check(self) -> Deferred[None]:
        """
        Accept any credentials.
        """
        self.requests.append(Request("check", "", self.user))
        return self.gate.enter("check")

    def note(self, kind: str, repository: str, wanted: object, offset: int = 0) -> None:
        """
        Log a request.
        """
        self.requests.append(Request(kind, repository, str(wanted), offset))

    async def open(
        self, repository: Repository, digest: Digest, offset: int, end: int | None = None
    ) -> IBlobBody:
        """
        Answer L{FakeRepository.open}.
        """
        self.requests.append(Request("blob", repository.path, str(digest), offset))
        await self.gate.enter("open", digest)
        data = self._blob(repository, digest)
        for fault in self._faults.get(digest, []):
            if fault.times > 0:
                fault.times -= 1
                data = data if fault.data is None else fault.data
                offset, end = (0, None) if fault.ignore_range else (offset, end)
                break
        if offset and offset >= len(data):  # RFC 9110, 14.1.2: no byte of the range is there.
            raise SizeMismatch(f"{self.host} has no byte {offset} of {digest}", host=self.host, status=416)
        body = FakeBody(digest, data, offset, self._clock, end)
        if digest in self._stalled:
            body.stall()
        self.bodies.append(body)
        return body

    async def confirm(self, repository: Repository, digest: Digest) -> int | None:
        """
        Answer L{FakeRepository.confirm}.
        """
        self.note("confirm", repository.path, digest)
        await self.gate.enter("confirm", digest)
        return len(self._blob(repository, digest))

    async def manifest(self, repository: Repository, wanted: str) -> Document:
        """
        Answer L{FakeRepository.manifest}.
        """
        self.requests.append(Request("manifest", repository.path, wanted))
        await self.gate.enter("manifest", wanted)
        try:
            return self._documents[repository.path, wanted]
        except KeyError:
            raise ManifestUnknown(
                f"{self.host} has no {repository.path}:{wanted}", host=self.host, status=404
            ) from None

    async def resolve(self, repository: Repository, wanted: str, confirm: bool) -> Digest:
        """
        Answer L{FakeRepository.resolve}.
        """
        self.requests.append(Request("confirm" if confirm else "resolve", repository.path, wanted))
        await self.gate.enter("resolve", wanted)
        document = self._documents.get((repository.path, wanted))
        if document is None:
            raise ManifestUnknown(
                f"{self.host} has no {repository.path}:{wanted}", host=self.host, status=404
            )
        return document.digest

    async def config(self, repository: Repository, descriptor: Descriptor) -> bytes:
        """
        Answer L{FakeRepository.config}.
        """
        self.requests.append(Request("document", repository.path, str(descriptor.digest)))
        await self.gate.enter("document", descriptor.digest)
        data = self._blob(repository, descriptor.digest)
        if Digest.of(data, descriptor.digest.algorithm) != descriptor.digest or len(data) != descriptor.size:
            raise DigestMismatch(f"{self.host} sent other bytes for {descriptor.digest}", host=self.host)
        return data

    async def put_manifest(self, repository: Repository, wanted: str, document: Document) -> None:
        """
        Answer L{FakeRepository.put_manifest}.
        """
        path = repository.path
        self.note("put", path, wanted)
        await self.gate.enter("put_manifest", wanted)
        # As ghcr.io does, it takes what it cannot read.
        parsed = parse_document(document) if document.descriptor.is_known else None
        missing: list[Digest] = []
        if isinstance(parsed, Index):
            missing = [
                e.digest
                for e in parsed.manifests
                if (path, str(e.digest)) not in self._documents and not self.has_blob(path, e.digest)
            ]
        elif parsed is not None:
            missing = [e.digest for e in (parsed.config, *parsed.layers) if not self.has_blob(path, e.digest)]
        if missing:
            raise BlobUnknown(f"{self.host} has no {missing[0]} in {path}", host=self.host, status=400)
        self._documents[path, wanted] = self._documents[path, str(document.digest)] = document

    async def referrers(self, repository: Repository, digest: Digest) -> tuple[Descriptor, ...]:
        """
        Answer L{FakeRepository.referrers}.
        """
        self.note("referrers", repository.path, digest)
        await self.gate.enter("referrers", digest)
        there = {d.digest: d for (path, _), d in self._documents.items() if path == repository.path}
        return tuple(entry for d in there.values() if (entry := referrer(d, digest)) is not None)

    async def tags(self, repository: Repository) -> tuple[str, ...]:
        """
        Answer L{FakeRepository.tags}.
        """
        self.note("tags", repository.path, "")
        await self.gate.enter("tags")
        names = {wanted for path, wanted in self._documents if path == repository.path}
        if not names:
            raise ManifestUnknown(f"{self.host} has no {repository.path}", host=self.host, status=404)
        return tuple(sorted(name for name in names if ":" not in name))

    def _reading(self, digest: Digest) -> list[FakeBody]:
        found = self.open_bodies(digest)
        if not found:
            raise AssertionError(f"there is no reader of {digest} from {self.host}")
        return found

    def _blob(self, repository: Repository, digest: Digest) -> bytes:
        try:
            return self._blobs[repository.path, digest]
        except KeyError:
            raise BlobUnknown(
                f"{self.host}/{repository.path} has no blob {digest}", host=self.host, status=404
            ) from None
