# -*- test-case-name: tests.jobs.mirror.test_known -*-
"""
What the store has of an upstream's repository: what the catalog lists, and the
images of that name that jobs pulled or imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from attrs import frozen

from xferd.interfaces.catalog import CatalogManifest
from xferd.interfaces.store import Image, IStore
from xferd.jobs.mirror.entries import catalog_entry
from xferd.json_encoding import from_rfc3339
from xferd.names import Digest, Reference, Repository
from xferd.oci import Descriptor, Document, document_type


@frozen
class KnownManifest:
    """
    A manifest or an index in the store.

    @ivar entry: what it names.
    """

    document: Document
    entry: CatalogManifest


@frozen
class KnownTag:
    """
    A tag whose manifest is in the store.

    @ivar checked: when the upstream was last known to have it, in seconds since
        the epoch; L{None} for an image, which need not come from there.
    @ivar since: when it came here, at the latest.
    """

    manifest: KnownManifest
    checked: float | None
    since: float


class Known:
    """
    The content of upstreams in the store.
    """

    def __init__(self, store: IStore) -> None:
        self._store = store

    async def tag(self, repository: Repository, tag: str, images: bool) -> KnownTag | None:
        """
        A tag, if its manifest is in the store.

        @param images: whether images count that jobs pulled: they may be private.
        @raise StoreError: the manifest is damaged.
        """
        tagged = self._store.catalog.tag(repository, tag)
        if tagged is not None:
            manifest = await self.manifest(repository, tagged.digest, images)
            if manifest is not None:
                return KnownTag(manifest, tagged.checked, tagged.checked)
        image = self._store.images.get(Reference(repository, tag)) if images else None
        if image is None:
            return None
        for digest in (image.resolved, image.manifest.digest):
            manifest = await self.manifest(repository, digest, images)
            if manifest is not None:
                return KnownTag(manifest, None, _created(image))
        return None

    async def manifest(self, repository: Repository, digest: Digest, images: bool) -> KnownManifest | None:
        """
        A manifest or an index, if it is in the store.

        @param images: see L{tag}.
        @raise StoreError: it is damaged.
        """
        blobs = self._store.blobs
        if not blobs.has(digest):
            return None
        entry = self._store.catalog.manifest(repository, digest)
        if entry is not None:
            data = await blobs.read(digest)
            return KnownManifest(Document(entry.descriptor.media_type, data, digest), entry)
        found = (digest in (image.resolved, image.manifest.digest) for image in self._images(repository))
        if not images or not any(found):
            return None
        data = await blobs.read(digest)
        document = Document(document_type(data), data, digest)
        return KnownManifest(document, catalog_entry(document))

    def blob(self, repository: Repository, digest: Digest, images: bool) -> Descriptor | None:
        """
        A blob that a known manifest names.  Its bytes may not be in the store.

        @param images: see L{tag}.
        """
        found = self._store.catalog.blob(repository, digest)
        if found is not None or not images:
            return found
        for image in self._images(repository):
            for blob in (image.config, *image.layers):
                if blob.digest == digest:
                    return blob
        return None

    def is_of_image(self, repository: Repository, digest: Digest) -> bool:
        """
        Whether an image of this name has a blob.
        """
        images = self._images(repository)
        return any(digest == blob.digest for image in images for blob in (image.config, *image.layers))

    def is_complete(self, repository: Repository, entry: CatalogManifest) -> bool:
        """
        Whether a client that reads a manifest finds in the store what it reads next:
        all blobs, or of an index those of at least one manifest.
        """
        has = self._store.blobs.has
        if not all(has(blob.digest) for blob in entry.blobs if not blob.is_foreign):
            return False
        if not entry.manifests:
            return True
        children = (self._store.catalog.manifest(repository, child.digest) for child in entry.manifests)
        complete = any(
            child is not None and has(child.descriptor.digest) and self.is_complete(repository, child)
            for child in children
        )
        return complete or any(
            image.resolved == entry.descriptor.digest
            and all(has(part.digest) for part in (image.manifest, image.config, *image.layers))
            for image in self._images(repository)
        )

    def _images(self, repository: Repository) -> Iterator[Image]:
        return (image for image in self._store.images.all() if image.reference.repository == repository)


def _created(image: Image) -> float:
    """
    When the name of an image was set, in seconds since the epoch.
    """
    try:
        return from_rfc3339(image.created)
    except ValueError:
        return -inf
