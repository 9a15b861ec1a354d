"""
What a data directory has to be at any instant, without a daemon.
"""

from __future__ import annotations

import json
from hashlib import file_digest
from pathlib import Path
from typing import Any

_NAME = "org.opencontainers.image.ref.name"
_CHAIN = "dev.xferd.chain-id"


class StoreCheck:
    """
    The check of one data directory.  Files that it has read and that have not changed since are not
    read again.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._read: set[tuple[str, int, int]] = set()

    def names(self) -> set[str]:
        """
        The references of the images.
        """
        return {image["annotations"][_NAME] for image in self._images()}

    def problems(self) -> list[str]:
        """
        What is wrong, one sentence each: blobs that differ from their digests, images without one of
        their blobs or layers, layers without their tree or their parent.
        """
        found = self._wrong_blobs()
        for image in self._images():
            name = image["annotations"][_NAME]
            found += [f"{name} lacks {part}" for part in self._missing(image)]
        for record in sorted((self._data / "layers/sha256").glob("*")):
            found += self._wrong_layer(record)
        return found

    def left_over(self) -> list[str]:
        """
        The files that no unfinished job accounts for, once all jobs have ended.
        """
        return [str(path) for name in ("ingest", "staging") for path in (self._data / name).glob("*")]

    def _images(self) -> list[dict[str, Any]]:
        index = self._data / "content/index.json"
        found: list[dict[str, Any]] = json.loads(index.read_bytes())["manifests"] if index.exists() else []
        return found

    def _blob(self, digest: str) -> Path:
        return self._data / "content/blobs" / digest.replace(":", "/")

    def _wrong_blobs(self) -> list[str]:
        found = []
        for path in sorted((self._data / "content/blobs/sha256").glob("*")):
            status = path.stat()
            seen = path.name, status.st_ino, status.st_mtime_ns
            if seen not in self._read:
                with path.open("rb") as file:
                    if file_digest(file, "sha256").hexdigest() != path.name:
                        found.append(f"blob {path.name} differs from its digest")
                self._read.add(seen)
        return found

    def _missing(self, image: dict[str, Any]) -> list[str]:
        """
        The blobs and layers that an image lacks.
        """
        manifest = self._blob(image["digest"])
        if not manifest.exists():
            return [f"its manifest {image['digest']}"]
        named = json.loads(manifest.read_bytes())
        blobs = [named["config"], *named["layers"]]
        missing = [
            f"blob {blob['digest']}"
            for blob in blobs
            if not self._blob(blob["digest"]).exists()
            or self._blob(blob["digest"]).stat().st_size != blob["size"]
        ]
        chain = image["annotations"].get(_CHAIN)
        if chain is not None and not (self._data / "layers" / chain.replace(":", "/")).exists():
            missing.append(f"layer {chain}")
        return missing

    def _wrong_layer(self, record: Path) -> list[str]:
        layer = json.loads(record.read_bytes())
        found = []
        tree = self._data / "trees" / layer["tree"]
        if not all((tree / name).exists() for name in ("diff", "tree.json", "entries")):
            found.append(f"layer {record.name} has no whole tree {layer['tree']}")
        if layer["parent"] is not None and not (record.parent / layer["parent"].split(":")[1]).exists():
            found.append(f"layer {record.name} has no parent {layer['parent']}")
        return found
