# -*- test-case-name: tests.testing.test_images -*-
"""
Images made to order, in OCI's form and in Docker's: out of chance bytes that a
seed decides, or out of this machine's own files.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

from attrs import evolve, frozen

from xferd.media_types import DOCKER_CONFIG, DOCKER_LIST, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from xferd.names import Digest, chain_id
from xferd.oci import Document
from xferd.platforms import Platform
from xferd.testing.layers import Blob, LayerBuilder, SampleLayer

AMD64: Final = Platform("linux", "amd64")

_LARGEST_FILE = 4 * 1024 * 1024
"""Larger files of this machine are left out: each is read whole, in bytes."""


@frozen
class SampleImage:
    """
    One image for one platform.

    @ivar manifest: its manifest.
    @ivar config: its config.
    @ivar layers: its layers, bottom first.
    @ivar platform: what its config names.
    """

    manifest: Document
    config: Blob
    layers: tuple[SampleLayer, ...]
    platform: Platform

    @property
    def document(self) -> Document:
        """
        What a tag points at: the manifest.
        """
        return self.manifest

    @property
    def digest(self) -> Digest:
        """
        The manifest's digest.
        """
        return self.manifest.digest

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        """
        The digests of the tars, bottom first.
        """
        return tuple(layer.diff_id for layer in self.layers)

    @property
    def chain_ids(self) -> tuple[Digest, ...]:
        """
        The identities of the layers on their parents, bottom first.
        """
        chains = (chain_id(self.diff_ids[: n + 1]) for n in range(len(self.layers)))
        return tuple(chain for chain in chains if chain is not None)

    @property
    def documents(self) -> tuple[Document, ...]:
        """
        The manifests to push, each after those that it names.
        """
        return (self.manifest,)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """
        The config and the layers' blobs, each once.
        """
        unique = {blob.digest: blob for blob in (self.config, *(layer.blob for layer in self.layers))}
        return tuple(unique.values())

    @property
    def size(self) -> int:
        """
        The bytes of manifest, config and layers, each blob once.
        """
        return len(self.manifest.data) + sum(blob.descriptor.size for blob in self.blobs)


@frozen
class SampleIndex:
    """
    One image for several platforms.

    @ivar document: the index.
    @ivar images: the images by platform.
    """

    document: Document
    images: Mapping[Platform, SampleImage]

    @property
    def digest(self) -> Digest:
        """
        The index's digest.
        """
        return self.document.digest

    @property
    def documents(self) -> tuple[Document, ...]:
        """
        The manifests and the index, each after those that it names.
        """
        return (*(image.manifest for image in self.images.values()), self.document)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """
        All configs and layers, each once.
        """
        return tuple({b.digest: b for image in self.images.values() for b in image.blobs}.values())


def encode(value: object) -> bytes:
    """
    JSON as a document holds it: the same bytes each time.
    """
    return json.dumps(value, indent=2).encode()


def image_of(
    layers: Iterable[SampleLayer],
    *,
    docker: bool = False,
    platform: Platform = AMD64,
    config: Mapping[str, Any] | None = None,
    algorithm: str = "sha256",
) -> SampleImage:
    """
    Put layers together to an image.

    @param layers: the bottom one first; may be none.
    @param docker: Docker's media types instead of OCI's, for manifest and
        config; the layers keep theirs.
    @param config: what the config says besides platform and layers.
    @param algorithm: of the digests of config and manifest; the layers have
        theirs: see L{SampleLayer.by}.
    """
    stack = tuple(layers)
    written = Blob.of(
        DOCKER_CONFIG if docker else OCI_CONFIG,
        encode(
            {
                "created": "2020-09-13T12:26:40Z",
                "os": platform.os,
                "architecture": platform.architecture,
                **({"variant": platform.variant} if platform.variant else {}),
                "config": {"Cmd": ["/bin/sh"]} | dict(config or {}),
                "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in stack]},
                "history": [{"created_by": f"layer {n}"} for n in range(len(stack))],
            }
        ),
        algorithm,
    )
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    manifest = encode(
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": written.descriptor.to_json(),
            "layers": [layer.blob.descriptor.to_json() for layer in stack],
        }
    )
    digest = Digest.of(manifest, algorithm)
    return SampleImage(Document.verified(media_type, manifest, digest), written, stack, platform)


def sample_layer(
    size: int = 16 * 1024,
    seed: int | str = 0,
    *,
    compression: str = "gzip",
    docker: bool = False,
) -> SampleLayer:
    """
    A layer of a few files, which compress badly, a directory and links.

    @param size: the bytes in its files.
    @param seed: equal seeds give equal layers.
    """
    chance = Random(f"xferd {seed}")  # noqa: S311 - sample data, no secret
    builder = LayerBuilder(compression, docker=docker).directory("data").directory(f"data/{seed}")
    left, number = size, 0
    while left > 0:
        length = min(left, max(1, size // 4))
        builder.file(f"data/{seed}/{number}", chance.randbytes(length), uid=1000, gid=1000)
        left -= length
        number += 1
    if number:
        builder.symlink(f"data/{seed}/first", "0").hardlink(f"data/{seed}/again", f"data/{seed}/0")
    return builder.finish()


def sample_image(
    layers: int = 3,
    size: int = 16 * 1024,
    seed: int | str = 0,
    *,
    compression: str = "gzip",
    docker: bool = False,
    platform: Platform = AMD64,
) -> SampleImage:
    """
    An image that these arguments decide to the last byte.

    @param size: the bytes in each layer's files.
    @param compression: C{tar}, C{gzip} or C{zstd}.
    """
    made = (sample_layer(size, f"{seed}-{n}", compression=compression, docker=docker) for n in range(layers))
    return image_of(made, docker=docker, platform=platform)


def index_of(images: Mapping[Platform, SampleImage], *, docker: bool = False) -> SampleIndex:
    """
    Put images together to an index (Docker's word: manifest list).
    """
    media_type = DOCKER_LIST if docker else OCI_INDEX
    entries = [
        evolve(image.manifest.descriptor, platform=platform).to_json() for platform, image in images.items()
    ]
    data = encode({"schemaVersion": 2, "mediaType": media_type, "manifests": entries})
    return SampleIndex(Document.verified(media_type, data), dict(images))


def write_layout(directory: str, images: Mapping[str, SampleImage | SampleIndex]) -> None:
    """
    Write images as an OCI image layout, for skopeo and its like.

    @param directory: is made if it is not there.
    @param images: the images by tag.
    """
    root = Path(directory)
    entries = []
    for tag, image in images.items():
        for blob in image.blobs:
            target = _blob_path(root, blob.digest)
            with blob.open() as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
        for document in image.documents:
            _blob_path(root, document.digest).write_bytes(document.data)
        named = evolve(image.document.descriptor, annotations={"org.opencontainers.image.ref.name": tag})
        entries.append(named.to_json())
    (root / "oci-layout").write_bytes(encode({"imageLayoutVersion": "1.0.0"}))
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    (root / "index.json").write_bytes(encode(index))


def from_directories(
    paths: Sequence[str], into: str, *, limit: int = 48 * 1024 * 1024, platform: Platform | None = None
) -> SampleImage:
    """
    Make an image out of this machine's files, one layer for each directory.

    Blobs are written to files as they are made: memory stays small.  What
    not everybody may read is left out, as root has no secrets to tell to whom
    the image is served; so is what is neither a file, a directory nor a
    symbolic link.  This takes seconds and blocks.

    @param paths: absolute paths of directories, the bottom layer's first.
    @param into: an existing directory for the blobs; the image needs it.
    @param limit: the bytes of files to take, at most, shared evenly.
    @param platform: this machine's by default.
    """
    layers = []
    for number, path in enumerate(paths):
        builder = LayerBuilder(into=Path(into) / f"layer-{number}", level=1)
        left = limit // len(paths)
        for parent in reversed(Path(path).parents[:-1]):
            builder.directory(str(parent).lstrip("/"))
        for found, status in _walk(Path(path)):
            name = str(found).lstrip("/")
            if stat.S_ISDIR(status.st_mode):
                builder.directory(name, mode=stat.S_IMODE(status.st_mode), mtime=int(status.st_mtime))
            elif stat.S_ISLNK(status.st_mode):
                builder.symlink(name, os.readlink(found))
            elif status.st_size <= min(left, _LARGEST_FILE):
                try:
                    data = found.read_bytes()
                except OSError:
                    continue
                builder.file(name, data, mode=stat.S_IMODE(status.st_mode), mtime=int(status.st_mtime))
                left -= len(data)
        layers.append(builder.finish())
    return image_of(layers, platform=platform or Platform.local())


def own_directories() -> list[str]:
    """
    Directories that most machines with Python have, for L{from_directories}.
    """
    wished = [
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("purelib"),
        "/usr/share/zoneinfo",
        "/usr/share/perl",
        "/usr/share/doc",
        "/usr/share/locale",
        "/usr/share/man",
        "/usr/lib/python3",
    ]
    there = [str(Path(path).resolve()) for path in wished if Path(path).is_dir()]
    return list(dict.fromkeys(there))


def _walk(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """
    A directory and everything below it that everybody may read, in a stable
    order, parents first.  Links are not followed.
    """
    yield directory, directory.stat()
    try:
        found = sorted(directory.iterdir())
    except OSError:
        return
    for path in found:
        try:
            status = path.lstat()
        except OSError:
            continue
        if not status.st_mode & stat.S_IROTH:
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(path)
        elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            yield path, status


def _blob_path(root: Path, digest: Digest) -> Path:
    """
    Where a layout keeps a blob; its folder is made.
    """
    folder = root / "blobs" / digest.algorithm
    folder.mkdir(parents=True, exist_ok=True)
    return folder / digest.hex
