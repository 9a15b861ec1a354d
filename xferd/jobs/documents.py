# -*- test-case-name: tests.jobs.test_pull -*-
"""
Manifests, indexes and configs: fetched once for all who ask at one time, and
kept in the store.
"""

from __future__ import annotations

from typing import TypeVar

from attrs import frozen

from xferd.errors import BadDocument, SizeMismatch
from xferd.interfaces import IProgressSink, IRegistries, ISource, IStore
from xferd.names import Digest, Reference, Repository
from xferd.oci import (
    MAX_INDEX_DEPTH,
    Descriptor,
    Document,
    Manifest,
    Platform,
    choose,
    parse_document,
)
from xferd.transfer.slots import Turn
from xferd.transfer.transfer import Transfer, TransferManager, Watcher

T = TypeVar("T")


@frozen
class Resolved:
    """
    What a reference stands for, on one platform.

    @ivar digest: what the name itself stands for: an index, or the manifest.
    @ivar descriptor: the manifest's descriptor.
    @ivar manifest: the manifest.
    @ivar chosen: whether an index was asked, so that the platform is right.
    """

    digest: Digest
    descriptor: Descriptor
    manifest: Manifest
    chosen: bool


class Documents:
    """
    Fetches documents for all jobs together.
    """

    def __init__(self, store: IStore, registries: IRegistries, transfers: TransferManager) -> None:
        self._store = store
        self._registries = registries
        self._transfers = transfers

    async def resolve(
        self, reference: Reference, platform: Platform, turn: Turn, sink: IProgressSink | None = None
    ) -> Resolved:
        """
        Find the manifest that a reference stands for on a platform.

        @raise ManifestUnknown: the registry has no such image.
        @raise NoSuchPlatform: it has, but not for this platform.
        @raise BadImage: a document breaks its specification, or is of a kind
            that is not unpacked.
        """
        repository = reference.repository
        document = await self.document(repository, reference.wanted, turn, sink)
        resolved = document.digest
        for depth in range(MAX_INDEX_DEPTH + 1):
            parsed = parse_document(document)
            if isinstance(parsed, Manifest):
                descriptor = Descriptor(parsed.media_type, document.digest, len(document.data))
                return Resolved(resolved, descriptor, parsed, chosen=depth > 0)
            document = await self.described(repository, choose(parsed, platform), turn, sink)
        raise BadDocument(f"{reference} is an index of indexes, more than {MAX_INDEX_DEPTH} deep")

    async def document(
        self, repository: Repository, wanted: str, turn: Turn, sink: IProgressSink | None = None
    ) -> Document:
        """
        Fetch a manifest or an index.

        The registry is asked each time, as only it knows what a tag stands
        for by now, and whether the client may know it.

        @param wanted: a tag or a digest.
        @raise ManifestUnknown: the registry does not have it.
        """
        return await _settle(self._manifest(repository, wanted, turn, sink))

    async def config(
        self, repository: Repository, descriptor: Descriptor, turn: Turn, sink: IProgressSink | None = None
    ) -> bytes:
        """
        Fetch a small blob, or read it where the store has it.

        @raise SourceError: the registry does not give it.
        """
        registry = self._registries.registry(repository.host)

        async def work(transfer: Transfer) -> bytes:
            if self._store.blobs.has(descriptor.digest):
                return await self._store.blobs.read(descriptor.digest)

            async def attempt(_: ISource) -> bytes:
                return await registry.document(repository, descriptor)

            data: bytes = await transfer.attempts(attempt)
            await self._store.blobs.put(descriptor.digest, data)
            return data

        return await _settle(
            self._transfers.request(
                ("config", descriptor.digest),
                work,
                digest=descriptor.digest,
                source=registry.blobs(repository),
                turn=turn,
                sink=sink,
            )
        )

    async def described(
        self, repository: Repository, entry: Descriptor, turn: Turn, sink: IProgressSink | None = None
    ) -> Document:
        """
        Fetch a document that another one names, or read it where the store
        has it.

        @raise SizeMismatch: it is larger or smaller than its descriptor says.
        """
        if self._store.blobs.has(entry.digest):
            data = await self._store.blobs.read(entry.digest)
        else:
            data = (await self.document(repository, str(entry.digest), turn, sink)).data
        if len(data) != entry.size:
            raise SizeMismatch(
                f"manifest {entry.digest} has {len(data)} bytes, its index says {entry.size}",
                host=repository.host,
            )
        return Document.verified(entry.media_type, data, entry.digest)

    def _manifest(
        self, repository: Repository, wanted: str, turn: Turn, sink: IProgressSink | None
    ) -> Watcher[Document]:
        """
        Ask for a manifest or an index.
        """
        registry = self._registries.registry(repository.host)

        async def work(transfer: Transfer) -> Document:
            async def attempt(_: ISource) -> Document:
                return await registry.manifest(repository, wanted)

            document: Document = await transfer.attempts(attempt)
            await self._store.blobs.put(document.digest, document.data)
            return document

        return self._transfers.request(
            ("manifest", repository, wanted),
            work,
            digest=wanted,
            source=registry.blobs(repository),
            turn=turn,
            sink=sink,
        )


async def _settle(watcher: Watcher[T]) -> T:
    """
    Wait for a watcher's result, and let go.
    """
    try:
        return await watcher.result()
    finally:
        watcher.release()
