# -*- test-case-name: tests.engines.containers_storage.test_contents -*-
"""
Selects what the view shows of the store: images with their layers, and further layers
that an engine needs.

Pure.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import evolve, field, frozen

from xferd.engines.containers_storage.identity import layer_id
from xferd.engines.containers_storage.records import ImageRecord, LayerRecord
from xferd.interfaces.store import Image
from xferd.names import Digest, Reference
from xferd.oci import Descriptor, Manifest

_ALGORITHM: Final = "sha256"
"""The one algorithm of containers-storage."""


@frozen
class StoredLayer:
    """
    A layer of the store.

    @ivar chain_id: its identity.
    @ivar diff_id: the digest of the uncompressed tar.
    @ivar path: the directory of the tree's files.
    @ivar tar_size: the bytes of the tar.
    @ivar outdated: whether the tree was unpacked by older rules.
    @ivar uids: the owners in it.
    @ivar gids: the groups in it.
    @ivar blobs: the blobs in the store that unpack to it.
    """

    chain_id: Digest
    diff_id: Digest
    path: str
    tar_size: int
    outdated: bool = False
    uids: tuple[int, ...] = ()
    gids: tuple[int, ...] = ()
    blobs: tuple[Descriptor, ...] = ()


@frozen
class Contents:
    """
    What the view shows.

    @ivar layers: by ID, each after its parent.
    @ivar images: by ID.
    @ivar left_out: the reasons for which images are not in it, by name.
    """

    layers: Mapping[str, LayerRecord] = field(factory=dict)
    images: Mapping[str, ImageRecord] = field(factory=dict)
    left_out: Mapping[str, str] = field(factory=dict)

    @property
    def chains(self) -> Mapping[Digest, str]:
        """
        The layers' IDs, by chain ID.
        """
        return {layer.chain_id: layer.id for layer in self.layers.values()}


class Selection:
    """
    Collects what the view shows.

    Life cycle: made; images and further layers are added; C{contents}.
    """

    def __init__(self, trees: str) -> None:
        """
        @param trees: the directory of all trees.
        """
        self._trees = trees
        self._layers: dict[str, LayerRecord] = {}
        self._images: dict[str, ImageRecord] = {}
        self._names: dict[str, str] = {}
        self._left_out: dict[str, str] = {}

    def add_image(self, image: Image, chain: Sequence[StoredLayer]) -> None:
        """
        Add an image, or the reason why it is left out.  All names of one config are one
        record, and no name is on two: an engine that finds that reads no image at all.

        @param chain: its layers, the bottom one first; none if it is not unpacked.
        """
        identity, name = image.config.digest.hex, _name_of(image.reference)
        reason = _obstacle(image, chain)
        if not reason and self._names.get(name, identity) != identity:
            reason = f"another image has the name {name}, too"
        if reason:
            self.leave_out(image, reason)
            return
        self._names[name] = identity
        top = self.add_layers(chain, image.layers)
        manifests = (image.manifest.digest, image.resolved)
        known = self._images.get(identity)
        if known is None:
            known = ImageRecord(identity, image.manifest.digest, (), top, image.config.digest, ())
        self._images[identity] = evolve(
            known,
            names=tuple(dict.fromkeys((*known.names, name))),
            manifests=tuple(dict.fromkeys((*known.manifests, *manifests))),
        )

    def keep_image(self, image: ImageRecord, chain: Sequence[StoredLayer]) -> None:
        """
        Keep an image that has no name any more, unless another name has it.
        """
        if image.id not in self._images and self.add_layers(chain) == image.layer:
            self._images[image.id] = evolve(image, names=())

    def leave_out(self, image: Image, reason: str) -> None:
        """
        Leave an image out.
        """
        self._left_out[str(image.reference)] = reason

    def add_layers(self, chain: Sequence[StoredLayer], blobs: Sequence[Descriptor] = ()) -> str:
        """
        Add a stack of layers.

        @param chain: the bottom one first.
        @param blobs: the blobs by which an image has them, if one does.
        @return: the ID of the top layer; empty if there is none.
        """
        below = ""
        for number, layer in enumerate(chain):
            identity = layer_id(layer.diff_id, below)
            if identity not in self._layers:
                blob = blobs[number] if blobs else next(iter(layer.blobs), None)
                present = {each.digest for each in layer.blobs}
                content = blob if blob is not None and blob.digest in present else None
                self._layers[identity] = LayerRecord(
                    id=identity,
                    parent=below,
                    chain_id=layer.chain_id,
                    diff_id=layer.diff_id,
                    tar_size=layer.tar_size,
                    tree=os.path.relpath(os.path.dirname(layer.path), self._trees),
                    blob=blob,
                    content=(content or next(iter(layer.blobs), None)),
                    uids=layer.uids,
                    gids=layer.gids,
                )
            below = identity
        return below

    def contents(self) -> Contents:
        """
        All that was added.
        """
        return Contents(dict(self._layers), dict(self._images), dict(self._left_out))


def has_identity(chain: Sequence[StoredLayer]) -> bool:
    """
    Whether containers-storage has names for all of some layers.
    """
    return all(layer.diff_id.algorithm == _ALGORITHM for layer in chain)


def _obstacle(image: Image, chain: Sequence[StoredLayer]) -> str:
    """
    The reason why an image cannot be in the view; empty if it can.
    """
    pull = f"'xferctl pull {image.reference.familiar()}' unpacks it"
    if not Manifest(image.config, image.layers).is_image:
        return "it is an artifact, not an image"
    if len(chain) != len(image.layers):
        return f"it is not unpacked; {pull}"
    if any(layer.outdated for layer in chain):
        return f"an older xferd has unpacked it; {pull} again"
    digests = (image.config.digest, image.manifest.digest, image.resolved)
    if not has_identity(chain) or any(digest.algorithm != _ALGORITHM for digest in digests):
        return "it has digests of another algorithm than SHA-256, which engines do not read"
    return ""


def _name_of(reference: Reference) -> str:
    """
    The name as engines write it: with a tag or with a digest, never with both.
    """
    if reference.tag is None or reference.digest is None:
        return str(reference)
    return str(evolve(reference, tag=None))
