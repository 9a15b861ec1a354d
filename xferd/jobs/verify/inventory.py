# -*- test-case-name: tests.jobs.verify.test_verify -*-
"""
What a verification checks, with the places that it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import define, field

from xferd.interfaces.catalog import LOCAL_HOST
from xferd.interfaces.store import Image, IStore
from xferd.names import Digest, Repository
from xferd.oci import Descriptor


@define(eq=False)
class Part:
    """
    A blob of the store.

    @ivar blob: its descriptor.  Its size is 0 if it is not known.
    @ivar document: whether it is a manifest or an index.
    @ivar needed: whether its lack is damage.
    @ivar names: the images and repositories that need it.
    @ivar sources: the repositories to fetch it from, the best one first.
    """

    blob: Descriptor
    document: bool = False
    needed: bool = True
    names: dict[str, None] = field(factory=dict)
    sources: dict[Repository, None] = field(factory=dict)


class Inventory:
    """
    The blobs that images and repositories need, each once.
    """

    def __init__(self, store: IStore) -> None:
        self._store = store
        self._parts: dict[Digest, Part] = {}

    def add_image(self, image: Image) -> None:
        """
        Add the parts of an image.
        """
        name, source = image.reference.familiar(), image.source
        self._add(image.manifest, name, source, document=True)
        self._add(image.config, name, source)
        for layer in image.layers:
            self._add(layer, name, source)
        if image.resolved != image.manifest.digest:
            # An archive may bring an image without the index that names it.
            index = Descriptor("application/octet-stream", image.resolved, 0)
            self._add(index, name, source, document=True, needed=False)

    def add_catalog(self) -> None:
        """
        Add what the repositories of the registry have.  Of an index that clients
        read, other platforms may never have been fetched.
        """
        catalog = self._store.catalog
        for repository in catalog.repositories():
            for manifest in catalog.manifests(repository):
                name = f"{repository}@{manifest.descriptor.digest}"
                self._add(manifest.descriptor, name, repository, document=True, needed=False)
                for blob in manifest.blobs:
                    self._add(blob, name, repository, needed=False)

    def parts(self) -> Sequence[Part]:
        """
        The parts, documents first.
        """
        return sorted(self._parts.values(), key=lambda part: not part.document)

    def sources(self, digests: Iterable[Digest]) -> Sequence[Repository]:
        """
        The repositories from which some blobs came.
        """
        return list(
            dict.fromkeys(
                source for each in digests if each in self._parts for source in self._parts[each].sources
            )
        )

    def _add(
        self, blob: Descriptor, name: str, source: Repository, *, document: bool = False, needed: bool = True
    ) -> None:
        part = self._parts.get(blob.digest)
        if part is None:
            part = self._parts[blob.digest] = Part(blob, document, needed)
        part.needed = part.needed or needed
        part.names[name] = None
        if source.host != LOCAL_HOST:
            part.sources[source] = None
        for holder in self._store.catalog.holders(blob.digest):
            if holder.host != LOCAL_HOST:
                part.sources[holder] = None
