# -*- test-case-name: tests.jobs.verify.test_verify -*-
"""
What a verification checks, with the places that it came from.

What is added is kept from the garbage collector for the leases that are held then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from xferd.interfaces.catalog import LOCAL_HOST
from xferd.interfaces.store import Image, IStore
from xferd.names import Digest, Repository
from xferd.oci import Descriptor

STEP: Final = 50
"""Images, manifests or layers that are added in one turn of the reactor."""


@define(eq=False)
class Part:
    """
    A blob of the store.

    @ivar blob: its descriptor.  Its size is 0 if it is not known.
    @ivar document: whether it is a manifest or an index.
    @ivar needed: whether its lack is damage.
    @ivar is_here: whether the store had it when it was added.
    @ivar names: the images and repositories that need it.
    @ivar sources: the repositories to fetch it from, the best one first.
    """

    blob: Descriptor
    document: bool = False
    needed: bool = True
    names: dict[str, None] = field(factory=dict)
    sources: dict[Repository, None] = field(factory=dict)
    is_here: bool = False


@define(eq=False)
class TreePart:
    """
    A tree of the store.

    @ivar diff_id: its diff ID.
    @ivar size: the bytes in its files.
    @ivar blobs: the blobs that unpack to it.
    @ivar names: what needs it.
    @ivar sources: the repositories to fetch the blobs from.
    """

    diff_id: Digest
    size: int
    blobs: dict[Digest, Descriptor] = field(factory=dict)
    names: dict[str, None] = field(factory=dict)
    sources: dict[Repository, None] = field(factory=dict)


class Inventory:
    """
    The blobs that images and repositories need, and the trees of layers, each once.
    """

    def __init__(self, store: IStore) -> None:
        self._store = store
        self._parts: dict[Digest, Part] = {}
        self._trees: dict[Digest, TreePart] = {}

    def add_image(self, image: Image) -> None:
        """
        Add the parts of an image.
        """
        name, source = image.reference.familiar(), image.source
        self._add(image.manifest, name, source, document=True)
        self._add(image.config, name, source)
        for layer in image.layers:
            self._add(layer, name, source)
        if image.chain_id is not None:
            self._add_chain(image.chain_id, name, source)
        if image.resolved != image.manifest.digest:
            # An archive may bring an image without the index that names it.
            index = Descriptor("application/octet-stream", image.resolved, 0)
            self._add(index, name, source, document=True, needed=False)

    def add_all(self) -> Iterator[None]:
        """
        Add everything, a little with each step: images, what the repositories of the
        registry have, and the layers that no image has.
        """
        for image in self._store.images.all():
            self.add_image(image)
            yield
        yield from self._add_catalog()
        yield from self._add_layers()

    def _add_catalog(self) -> Iterator[None]:
        # Of an index that clients read, other platforms may never have been fetched.
        catalog = self._store.catalog
        for repository in catalog.repositories():
            for manifest in catalog.manifests(repository):
                name = f"{repository}@{manifest.descriptor.digest}"
                self._add(manifest.descriptor, name, repository, document=True, needed=False)
                for blob in manifest.blobs:
                    self._add(blob, name, repository, needed=False)
                yield

    def _add_layers(self) -> Iterator[None]:
        # Container engines need them.
        for chain_id in list(self._store.layers.chain_ids()):
            for name in self._store.gc.used_by(chain_id):
                self._add_chain(chain_id, name)
            stack = self._store.layers.stack(chain_id)
            if stack and stack[-1].diff_id not in self._trees:
                self._add_chain(chain_id, f"layer {chain_id}")
            yield

    def parts(self) -> Sequence[Part]:
        """
        The parts, documents first.
        """
        return sorted(self._parts.values(), key=lambda part: not part.document)

    def trees(self) -> Sequence[TreePart]:
        """
        The trees.
        """
        return list(self._trees.values())

    def _add_chain(self, chain_id: Digest, name: str, source: Repository | None = None) -> None:
        layers = self._store.layers
        for layer in layers.stack(chain_id):
            # Both are kept for the lease.
            layers.get(layer.chain_id)
            self._store.trees.has(layer.diff_id)
            part = self._trees.setdefault(layer.diff_id, TreePart(layer.diff_id, layer.size))
            part.names[name] = None
            for blob in layers.blobs_of(layer.chain_id):
                part.blobs[blob.digest] = blob
                self._add_sources(part, source, blob.digest)

    def _add(
        self, blob: Descriptor, name: str, source: Repository, *, document: bool = False, needed: bool = True
    ) -> None:
        part = self._parts.get(blob.digest)
        if part is None:
            part = self._parts[blob.digest] = Part(blob, document, needed)
            part.is_here = self._store.blobs.has(blob.digest)
        part.needed = part.needed or needed
        part.names[name] = None
        self._add_sources(part, source, blob.digest)

    def _add_sources(self, part: Part | TreePart, source: Repository | None, blob: Digest) -> None:
        """
        Add the repositories from which a blob can be fetched: those of this daemon's own
        registry have it from the store.
        """
        for repository in (source, *self._store.catalog.holders(blob)):
            if repository is not None and repository.host != LOCAL_HOST:
                part.sources[repository] = None


async def take_stock(store: IStore, clock: IReactorTime) -> Inventory:
    """
    Make an inventory of everything, over several turns of the reactor.
    """
    inventory = Inventory(store)
    for number, _ in enumerate(inventory.add_all(), 1):
        if number % STEP == 0:
            await deferLater(clock, 0)
    return inventory
