# -*- test-case-name: tests.archive.test_contents -*-
"""
Finds the images in an archive by its content.

There are two forms, and an archive may have both:

  - An OCI image layout (OCI image-spec, "Image Layout"): C{oci-layout},
    C{index.json} and C{blobs/}.
  - The form of C{docker save}: C{manifest.json}, which lists for each image the
    paths of a config and of the layers' tars.

The layout is preferred, since it has the original manifests, whose digests
registries know, unless only C{manifest.json} has names.

Pure.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from attrs import evolve, field, frozen

from xferd.archive.tar_splitter import clean_name
from xferd.compression import compression_of
from xferd.errors import BadArchive, BadDigest, BadDocument, BadInput, BadReference, XferdError
from xferd.media_types import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from xferd.names import Digest, Reference
from xferd.oci import MAX_LAYERS, Descriptor, Document, Index, check_extent, parse_document
from xferd.unpack.limits import printable

LAYOUT: Final = "oci-layout"
INDEX: Final = "index.json"
DOCKER: Final = "manifest.json"
DOCUMENTS: Final = frozenset({LAYOUT, INDEX, DOCKER})
"""The files that identify the forms."""

NAME: Final = "org.opencontainers.image.ref.name"
FULL_NAME: Final = "io.containerd.image.name"
"""The annotation of containerd and docker for the full name; L{NAME} is the tag then."""

RENDITION_OF: Final = "dev.xferd.rendition-of"
"""The digest of the Docker manifest of which an entry is OCI's form, as in xferd's own store."""

DOCKER_NAME: Final = "dev.xferd.name"
"""The annotation of a Docker manifest's entry in xferd's own store, beside that of its OCI form."""

MAX_IMAGES: Final = 1000
MAX_NAMES: Final = 256 * 1024
"""Bytes of the full names of all images, at most: the job that imports them lists them."""

_NAME: Final = len("docker.io/library/:t")
"""Bytes of a full name, at least."""

_MAX_LINKS: Final = 8
_LISTED: Final = 20
_SHOWN: Final = 300
"""Images to name in an error, and the characters of all their names."""

_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_COMPRESSED: Final = {"gzip": f"{_LAYER}+gzip", "zstd": f"{_LAYER}+zstd"}


@frozen
class StoredFile:
    """
    A file of an archive that has been written to the store.

    @ivar digest: the digest of its bytes.
    @ivar size: the number of its bytes.
    @ivar head: the first four of them.
    """

    digest: Digest
    size: int
    head: bytes = b""


@frozen
class FoundImage:
    """
    An image in an archive.

    @ivar names: its full names in the archive.
    @ivar tag: its tag in the archive, if it has no full name.
    @ivar entries: its manifest, an index, or several of these for several
        platforms.
    @ivar made: the manifest that was made here because the archive has none.
    @ivar original: the digest of the Docker manifest of which the entry is the
        OCI form.
    """

    names: tuple[Reference, ...]
    tag: str | None
    entries: tuple[Descriptor, ...]
    made: Document | None = field(default=None, eq=False)
    original: Digest | None = None


class Contents:
    """
    The content of an archive.

    @ivar documents: the files of L{DOCUMENTS} in it, by name.
    @ivar files: all other files, by name.
    @ivar links: links to files, by name.
    """

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.files: dict[str, StoredFile] = {}
        self.links: dict[str, str] = {}

    def to_json(self) -> dict[str, Any]:
        """
        The content as values for JSON.
        """
        return {
            "documents": {name: b64encode(data).decode("ascii") for name, data in self.documents.items()},
            "files": {name: [str(f.digest), f.size, f.head.hex()] for name, f in self.files.items()},
            "links": dict(self.links),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Contents:
        """
        Read what L{to_json} has returned.
        """
        contents = cls()
        contents.documents = {name: b64decode(data) for name, data in values["documents"].items()}
        contents.files = {
            name: StoredFile(Digest.parse(digest), size, bytes.fromhex(head))
            for name, (digest, size, head) in values["files"].items()
        }
        contents.links = dict(values["links"])
        return contents

    def images(self) -> list[FoundImage]:
        """
        The images in it.

        @raise BadArchive: it is not an archive of images, or lacks files that it
            lists.
        @raise BadDocument: one of its documents violates its specification.
        """
        layout, docker = self.documents.get(INDEX), self.documents.get(DOCKER)
        if layout is not None and (docker is None or LAYOUT in self.documents):
            found = _from_layout(self.documents.get(LAYOUT), layout)
            if docker is None or any(image.names for image in found):
                return found
        if docker is None:
            raise BadArchive(
                "this is no archive of images: it has neither an index.json, as OCI layouts have, "
                "nor a manifest.json, as 'docker save' writes it"
            )
        return self._from_docker(docker)

    def _from_docker(self, data: bytes) -> list[FoundImage]:
        """
        Read C{manifest.json}.
        """
        value = _parse(data, DOCKER)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise BadDocument(f"the archive's {DOCKER} is not a list of images")
        if len(value) > MAX_IMAGES:
            raise BadArchive(f"the archive has more than {MAX_IMAGES} images")
        return _merged(self._docker_image(item) for item in value)

    def _docker_image(self, item: Mapping[str, Any]) -> FoundImage:
        """
        Read one image of C{manifest.json}, and make an OCI manifest for it.
        """
        config = item.get("Config")
        # Go writes null for an empty list.
        layers, tags = ([] if item.get(k) is None else item[k] for k in ("Layers", "RepoTags"))
        if not isinstance(config, str) or not _are_texts(layers) or not _are_texts(tags):
            raise BadDocument(f"an image in the archive's {DOCKER} has no valid Config, Layers or RepoTags")
        if len(layers) > MAX_LAYERS:
            raise BadArchive(f"an image in the archive has more than {MAX_LAYERS} layers")
        _check_names(sum(max(_NAME, len(tag)) for tag in tags))
        kept = self._kept(config)
        stack = [self._kept(layer) for layer in layers]
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": Descriptor(OCI_CONFIG, kept.digest, kept.size).to_json(),
            "layers": [
                Descriptor(_COMPRESSED.get(compression_of(k.head), _LAYER), k.digest, k.size).to_json()
                for k in stack
            ],
        }
        data = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode()
        made = Document.verified(OCI_MANIFEST, data)
        names = tuple(name for tag in tags if (name := _name(tag)) is not None)
        return FoundImage(names, None, (made.descriptor,), made)

    def _kept(self, path: str) -> StoredFile:
        """
        The file of a path in C{manifest.json}.

        @raise BadArchive: it is not in the archive.
        """
        name = clean_name(path.encode("utf-8", "replace"))
        for _ in range(_MAX_LINKS):
            if name in self.files:
                return self.files[name]
            if name not in self.links:
                break
            name = self.links[name]
        raise BadArchive(f"the archive names a file {printable(name.encode())} that is not in it")


def choose_images(
    found: Sequence[FoundImage], wanted: Reference | None
) -> list[tuple[FoundImage, tuple[Reference, ...]]]:
    """
    Choose the images to import, and their names.

    @param wanted: a name for the only image, or the name of one of several;
        L{None} chooses all that have names.
    @raise BadInput: the choice is ambiguous, or the image has no name.
    """
    if wanted is None:
        named = [(image, image.names) for image in found if image.names]
        if not named:
            raise BadInput("the archive does not say what its image is called; name it: import PATH REF")
        return named
    if len(found) == 1:
        return [(found[0], (wanted,))]
    for matching in (
        [image for image in found if wanted in image.names],
        [image for image in found if image.tag is not None and image.tag == wanted.tag],
    ):
        if len(matching) == 1:
            return [(matching[0], (wanted,))]
    names = [name.familiar() for image in found for name in image.names]
    names += [printable(image.tag.encode("utf-8", "replace")) for image in found if image.tag is not None]
    listed: list[str] = []
    for name in names:
        if len(listed) == _LISTED or sum(map(len, [*listed, name])) > _SHOWN:
            break
        listed.append(name)
    more = f" and {len(names) - len(listed)} more" if len(names) > len(listed) else ""
    raise BadInput(
        f"the archive has {len(found)} images, none of them {wanted.familiar()}; "
        f"they are: {', '.join(listed) or 'without names'}{more}"
    )


def _from_layout(layout: bytes | None, data: bytes) -> list[FoundImage]:
    """
    Read C{oci-layout} and C{index.json}.
    """
    version = _parse(layout, LAYOUT) if layout is not None else None
    if not isinstance(version, dict) or version.get("imageLayoutVersion") != "1.0.0":
        raise BadDocument(f"the archive has an {INDEX}, but no {LAYOUT} of version 1.0.0 beside it")
    index = parse_document(Document(OCI_INDEX, data, Digest.of(data)))
    assert isinstance(index, Index)
    by_name: dict[object, tuple[FoundImage, list[Descriptor]]] = {}
    for image in (_layout_image(entry) for entry in index.manifests if not _stands_beside(entry)):
        # Entries with the same name are its platforms.
        by_name.setdefault(image.names or image.tag, (image, []))[1].extend(image.entries)
    return _merged(evolve(image, entries=tuple(entries)) for image, entries in by_name.values())


def _stands_beside(entry: Descriptor) -> bool:
    return DOCKER_NAME in entry.annotations and NAME not in entry.annotations


def _layout_image(entry: Descriptor) -> FoundImage:
    """
    Read one entry of C{index.json}.
    """
    notes = entry.annotations
    short = notes.get(NAME, "")
    name = _name(notes.get(FULL_NAME, ""))
    if name is None and ("/" in short or ":" in short):
        name = _name(short)
    try:
        original = Digest.parse(notes.get(RENDITION_OF, ""))
    except BadDigest:
        original = None
    tag = short if name is None and short else None
    return FoundImage(() if name is None else (name,), tag, (evolve(entry, annotations={}),), None, original)


def _merged(found: Iterable[FoundImage]) -> list[FoundImage]:
    """
    Merge images with the same manifest.

    @raise BadArchive: there are too many names.
    """
    merged: dict[tuple[Descriptor, ...], tuple[FoundImage, dict[Reference, None]]] = {}
    size = 0
    for image in found:
        size += sum(len(str(name)) for name in image.names)
        _check_names(size)
        known, names = merged.get(image.entries, (image, {}))
        names.update(dict.fromkeys(image.names))
        merged[image.entries] = (known if known.tag else evolve(known, tag=image.tag)), names
    return [evolve(image, names=tuple(names)) for image, names in merged.values()]


def _check_names(size: int) -> None:
    if size > MAX_NAMES:
        raise BadArchive(f"the archive's images have names of more than {MAX_NAMES} bytes together")


def _name(text: str) -> Reference | None:
    """
    Parse a name in an archive: with a tag, and without a digest.
    """
    try:
        reference = Reference.parse(text)
    except BadReference:
        return None
    return None if reference.tag is None else Reference(reference.repository, reference.tag)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _parse(data: bytes, name: str) -> object:
    """
    Parse a JSON document, and refuse duplicate names in objects.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise BadDocument(f"the archive's {name} has the same name twice in one object")
        return value

    check_extent(data, f"the archive's {name}")
    try:
        value: object = json.loads(data.decode("utf-8"), object_pairs_hook=once)
    except XferdError:
        raise
    except (ValueError, RecursionError) as e:
        raise BadDocument(f"the archive's {name} is not JSON: {e}") from e
    return value
