# -*- test-case-name: tests.testing.test_registry -*-
"""
The content of a registry for tests, in memory or in a directory.
"""

from __future__ import annotations

import json
import shutil
from hashlib import file_digest
from io import BufferedRandom, BytesIO
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from attrs import define, evolve, field

from xferd.names import Digest
from xferd.oci import Descriptor, Document
from xferd.testing.layers import Blob

OCTETS = "application/octet-stream"


@define(eq=False)
class Stock:
    """
    One repository.

    @ivar documents: its manifests.
    @ivar tags: the digests of its tags.
    @ivar blobs: the digests of its blobs.
    """

    documents: dict[Digest, Document] = field(factory=dict)
    tags: dict[str, Digest] = field(factory=dict)
    blobs: set[Digest] = field(factory=set)

    def find(self, wanted: str) -> Document | None:
        """
        The manifest of a tag or digest.
        """
        digest = Digest.parse(wanted) if ":" in wanted else self.tags.get(wanted)
        return None if digest is None else self.documents.get(digest)


@define(eq=False)
class Upload:
    """
    One upload session.

    @ivar id: its ID in URLs.
    @ivar repository: its repository.
    @ivar size: the bytes received so far.
    @ivar arriving: those of a request that is not whole.
    """

    id: str
    repository: str
    _file: BytesIO | BufferedRandom = field(repr=False)
    _path: Path | None = None
    size: int = 0
    arriving: int = 0

    def append(self, source: BinaryIO) -> None:
        """
        Append all bytes of a file.
        """
        shutil.copyfileobj(source, self._file)
        self.size = self._file.tell()

    def digest(self, algorithm: str) -> Digest:
        """
        The digest of all bytes so far.
        """
        self._file.seek(0)
        return Digest(algorithm, file_digest(self._file, algorithm).hexdigest())

    def keep(self, digest: Digest, target: Path | None) -> Blob:
        """
        Make the bytes a blob.

        @param target: the file to create, or L{None} for memory.
        """
        content: bytes | Path
        if target is None or self._path is None:
            self._file.seek(0)
            content = self._file.read()
        else:
            content = self._path.replace(target)
        self._file.close()
        return Blob(Descriptor(OCTETS, digest, self.size), content)

    def discard(self) -> None:
        """
        Discard the bytes.
        """
        self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class Storage:
    """
    Blobs, each once, and the repositories that they belong to.

    @ivar blobs: all blobs.
    @ivar repositories: the repositories by path.
    """

    def __init__(self, directory: Path | None = None) -> None:
        """
        @param directory: a directory for the content; in memory by default.
        """
        self.blobs: dict[Digest, Blob] = {}
        self.repositories: dict[str, Stock] = {}
        self._directory = directory
        if directory is not None:
            for name in ("blobs", "repositories", "uploads"):
                (directory / name).mkdir(parents=True, exist_ok=True)
            self._load(directory)

    def stock(self, repository: str) -> Stock:
        """
        A repository, created if it is missing.
        """
        return self.repositories.setdefault(repository, Stock())

    def begin(self, repository: str) -> Upload:
        """
        Begin an upload.
        """
        name = uuid4().hex
        if self._directory is None:
            return Upload(name, repository, BytesIO())
        path = self._directory / "uploads" / name
        return Upload(name, repository, path.open("w+b"), path)

    def finish(self, upload: Upload, digest: Digest) -> None:
        """
        Make an upload a blob of its repository.  The digest is checked by the
        caller.
        """
        self.put_blob(upload.repository, upload.keep(digest, self._blob_path(digest)))

    def put_blob(self, repository: str, blob: Blob) -> None:
        """
        Put a blob into a repository.  In memory, a blob in a file remains in it.
        """
        if blob.digest not in self.blobs:
            path = self._blob_path(blob.digest)
            if path is not None and not path.exists():
                with blob.open() as source, path.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
            self.blobs[blob.digest] = blob if path is None else evolve(blob, content=path)
        self.stock(repository).blobs.add(blob.digest)
        self._save(repository)

    def put_document(self, repository: str, document: Document, tag: str | None = None) -> None:
        """
        Put a manifest into a repository.
        """
        stock = self.stock(repository)
        stock.documents[document.digest] = document
        if tag is not None:
            stock.tags[tag] = document.digest
        path = self._blob_path(document.digest)
        if path is not None:
            path.write_bytes(document.data)
        self._save(repository)

    def remove(self, repository: str, wanted: str) -> bool:
        """
        Remove a tag, a manifest with its tags, or a blob from a repository.

        @return: whether it was there.
        """
        stock = self.stock(repository)
        if ":" not in wanted:
            found = stock.tags.pop(wanted, None) is not None
        else:
            digest = Digest.parse(wanted)
            found = stock.documents.pop(digest, None) is not None or digest in stock.blobs
            stock.tags = {tag: named for tag, named in stock.tags.items() if named != digest}
            stock.blobs.discard(digest)
        self._save(repository)
        return found

    def _blob_path(self, digest: Digest) -> Path | None:
        """
        The file of a blob, or None in memory.
        """
        if self._directory is None:
            return None
        return self._directory / "blobs" / f"{digest.algorithm}-{digest.hex}"

    def _save(self, repository: str) -> None:
        """
        Save the content of a repository.
        """
        if self._directory is None:
            return
        stock = self.repositories[repository]
        value = {
            "repository": repository,
            "documents": [d.descriptor.to_json() for d in stock.documents.values()],
            "tags": {tag: str(digest) for tag, digest in stock.tags.items()},
            "blobs": [self.blobs[digest].descriptor.to_json() for digest in stock.blobs],
        }
        # A percent sign is part of no repository's name.
        path = self._directory / "repositories" / (repository.replace("/", "%") + ".json")
        written = path.with_suffix(".new")
        written.write_text(json.dumps(value, indent=2))
        written.replace(path)

    def _load(self, directory: Path) -> None:
        """
        Load the saved content, without blobs whose file is missing.
        """
        for path in (directory / "repositories").glob("*.json"):
            value = json.loads(path.read_text())
            stock = self.stock(value["repository"])
            for entry in value["blobs"]:
                descriptor = Descriptor.from_json(entry, str(path))
                file = self._blob_path(descriptor.digest)
                if file is not None and file.exists():
                    self.blobs[descriptor.digest] = Blob(descriptor, file)
                    stock.blobs.add(descriptor.digest)
            for entry in value["documents"]:
                descriptor = Descriptor.from_json(entry, str(path))
                file = self._blob_path(descriptor.digest)
                assert file is not None
                document = Document.verified(descriptor.media_type, file.read_bytes(), descriptor.digest)
                stock.documents[descriptor.digest] = document
            stock.tags = {tag: Digest.parse(text) for tag, text in value["tags"].items()}
