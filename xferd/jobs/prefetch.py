# -*- test-case-name: tests.jobs.test_prefetch -*-
"""
An image is fetched for the clients of xferd's registry, before one asks for it.

Its manifests, config and layers come into the store and the catalog; nothing is
unpacked, and the store gets no image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred

from xferd.interfaces.registry import IRepository
from xferd.interfaces.store import IStore
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.deferreds import gather
from xferd.jobs.disk_space.full_disk import retry_while_full
from xferd.jobs.images.document_memory import DocumentMemory
from xferd.jobs.images.documents import DocumentFetcher
from xferd.jobs.images.graph import Graph, walk
from xferd.jobs.job import Job
from xferd.jobs.mirror.entries import catalog_entry
from xferd.jobs.push import ALL
from xferd.jobs.reporter import Reporter
from xferd.jobs.rows import FetchedRow
from xferd.names import Digest, Reference
from xferd.oci import Descriptor, Document, Index, parse_document
from xferd.platforms import Platform
from xferd.transfer.watcher import Watcher

AHEAD = 100
"""
The number of downloads of one job that wait for a slot.  Of the thousands of blobs
that an index can name, the others are not requested yet.
"""


class Prefetch:
    """
    One prefetch, from one repository.  All transfers are released when L{run} ends.
    """

    def __init__(
        self,
        job: Job,
        reference: Reference,
        *,
        store: IStore,
        repository: IRepository,
        documents: DocumentFetcher,
        layers: DownloadManager,
        reporter: Reporter,
        memory: DocumentMemory,
    ) -> None:
        """
        @param repository: the upstream's, with the credentials by which clients of
            the registry pull from it.
        @param memory: the memory for documents that all such jobs share.
        """
        self._job = job
        self._reference = reference
        self._store = store
        self._repository = repository
        self._documents = documents
        self._layers = layers
        self._reporter = reporter
        self._share = memory.share()
        self._watchers: list[Watcher[None]] = []

    async def run(self, now: Callable[[], float]) -> dict[str, str]:
        """
        Fetch what the reference names.

        @param now: returns the time in seconds since the epoch.
        @return: the job's result.
        @raise ManifestUnknown: the upstream does not have it.
        @raise NoSuchPlatform: it is not available for the wanted platform.
        """
        try:
            return await self._run(now)
        finally:
            for watcher in self._watchers:
                watcher.release()
            self._share.release()

    async def _run(self, now: Callable[[], float]) -> dict[str, str]:
        root = await self._documents.document(self._reference.wanted, self._job.turn())
        checked = now()
        above, graph = await self._chosen(root)
        await self._fetch_blobs(graph.blobs)
        tag = None if self._reference.digest is not None else self._reference.tag
        for document in dict.fromkeys([*graph.documents, *above]):
            # A client that gets the tag gets all that its manifest names.
            tags = [tag] if tag is not None and document.digest == root.digest else []
            await self._list(document, tags, checked)
        return {"digest": str(root.digest)}

    async def _chosen(self, root: Document) -> tuple[list[Document], Graph]:
        """
        What the job's platform needs.

        @return: the indexes that lead to the image, from the lowest one up to
            C{root}, and the graph of the image, or of C{root} for all platforms.
        """
        turn = self._job.turn()
        if self._job.platform == ALL:
            return [], await self._walk(root)
        platform = Platform.local() if self._job.platform is None else Platform.parse(self._job.platform)
        resolved = await self._documents.pick(root, platform, turn, name=str(self._reference))
        if self._job.platform is not None:
            await self._documents.check(resolved, platform, turn, str(self._reference))
        if not resolved.chosen:
            return [], await self._walk(root)
        above = await self._above(root, resolved.descriptor.digest)
        return above, await self._walk(await self._fetch(resolved.descriptor))

    async def _above(self, index: Document, digest: Digest) -> list[Document]:
        """
        The indexes that lead to a manifest that was found in an index; none if this
        one does not lead there.
        """
        parsed = parse_document(index)
        entries = parsed.manifests if isinstance(parsed, Index) else ()
        if any(entry.digest == digest for entry in entries):
            return [index]
        for entry in entries:
            # The search for the platform has read those that can lead there.
            if entry.is_known and self._store.blobs.has(entry.digest):
                below = await self._above(await self._fetch(entry), digest)
                if below:
                    return [*below, index]
        return []

    async def _walk(self, document: Document) -> Graph:
        return await walk(document, self._fetch, share=self._share)

    async def _fetch(self, descriptor: Descriptor) -> Document:
        """
        Fetch a document that another one names.
        """
        return await self._documents.described(descriptor, self._job.turn())

    async def _fetch_blobs(self, blobs: Iterable[Descriptor]) -> None:
        """
        Fetch the blobs that the store lacks; the first error ends the job.
        """
        rows = [FetchedRow(n, blob) for n, blob in enumerate(blobs)]
        self._job.add_rows(rows)
        if not self._layers.isolated:
            for row in rows:
                row.existed = self._store.blobs.has(row.blob.digest)
        self._reporter.rows_changed(rows)
        lacking = [row for row in rows if not row.existed]
        end = await self._layers.reservations.reserve(
            [row.blob for row in lacking], self._reference.familiar()
        )
        self._reporter.record()
        waiting = iter(lacking)

        async def in_turn() -> None:
            for row in waiting:
                await self._fetch_blob(row)

        try:
            await gather([Deferred.fromCoroutine(in_turn()) for _ in lacking[:AHEAD]])
        finally:
            end()

    async def _fetch_blob(self, row: FetchedRow) -> None:
        watcher = self._layers.fetch(
            row.blob, self._repository, self._job.turn(row.index), self._reporter.sink(row)
        )
        self._watchers.append(watcher)
        row.fetch = watcher.transfer
        self._reporter.rows_changed([row])
        await watcher.result()

    async def _list(self, document: Document, tags: list[str], checked: float) -> None:
        """
        List a document in the catalog.
        """
        catalog, entry = self._store.catalog, catalog_entry(document)
        await retry_while_full(
            self._store.free_space,
            lambda: catalog.put_manifest(self._repository.name, entry, tags, checked),
        )
