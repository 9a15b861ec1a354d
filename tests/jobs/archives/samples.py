"""
Archives made to order, as other tools write them.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping

from attrs import evolve

from xferd.archive.contents import FULL_NAME, INDEX, LAYOUT, NAME
from xferd.media_types import OCI_INDEX
from xferd.testing.images import SampleImage, SampleIndex
from xferd.testing.layers import pack

Files = dict[str, bytes]


def path(digest: object) -> str:
    """
    The path of a blob in a layout.
    """
    return "blobs/" + str(digest).replace(":", "/")


def layout(
    images: Mapping[str, SampleImage | SampleIndex], *, key: str = NAME, index: str = OCI_INDEX
) -> Files:
    """
    The files of a layout.

    @param images: the images by name; an empty name is left out.
    """
    files: Files = {LAYOUT: b'{"imageLayoutVersion": "1.0.0"}'}
    entries = []
    for name, image in images.items():
        notes = {key: name} if name else {}
        entries.append(evolve(image.document.descriptor, annotations=notes).to_json())
        files |= {path(blob.digest): blob.read() for blob in image.blobs}
        files |= {path(document.digest): document.data for document in image.documents}
    listed = {"schemaVersion": 2, "mediaType": index, "manifests": entries}
    return {**files, INDEX: json.dumps(listed).encode()}


def docker_save(images: Mapping[str, SampleImage], *, old: bool = True) -> Files:
    """
    The files that C{docker save} writes of images with plain tars for layers.

    @param old: as docker 24 and older have it, else as 25 and newer, in which
        there is a layout too.
    """
    files: Files = {} if old else layout(images, key=FULL_NAME)
    listed = []
    for tag, image in images.items():
        config = f"{image.config.digest.hex}.json" if old else path(image.config.digest)
        files[config] = image.config.read()
        names = []
        for number, layer in enumerate(image.layers):
            name = f"{image.digest.hex[:8]}{number}/layer.tar" if old else path(layer.blob.digest)
            files[name] = layer.blob.read()
            if old:
                files[name.replace("layer.tar", "VERSION")] = b"1.0"
                files[name.replace("layer.tar", "json")] = b"{}"
            names.append(name)
        listed.append({"Config": config, "RepoTags": [tag] if tag else None, "Layers": names})
    return {**files, "repositories": b"{}", "manifest.json": json.dumps(listed).encode()}


def tar(files: Mapping[str, bytes], links: Iterable[tuple[str, str]] = (), packing: str = "tar") -> bytes:
    """
    A tar of files, in their order.

    @param links: symbolic links behind them.
    @param packing: C{tar}, C{gzip} or C{zstd}.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return pack(out.getvalue(), packing).blob.read()
