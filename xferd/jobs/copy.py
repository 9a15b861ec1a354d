# -*- test-case-name: tests.jobs.test_copy -*-
"""
Images, indexes and artifacts are copied between registries, byte for byte.

Nothing is unpacked.  Blobs that the target lacks and cannot mount stream through
the store's partial files, so that they are shared with pulls of the same blob,
and interrupted transfers resume; small ones pass through memory.
"""

from __future__ import annotations

from collections.abc import Iterable

from xferd.errors import ManifestUnknown
from xferd.interfaces.registry import IRepository
from xferd.interfaces.transfer import IProgressSink
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.blobs.upload_source import UploadContent
from xferd.jobs.images.document_memory import DocumentMemory
from xferd.jobs.images.documents import DocumentFetcher
from xferd.jobs.images.graph import Allowance, Graph, walk
from xferd.jobs.images.publish import Publisher
from xferd.jobs.job import Job
from xferd.names import Digest, Reference
from xferd.oci import Descriptor, Document
from xferd.platforms import Platform

SIGNATURES = ("sig", "att", "sbom")
"""The suffixes of cosign's tags: C{sha256-<hex>.sig}."""

MAX_REFERRERS = 1000
"""The largest number of referrers in one copy."""


class Copy:
    """
    One copy, from one repository into another.
    """

    def __init__(
        self,
        job: Job,
        source: Reference,
        target: Reference,
        *,
        referrers: bool,
        repository: IRepository,
        documents: DocumentFetcher,
        layers: DownloadManager,
        publisher: Publisher,
        memory: DocumentMemory,
    ) -> None:
        """
        @param referrers: whether referrers, such as signatures, are copied too.
        @param repository: the source's repository.
        @param memory: the memory that the documents of all copies share.
        """
        self._job = job
        self._source = source
        self._target = target
        self._referrers = referrers
        self._repository = repository
        self._documents = documents
        self._layers = layers
        self._publisher = publisher
        self._allowance = Allowance()
        self._share = memory.share()

    async def run(self) -> dict[str, str]:
        """
        Copy the source.

        @return: the job's result.
        @raise ManifestUnknown: the source does not exist.
        @raise NoSuchPlatform: it is not available for the wanted platform.
        """
        try:
            return await self._run()
        finally:
            self._share.release()

    async def _run(self) -> dict[str, str]:
        turn = self._job.turn()
        if self._job.platform is None:
            root = await self._documents.document(self._source.wanted, turn)
        else:
            platform = Platform.parse(self._job.platform)
            resolved = await self._documents.resolve(self._source, platform, turn)
            await self._documents.check(resolved, platform, turn, str(self._source))
            root = await self._fetch(resolved.descriptor)
        graph = await self._walk(root)
        await self._publish(graph, self._target)
        if self._referrers:
            for name, referring in await self._referring(graph):
                await self._publish(referring, Reference(self._target.repository, name))
        return {"digest": str(root.digest)}

    async def _publish(self, graph: Graph, target: Reference) -> None:
        repository = self._repository
        await self._publisher.publish(
            [graph], target, self._content, source=repository, origin=repository.name
        )

    async def _referring(self, graph: Graph) -> list[tuple[str | None, Graph]]:
        """
        The referrers of all copied documents, and the referrers of these.

        @return: the graph of each, with its tag, if it has one.
        """
        found: list[tuple[str | None, Graph]] = []
        seen = {document.digest for document in graph.documents}
        waiting = [document.digest for document in graph.documents]
        while waiting and len(found) < MAX_REFERRERS:
            subject = waiting.pop(0)
            await self._job.resumed()
            for descriptor in await self._repository.referrers(subject):
                if descriptor.digest not in seen:
                    seen.add(descriptor.digest)
                    waiting.append(descriptor.digest)
                    found.append((None, await self._walk(await self._fetch(descriptor))))
            for tag, document in await self._signatures(subject):
                if document.digest not in seen:
                    seen.add(document.digest)
                    found.append((tag, await self._walk(document)))
        return found

    async def _signatures(self, subject: Digest) -> Iterable[tuple[str, Document]]:
        """
        The documents under cosign's tags for a document.
        """
        found = []
        for kind in SIGNATURES:
            tag = f"{subject.algorithm}-{subject.hex}.{kind}"
            try:
                document = await self._documents.document(tag, self._job.turn())
            except ManifestUnknown:
                continue
            found.append((tag, document))
        return found

    async def _walk(self, document: Document) -> Graph:
        """
        Walk the graph of a document.
        """
        return await walk(document, self._fetch, self._allowance, self._share)

    async def _fetch(self, descriptor: Descriptor) -> Document:
        """
        Fetch a document that another one names.
        """
        return await self._documents.described(descriptor, self._job.turn())

    def _content(self, blob: Descriptor, sink: IProgressSink) -> UploadContent:
        """
        Open a blob.
        """
        host = self._repository.host

        def received(size: int) -> None:
            self._job.timing.received(host, size)

        return self._layers.relayed(blob, self._repository, self._job.turn(), received, sink)
