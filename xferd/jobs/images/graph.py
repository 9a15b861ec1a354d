# -*- test-case-name: tests.jobs.images.test_graph -*-
"""
The graph of a manifest or an index: all documents and blobs that it names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext

from attrs import define, field, frozen

from xferd.errors import BadDocument, ManifestUnknown, NotFound
from xferd.jobs.images.document_memory import MemoryShare
from xferd.names import Digest
from xferd.oci import MAX_DOCUMENT, MAX_INDEX_DEPTH, Descriptor, Document, Index, parse_document
from xferd.waits import MEMORY, waiting_for

MAX_DOCUMENTS = 10_000
"""The largest number of manifests of one copy."""

MAX_DOCUMENT_BYTES = 128 * 1024 * 1024
"""The largest number of their bytes together: they are all in memory."""

MAX_BLOBS = 50_000
"""The largest number of blobs that they may name together."""


@define
class Allowance:
    """
    The numbers that the graphs of one job may still have, all together.

    @ivar documents: manifests and indexes.
    @ivar size: their bytes.
    @ivar blobs: configs and layers.
    """

    documents: int = MAX_DOCUMENTS
    size: int = MAX_DOCUMENT_BYTES
    blobs: int = MAX_BLOBS

    def spend(self, name: object, *, documents: int = 0, size: int = 0, blobs: int = 0) -> None:
        """
        Deduct from the allowance.

        @param name: the root of the graph, for the error.
        @raise BadDocument: the allowance is exceeded.
        """
        self.documents -= documents
        self.size -= size
        self.blobs -= blobs
        if self.documents < 0:
            raise BadDocument(f"{name} names more than {MAX_DOCUMENTS} manifests")
        if self.size < 0:
            raise BadDocument(f"the manifests that {name} names have more than {MAX_DOCUMENT_BYTES} bytes")
        if self.blobs < 0:
            raise BadDocument(f"{name} names more than {MAX_BLOBS} blobs")


@frozen
class Graph:
    """
    A document with all that it names.

    @ivar documents: the manifests and indexes, each after those that it names;
        the document itself is the last.
    @ivar blobs: configs and layers, each once, in the order of the manifests.
        Layers that stay at their URLs are not among them.
    """

    documents: tuple[Document, ...]
    blobs: tuple[Descriptor, ...]

    @property
    def root(self) -> Document:
        """
        The document itself.
        """
        return self.documents[-1]


async def walk(
    root: Document,
    fetch: Callable[[Descriptor], Awaitable[Document]],
    allowance: Allowance | None = None,
    share: MemoryShare | None = None,
) -> Graph:
    """
    Find all documents and blobs that a document names.

    @param fetch: returns a document that an index names.
    @param allowance: how much the graph may have.
    @param share: the caller's memory for the documents, which this waits for.
    @raise BadDocument: a document breaks its specification, or names too much,
        or the indexes are nested too deep.
    @raise UnsupportedImage: the document is of an unknown kind, so that its parts
        cannot be found.
    """
    loading = _Walk(root.digest, fetch, Allowance() if allowance is None else allowance, share)
    await loading.hold(len(root.data))
    await loading.visit(root, 0)
    return Graph(tuple(loading.documents.values()), tuple(loading.blobs.values()))


@define
class _Walk:
    """
    The state of one walk.
    """

    root: Digest
    fetch: Callable[[Descriptor], Awaitable[Document]]
    allowance: Allowance
    share: MemoryShare | None
    documents: dict[Digest, Document] = field(factory=dict)
    blobs: dict[Digest, Descriptor] = field(factory=dict)

    async def visit(self, document: Document, depth: int) -> None:
        """
        Add a document, after all that it names.
        """
        if depth > MAX_INDEX_DEPTH:
            raise BadDocument(f"{self.root} is an index of indexes, more than {MAX_INDEX_DEPTH} deep")
        self.allowance.spend(self.root, documents=1, size=len(document.data))
        parsed = parse_document(document)
        if isinstance(parsed, Index):
            for entry in parsed.manifests:
                if entry.digest in self.documents or entry.digest in self.blobs:
                    continue
                if entry.is_known:
                    await self.hold(min(entry.size, MAX_DOCUMENT))
                    await self.visit(await self.fetch(entry), depth + 1)
                else:
                    await self._take(entry)
        else:
            for blob in (parsed.config, *parsed.layers):
                if not blob.is_foreign:
                    self._add(blob)
        self.documents[document.digest] = Document(parsed.media_type, document.data, document.digest)

    async def _take(self, entry: Descriptor) -> None:
        """
        Add an entry of an unknown kind as it is (OCI image-spec, "Image Index": it
        must not be an error).  Only a request shows whether the registry has it as
        a manifest or as a blob.
        """
        try:
            document = await self.fetch(entry)
        except (ManifestUnknown, NotFound):
            self._add(entry)
        else:
            self.allowance.spend(self.root, documents=1, size=len(document.data))
            await self.hold(len(document.data))
            self.documents[entry.digest] = Document(entry.media_type, document.data, entry.digest)

    async def hold(self, size: int) -> None:
        """
        Wait for the memory of a document.
        """
        if self.share is not None:
            taking = self.share.take(size)
            with nullcontext() if taking.called else waiting_for(MEMORY, ""):
                await taking

    def _add(self, blob: Descriptor) -> None:
        if blob.digest not in self.blobs:
            self.allowance.spend(self.root, blobs=1)
            self.blobs[blob.digest] = blob
