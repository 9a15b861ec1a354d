# -*- test-case-name: tests.test_oci -*-
"""
The documents of an image: descriptors, manifests, indexes, configs and
platforms, in OCI's form and in Docker's.

Pure: bytes in, values or L{BadDocument} out.  What a registry sends is
hostile until it went through here (OCI image-spec v1.1; limits of our own).
"""

from __future__ import annotations

import json
import platform as machine
from typing import Any, Final

from attrs import field, frozen

from xferd.errors import (
    BadDigest,
    BadDocument,
    BadPlatform,
    DigestMismatch,
    NoSuchPlatform,
    UnsupportedImage,
)
from xferd.names import Digest

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_SCHEMA1: Final = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)

MANIFESTS: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
CONFIGS: Final = frozenset({OCI_CONFIG, DOCKER_CONFIG})
ACCEPT: Final = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)
"""What xferd understands, in the order it likes them: the Accept header."""

LAYERS: Final = {
    "application/vnd.oci.image.layer.v1.tar": "tar",
    "application/vnd.oci.image.layer.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd": "zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar": "tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": "zstd",
    "application/vnd.docker.image.rootfs.diff.tar": "tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar": "tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": "gzip",
}
"""Layer media types and how each is compressed: C{tar} is not."""

MAX_DOCUMENT: Final = 4 * 1024 * 1024
"""The largest manifest or config, in bytes (distribution-spec: at least 4 MiB)."""

MAX_LAYERS: Final = 1000
MAX_INDEX_ENTRIES: Final = 5000
MAX_INDEX_DEPTH: Final = 4


@frozen
class Platform:
    """
    What an image runs on.

    @ivar os: C{linux}.
    @ivar architecture: as Go names it, C{amd64}, C{arm64}, C{arm}.
    @ivar variant: C{v7}, or the empty string.
    """

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """
        Read C{os/architecture[/variant]}, with the usual other spellings
        (C{linux/aarch64} is C{linux/arm64}).

        @raise BadPlatform: C{text} is none.
        """
        parts = text.lower().split("/")
        if len(parts) not in (2, 3) or not all(
            p and p.replace(".", "").replace("_", "").isalnum() for p in parts
        ):
            raise BadPlatform(text)
        return cls.normal(*parts)

    @classmethod
    def normal(cls, os: str, architecture: str, variant: str = "") -> Platform:
        """
        The one spelling of a platform, as containerd normalises it: arm64 is
        v8 and arm is v7 where no variant is named; amd64 v1 is plain.
        """
        architecture, variant = _ARCHITECTURES.get(architecture, (architecture, variant))
        if architecture == "arm" and variant in ("", "7"):
            variant = "v7"
        elif architecture == "arm" and variant in ("5", "6", "8"):
            variant = f"v{variant}"
        elif (architecture, variant) in (("arm64", "v8"), ("arm64", "8"), ("amd64", "v1")):
            variant = ""
        return cls(os, architecture, variant)

    @classmethod
    def local(cls) -> Platform:
        """
        The platform of this machine.
        """
        return cls.normal("linux", machine.machine().lower())

    def accepts(self) -> tuple[Platform, ...]:
        """
        The platforms whose images run here, the best first: a v7 arm runs
        what was made for v6 and v5, an amd64 v3 what was made for v2 and v1.
        """
        if self.architecture not in ("arm", "amd64") or not self.variant[1:].isdigit():
            return (self,)
        lowest = 5 if self.architecture == "arm" else 1
        steps = range(int(self.variant[1:]), lowest - 1, -1)
        return tuple(Platform.normal(self.os, self.architecture, f"v{n}") for n in steps)

    def __str__(self) -> str:
        return "/".join(p for p in (self.os, self.architecture, self.variant) if p)


_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
}


@frozen
class Descriptor:
    """
    What a document says of a blob (OCI image-spec, "Descriptors").

    @ivar media_type: the type of the bytes.
    @ivar digest: their digest.
    @ivar size: their number.
    @ivar platform: what the described image runs on, in an index.
    @ivar annotations: free text by key.
    @ivar artifact_type: what kind of artifact a manifest is, in a list of
        referrers, or the empty string.
    """

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] = field(factory=dict, eq=False)
    artifact_type: str = field(default="", eq=False)

    @classmethod
    def from_json(cls, value: object, where: str) -> Descriptor:
        """
        Read a descriptor out of a parsed document.

        @param where: what to call it in an error, C{layers[2]}.
        @raise BadDocument: it breaks the specification.
        """
        if not isinstance(value, dict):
            raise BadDocument(f"{where} is not a descriptor")
        media_type = value.get("mediaType")
        if not isinstance(media_type, str) or not media_type:
            raise BadDocument(f"{where} has no mediaType")
        size = value.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
            raise BadDocument(f"{where} has no valid size: {size!r}")
        try:
            digest = Digest.parse(str(value.get("digest")))
        except BadDigest as e:
            raise BadDocument(f"{where}: {e}") from e
        artifact_type = value.get("artifactType")
        return cls(
            media_type,
            digest,
            size,
            _platform(value.get("platform")),
            _annotations(value),
            artifact_type if isinstance(artifact_type, str) else "",
        )

    def to_json(self) -> dict[str, Any]:
        """
        The descriptor as a document holds it.
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
    A manifest or index as it came: what is stored and hashed is C{data}, byte
    for byte.

    @ivar media_type: the type that the registry gave, without parameters.
    @ivar data: the bytes, at most L{MAX_DOCUMENT} of them.
    @ivar digest: their digest.
    """

    media_type: str
    data: bytes = field(repr=False)
    digest: Digest

    @classmethod
    def verified(cls, media_type: str, data: bytes, digest: Digest | None = None) -> Document:
        """
        Make a document of received bytes.

        @param digest: what the bytes must be, where that is known.
        @raise DigestMismatch: they are something else.
        """
        found = Digest.of(data, digest.algorithm if digest is not None else "sha256")
        if digest is not None and found != digest:
            raise DigestMismatch(f"a manifest arrived that is {found} and should be {digest}")
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
    @ivar media_type: what the index itself is.
    """

    manifests: tuple[Descriptor, ...]
    media_type: str = OCI_INDEX


@frozen
class Manifest:
    """
    One image for one platform.

    @ivar config: the image's config.
    @ivar layers: its layers, the bottom one first.
    @ivar media_type: what the manifest itself is.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = OCI_MANIFEST

    def check_runnable(self) -> None:
        """
        Make sure that this is an image whose layers can be unpacked.

        @raise UnsupportedImage: it is an artifact, or a layer is of a type
            that xferd does not know.
        """
        if self.config.media_type not in CONFIGS:
            raise UnsupportedImage(
                f"this is an artifact of type {self.config.media_type}, not a container image; "
                "it can be copied, not unpacked"
            )
        for position, layer in enumerate(self.layers):
            if layer.media_type not in LAYERS:
                raise UnsupportedImage(
                    f"layer {position} is of type {layer.media_type}, which xferd cannot unpack"
                )


@frozen
class ImageConfig:
    """
    What an image's config says of its layers and its platform.

    @ivar diff_ids: the digests of the uncompressed layers, bottom first.
    @ivar platform: what the image runs on, or L{None} if it does not say.
    """

    diff_ids: tuple[Digest, ...]
    platform: Platform | None


def parse_document(document: Document) -> Index | Manifest:
    """
    Read a manifest or an index.

    A document that could be taken for both is refused (CVE-2021-41190), as is
    one whose C{mediaType} is not its Content-Type.

    @raise UnsupportedImage: it is a Docker schema 1 manifest, or a type that
        xferd does not know.
    @raise BadDocument: it breaks the specification.
    """
    value = _parse_object(document.data, f"manifest {document.digest}")
    if document.media_type in DOCKER_SCHEMA1 or value.get("schemaVersion") == 1:
        raise UnsupportedImage(
            "the registry has this image only as a Docker schema 1 manifest, which nothing made "
            "since 2017 needs; push it again with a current tool"
        )
    if value.get("schemaVersion") != 2:
        raise BadDocument(
            f"manifest {document.digest} has schemaVersion {value.get('schemaVersion')!r}, not 2"
        )
    named = value.get("mediaType")
    media_type = document.media_type
    if media_type not in MANIFESTS | INDEXES:
        # Old and plain file servers say application/json or text/plain; the
        # document's own word is then all there is.
        media_type = named if isinstance(named, str) else media_type
    if named is not None and named != media_type:
        raise BadDocument(f"manifest {document.digest} came as {media_type} and calls itself {named!r}")
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
        return Manifest(
            Descriptor.from_json(value.get("config"), "config"),
            tuple(Descriptor.from_json(e, f"layers[{i}]") for i, e in enumerate(layers)),
            media_type,
        )
    raise UnsupportedImage(f"manifest {document.digest} is of type {media_type!r}, which xferd does not know")


def document_type(data: bytes) -> str:
    """
    The media type of a manifest or an index that came without one: its own
    word, else what its fields make it (OCI image-spec: C{mediaType} may be
    absent from documents of the OCI's).

    @raise BadDocument: it is no JSON object.
    """
    value = _parse_object(data, "the document")
    named = value.get("mediaType")
    if isinstance(named, str):
        return named
    return OCI_INDEX if "manifests" in value else OCI_MANIFEST


def parse_config(data: bytes, manifest: Manifest) -> ImageConfig:
    """
    Read an image's config and hold it against its manifest.

    @raise BadDocument: it breaks the specification, or names another number
        of layers than the manifest.
    """
    where = f"config {manifest.config.digest}"
    value = _parse_object(data, where)
    rootfs = value.get("rootfs")
    if not isinstance(rootfs, dict) or rootfs.get("type") != "layers":
        raise BadDocument(f"{where} has no rootfs of type 'layers'")
    listed = rootfs.get("diff_ids")
    if listed is None:
        listed = []
    if not isinstance(listed, list):
        raise BadDocument(f"{where}: rootfs.diff_ids is not a list")
    try:
        diff_ids = tuple(Digest.parse(str(d)) for d in listed)
    except BadDigest as e:
        raise BadDocument(f"{where}: rootfs.diff_ids: {e}") from e
    if len(diff_ids) != len(manifest.layers):
        raise BadDocument(f"{where} names {len(diff_ids)} layers, its manifest {len(manifest.layers)}")
    return ImageConfig(diff_ids, _platform(value))


def choose(index: Index, wanted: Platform) -> Descriptor:
    """
    The entry of an index for a platform: the best variant, and of equals the
    first (OCI image-spec, "Image Index").

    @raise NoSuchPlatform: there is none; the message lists what there is.
    """
    for platform in wanted.accepts():
        for entry in index.manifests:
            if entry.platform == platform and entry.media_type in MANIFESTS | INDEXES:
                return entry
    # A nested index carries its platforms inside.
    for entry in index.manifests:
        if entry.platform is None and entry.media_type in INDEXES:
            return entry
    if len(index.manifests) == 1 and index.manifests[0].platform is None:
        return index.manifests[0]
    offered = sorted({str(e.platform) for e in index.manifests if e.platform and e.platform.os != "unknown"})
    listing = ", ".join(offered[:20]) or "none"
    raise NoSuchPlatform(f"the image is not offered for {wanted}; it is offered for: {listing}")


def _parse_object(data: bytes, where: str) -> dict[str, Any]:
    """
    Parse I-JSON (RFC 7493): UTF-8, no name twice, an object at the top.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise BadDocument(f"{where} has the same name twice in one object")
        return value

    if len(data) > MAX_DOCUMENT:
        raise BadDocument(f"{where} is larger than {MAX_DOCUMENT} bytes")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as e:
        raise BadDocument(f"{where} is not JSON: {e}") from e
    if not isinstance(value, dict):
        raise BadDocument(f"{where} is not a JSON object")
    return value


def _list(value: dict[str, Any], key: str, most: int) -> list[object]:
    """
    A list of at most so many entries; null counts as empty, as Go writes it.
    """
    entries = value.get(key)
    if entries is None and key in value:
        return []
    if not isinstance(entries, list):
        raise BadDocument(f"{key} is not a list")
    if len(entries) > most:
        raise BadDocument(f"{key} has {len(entries)} entries; xferd takes at most {most}")
    return entries


def _platform(value: object) -> Platform | None:
    """
    The platform that an index entry or a config names, if it names one.
    """
    if not isinstance(value, dict):
        return None
    os, architecture, variant = value.get("os"), value.get("architecture"), value.get("variant", "")
    if not isinstance(os, str) or not isinstance(architecture, str) or not isinstance(variant, str):
        return None
    return Platform.normal(os, architecture, variant)


def _annotations(value: dict[str, Any]) -> dict[str, str]:
    """
    The string annotations of a descriptor; others are dropped.
    """
    found = value.get("annotations")
    if not isinstance(found, dict):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, str)}
