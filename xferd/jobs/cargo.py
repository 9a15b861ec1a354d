# -*- test-case-name: tests.jobs.test_cargo -*-
"""
What belongs to a manifest or an index: all that has to be moved with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import frozen

from xferd.errors import BadDocument
from xferd.names import Digest
from xferd.oci import MAX_INDEX_DEPTH, Descriptor, Document, Index, parse_document

MAX_DOCUMENTS = 10_000
"""How many manifests one copy may be made of."""


@frozen
class Cargo:
    """
    A document with all that it names.

    @ivar documents: the manifests and indexes, each after those that it names;
        the document itself is the last.
    @ivar blobs: configs and layers, each once, in the order of the manifests.
    """

    documents: tuple[Document, ...]
    blobs: tuple[Descriptor, ...]

    @property
    def root(self) -> Document:
        """
        The document itself.
        """
        return self.documents[-1]


async def load(root: Document, fetch: Callable[[Descriptor], Awaitable[Document]]) -> Cargo:
    """
    Find all that a document names.

    @param fetch: gets a document that an index names.
    @raise BadDocument: a document breaks its specification, or the indexes go
        too deep.
    @raise UnsupportedImage: a document is of a kind that is not known.
    """
    documents: dict[Digest, Document] = {}
    blobs: dict[Digest, Descriptor] = {}

    async def visit(document: Document, depth: int) -> None:
        if depth > MAX_INDEX_DEPTH:
            raise BadDocument(f"{root.digest} is an index of indexes, more than {MAX_INDEX_DEPTH} deep")
        parsed = parse_document(document)
        if isinstance(parsed, Index):
            for entry in parsed.manifests:
                if entry.digest not in documents:
                    await visit(await fetch(entry), depth + 1)
        else:
            for blob in (parsed.config, *parsed.layers):
                blobs.setdefault(blob.digest, blob)
        documents[document.digest] = Document(parsed.media_type, document.data, document.digest)
        if len(documents) > MAX_DOCUMENTS:
            raise BadDocument(f"{root.digest} names more than {MAX_DOCUMENTS} manifests")

    await visit(root, 0)
    return Cargo(tuple(documents.values()), tuple(blobs.values()))
