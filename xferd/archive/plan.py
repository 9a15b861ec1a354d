# -*- test-case-name: tests.archive.test_plan -*-
"""
Plans an archive that docker, podman and skopeo load.

It is an OCI image layout, and in its C{docker} form also has docker's
C{manifest.json}, as docker 25 and newer save images: C{docker load}, C{podman
load}, and skopeo's C{oci-archive:} and C{docker-archive:} all read this form.
The documents come first, for readers of the archive as a stream.

The archives of equal images have equal bytes.  Pure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from attrs import evolve, frozen

from xferd.archive.contents import DOCKER, FULL_NAME, INDEX, LAYOUT, NAME, RENDITION_OF
from xferd.media_types import OCI_INDEX
from xferd.names import Digest, Reference
from xferd.oci import Descriptor, Document, Manifest
from xferd.unpack.tar import BLOCK

FORMS: Final = ("docker", "oci")

END: Final = bytes(2 * BLOCK)
"""The end of an archive: two blocks of zeros."""

_NAME: Final = 100
_OCTAL: Final = 8**11
"""Greater sizes do not fit into eleven octal digits, and are written in GNU tar's form."""


@frozen
class Plan:
    """
    An archive to write.

    @ivar parts: its bytes, and the blobs between them, in order.
    """

    parts: tuple[bytes | Descriptor, ...]

    @property
    def size(self) -> int:
        """
        The bytes of the archive.
        """
        return sum(len(part) if isinstance(part, bytes) else part.size for part in self.parts)


def plan(
    reference: Reference,
    manifest: Manifest,
    document: Document,
    form: str,
    original: Document | None = None,
) -> Plan:
    """
    Plan the archive of one image.

    @param document: the manifest, of OCI's media type.
    @param form: one of L{FORMS}.
    @param original: the Docker manifest of which C{document} is the OCI form.
    """
    documents = {
        LAYOUT: _json({"imageLayoutVersion": "1.0.0"}),
        INDEX: _json(_index(reference, document, original)),
    }
    if form == "docker":
        documents[DOCKER] = _json([_docker(reference, manifest)])
    parts: list[bytes | Descriptor] = []
    for name, data in documents.items():
        parts += _file(name, data, len(data))
    parts.append(tar_header("blobs/", 0))
    seen: set[Digest] = set()
    folders: set[str] = set()

    def add(digest: Digest, size: int, content: bytes | Descriptor) -> None:
        if digest in seen:
            return
        seen.add(digest)
        if digest.algorithm not in folders:
            folders.add(digest.algorithm)
            parts.append(tar_header(f"blobs/{digest.algorithm}/", 0))
        parts.extend(_file(_path(digest), content, size))

    for one in (document, original):
        if one is not None:
            add(one.digest, len(one.data), one.data)
    for blob in (manifest.config, *manifest.layers):
        add(blob.digest, blob.size, blob)
    return Plan((*parts, END))


def _index(reference: Reference, document: Document, original: Document | None) -> dict[str, Any]:
    notes = {NAME: str(reference), FULL_NAME: str(reference)}
    if original is not None:
        notes[RENDITION_OF] = str(original.digest)
    entry = evolve(document.descriptor, annotations=notes).to_json()
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}


def _docker(reference: Reference, manifest: Manifest) -> dict[str, Any]:
    tagged = Reference(reference.repository, reference.tag)
    return {
        "Config": _path(manifest.config.digest),
        "RepoTags": [] if reference.tag is None else [tagged.familiar()],
        "Layers": [_path(layer.digest) for layer in manifest.layers],
    }


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _file(name: str, content: bytes | Descriptor, size: int) -> Sequence[bytes | Descriptor]:
    return (tar_header(name, size), content, padding(size))


def padding(size: int) -> bytes:
    """
    The padding after a file of C{size} bytes.
    """
    return bytes(-size % BLOCK)


def tar_header(name: str, size: int) -> bytes:
    """
    The header of a file or a directory, with a constant mode, owner and time.

    @param name: in ASCII; a directory's ends in a slash.  A name of more than
        100 characters, such as that of a sha512 blob, gets GNU's header for
        long names.
    """
    encoded = name.encode("ascii")
    before = b""
    if len(encoded) > _NAME:
        long = encoded + b"\0"
        before = _header(b"././@LongLink", len(long), b"L") + long + padding(len(long))
    return before + _header(encoded[:_NAME], size, b"5" if name.endswith("/") else b"0")


def _header(name: bytes, size: int, kind: bytes) -> bytes:
    """
    A header block (POSIX.1-2001, "ustar Interchange Format").
    """
    octal = size < _OCTAL
    fields = [
        name.ljust(_NAME, b"\0"),
        b"0000755\0" if kind == b"5" else b"0000644\0",
        b"0000000\0" * 2,
        b"%011o\0" % size if octal else b"\x80" + size.to_bytes(11, "big"),
        b"%011o\0" % 0,
        b" " * 8,
        kind,
        bytes(100),
        b"ustar\x0000" if octal else b"ustar  \0",
    ]
    header = b"".join(fields).ljust(BLOCK, b"\0")
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]
