# -*- test-case-name: tests.test_oci -*-
"""
The documents of an image: descriptors, manifests and indexes, in OCI's form and
in Docker's.

Pure: bytes in, values or L{BadDocument} out.  What a registry sends is
hostile until it went through here (OCI image-spec v1.1; limits of our own).
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from functools import lru_cache
from typing import Any, Final, NoReturn

from attrs import field, frozen

from xferd.errors import (
    BadDigest,
    BadDocument,
    DigestMismatch,
    UnsupportedImage,
    quoted,
    shown,
)
from xferd.media_types import (
    CONFIGS,
    DOCKER_SCHEMA1,
    FOREIGN,
    INDEXES,
    LAYERS,
    MANIFESTS,
    MISNAMED_CONFIGS,
    OCI_INDEX,
    OCI_MANIFEST,
)
from xferd.names import Digest
from xferd.platforms import Platform

MAX_DOCUMENT: Final = 4 * 1024 * 1024
"""The largest manifest or config, in bytes (distribution-spec: at least 4 MiB)."""

MAX_VALUES: Final = 100_000
"""
The most values that a document may hold, counted by its brackets and commas.
What Python makes of C{{},} is twenty times as large as its text.
"""

MAX_OBJECTS: Final = 20_000
"""The most JSON objects that a document may hold, counted by their braces."""

MAX_TEXT: Final = 8 * 1024 * 1024
"""
The most bytes that a document may take as a text: one character above U+00FF
makes Python store two bytes for each, one above U+FFFF four.
"""

MAX_LAYERS: Final = 1000
MAX_INDEX_ENTRIES: Final = 5000
MAX_INDEX_DEPTH: Final = 4

SMALL_DOCUMENT: Final = 16 * 1024
"""The most bytes of a document that is kept parsed: many clients pull the same few images."""

ATTESTATION: Final = "vnd.docker.reference.type"
"""
The annotation of buildkit's attestations: provenance and SBOMs among the manifests
of an index.
"""

_ASTRAL: Final = re.compile(rb"[\xf0-\xf4]")
_WIDE: Final = re.compile(rb"[\xc4-\xef]")
_CONTINUATION: Final = bytes(range(0x80, 0xC0))
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")

_DECIDING: Final = frozenset({"schemaVersion", "mediaType", "manifests", "config", "layers", "fsLayers"})
_DESCRIBING: Final = frozenset({"mediaType", "digest", "size", "data", "platform", "annotations"})


@frozen
class Descriptor:
    """
    A descriptor of a blob (OCI image-spec, "Descriptors").

    @ivar media_type: the type of the bytes.
    @ivar digest: their digest.
    @ivar size: their number.
    @ivar platform: what the described image runs on, in an index.
    @ivar annotations: free text by key.
    @ivar artifact_type: what kind of artifact a manifest is, in a list of
        referrers, or the empty string.
    @ivar data: the bytes themselves, where the document has them in it.
    @ivar urls: where else the blob can be had.
    """

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] = field(factory=dict, eq=False)
    artifact_type: str = field(default="", eq=False)
    data: bytes | None = field(default=None, eq=False, repr=False)
    urls: tuple[str, ...] = field(default=(), eq=False)

    @property
    def is_foreign(self) -> bool:
        """
        Whether it is of a layer that stays at its URLs when its image is
        copied: Windows' base layers are not in registries.
        """
        return self.media_type in FOREIGN and bool(self.urls)

    @property
    def is_known(self) -> bool:
        """
        Whether it is of a manifest or an index that xferd can read.
        """
        return self.media_type in MANIFESTS or self.media_type in INDEXES

    @property
    def is_attestation(self) -> bool:
        """
        Whether it describes metadata of an image, such as an SBOM.
        """
        unknown = self.platform is not None and self.platform.os == self.platform.architecture == "unknown"
        return unknown or ATTESTATION in self.annotations

    @classmethod
    def from_json(cls, value: object, where: str, *, typed: bool = True) -> Descriptor:
        """
        Read a descriptor of a parsed document.

        @param where: its name in an error, C{layers[2]}.
        @param typed: whether it must have a C{mediaType}.
        @raise BadDocument: it violates the specification.
        """
        if not isinstance(value, dict):
            raise BadDocument(f"{where} is not a descriptor")
        _check_names(value, _DESCRIBING, where)
        media_type = value.get("mediaType")
        if media_type is None and not typed:
            media_type = ""
        if not isinstance(media_type, str) or (typed and not media_type):
            raise BadDocument(f"{where} has no mediaType")
        size = value.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
            raise BadDocument(f"{where} has no valid size: {quoted(size)}")
        try:
            digest = Digest.parse(str(value.get("digest")))
        except BadDigest as e:
            raise BadDocument(f"{where}: {e}") from e
        artifact_type = value.get("artifactType")
        return cls(
            media_type,
            digest,
            size,
            platform_from_json(value.get("platform")),
            _annotations(value),
            artifact_type if isinstance(artifact_type, str) else "",
            _embedded(value.get("data"), digest, size, where),
            _urls(value.get("urls")),
        )

    def to_json(self) -> dict[str, Any]:
        """
        The descriptor as a document holds it, without C{data}.
        """
        value: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.platform is not None:
            platform = {"os": self.platform.os, "architecture": self.platform.architecture}
            if self.platform.variant:
                platform["variant"] = self.platform.variant
            value["platform"] = platform
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        return value


@frozen
class Document:
    """
    A manifest or an index, byte for byte as the registry sent it.

    @ivar media_type: the registry's media type, without parameters.
    @ivar data: the bytes, at most L{MAX_DOCUMENT}.
    @ivar digest: their digest.
    """

    media_type: str
    data: bytes = field(repr=False)
    digest: Digest

    @classmethod
    def verified(cls, media_type: str, data: bytes, digest: Digest | None = None) -> Document:
        """
        Make a document of received bytes.

        @param digest: the expected digest, where it is known.
        @raise DigestMismatch: the digest differs.
        """
        found = Digest.of(data, digest.algorithm if digest is not None else "sha256")
        if digest is not None and found != digest:
            raise DigestMismatch(f"a manifest has the digest {found}, not {digest}")
        return cls(media_type.partition(";")[0].strip().lower(), data, found)

    @property
    def descriptor(self) -> Descriptor:
        """
        The descriptor of these bytes.
        """
        return Descriptor(self.media_type, self.digest, len(self.data))


@frozen
class Index:
    """
    A list of manifests, one for each platform.

    @ivar manifests: their descriptors, in the order of the document.
    @ivar media_type: the media type of the index.
    """

    manifests: tuple[Descriptor, ...]
    media_type: str = OCI_INDEX


@frozen
class Manifest:
    """
    One image for one platform.

    @ivar config: the image's config.
    @ivar layers: its layers, the bottom one first.
    @ivar media_type: the media type of the manifest.
    @ivar artifact_type: the C{artifactType}, or the empty string.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = OCI_MANIFEST
    artifact_type: str = ""

    @property
    def is_image(self) -> bool:
        """
        Whether this is a container image, by the media type of its config; if that
        is generic, by the types of its layers.
        """
        if self.config.media_type in MISNAMED_CONFIGS:
            return not self.artifact_type and all(layer.media_type in LAYERS for layer in self.layers)
        return self.config.media_type in CONFIGS

    def check_runnable(self) -> None:
        """
        Check that this is an image whose layers can be unpacked.

        @raise UnsupportedImage: it is an artifact, or the media type of a layer is
            unknown.
        """
        if not self.is_image:
            kind = shown(self.artifact_type or self.config.media_type)
            raise UnsupportedImage(
                f"this is an artifact of type {kind}, not a container image; "
                "'xferctl copy' can copy it, but it cannot be unpacked"
            )
        for position, layer in enumerate(self.layers):
            if layer.media_type not in LAYERS:
                raise UnsupportedImage(
                    f"layer {position} is of type {shown(layer.media_type)}, which xferd cannot unpack; "
                    "'xferctl copy' can copy the image"
                )


def parse_document(document: Document) -> Index | Manifest:
    """
    Parse a manifest or an index.

    A document that could be read as both is refused (CVE-2021-41190), as is one
    whose C{mediaType} differs from its Content-Type, and one whose names other
    tools may read differently: Go takes C{"Layers"} for C{"layers"}.

    @raise UnsupportedImage: it is a Docker schema 1 manifest, or its media type is
        unknown.
    @raise BadDocument: it violates the specification.
    """
    return _parse_small(document) if len(document.data) <= SMALL_DOCUMENT else _parse_document(document)


def _parse_document(document: Document) -> Index | Manifest:
    value = _parse_object(document.data, f"manifest {document.digest}")
    _check_names(value, _DECIDING, f"manifest {document.digest}")
    if document.media_type in DOCKER_SCHEMA1 or value.get("schemaVersion") == 1:
        raise UnsupportedImage(
            "the registry has this image only as a Docker schema 1 manifest, obsolete since "
            "2017; push it again with a current tool"
        )
    if value.get("schemaVersion") != 2:
        raise BadDocument(
            f"manifest {document.digest} has schemaVersion {quoted(value.get('schemaVersion'))}, not 2"
        )
    named = value.get("mediaType")
    media_type = document.media_type
    if media_type not in MANIFESTS | INDEXES:
        # Old registries and file servers send application/json or text/plain; the
        # document's mediaType then decides.
        media_type = named if isinstance(named, str) else media_type
    if named is not None and named != media_type:
        raise BadDocument(
            f"manifest {document.digest} came as {shown(media_type)} with mediaType {shown(str(named))}"
        )
    has_index, has_manifest = (
        "manifests" in value,
        "layers" in value or "config" in value or "fsLayers" in value,
    )
    if has_index and has_manifest:
        raise BadDocument(f"manifest {document.digest} could be read as an image and as an index")
    if media_type in INDEXES:
        entries = _list(value, "manifests", MAX_INDEX_ENTRIES)
        listed = tuple(Descriptor.from_json(e, f"manifests[{i}]") for i, e in enumerate(entries))
        return Index(listed, media_type)
    if media_type in MANIFESTS:
        layers = _list(value, "layers", MAX_LAYERS)
        kind = value.get("artifactType")
        return Manifest(
            Descriptor.from_json(value.get("config"), "config", typed=False),
            tuple(Descriptor.from_json(e, f"layers[{i}]") for i, e in enumerate(layers)),
            media_type,
            kind if isinstance(kind, str) else "",
        )
    raise UnsupportedImage(
        f"manifest {document.digest} is of type {shown(media_type)!r}, which xferd does not know"
    )


_parse_small = lru_cache(maxsize=128)(_parse_document)


def document_type(data: bytes) -> str:
    """
    The media type of a manifest or an index without a Content-Type: its
    C{mediaType}, which OCI documents may omit, else by its fields.

    @raise BadDocument: it is not a JSON object.
    """
    value = _parse_object(data, "the document")
    named = value.get("mediaType")
    if isinstance(named, str):
        return named
    return OCI_INDEX if "manifests" in value else OCI_MANIFEST


def check_extent(data: bytes, where: str) -> None:
    """
    Check the size of a document before it is parsed.

    @param where: its name in an error.
    @raise BadDocument: it is too large, or has too many values.
    """
    if len(data) > MAX_DOCUMENT:
        raise BadDocument(f"{where} is larger than {MAX_DOCUMENT} bytes")
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise BadDocument(f"{where} holds more than {MAX_VALUES} values")
    if data.count(b"{") > MAX_OBJECTS:
        raise BadDocument(f"{where} holds more than {MAX_OBJECTS} objects")
    width = 4 if _ASTRAL.search(data) else 2 if _WIDE.search(data) else 1
    characters = len(data.translate(None, _CONTINUATION))
    if characters * width > MAX_TEXT:
        raise BadDocument(
            f"{where} has {characters} characters, of which some take {width} bytes: "
            f"at most {MAX_TEXT // width} may be in such a document"
        )


def _parse_object(data: bytes, where: str) -> dict[str, Any]:
    """
    Parse I-JSON (RFC 7493): UTF-8, without duplicate names, NaN, infinities or lone
    surrogates, and with an object at the top.
    """

    def refuse(word: str) -> NoReturn:
        raise BadDocument(f"{where} is not JSON: {word} is not a number")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise BadDocument(f"{where} has the same name twice in one object")
        return value

    check_extent(data, where)
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)
        if _SURROGATE.search(data):
            # A lone surrogate cannot be encoded.
            _check_texts(value)
    except (ValueError, RecursionError) as e:
        raise BadDocument(f"{where} is not JSON: {e}") from e
    if not isinstance(value, dict):
        raise BadDocument(f"{where} is not a JSON object")
    return value


def _check_texts(value: object) -> None:
    """
    Check that all texts can be encoded.

    @raise ValueError: one cannot.
    """
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            waiting += [*found, *found.values()]
        elif isinstance(found, list):
            waiting += found
        elif isinstance(found, str):
            found.encode("utf-8")


def _check_names(value: dict[str, Any], deciding: frozenset[str], where: str) -> None:
    """
    Refuse a name that differs from a deciding one in case only.
    """
    folded = {name.lower() for name in deciding}
    for name in value:
        if name not in deciding and name.lower() in folded:
            raise BadDocument(f"{where} can be read in two ways: it has {shown(name)!r}")


def _list(value: dict[str, Any], key: str, most: int) -> list[object]:
    """
    A list of at most C{most} entries; null is an empty list, as Go writes it.
    """
    entries = value.get(key)
    if entries is None and key in value:
        return []
    if not isinstance(entries, list):
        raise BadDocument(f"{key} is not a list")
    if len(entries) > most:
        raise BadDocument(f"{key} has {len(entries)} entries; xferd takes at most {most}")
    return entries


def platform_from_json(value: object) -> Platform | None:
    """
    The platform of an index entry or a config, or L{None} without C{os} or
    C{architecture}.
    """
    if not isinstance(value, dict):
        return None
    os, architecture, variant = value.get("os"), value.get("architecture"), value.get("variant") or ""
    if not (isinstance(os, str) and isinstance(architecture, str) and isinstance(variant, str)):
        return None
    return Platform.normal(os, architecture, variant) if os and architecture else None


def _annotations(value: dict[str, Any]) -> dict[str, str]:
    """
    The annotations of a descriptor that are strings.
    """
    found = value.get("annotations")
    if not isinstance(found, dict):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, str)}


def _urls(value: object) -> tuple[str, ...]:
    """
    The URLs of a descriptor that are strings.
    """
    return tuple(url for url in value if isinstance(url, str)) if isinstance(value, list) else ()


def _embedded(value: object, digest: Digest, size: int, where: str) -> bytes | None:
    """
    The C{data} of a descriptor (OCI image-spec, "Descriptors"): base64 of the
    described bytes.

    @raise BadDocument: the bytes differ from the descriptor.
    """
    if value is None:
        return None
    try:
        data = b64decode(value, validate=True) if isinstance(value, str) else None
    except ValueError:
        data = None
    if data is None:
        raise BadDocument(f"{where}: its data is not base64")
    if len(data) != size or Digest.of(data, digest.algorithm) != digest:
        raise BadDocument(f"{where}: its data is not {digest} of {size} bytes")
    return data
