# -*- test-case-name: tests.store.images.test_index_file,tests.store.images.test_images -*-
"""
C{content/index.json}: the entries of xferd's images, and those of other tools.

A change of some names costs little more than writing the file: entries are
encoded once and kept in blocks, and the file is read again only after another
tool has changed it.  All functions here are blocking.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import evolve, frozen

from xferd.docker_manifest import to_oci_manifest
from xferd.errors import BadDigest, StoreError
from xferd.interfaces.store import Image
from xferd.media_types import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from xferd.names import Digest, Reference
from xferd.oci import Descriptor
from xferd.store.blobs.blobs import read_document, write_document
from xferd.store.disk.file_system import trying_to, write_file
from xferd.store.paths import Paths

NAME: Final = "org.opencontainers.image.ref.name"
RESOLVED: Final = "dev.xferd.resolved"
CREATED: Final = "dev.xferd.created"
PULLED: Final = "dev.xferd.pulled"
CHAIN_ID: Final = "dev.xferd.chain-id"
ORIGIN: Final = "dev.xferd.origin"
PINNED: Final = "dev.xferd.pinned"
DOCKER_NAME: Final = "dev.xferd.name"
"""The name of an image, in the entry of its Docker manifest."""

RENDITION_OF: Final = "dev.xferd.rendition-of"
"""The digest of the Docker manifest, in the entry of its OCI form."""

_BLOCK: Final = 128
"""Entries that are encoded together."""


@frozen
class _Entry:
    """
    An entry, or the two entries of an image with a Docker manifest.

    @ivar text: the entries in JSON.
    @ivar rendition: for a Docker image, the entry of its OCI form, without the
        name.
    @ivar ours: whether xferd has written it.
    """

    name: str
    text: str
    rendition: Mapping[str, Any] | None = None
    ours: bool = True


@frozen
class _Block:
    """
    Entries that are encoded together, and their JSON.
    """

    entries: Mapping[str, _Entry]
    data: bytes

    @classmethod
    def of(cls, entries: Iterable[_Entry]) -> _Block:
        """
        Encode some entries.
        """
        by_name = {entry.name: entry for entry in entries}
        return cls(by_name, ",\n".join(entry.text for entry in by_name.values()).encode("ascii"))


class _Entries:
    """
    The entries of xferd's images.  Immutable: L{with_changes} returns new ones,
    which share the unchanged blocks.
    """

    def __init__(self, blocks: Sequence[_Block] = (), places: Mapping[str, int] | None = None) -> None:
        """
        @param places: the number of each entry's block.
        """
        self._blocks = blocks
        self._places = {} if places is None else places

    def __iter__(self) -> Iterator[_Entry]:
        for block in self._blocks:
            yield from block.entries.values()

    def data(self) -> list[bytes]:
        """
        All blocks of entries in JSON, to be joined by commas.
        """
        return [block.data for block in self._blocks if block.data]

    def with_changes(self, gone: Collection[str], new: Sequence[_Entry]) -> _Entries:
        """
        Remove entries, and append new ones.

        @param gone: the names to remove, including those of the new entries;
            unknown names are ignored.
        """
        blocks, places = list(self._blocks), dict(self._places)
        for number in {places.pop(name) for name in gone if name in places}:
            blocks[number] = _Block.of(e for e in blocks[number].entries.values() if e.name not in gone)
        if len(blocks) * _BLOCK > 4 * (len(places) + len(new) + _BLOCK):
            # Names that keep moving to the end leave blocks nearly empty.
            new = [*(entry for block in blocks for entry in block.entries.values()), *new]
            blocks, places = [], {}
        last = [*blocks.pop().entries.values()] if blocks and len(blocks[-1].entries) < _BLOCK else []
        added = [*last, *new]
        for start in range(0, len(added), _BLOCK):
            some = added[start : start + _BLOCK]
            places.update(dict.fromkeys((entry.name for entry in some), len(blocks)))
            blocks.append(_Block.of(some))
        return _Entries(blocks, places)


class IndexFile:
    """
    The index of one data directory.  Calls must not overlap.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._signature: tuple[int, ...] | None = None
        self._head: dict[str, Any] = {}
        # Entries of other tools, and those of xferd's images that are incomplete.
        self._others: list[_Entry] = []
        self._ours = _Entries()

    def write(self, changes: Mapping[Reference, Image | None], images: Mapping[Reference, Image]) -> None:
        """
        Set and remove names, and keep the entries of other tools.

        @param changes: the images by their new names; L{None} removes a name.
        @param images: the images before the changes.
        @raise StoreError: the index is damaged, or the disk refuses.
        """
        if self._signature is None or self._signature != _signature(self._paths.index):
            self.read(images)
        names = {str(reference): image for reference, image in changes.items()}
        others = [e for e in self._others if e.name not in names or (names[e.name] is None and not e.ours)]
        new = [image for image in names.values() if image is not None]
        docker = any(image.manifest.media_type == DOCKER_MANIFEST for image in new)
        known = _by_manifest([*others, *self._ours]) if docker else {}
        ours = self._ours.with_changes(names, [self._encode(image, known) for image in new])
        self._write(others, ours)
        self._others, self._ours = others, ours

    def renditions(self) -> Mapping[Digest, Digest]:
        """
        The OCI forms of Docker manifests in the index, by the digests of the
        latter.
        """
        found = {}
        for entry in (*self._others, *self._ours):
            if entry.rendition is not None:
                try:
                    of = Digest.parse(str(notes_of(entry.rendition).get(RENDITION_OF)))
                    found[of] = Digest.parse(str(entry.rendition["digest"]))
                except (BadDigest, KeyError):
                    continue
        return found

    def read(self, images: Mapping[Reference, Image]) -> None:
        """
        Read the file.

        @param images: the complete images.
        @raise StoreError: the index is damaged, or the disk refuses.
        """
        signature = _signature(self._paths.index)
        index = read_index(self._paths)
        known = {notes_of(entry).get(RENDITION_OF): entry for entry in index["manifests"]}
        names = {str(reference): image for reference, image in images.items()}
        others = []
        for value in index["manifests"]:
            name = name_of(value)
            if name not in names:
                rendition = value if RENDITION_OF in notes_of(value) else None
                others.append(_Entry(str(name), json.dumps(value), rendition, is_ours(value)))
        self._ours = _Entries().with_changes((), [self._encode(image, known) for image in names.values()])
        self._others = others
        self._head = {key: value for key, value in index.items() if key != "manifests"}
        self._signature = signature

    def _encode(self, image: Image, known: Mapping[Any, Mapping[str, Any]]) -> _Entry:
        """
        @param known: the OCI forms in the index, by the Docker manifest's digest.
        """
        text = json.dumps(_entry(image))
        if image.manifest.media_type != DOCKER_MANIFEST:
            return _Entry(str(image.reference), text)
        rendition = known.get(str(image.manifest.digest)) or _render(self._paths, image.manifest)
        named = json.dumps(_noted(rendition, {NAME: str(image.reference)}))
        return _Entry(str(image.reference), f"{text},\n{named}", rendition)

    def _write(self, others: list[_Entry], ours: _Entries) -> None:
        head = "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in self._head.items())
        entries = b",\n".join([*(entry.text.encode("ascii") for entry in others), *ours.data()])
        # If writing fails, the file is read again before the next change.
        self._signature = None
        with trying_to(f"write {self._paths.index}"):
            data = b"".join([b"{\n", head.encode("ascii"), b'"manifests": [\n', entries, b"\n]}\n"])
            write_file(self._paths.index, data, self._paths.staging)
            self._signature = _signature(self._paths.index)


def _by_manifest(entries: Iterable[_Entry]) -> dict[Any, Mapping[str, Any]]:
    """
    The entries of OCI forms, by the digests of the Docker manifests.
    """
    renditions = (entry.rendition for entry in entries if entry.rendition is not None)
    return {notes_of(rendition).get(RENDITION_OF): rendition for rendition in renditions}


def read_index(paths: Paths) -> dict[str, Any]:
    """
    Read C{index.json}; an empty index if there is none.

    @raise StoreError: it is damaged.  Since it is replaced atomically, an
        operator has to investigate.
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
    Write C{index.json}.

    @raise StoreError: the disk refuses.
    """
    with trying_to(f"write {paths.index}"):
        write_file(paths.index, json.dumps(index, indent=2).encode(), paths.staging)


def notes_of(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    The annotations of an entry; empty if they are damaged.
    """
    found = entry.get("annotations")
    return found if isinstance(found, dict) else {}


def name_of(entry: Mapping[str, Any]) -> object:
    """
    The image name in an entry, or L{None}.
    """
    notes = notes_of(entry)
    return notes.get(DOCKER_NAME, notes.get(NAME))


def is_ours(entry: Mapping[str, Any]) -> bool:
    """
    Whether xferd has written an entry.
    """
    return not {RESOLVED, RENDITION_OF}.isdisjoint(notes_of(entry))


def _signature(path: str) -> tuple[int, ...] | None:
    """
    A value that changes whenever a file does; L{None} if there is no file.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _entry(image: Image) -> dict[str, Any]:
    notes = {
        **image.manifest.annotations,
        DOCKER_NAME if image.manifest.media_type == DOCKER_MANIFEST else NAME: str(image.reference),
        RESOLVED: str(image.resolved),
        CREATED: image.created,
    }
    if image.chain_id is not None:
        notes[CHAIN_ID] = str(image.chain_id)
    if image.origin is not None:
        notes[ORIGIN] = str(image.origin)
    if image.pulled:
        notes[PULLED] = image.pulled
    if image.pinned:
        notes[PINNED] = "true"
    return evolve(image.manifest, annotations=notes).to_json()


def _render(paths: Paths, manifest: Descriptor) -> dict[str, Any]:
    """
    Write the OCI form of a Docker manifest to the store.

    @return: its entry, without a name.
    """
    data = to_oci_manifest(read_document(paths, manifest.digest))
    digest = Digest.of(data, manifest.digest.algorithm)
    write_document(paths, digest, data)
    entry = evolve(manifest, media_type=OCI_MANIFEST, digest=digest, size=len(data)).to_json()
    return _noted(entry, {RENDITION_OF: str(manifest.digest)})


def _noted(entry: Mapping[str, Any], notes: Mapping[str, str]) -> dict[str, Any]:
    return {**entry, "annotations": {**notes_of(entry), **notes}}
