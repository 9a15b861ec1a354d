# -*- test-case-name: tests.jobs.images.test_documents -*-
"""
Manifests, indexes and configs are fetched, once for all clients that request one
at the same time, and kept in the store.
"""

from __future__ import annotations

from typing import TypeVar, cast

from twisted.logger import Logger

from xferd.errors import BadDocument, DiskFull, SizeMismatch
from xferd.image_config import platform_of
from xferd.interfaces.registry import IRepository
from xferd.interfaces.store import IStore
from xferd.interfaces.transfer import IProgressSink, ISource
from xferd.jobs.disk_space.full_disk import retry_while_full
from xferd.jobs.images.resolve import Resolved, Search, check_platform
from xferd.jobs.isolation import ISOLATED, SHARED, SharingScope
from xferd.media_types import INDEXES, MANIFESTS
from xferd.names import Digest, Reference
from xferd.oci import MAX_DOCUMENT, Descriptor, Document, document_type
from xferd.platforms import Platform
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher

T = TypeVar("T")


class DocumentFetcher:
    """
    The documents of one repository, with the credentials of one client.
    Clients that request the same document at one time share the request.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        repository: IRepository,
        transfers: TransferManager,
        sharing: str = SHARED,
        *,
        keep: bool = True,
        stored: bool = False,
    ) -> None:
        """
        @param sharing: C{shared} or C{isolated}: then every document is
            requested, whether the store has it or not.
        @param keep: whether the client needs the documents in the store.
            Otherwise a full disk is no error.
        @param stored: whether an image that is named by a digest is resolved without a
            request if the store has its manifest.
        """
        self._stored = stored
        self._keep = keep
        self._isolated = sharing == ISOLATED
        self._store = store
        self._repository = repository
        # The registry may show each client another manifest under a tag.
        self._scope = SharingScope.of(repository)
        self._transfers = transfers

    async def resolve(
        self, reference: Reference, platform: Platform, turn: Turn, sink: IProgressSink | None = None
    ) -> Resolved:
        """
        Resolve a reference to the manifest for a platform.

        @raise ManifestUnknown: the registry has no such image.
        @raise NoSuchPlatform: it has none for this platform.
        @raise BadImage: a document breaks its specification, or is of an
            unsupported kind.
        """
        if self._stored and reference.digest is not None:
            document = await self.pinned(reference.digest, turn)
        else:
            document = await self.document(reference.wanted, turn, sink)
        return await self.pick(document, platform, turn, sink, str(reference))

    async def pick(
        self,
        document: Document,
        platform: Platform,
        turn: Turn,
        sink: IProgressSink | None = None,
        name: str = "",
    ) -> Resolved:
        """
        Find the manifest for a platform in an index; a manifest is returned as it
        is.

        @param name: the name of the document in errors; its digest by default.
        @raise NoSuchPlatform: the index offers other platforms.
        @raise BadImage: a document breaks its specification, or is of an
            unsupported kind.
        """

        async def fetch(entry: Descriptor) -> Document:
            return await self.described(entry, turn, sink)

        async def config(entry: Descriptor) -> bytes:
            return await self.config(entry, turn, sink)

        search = Search(
            name or f"{self._repository.label}@{document.digest}",
            platform,
            fetch,
            config,
            self._transfers.clock.seconds,
        )
        return await search.run(document)

    async def check(self, resolved: Resolved, platform: Platform, turn: Turn, name: str) -> None:
        """
        Check that an image is for a platform.  An artifact is for all.

        @param name: the name of the image in errors.
        @raise NoSuchPlatform: it is for another one.
        """
        listed, configured, config = resolved.descriptor.platform, None, resolved.manifest.config
        if listed is None and resolved.manifest.is_image:
            configured = platform_of(await self.config(config, turn), config.digest)
        check_platform(name, platform, listed, configured)

    async def pinned(self, digest: Digest, turn: Turn) -> Document:
        """
        Read a manifest or an index in the store, or fetch it by its digest.

        @raise ManifestUnknown: neither has it.
        """
        if self._isolated or not self._store.blobs.has(digest):
            return await self.document(str(digest), turn)
        # Its type is in the document, or follows from its content.
        data = await self._store.blobs.read(digest)
        return Document(document_type(data), data, digest)

    async def document(self, wanted: str, turn: Turn, sink: IProgressSink | None = None) -> Document:
        """
        Fetch a manifest or an index.

        This makes a request each time, as only the registry knows the present
        digest of a tag, and whether the client has access to it.

        @param wanted: a tag or a digest.
        @raise ManifestUnknown: the registry does not have it.
        """
        document = await _settle(self._manifest(wanted, turn, sink))
        # This client needs it in the store; the one that had it fetched may not.
        if not self._store.blobs.has(document.digest):
            await self._put(document.digest, document.data)
        return document

    async def config(self, descriptor: Descriptor, turn: Turn, sink: IProgressSink | None = None) -> bytes:
        """
        Fetch a small blob, or read it where the store or its descriptor has
        it.

        @raise SourceError: the registry refuses it.
        """
        if descriptor.data is not None:
            await self._put(descriptor.digest, descriptor.data)
            return descriptor.data

        async def work(transfer: Transfer) -> bytes:
            if not self._isolated and self._store.blobs.has(descriptor.digest):
                return await self._store.blobs.read(descriptor.digest)

            async def attempt(source: ISource) -> bytes:
                return await cast("IRepository", source).config(descriptor)

            data: bytes = await transfer.attempts(attempt)
            await self._put(descriptor.digest, data, transfer)
            return data

        data = await _settle(
            self._transfers.request(
                ("config", descriptor.digest, self._scope)
                if self._isolated
                else ("config", descriptor.digest),
                work,
                digest=descriptor.digest,
                source=self._repository,
                turn=turn,
                sink=sink,
            )
        )
        if not self._store.blobs.has(descriptor.digest):
            await self._put(descriptor.digest, data)
        return data

    async def described(self, entry: Descriptor, turn: Turn, sink: IProgressSink | None = None) -> Document:
        """
        Fetch a document that an index names, or read it where the store or its
        descriptor has it.

        @raise BadDocument: it is too large, or its type is not the one in the
            index.
        @raise SizeMismatch: its size is not the one in its descriptor.
        """
        if entry.size > MAX_DOCUMENT:
            raise BadDocument(
                f"manifest {entry.digest} has {entry.size} bytes, by its index; "
                f"a document has at most {MAX_DOCUMENT}"
            )
        if entry.data is not None:
            data = entry.data
            await self._put(entry.digest, data)
        elif not self._isolated and self._store.blobs.has(entry.digest):
            data = await self._store.blobs.read(entry.digest)
        else:
            document = await self.document(str(entry.digest), turn, sink)
            came_as = document.media_type
            if came_as in MANIFESTS | INDEXES and came_as != entry.media_type and entry.is_known:
                raise BadDocument(
                    f"manifest {entry.digest} came as {came_as}, and its index names {entry.media_type}"
                )
            data = document.data
        if len(data) != entry.size:
            raise SizeMismatch(
                f"manifest {entry.digest} has {len(data)} bytes, and its index names {entry.size}",
                host=self._repository.host,
            )
        return Document.verified(entry.media_type, data, entry.digest)

    def _manifest(self, wanted: str, turn: Turn, sink: IProgressSink | None) -> Watcher[Document]:
        """
        Request a manifest or an index.
        """

        async def work(transfer: Transfer) -> Document:
            async def attempt(_: ISource) -> Document:
                return await self._repository.manifest(wanted)

            document: Document = await transfer.attempts(attempt)
            await self._put(document.digest, document.data, transfer)
            return document

        return self._transfers.request(
            ("manifest", self._scope, wanted),
            work,
            digest=wanted,
            source=self._repository,
            turn=turn,
            sink=sink,
        )

    async def _put(self, digest: Digest, data: bytes, transfer: Transfer | None = None) -> None:
        """
        Put a document into the store.
        """
        space, put = self._store.free_space, self._store.blobs.put
        if not self._keep:
            try:
                await put(digest, data)
            except DiskFull as e:
                self._log.info("{digest} is not kept: {why}", digest=digest, why=str(e))
        elif transfer is None:
            await retry_while_full(space, lambda: put(digest, data))
        else:
            await retry_while_full(space, lambda: put(digest, data), transfer.wait_for_disk)


async def _settle(watcher: Watcher[T]) -> T:
    """
    Wait for a watcher's result, and release the watcher.
    """
    try:
        return await watcher.result()
    finally:
        watcher.release()
