# -*- test-case-name: tests.store.images.test_images -*-
"""
The named images, which are the entries of C{content/index.json}.

The name is in the annotation C{org.opencontainers.image.ref.name}, where other
tools expect it; further properties of an image are in annotations beside it.
An image with a Docker manifest has two entries: the original manifest, and under
the name its OCI form, the only one that other tools accept.  Entries of other
tools stay unchanged.

A pin is one of these annotations, not a record of the journal: it belongs to the
name, is written with it, and survives the loss of the journal.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence, Set
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from attrs import evolve, fields, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import NotFound, StoreError, XferdError
from xferd.interfaces.store import IImages, Image
from xferd.names import Digest, Reference, Repository
from xferd.oci import Descriptor, Document, Manifest, parse_document
from xferd.store.batches import Batches
from xferd.store.blobs.blobs import Blobs, read_document
from xferd.store.disk.reserve import Reserve
from xferd.store.images.index_file import (
    CHAIN_ID,
    CREATED,
    DOCKER_NAME,
    NAME,
    ORIGIN,
    PINNED,
    PULLED,
    RESOLVED,
    IndexFile,
    name_of,
    notes_of,
    read_index,
)
from xferd.store.images.last_used import LastUsed
from xferd.store.layers import Layers
from xferd.store.leases import Leases
from xferd.store.paths import Paths
from xferd.store.threads import Threads

RECENT: Final = 1.0
"""Seconds for which an image that is given its name again keeps the time of the first."""

_NOT_CONTENT = ("reference", "created", "pulled", "pinned")
_content = attrgetter(*(a.name for a in fields(Image) if a.name not in _NOT_CONTENT))

_OURS = (NAME, RESOLVED, CREATED, PULLED, CHAIN_ID, ORIGIN, PINNED, DOCKER_NAME)


@implementer(IImages)
class Images:
    """
    The named images of a data directory.
    """

    _log = Logger()

    def __init__(
        self,
        paths: Paths,
        threads: Threads,
        *,
        blobs: Blobs,
        layers: Layers,
        leases: Leases,
        reserve: Reserve,
        last_used: LastUsed,
    ) -> None:
        """
        @param reserve: used by changes of names when the disk is full.
        @param last_used: records each image that is requested or named.
        """
        self._last_used = last_used
        self._paths = paths
        self._reserve = reserve
        self._leases = leases
        self._threads = threads
        self._blobs = blobs
        self._layers = layers
        self._index = IndexFile(paths)
        self._images: dict[Reference, Image] = {}
        # The same in the order of their names.
        self._names: list[str] = []
        self._sorted: list[Image] = []
        self._lost: set[str] = set()
        # The names that were set since layers last changed.
        self._current: set[Reference] = set()
        self._roots: set[Digest] | None = None
        self._followers: list[tuple[Callable[[], object], Callable[[], Deferred[None]]]] = []
        self._writes: Batches[tuple[Reference, Image | bool | None]] = Batches(
            lambda batch: Deferred.fromCoroutine(self._write(batch))
        )

    async def load(self) -> None:
        """
        Read the index.  An image with a missing part is not listed; its entry
        stays for the operator to see, until the name is set again.
        """
        images, lost = await self._threads.run(_load, self._paths)
        for image in images:
            try:
                self._check(image)
            except StoreError as e:
                lost.append((str(image.reference), str(e)))
            else:
                self._images[image.reference] = image
        self._sorted = sorted(self._images.values(), key=lambda image: str(image.reference))
        self._names = [str(image.reference) for image in self._sorted]
        self._lost = {name for name, _ in lost}
        await self._threads.run(self._index.read, self._images)
        for name, why in lost:
            self._log.error("{name} is no longer a whole image: {why}; pull it again", name=name, why=why)

    def all(self) -> Sequence[Image]:
        return list(self._sorted)

    def get(self, reference: Reference) -> Image | None:
        image = self._images.get(reference)
        if image is not None:
            self._leases.touch(*image.parts)
            self._last_used.note(reference)
        return image

    def peek(self, reference: Reference) -> Image | None:
        return self._images.get(reference)

    def follow(self, changed: Callable[[], object], settled: Callable[[], Deferred[None]]) -> None:
        self._followers.append((changed, settled))

    def layers_changed(self) -> Deferred[None]:
        """
        Cancelling ends the wait.
        """
        self._current.clear()
        self._report()
        return Deferred.fromCoroutine(self._settle())

    def put(self, image: Image) -> Deferred[Image]:
        """
        Cancelling waits for the disk.
        """
        return Deferred.fromCoroutine(self._put(image))

    def pin(self, reference: Reference, pinned: bool) -> Deferred[Image]:
        """
        Cancelling waits for the disk.
        """
        return Deferred.fromCoroutine(self._pin(reference, pinned))

    def remove(self, reference: Reference) -> Deferred[None]:
        """
        Cancelling waits for the disk.
        """
        return Deferred.fromCoroutine(self._remove(reference))

    def settled(self) -> Deferred[None]:
        """
        Wait until no change of names is being written.
        """
        return Deferred.fromCoroutine(self._writes.drain())

    def roots(self, without: Set[Reference] = frozenset()) -> Set[Digest]:
        """
        The digests that the images refer to: documents, blobs, and the chain IDs
        of top layers.  They are found again after a name has changed only.

        @param without: the names of images that do not count.
        """
        if without:
            images = [image for image in self._images.values() if image.reference not in without]
            named = {image.manifest.digest for image in images}
            renditions = self._index.renditions().items()
            return {digest for image in images for digest in image.parts} | {
                rendition for manifest, rendition in renditions if manifest in named
            }
        if self._roots is None:
            self._roots = {digest for image in self._images.values() for digest in image.parts}
            self._roots.update(self._index.renditions().values())
        return self._roots

    async def _put(self, image: Image) -> Image:
        self._check(image)
        if self._is_named(image):
            self._last_used.note(image.reference)
        else:
            await self._writes.add((image.reference, image))
        await self._settle()
        # Another one if the name was removed or set again meanwhile.
        return self._images.get(image.reference, image)

    def _is_named(self, image: Image) -> bool:
        """
        Whether an image was given its name less than L{RECENT} seconds before, no layers have changed
        since, and no change of names is being written: clients pull the same image at the same time.
        """
        present = self._images.get(image.reference)
        if present is None or image.reference not in self._current or not self._writes.idle:
            return False
        if _content(image) != _content(present) or (image.pinned and not present.pinned):
            return False
        try:
            age = datetime.fromisoformat(image.created) - datetime.fromisoformat(present.created)
            return 0.0 <= age.total_seconds() < RECENT
        except (ValueError, TypeError):
            return False

    async def _settle(self) -> None:
        """
        Wait for those that follow the names.
        """
        for _, settled in self._followers:
            await settled()

    def _report(self) -> None:
        for changed, _ in self._followers:
            changed()

    async def _pin(self, reference: Reference, pinned: bool) -> Image:
        await self._writes.add((reference, pinned))
        image = self._images.get(reference)
        if image is None:
            raise NotFound(f"there is no image {reference.familiar()} in the store")
        return image

    async def _remove(self, reference: Reference) -> None:
        if reference not in self._images and str(reference) not in self._lost:
            raise NotFound(f"there is no image {reference.familiar()} in the store")
        await self._writes.add((reference, None))

    async def _write(self, batch: Sequence[tuple[Reference, Image | bool | None]]) -> None:
        """
        @param batch: the images by their new names; L{None} removes a name, and
            a boolean pins or unpins it.
        """
        changes: dict[Reference, Image | None] = {}
        for reference, wanted in batch:
            present = changes.get(reference, self._images.get(reference))
            if isinstance(wanted, bool):
                if present is not None:
                    changes[reference] = evolve(present, pinned=wanted)
            elif wanted is None:
                changes[reference] = None
            else:
                # A name stays pinned when it is set to another image.
                pinned = wanted.pinned or (present is not None and present.pinned)
                changes[reference] = evolve(wanted, pinned=pinned)
        if not changes:
            return
        await self._threads.run(self._reserve.spend, self._index.write, changes, self._images)
        self._roots = None
        for reference, image in changes.items():
            self._set(reference, image)
        for reference, wanted in batch:
            if wanted is None:
                self._last_used.forget(reference)
                self._current.discard(reference)
            elif not isinstance(wanted, bool):
                self._last_used.note(reference)
                self._current.add(reference)
        self._report()

    def _set(self, reference: Reference, image: Image | None) -> None:
        name = str(reference)
        at = bisect_left(self._names, name)
        there = self._names[at : at + 1] == [name]
        if image is None:
            del self._names[at : at + there], self._sorted[at : at + there]
            self._images.pop(reference, None)
        else:
            self._names[at : at + there], self._sorted[at : at + there] = [name], [image]
            self._images[reference] = image
        self._lost.discard(name)

    def _check(self, image: Image) -> None:
        """
        Check that all parts of an image are in the store.

        @raise StoreError: a part is missing.
        """
        for what, descriptor in (("manifest", image.manifest), ("config", image.config)):
            if not self._blobs.has(descriptor.digest):
                raise StoreError(f"the {what} {descriptor.digest} of {image.reference} is not here")
        registered = 0 if image.chain_id is None else self._layers.depth(image.chain_id)
        if registered == len(image.layers):
            return
        for layer in image.layers:
            if not self._blobs.has(layer.digest):
                raise StoreError(f"the layer {layer.digest} of {image.reference} is not here")


@frozen
class _Entry:
    """
    The entry of one of xferd's images in the index.
    """

    reference: Reference
    manifest: Descriptor
    resolved: Digest
    chain_id: Digest | None
    created: str
    origin: Repository | None
    pinned: bool
    pulled: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> _Entry:
        """
        Read an entry.

        @raise XferdError: it is damaged.
        """
        manifest = Descriptor.from_json(value, "the entry of the index")
        notes = manifest.annotations
        chain_id, origin = notes.get(CHAIN_ID), notes.get(ORIGIN)
        return cls(
            Reference.parse(notes.get(DOCKER_NAME, notes.get(NAME, ""))),
            evolve(manifest, annotations={k: v for k, v in notes.items() if k not in _OURS}),
            Digest.parse(notes[RESOLVED]),
            None if chain_id is None else Digest.parse(chain_id),
            notes.get(CREATED, ""),
            None if origin is None else Reference.parse(origin).repository,
            notes.get(PINNED) == "true",
            notes.get(PULLED, ""),
        )


def _load(paths: Paths) -> tuple[list[Image], list[tuple[str, str]]]:
    """
    Read xferd's images.

    @return: the readable ones, and the names of others, each with the error.
    """
    images = []
    lost = []
    for value in read_index(paths)["manifests"]:
        if RESOLVED in notes_of(value):
            try:
                images.append(_image(paths, _Entry.from_json(value)))
            except XferdError as e:
                lost.append((str(name_of(value)), str(e)))
    return images, lost


def _image(paths: Paths, entry: _Entry) -> Image:
    """
    Read the manifest of an entry, and make the image of both.

    @raise XferdError: the manifest is missing or invalid.
    """
    data = read_document(paths, entry.manifest.digest)
    manifest = parse_document(Document(entry.manifest.media_type, data, entry.manifest.digest))
    if not isinstance(manifest, Manifest):
        raise StoreError(f"{entry.manifest.digest} is an index, not an image")
    return Image(
        reference=entry.reference,
        manifest=entry.manifest,
        config=manifest.config,
        resolved=entry.resolved,
        layers=manifest.layers,
        chain_id=entry.chain_id,
        size=entry.manifest.size
        + sum({d.digest: d.size for d in (manifest.config, *manifest.layers)}.values()),
        created=entry.created,
        origin=entry.origin,
        pinned=entry.pinned,
        pulled=entry.pulled,
    )
