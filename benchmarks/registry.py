"""
The registry that all pull from: Debian's C{docker-registry}, or a later version.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from email.message import Message
from hashlib import file_digest
from http.client import HTTPConnection
from io import SEEK_END, BufferedRandom
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import urlencode, urlsplit

from benchmarks.processes import Failed, Program, find
from xferd.media_types import DOCKER_MANIFEST, OCI_MANIFEST
from xferd.names import Digest
from xferd.oci import Document, Manifest, parse_document
from xferd.testing.certificates import Authority
from xferd.testing.storage import Storage

TAG = "1"
"""What every image in it is tagged."""


class _Answer(NamedTuple):
    """
    What matters of an answer.
    """

    headers: Message
    content: bytes


class Registry:
    """
    A registry.  With TLS, it only serves content.

    Life cycle: made, which starts it; stopped.

    @ivar host: its address and port.
    @ivar url: where it is, without a path.
    @ivar storage: where it keeps all.
    """

    def __init__(
        self,
        place: Path,
        storage: Path,
        address: str = "127.0.0.1",
        within: Sequence[str] = (),
        program: str = "docker-registry",
        authority: Authority | None = None,
    ) -> None:
        """
        @param place: an empty directory for its settings and its log.
        @param storage: the directory of its content, which it serves if it
            exists.
        @param address: the address on which it listens.
        @param within: the command that runs a command in the network.
        @param program: C{docker-registry}, or C{registry}, as later versions are called.
        @param authority: issues its certificate; without one it speaks plain HTTP.
        @raise Failed: it does not start.
        """
        find(program)
        self.storage = storage
        http: dict[str, object] = {"addr": f"{address}:0", "secret": "not one"}
        if authority is not None:
            names = [str(place / name) for name in ("certificate.pem", "key.pem")]
            for name, data in zip(names, authority.issue(address), strict=True):
                Path(name).write_bytes(data)
            http["tls"] = dict(zip(("certificate", "key"), names, strict=True))
        settings = place / "registry.yml"
        # JSON is YAML, too.
        settings.write_text(
            json.dumps(
                {
                    "version": 0.1,
                    "log": {"level": "info", "formatter": "json"},
                    "storage": {"filesystem": {"rootdirectory": str(storage)}},
                    "http": http,
                }
            )
        )
        self._program = Program([*within, program, "serve", str(settings)], place / "registry.log")
        line = self._program.ready("listening on ")
        found = re.search(r"listening on ([0-9.]+:[0-9]+)", line)
        if found is None:
            raise Failed(f"{program} does not say where it listens: {line}")
        self.host = found[1]
        self.url = f"{'http' if authority is None else 'https'}://{self.host}"

    @property
    def pid(self) -> int:
        """
        Its process ID.
        """
        return self._program.pid

    def stop(self) -> None:
        """
        End it.
        """
        self._program.stop()

    def sent(self) -> int:
        """
        The bytes of all blobs that it has sent so far.
        """
        requests = re.findall(r'"GET /v2/\S+/blobs/\S+ HTTP/[0-9.]+" 20[06] ([0-9]+) ', self._program.text())
        return sum(map(int, requests))

    def push(self, repository: str, storage: Storage) -> None:
        """
        Put an image, or an index with its manifests and blobs, into it.

        @param repository: where the image is, tagged L{TAG}, and where it goes.
        @param storage: the directory with the content.
        @raise Failed: the registry refuses it.
        """
        stock = storage.stock(repository)
        tagged = stock.find(TAG)
        assert tagged is not None
        documents = {str(d.digest): d for d in stock.documents.values() if d.digest != tagged.digest}
        with closing(HTTPConnection(self.host)) as connection:
            for digest in stock.blobs:
                with storage.blobs[digest].open() as file:
                    upload(connection, repository, digest, file, storage.blobs[digest].descriptor.size)
            for name, document in {**documents, TAG: tagged}.items():
                headers = {"Content-Type": document.media_type}
                path = f"/v2/{repository}/manifests/{name}"
                _ask(connection, "PUT", path, 201, document.data, headers)

    def add(self, repository: str, file: BufferedRandom) -> Digest:
        """
        Put a file into it as a blob.

        @raise Failed: the registry does not take it.
        """
        digest = Digest("sha256", file_digest(file, "sha256").hexdigest())
        size = file.seek(0, SEEK_END)
        file.seek(0)
        with closing(HTTPConnection(self.host)) as connection:
            upload(connection, repository, digest, file, size)
        return digest

    def link(self, repository: str, file: Path) -> Digest:
        """
        Have its storage, on the same file system, contain a file as a blob, also one that is
        too large to be sent to it.
        """
        with file.open("rb") as content:
            digest = Digest("sha256", file_digest(content, "sha256").hexdigest())
        root = self.storage / "docker/registry/v2"
        blob = root / "blobs" / digest.algorithm / digest.hex[:2] / digest.hex
        layer = root / "repositories" / repository / "_layers" / digest.algorithm / digest.hex
        for directory in (blob, layer):
            directory.mkdir(parents=True)
        os.link(file, blob / "data")
        (layer / "link").write_text(str(digest))
        return digest

    def describe(self, repository: str) -> Manifest:
        """
        Read the image that is tagged L{TAG}.

        @raise Failed: there is no such image.
        """
        with closing(HTTPConnection(self.host)) as connection:
            accept = {"Accept": ", ".join((DOCKER_MANIFEST, OCI_MANIFEST))}
            answer = _ask(connection, "GET", f"/v2/{repository}/manifests/{TAG}", 200, None, accept)
            document = Document.verified(answer.headers["Content-Type"], answer.content)
        manifest = parse_document(document)
        if not isinstance(manifest, Manifest):
            raise Failed(f"{repository} is an image for several platforms")
        return manifest


def upload(connection: HTTPConnection, repository: str, digest: Digest, file: BinaryIO, size: int) -> None:
    """
    Upload a blob to a registry.

    @raise Failed: the registry does not take it.
    """
    begun = _ask(connection, "POST", f"/v2/{repository}/blobs/uploads/", 202)
    parts = urlsplit(begun.headers["Location"])
    path = f"{parts.path}?{parts.query}&{urlencode({'digest': str(digest)})}"
    _ask(connection, "PUT", path, 201, file, {"Content-Length": str(size)})


def _ask(
    connection: HTTPConnection,
    method: str,
    path: str,
    status: int,
    body: BinaryIO | bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> _Answer:
    """
    Send a request.

    @param status: the expected status.
    @raise Failed: the registry answers with another one.
    """
    connection.request(method, path, body, dict(headers or {}))
    response = connection.getresponse()
    content = response.read()
    if response.status != status:
        host = f"{connection.host}:{connection.port}"
        raise Failed(f"{host} answered {method} {path} with {response.status}: {content!r}")
    return _Answer(response.headers, content)
