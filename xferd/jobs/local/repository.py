# -*- test-case-name: tests.jobs.local.test_repository -*-
"""
One of xferd's own repositories, as jobs see the repositories of registries: without
network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from typing import Final

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import BlobUnknown, ManifestUnknown, SizeMismatch, StoreError
from xferd.interfaces.registry import IBlobBody, IContent, IRepository, Pushed, UploadSession
from xferd.interfaces.store import Image, IStore
from xferd.jobs.local.manifests import LocalManifests
from xferd.media_types import OCTET_STREAM
from xferd.names import Digest, Repository
from xferd.oci import Descriptor, Document

_PIECE: Final = 64 * 1024


@implementer(IBlobBody)
class StoredBody:
    """
    The bytes of a blob in the store.
    """

    def __init__(self, path: str, start: int, end: int, total: int, clock: IReactorTime) -> None:
        """
        @param end: the exclusive offset at which the body ends.
        @raise OSError: the file cannot be opened.
        """
        self.start = start
        self.total: int | None = total
        self._end = end
        self._clock = clock
        self._path = path
        self._fd: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def deliver(self, sink: Callable[[bytes], Deferred[None] | None]) -> Deferred[None]:
        return Deferred.fromCoroutine(self._deliver(sink))

    def abandon(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    async def _deliver(self, sink: Callable[[bytes], Deferred[None] | None]) -> None:
        offset = self.start
        try:
            while offset < self._end and self._fd is not None:
                data = os.pread(self._fd, min(_PIECE, self._end - offset), offset)
                if not data:
                    raise StoreError(f"{self._path} was cut off at {offset} bytes")
                offset += len(data)
                taken = sink(data)
                await (deferLater(self._clock, 0) if taken is None else taken)
        finally:
            self.abandon()


@implementer(IRepository)
class LocalRepository:
    """
    An own repository.
    """

    _log = Logger()

    def __init__(
        self, name: Repository, store: IStore, manifests: LocalManifests, clock: IReactorTime
    ) -> None:
        self.name = name
        self.host = name.host
        self.label = str(name)
        self.identity: Hashable = (name.host, name.path)
        self.account: Hashable = None
        self.origin = ""
        self._store = store
        self._manifests = manifests
        self._clock = clock

    def manifest(self, wanted: str) -> Deferred[Document]:
        return Deferred.fromCoroutine(self._manifests.read(self.name, wanted))

    def resolve(self, wanted: str, *, confirm: bool = False) -> Deferred[Digest]:  # noqa: ARG002
        return maybeDeferred(lambda: self._manifests.find(self.name, wanted).digest)

    def config(self, descriptor: Descriptor) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self._config(descriptor))

    def open(self, digest: Digest, offset: int, end: int | None = None) -> Deferred[IBlobBody]:
        return Deferred.fromCoroutine(self._open(digest, offset, end))

    def confirm(self, digest: Digest) -> Deferred[int | None]:
        return maybeDeferred(self._size, digest)

    def distrust(self, digest: Digest) -> None:
        self._log.warn("{path} is damaged: push it again", path=self._store.blobs.path(digest))

    def push(
        self,
        digest: Digest,
        content: IContent,
        candidates: Sequence[Repository],
        session: UploadSession | None,  # noqa: ARG002
        remember: Callable[[UploadSession | None], None],  # noqa: ARG002
        report: Callable[[int], None],
    ) -> Deferred[Pushed]:
        """
        What a job sends is in the store, or arrives there: no byte is copied.
        """
        return Deferred.fromCoroutine(self._push(digest, content, candidates, report))

    async def add_image(self, image: Image) -> None:
        """
        Add an image of the store, and set its tag.

        @raise ContentMissing: a blob is not in the store.
        @raise StoreError: the disk refuses.
        """
        catalog, blobs = self._store.catalog, self._store.blobs
        release = self._store.gc.lease()
        try:
            for part in (image.config, *image.layers):
                if blobs.has(part.digest):
                    await catalog.put_blob(self.name, Descriptor(OCTET_STREAM, part.digest, part.size))
            data = await blobs.read(image.manifest.digest)
            document = Document(image.manifest.media_type, data, image.manifest.digest)
            tag = image.reference.tag
            await self._manifests.put(self.name, document, () if tag is None else (tag,))
        finally:
            release()

    def abort(self, session: UploadSession) -> Deferred[None]:  # noqa: ARG002
        return succeed(None)

    def put_manifest(self, wanted: str, document: Document) -> Deferred[None]:
        return Deferred.fromCoroutine(self._put_manifest(wanted, document))

    def referrers(self, digest: Digest) -> Deferred[tuple[Descriptor, ...]]:
        return succeed(tuple(self._store.catalog.referrers(self.name, digest)))

    def tags(self) -> Deferred[tuple[str, ...]]:
        if not self._store.catalog.manifests(self.name):
            return fail(ManifestUnknown(f"there is no repository {self.name}", host=self.host))
        return succeed(tuple(self._store.catalog.tags(self.name)))

    async def _config(self, descriptor: Descriptor) -> bytes:
        self._size(descriptor.digest)
        data = await self._store.blobs.read(descriptor.digest)
        if len(data) != descriptor.size:
            raise SizeMismatch(
                f"blob {descriptor.digest} has {len(data)} bytes, and its manifest names {descriptor.size}"
            )
        return data

    async def _open(self, digest: Digest, offset: int, end: int | None) -> IBlobBody:
        size = self._size(digest)
        if offset > size or (offset == size > 0):
            raise SizeMismatch(f"blob {digest} has {size} bytes, and none from {offset} on", host=self.host)
        stop = size if end is None else min(end, size)
        path = self._store.blobs.path(digest)
        try:
            return StoredBody(path, offset, stop, size, self._clock)
        except OSError as e:
            raise StoreError(f"cannot read {path}: {e.strerror}") from e

    def _size(self, digest: Digest) -> int:
        """
        The size of a blob of this repository.

        @raise BlobUnknown: it has no such blob.
        """
        known = self._store.catalog.blob(self.name, digest)
        size = None if known is None else self._store.blobs.size(digest)
        if size is None:
            raise BlobUnknown(f"{self.name.path} has no blob {digest}", host=self.host)
        return size

    async def _push(
        self,
        digest: Digest,
        content: IContent,
        candidates: Sequence[Repository],
        report: Callable[[int], None],
    ) -> Pushed:
        catalog, blobs = self._store.catalog, self._store.blobs
        release = self._store.gc.lease()
        try:
            there = blobs.has(digest)
            if there and catalog.blob(self.name, digest) is not None:
                return Pushed("exists")
            holders = [c for c in candidates if c.host == self.host and catalog.blob(c, digest) is not None]
            if not (there and holders):
                await self._fetch(digest, content)
            report(content.size)
            await catalog.put_blob(self.name, Descriptor(OCTET_STREAM, digest, content.size))
        finally:
            release()
        return Pushed("mounted", holders[0]) if there and holders else Pushed("uploaded")

    async def _fetch(self, digest: Digest, content: IContent) -> None:
        """
        Wait until a blob is in the store.  Its last byte can be read only then, if
        it arrives there; what comes from elsewhere is written.
        """
        if content.size:
            await content.ready(content.size - 1, 1)
            await content.read(content.size - 1, 1)
        if self._store.blobs.has(digest):
            return
        incoming = await self._store.incoming.begin(self.name, "", digest.algorithm, brief=True)
        try:
            while data := await content.read(incoming.offset, _PIECE):
                incoming.write(data)
            await incoming.commit(digest)
        finally:
            incoming.release()

    async def _put_manifest(self, wanted: str, document: Document) -> None:
        await self._manifests.put(self.name, document, () if ":" in wanted else (wanted,))
