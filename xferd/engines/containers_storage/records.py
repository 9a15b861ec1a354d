# -*- test-case-name: tests.engines.containers_storage.test_records -*-
"""
The records of the view: the entries of C{layers.json} and C{images.json}.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from xferd.errors import BadDigest
from xferd.media_types import LAYERS
from xferd.names import Digest
from xferd.oci import Descriptor

MANIFEST: Final = "manifest"
"""The key of an image's manifest in its big data."""

_COMPRESSIONS: Final = {"tar": 0, "gzip": 2, "zstd": 4}
"""The numbers of containers-storage: its C{pkg/archive}, C{Compression}."""


@frozen
class LayerRecord:
    """
    A layer of the view.

    @ivar id: see L{layer_id<xferd.engines.containers_storage.identity.layer_id>}.
    @ivar parent: the ID of the layer below; empty for a bottom layer.
    @ivar chain_id: the layer in the store.
    @ivar diff_id: the digest of its uncompressed tar.
    @ivar tar_size: the bytes of that tar.
    @ivar tree: the directory of the tree, which has C{diff}, relative to that of all
        trees: C{sha256/<hex>}.
    @ivar blob: the blob by which pulls find it, or L{None}.
    @ivar content: a blob in the store that it can be read from, to push it or to save
        it; or L{None}.
    @ivar uids: the owners in the layer.
    @ivar gids: the groups in the layer.
    """

    id: str
    parent: str
    chain_id: Digest
    diff_id: Digest
    tar_size: int
    tree: str
    blob: Descriptor | None = None
    content: Descriptor | None = None
    uids: tuple[int, ...] = ()
    gids: tuple[int, ...] = ()

    def to_json(self, created: str) -> dict[str, Any]:
        """
        Its entry in C{layers.json}.

        @param created: RFC 3339.
        """
        value: dict[str, Any] = {"id": self.id}
        if self.parent:
            value["parent"] = self.parent
        value |= {"created": created, "diff-digest": str(self.diff_id), "diff-size": self.tar_size}
        if self.blob is not None:
            value |= {
                "compressed-diff-digest": str(self.blob.digest),
                "compressed-size": self.blob.size,
                "compression": _COMPRESSIONS[LAYERS.get(self.blob.media_type, "gzip")],
            }
        if self.uids:
            value["uidset"] = list(self.uids)
        if self.gids:
            value["gidset"] = list(self.gids)
        return value


@frozen
class ImageRecord:
    """
    An image of the view: all names of one config.

    @ivar id: the hexadecimal digits of the config's digest.
    @ivar digest: the digest of the manifest that the first name stands for.
    @ivar names: the full names; none if only containers need the image.
    @ivar layer: the ID of the top layer; empty for an image without layers.
    @ivar config: the digest of the config.
    @ivar manifests: the digests of all its manifests, and of the indexes that led to
        them; C{digest} is the first.
    """

    id: str
    digest: Digest
    names: tuple[str, ...]
    layer: str
    config: Digest
    manifests: tuple[Digest, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ImageRecord:
        """
        Read an entry of C{images.json}.

        @raise ValueError: it is damaged.
        """
        try:
            keys = value["big-data-names"]
            return cls(
                id=value["id"],
                digest=Digest.parse(value["digest"]),
                names=tuple(value["names"]),
                layer=value.get("layer", ""),
                config=Digest.parse(f"sha256:{value['id']}"),
                manifests=tuple(
                    Digest.parse(key.removeprefix(f"{MANIFEST}-"))
                    for key in keys
                    if key.startswith(f"{MANIFEST}-")
                ),
            )
        except (BadDigest, KeyError, TypeError, AttributeError) as e:
            raise ValueError(f"no record of an image: {e!r}") from e

    def big_data(self) -> Mapping[str, Digest]:
        """
        The keys of its big data, each with the digest of the document in the store.
        """
        documents = {MANIFEST: self.digest}
        documents |= {f"{MANIFEST}-{digest}": digest for digest in self.manifests}
        return {**documents, str(self.config): self.config}

    def to_json(self, created: str, sizes: Mapping[Digest, int]) -> dict[str, Any]:
        """
        Its entry in C{images.json}.

        @param created: RFC 3339.
        @param sizes: the bytes of the documents.
        """
        data = self.big_data()
        value: dict[str, Any] = {"id": self.id, "digest": str(self.digest), "names": list(self.names)}
        if self.layer:
            value["layer"] = self.layer
        return value | {
            "metadata": "{}",
            "created": created,
            "big-data-names": list(data),
            "big-data-sizes": {key: sizes[digest] for key, digest in data.items()},
            "big-data-digests": {key: str(digest) for key, digest in data.items()},
        }
