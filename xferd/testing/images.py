# -*- test-case-name: tests.testing.test_images -*-
"""
Sample images in OCI's form and in Docker's, of pseudo-random bytes or of this
machine's files.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
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
    @ivar platform: the platform of its config.
    """

    manifest: Document
    config: Blob
    layers: tuple[SampleLayer, ...]
    platform: Platform

    @property
    def document(self) -> Document:
        """
        The manifest.
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
        The chain IDs of the layers, bottom first.
        """
        chains = (chain_id(self.diff_ids[: n + 1]) for n in range(len(self.layers)))
        return tuple(chain for chain in chains if chain is not None)

    @property
    def documents(self) -> tuple[Document, ...]:
        """
        The manifests in the order of a push.
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
        The manifests and the index, in the order of a push.
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
    Encode JSON; equal values give equal bytes.
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
    Make an image of layers.

    @param layers: the layers, the bottom one first; may be empty.
    @param docker: Docker's media types instead of OCI's, for manifest and
        config; the layers keep theirs.
    @param config: the config's fields besides platform and layers.
    @param algorithm: that of the digests of config and manifest; for layers, see
        L{SampleLayer.by}.
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
    A layer of a few files with incompressible content, a directory and links.

    @param size: the bytes in its files.
    @param seed: equal seeds give equal layers.
    """
    # Many tests make the same ones.
    make = _small_layer if size <= _SMALL else _large_layer if size <= _LARGE else _sample_layer
    return make(size, str(seed), compression, docker)


_SMALL: Final = 64 * 1024
"""Bytes of a small layer, at most: a thousand are kept."""

_LARGE: Final = 8 * 1024 * 1024
"""Bytes of a large layer, at most: eight are kept."""


def _sample_layer(size: int, seed: str, compression: str, docker: bool) -> SampleLayer:
    chance = Random(f"xferd {seed}")  # noqa: S311 - sample data, no secret
    builder = LayerBuilder(compression, docker=docker, level=1).directory("data").directory(f"data/{seed}")
    left, number = size, 0
    while left > 0:
        length = min(left, max(1, size // 4))
        builder.file(f"data/{seed}/{number}", chance.randbytes(length), uid=1000, gid=1000)
        left -= length
        number += 1
    if number:
        builder.symlink(f"data/{seed}/first", "0").hardlink(f"data/{seed}/again", f"data/{seed}/0")
    return builder.finish()


_small_layer: Final = lru_cache(maxsize=1000)(_sample_layer)
_large_layer: Final = lru_cache(maxsize=8)(_sample_layer)


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
    An image, byte for byte the same for equal arguments.

    @param size: the bytes in each layer's files.
    @param compression: C{tar}, C{gzip} or C{zstd}.
    """
    made = (sample_layer(size, f"{seed}-{n}", compression=compression, docker=docker) for n in range(layers))
    return image_of(made, docker=docker, platform=platform)


def index_of(images: Mapping[Platform, SampleImage], *, docker: bool = False) -> SampleIndex:
    """
    Make an index (Docker's manifest list) of images.
    """
    media_type = DOCKER_LIST if docker else OCI_INDEX
    entries = [
        evolve(image.manifest.descriptor, platform=platform).to_json() for platform, image in images.items()
    ]
    data = encode({"schemaVersion": 2, "mediaType": media_type, "manifests": entries})
    return SampleIndex(Document.verified(media_type, data), dict(images))


def write_layout(directory: str, images: Mapping[str, SampleImage | SampleIndex]) -> None:
    """
    Write images as an OCI image layout, for tools such as skopeo.

    @param directory: the directory, created if it is missing.
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
    Make an image of this machine's files, with one layer for each directory.

    Blobs are written to files, which limits memory.  Files that are not readable by
    all users are excluded, as the image is served to other users, and so are files
    other than regular ones, directories and symbolic links.  Blocks for seconds.

    @param paths: absolute paths of directories, the bottom layer's first.
    @param into: an existing directory for the blobs, which the image refers to.
    @param limit: the most bytes of files, shared evenly between the layers.
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
    Directories of most machines with Python, for L{from_directories}.
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
    A directory and its content that all users may read, in a stable order, parents
    first.  Links are not followed.
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
    The path of a blob in a layout; its directory is created.
    """
    folder = root / "blobs" / digest.algorithm
    folder.mkdir(parents=True, exist_ok=True)
    return folder / digest.hex
