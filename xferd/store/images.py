# -*- test-case-name: tests.store.test_images -*-
"""
The named images, which are the entries of C{content/index.json}.

The name is where every other tool looks for it, in the annotation
C{org.opencontainers.image.ref.name}; what else xferd must remember of an image
is in annotations beside it.  An image that came with a manifest of Docker's
has two entries: the manifest as it came, and under the name the same in OCI's
words, which is all that other tools look at.  Entries that other tools made
stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from typing import Any

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import BadDigest, NotFound, StoreError, XferdError
from xferd.interfaces import IImages, Image
from xferd.names import Digest, Reference, Repository
from xferd.oci import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor, Document, Manifest, parse_document
from xferd.store.blobs import Blobs, read_document, write_document
from xferd.store.disk import trying_to, write_file
from xferd.store.layers import Layers
from xferd.store.paths import Paths
from xferd.store.rendition import render
from xferd.store.reserve import Reserve
from xferd.store.threads import Rounds, Threads
from xferd.store.uses import Uses

_NAME = "org.opencontainers.image.ref.name"
_RESOLVED = "dev.xferd.resolved"
_CREATED = "dev.xferd.created"
_CHAIN_ID = "dev.xferd.chain-id"
_ORIGIN = "dev.xferd.origin"
_DOCKER_NAME = "dev.xferd.name"
"""The name of an image on the entry of its Docker manifest."""
_RENDITION_OF = "dev.xferd.rendition-of"
"""The digest of that manifest, on the entry beside it."""
_OURS = (_NAME, _RESOLVED, _CREATED, _CHAIN_ID, _ORIGIN, _DOCKER_NAME)


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
        uses: Uses,
        reserve: Reserve,
    ) -> None:
        """
        @param reserve: what a change of names uses when the disk is full.
        """
        self._paths = paths
        self._reserve = reserve
        self._uses = uses
        self._threads = threads
        self._blobs = blobs
        self._layers = layers
        self._images: dict[Reference, Image] = {}
        self._lost: set[str] = set()
        self._renditions: Mapping[Digest, Digest] = {}
        self._writes: Rounds[tuple[Reference, Image | None]] = Rounds(
            lambda batch: Deferred.fromCoroutine(self._write(batch))
        )

    async def load(self) -> None:
        """
        Learn what is on disk.  An image of which a part is gone is not listed;
        its entry stays for the operator to see, until the name is given anew.
        """
        images, lost, self._renditions = await self._threads.run(_load, self._paths)
        for image in images:
            try:
                self._check(image)
            except StoreError as e:
                lost.append((str(image.reference), str(e)))
            else:
                self._images[image.reference] = image
        self._lost = {name for name, _ in lost}
        for name, why in lost:
            self._log.error("{name} is no longer a whole image: {why}; pull it again", name=name, why=why)

    def all(self) -> Sequence[Image]:
        """
        See L{IImages.all}.
        """
        return sorted(self._images.values(), key=lambda image: str(image.reference))

    def get(self, reference: Reference) -> Image | None:
        """
        See L{IImages.get}.
        """
        image = self._images.get(reference)
        if image is not None:
            self._uses.touch(*image.parts)
        return image

    def put(self, image: Image) -> Deferred[None]:
        """
        See L{IImages.put}.  Cancelling waits for the disk.
        """
        return Deferred.fromCoroutine(self._put(image))

    def remove(self, reference: Reference) -> Deferred[None]:
        """
        See L{IImages.remove}.  Cancelling waits for the disk.
        """
        return Deferred.fromCoroutine(self._remove(reference))

    def settled(self) -> Deferred[None]:
        """
        Wait until no name is being given or taken away.
        """
        return Deferred.fromCoroutine(self._writes.drain())

    def roots(self) -> Set[Digest]:
        """
        The digests of all that the names stand for: documents, blobs, and the
        chain IDs of top layers.
        """
        found = {digest for image in self._images.values() for digest in image.parts}
        found.update(self._renditions.values())
        return found

    async def _put(self, image: Image) -> None:
        self._check(image)
        await self._writes.add((image.reference, image))

    async def _remove(self, reference: Reference) -> None:
        if reference not in self._images and str(reference) not in self._lost:
            raise NotFound(f"there is no image {reference.familiar()} in the store")
        await self._writes.add((reference, None))

    async def _write(self, batch: Sequence[tuple[Reference, Image | None]]) -> None:
        changed = dict(batch)
        images = {k: v for k, v in {**self._images, **changed}.items() if v is not None}
        removed = {str(reference) for reference, image in changed.items() if image is None}
        self._renditions = await self._threads.run(
            self._reserve.spend, _write, self._paths, list(images.values()), removed
        )
        self._images = images
        self._lost -= {str(reference) for reference in changed}

    def _check(self, image: Image) -> None:
        """
        Make sure that all is here that an image's name stands for.

        @raise StoreError: something is not.
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
    An entry of the index that is an image of ours, as far as it can be read
    without other files.
    """

    reference: Reference
    manifest: Descriptor
    resolved: Digest
    chain_id: Digest | None
    created: str
    origin: Repository | None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> _Entry:
        """
        Read an entry.

        @raise XferdError: it is damaged.
        """
        manifest = Descriptor.from_json(value, "the entry of the index")
        notes = manifest.annotations
        chain_id, origin = notes.get(_CHAIN_ID), notes.get(_ORIGIN)
        return cls(
            Reference.parse(notes.get(_DOCKER_NAME, notes.get(_NAME, ""))),
            evolve(manifest, annotations={k: v for k, v in notes.items() if k not in _OURS}),
            Digest.parse(notes[_RESOLVED]),
            None if chain_id is None else Digest.parse(chain_id),
            notes.get(_CREATED, ""),
            None if origin is None else Reference.parse(origin).repository,
        )


def read_index(paths: Paths) -> dict[str, Any]:
    """
    Read C{index.json}; an empty one if there is none.  Blocking.

    @raise StoreError: it is damaged.  As it is only ever replaced whole, that
        is for the operator to look into.
    """
    try:
        with open(paths.index, "rb") as file:
            value = json.loads(file.read())
        entries = value["manifests"]
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise TypeError("manifests is no list of descriptors")
    except FileNotFoundError:
        return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    except (ValueError, KeyError, TypeError) as e:
        raise StoreError(
            f"{paths.index} is damaged ({e}); restore it, or remove it to start without "
            "names: images that are pulled again find their layers here"
        ) from e
    except OSError as e:
        raise StoreError(f"cannot read {paths.index}: {e.strerror}") from e
    assert isinstance(value, dict)
    return value


def write_index(paths: Paths, index: Mapping[str, Any]) -> None:
    """
    Write C{index.json}.  Blocking.

    @raise StoreError: the disk refuses.
    """
    with trying_to(f"write {paths.index}"):
        write_file(paths.index, json.dumps(index, indent=2).encode(), paths.staging)


def _write(paths: Paths, images: Sequence[Image], removed: Set[str]) -> Mapping[Digest, Digest]:
    """
    Write all images of ours, and keep what others wrote in the meantime.

    @param removed: names that are ours no longer.
    @return: the renditions of Docker's manifests.
    """
    index = read_index(paths)
    names = {str(image.reference) for image in images}
    entries = [
        entry
        for entry in index["manifests"]
        if _name(entry) not in names and not (_is_ours(entry) and _name(entry) in removed)
    ]
    known = {_annotations(entry).get(_RENDITION_OF): entry for entry in index["manifests"]}
    for image in images:
        entries.append(_entry(image))
        if image.manifest.media_type == DOCKER_MANIFEST:
            rendition = known.get(str(image.manifest.digest)) or _render(paths, image.manifest)
            entries.append(_noted(rendition, {_NAME: str(image.reference)}))
    write_index(paths, {**index, "manifests": entries})
    return _renditions(entries)


def _renditions(entries: Sequence[Mapping[str, Any]]) -> Mapping[Digest, Digest]:
    """
    The renditions that an index names, by the digests of Docker's manifests.
    """
    found = {}
    for entry in entries:
        try:
            found[Digest.parse(str(_annotations(entry).get(_RENDITION_OF)))] = Digest.parse(
                str(entry["digest"])
            )
        except (BadDigest, KeyError):
            continue
    return found


def _is_ours(entry: Mapping[str, Any]) -> bool:
    return not {_RESOLVED, _RENDITION_OF}.isdisjoint(_annotations(entry))


def _render(paths: Paths, manifest: Descriptor) -> dict[str, Any]:
    """
    Put a Docker manifest into the store a second time, in OCI's words.

    @return: the entry, which has no name yet.
    """
    data = render(read_document(paths, manifest.digest))
    digest = Digest.of(data, manifest.digest.algorithm)
    write_document(paths, digest, data)
    entry = evolve(manifest, media_type=OCI_MANIFEST, digest=digest, size=len(data)).to_json()
    return _noted(entry, {_RENDITION_OF: str(manifest.digest)})


def _noted(entry: Mapping[str, Any], notes: Mapping[str, str]) -> dict[str, Any]:
    return {**entry, "annotations": {**_annotations(entry), **notes}}


def _entry(image: Image) -> dict[str, Any]:
    notes = {
        **image.manifest.annotations,
        _DOCKER_NAME if image.manifest.media_type == DOCKER_MANIFEST else _NAME: str(image.reference),
        _RESOLVED: str(image.resolved),
        _CREATED: image.created,
    }
    if image.chain_id is not None:
        notes[_CHAIN_ID] = str(image.chain_id)
    if image.origin is not None:
        notes[_ORIGIN] = str(image.origin)
    return evolve(image.manifest, annotations=notes).to_json()


def _annotations(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    found = entry.get("annotations")
    return found if isinstance(found, dict) else {}


def _name(entry: Mapping[str, Any]) -> object:
    notes = _annotations(entry)
    return notes.get(_DOCKER_NAME, notes.get(_NAME))


def _load(paths: Paths) -> tuple[list[Image], list[tuple[str, str]], Mapping[Digest, Digest]]:
    """
    Read the images of ours.

    @return: those that can be read, names with what is wrong with others, and
        the renditions of Docker's manifests.
    """
    images = []
    lost = []
    entries = read_index(paths)["manifests"]
    for value in entries:
        if _RESOLVED in _annotations(value):
            try:
                images.append(_image(paths, _Entry.from_json(value)))
            except XferdError as e:
                lost.append((str(_name(value)), str(e)))
    return images, lost, _renditions(entries)


def _image(paths: Paths, entry: _Entry) -> Image:
    """
    Complete an image from its manifest.

    @raise XferdError: that is not here, or no manifest.
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
    )
