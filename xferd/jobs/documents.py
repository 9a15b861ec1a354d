# -*- test-case-name: tests.jobs.test_pull -*-
"""
Manifests, indexes and configs: fetched once for all who ask at one time, and
kept in the store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar, cast

from attrs import frozen
from zope.interface import implementer

from xferd.errors import BadDocument, SizeMismatch
from xferd.interfaces import IProgressSink, IRegistries, IRegistry, ISource, IStore
from xferd.names import Digest, Reference, Repository
from xferd.oci import (
    MAX_INDEX_DEPTH,
    Descriptor,
    Document,
    Manifest,
    Platform,
    choose,
    document_type,
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


@implementer(ISource)
class Place:
    """
    A repository of one registry, seen with the credentials of one client: a
    source of documents, or where they go.

    Equal ones would behave alike, so that it can be a part of a key: who may
    know what a tag stands for, and who may change it, is for the registry to
    say, of each client.
    """

    def __init__(self, registry: IRegistry, repository: Repository) -> None:
        source = registry.blobs(repository)
        self.registry = registry
        self.repository = repository
        self.host = source.host
        self.label = source.label
        self.identity: Hashable = source.identity

    def __eq__(self, other: object) -> bool:
        return self.identity == other.identity if isinstance(other, Place) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.identity)

    def __str__(self) -> str:
        # Without the identity: keys of transfers are shown.
        return str(self.repository)


async def resolve(
    name: str, root: Document, platform: Platform, fetch: Callable[[Descriptor], Awaitable[Document]]
) -> Resolved:
    """
    Find the manifest that a document stands for on a platform.

    @param name: what to call it.
    @param fetch: gets a document that an index names.
    @raise NoSuchPlatform: there is none for this platform.
    @raise BadImage: a document breaks its specification.
    """
    document = root
    for depth in range(MAX_INDEX_DEPTH + 1):
        parsed = parse_document(document)
        if isinstance(parsed, Manifest):
            descriptor = Descriptor(parsed.media_type, document.digest, len(document.data))
            return Resolved(root.digest, descriptor, parsed, chosen=depth > 0)
        document = await fetch(choose(parsed, platform))
    raise BadDocument(f"{name} is an index of indexes, more than {MAX_INDEX_DEPTH} deep")


class Documents:
    """
    Fetches documents for one client, together with all others who want the
    same.
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
        document = await self.document(reference.repository, reference.wanted, turn, sink)
        return await self.pick(reference.repository, document, platform, turn, sink)

    async def pick(
        self,
        repository: Repository,
        document: Document,
        platform: Platform,
        turn: Turn,
        sink: IProgressSink | None = None,
    ) -> Resolved:
        """
        Find the manifest of a platform in an index; a manifest is its own.

        @raise NoSuchPlatform: the index offers others.
        @raise BadImage: a document breaks its specification, or is of a kind
            that is not unpacked.
        """
        name = f"{document.digest} of {repository}"
        return await resolve(
            name, document, platform, lambda entry: self.described(repository, entry, turn, sink)
        )

    async def pinned(self, repository: Repository, digest: Digest, turn: Turn) -> Document:
        """
        Read a manifest or an index in the store, or fetch it by its digest.

        @raise ManifestUnknown: neither has it.
        """
        if not self._store.blobs.has(digest):
            return await self.document(repository, str(digest), turn)
        # What it is, it says itself, or it is an index by its content.
        data = await self._store.blobs.read(digest)
        return Document(document_type(data), data, digest)

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
        document = await _settle(self._manifest(repository, wanted, turn, sink))
        # Whoever asked relies on it now, also where another one had it fetched.
        self._store.blobs.has(document.digest)
        return document

    async def config(
        self, repository: Repository, descriptor: Descriptor, turn: Turn, sink: IProgressSink | None = None
    ) -> bytes:
        """
        Fetch a small blob, or read it where the store has it.

        @raise SourceError: the registry does not give it.
        """

        async def work(transfer: Transfer) -> bytes:
            if self._store.blobs.has(descriptor.digest):
                return await self._store.blobs.read(descriptor.digest)

            async def attempt(source: ISource) -> bytes:
                place = cast("Place", source)
                return await place.registry.document(place.repository, descriptor)

            data: bytes = await transfer.attempts(attempt)
            await self._store.blobs.put(descriptor.digest, data)
            return data

        data = await _settle(
            self._transfers.request(
                ("config", descriptor.digest),
                work,
                digest=descriptor.digest,
                source=self._place(repository),
                turn=turn,
                sink=sink,
            )
        )
        self._store.blobs.has(descriptor.digest)
        return data

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
        place = self._place(repository)

        async def work(transfer: Transfer) -> Document:
            async def attempt(_: ISource) -> Document:
                return await place.registry.manifest(repository, wanted)

            document: Document = await transfer.attempts(attempt)
            await self._store.blobs.put(document.digest, document.data)
            return document

        return self._transfers.request(
            ("manifest", place, wanted),
            work,
            digest=wanted,
            source=place,
            turn=turn,
            sink=sink,
        )

    def _place(self, repository: Repository) -> Place:
        """
        A repository as our client sees it.
        """
        return Place(self._registries.registry(repository.host), repository)


async def _settle(watcher: Watcher[T]) -> T:
    """
    Wait for a watcher's result, and let go.
    """
    try:
        return await watcher.result()
    finally:
        watcher.release()
