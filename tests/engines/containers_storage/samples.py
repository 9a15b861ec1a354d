"""
Images and layers of a store, for the tests of the view.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from attrs import field, frozen

from xferd.engines.containers_storage.contents import StoredLayer
from xferd.engines.containers_storage.identity import layer_id
from xferd.interfaces.store import Image
from xferd.media_types import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from xferd.names import Digest, Reference, chain_id
from xferd.oci import Descriptor

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


def descriptor(data: bytes, media_type: str = GZIP) -> Descriptor:
    """
    The descriptor of some bytes.
    """
    return Descriptor(media_type, Digest.of(data), len(data))


def layer_ids(diff_ids: Sequence[Digest]) -> list[str]:
    """
    The IDs of a stack of layers, the bottom one first.
    """
    found: list[str] = []
    for diff_id in diff_ids:
        found.append(layer_id(diff_id, found[-1] if found else ""))
    return found


@frozen
class Sample:
    """
    An image with its layers.
    """

    image: Image
    chain: tuple[StoredLayer, ...]
    documents: tuple[bytes, ...] = field(factory=tuple)


def sample(
    name: str, *layers: bytes, trees: str = "/trees", config: str = "2024-01-01T00:00:00Z", note: str = ""
) -> Sample:
    """
    Make an image.

    @param layers: the content of each layer, the bottom one first.
    @param config: the time in the config, which makes it another one.
    @param note: makes the manifest another one.
    """
    diff_ids = [Digest.of(layer) for layer in layers]
    blobs = tuple(descriptor(b"packed " + layer) for layer in layers)
    settings = {"created": config, "rootfs": {"diff_ids": [str(each) for each in diff_ids]}}
    documents = (json.dumps(settings).encode(), f"manifest {name} {note}".encode(), f"index {name}".encode())
    chain = tuple(
        StoredLayer(
            chain_id=_chain(diff_ids[: number + 1]),
            diff_id=diff_id,
            path=f"{trees}/sha256/{_chain(diff_ids[: number + 1]).hex}/diff",
            tar_size=len(layers[number]),
            blobs=(blobs[number],),
        )
        for number, diff_id in enumerate(diff_ids)
    )
    image = Image(
        reference=Reference.parse(name),
        manifest=descriptor(documents[1], OCI_MANIFEST),
        config=descriptor(documents[0], OCI_CONFIG),
        resolved=descriptor(documents[2], OCI_INDEX).digest,
        layers=blobs,
        chain_id=chain_id(diff_ids),
        size=1,
        created="2024-01-01T00:00:00Z",
    )
    return Sample(image, chain, documents)


def write(place: Path, each: Sample, layers: Sequence[bytes]) -> None:
    """
    Write trees, blobs and documents of an image, as a store has them.
    """
    for layer, data in zip(each.chain, layers, strict=True):
        os.makedirs(layer.path, exist_ok=True)
        (Path(layer.path) / "file").write_bytes(data)
    blobs = place / "blobs"
    blobs.mkdir(exist_ok=True)
    for document in (*each.documents, *(b"packed " + data for data in layers)):
        (blobs / Digest.of(document).hex).write_bytes(document)


def _chain(diff_ids: Sequence[Digest]) -> Digest:
    found = chain_id(diff_ids)
    assert found is not None
    return found
