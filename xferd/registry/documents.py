# -*- test-case-name: tests.registry.test_client -*-
"""
Documents: manifests, indexes and configs, fetched whole and held against all
digests that are known of them, and manifests put.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

from xferd.errors import (
    BadDigest,
    BadDocument,
    BadReference,
    BlobUnknown,
    DigestMismatch,
    ManifestUnknown,
    RegistryError,
    SizeMismatch,
)
from xferd.names import Digest, Repository
from xferd.oci import ACCEPT, DOCKER_SCHEMA1, MAX_DOCUMENT, Descriptor, Document, parse_document
from xferd.registry.access import Access
from xferd.registry.answers import Subject, clean, header
from xferd.registry.body import discard, read_whole
from xferd.registry.exchange import Answer

# Schema 1 is asked for, last of all, in order to be refused by its name.
_ACCEPT: Final = ", ".join((*ACCEPT, *(f"{t};q=0.1" for t in sorted(DOCKER_SCHEMA1))))

_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


class Documents:
    """
    The documents of one registry.
    """

    _log = Logger()

    def __init__(self, access: Access) -> None:
        self._access = access
        self._host = access.host

    async def manifest(self, repository: Repository, wanted: str) -> Document:
        """
        Fetch a manifest and hold it against all digests that are known of it.
        """
        digest = _checked_reference(wanted)
        joint = "@" if digest is not None else ":"
        what = Subject(self._host, f"{repository}{joint}{wanted}", ManifestUnknown)
        answer = await self._access.get(repository, f"manifests/{wanted}", {"Accept": _ACCEPT}, what)
        if answer.response.code != 200:
            raise await self._access.refuse(answer, what)
        headers = answer.response.headers
        data = await self._read(
            answer,
            MAX_DOCUMENT,
            lambda: BadDocument(f"the manifest {what.name} is larger than {MAX_DOCUMENT} bytes"),
            what,
        )
        document = Document.verified(header(headers, "Content-Type"), data)
        if document.media_type in DOCKER_SCHEMA1:
            # Its digest is of a part of its bytes only: say what it is first.
            parse_document(document)
        for expected in (digest, self._promised(header(headers, "Docker-Content-Digest"))):
            if expected is not None:
                self._verify(data, expected, what.name)
        return Document.verified(document.media_type, data, digest)

    async def document(self, repository: Repository, descriptor: Descriptor) -> bytes:
        """
        Fetch a config and hold it against its descriptor.
        """
        what = Subject(self._host, f"{repository}@{descriptor.digest}", BlobUnknown)
        size = descriptor.size
        if size > MAX_DOCUMENT:
            raise BadDocument(f"{what.name} has {size} bytes; a document has at most {MAX_DOCUMENT}")
        answer = await self._access.get(repository, f"blobs/{descriptor.digest}", {}, what)
        if answer.response.code != 200:
            raise await self._access.refuse(answer, what)
        data = await self._read(answer, size, lambda: self._wrong_size(what.name, size, "more"), what)
        if len(data) != size:
            raise self._wrong_size(what.name, size, f"{len(data)}")
        self._verify(data, descriptor.digest, what.name)
        return data

    async def _read(
        self, answer: Answer, limit: int, too_long: Callable[[], Exception], what: Subject
    ) -> bytes:
        """
        Read a document's bytes.
        """
        encoding = header(answer.response.headers, "Content-Encoding").strip().lower()
        if encoding not in ("", "identity"):
            discard(answer.response)
            raise RegistryError(
                f"{what.host} sends {what.name} encoded ({clean(encoding)}), though it was asked not to",
                host=what.host,
                status=answer.response.code,
            )
        return await read_whole(
            answer.response,
            limit,
            too_long,
            host=self._host,
            clock=self._access.clock,
            timeouts=self._access.timeouts,
        )

    def _promised(self, text: str) -> Digest | None:
        """
        The digest in C{Docker-Content-Digest}, where there is one that can be
        verified; old registries send none.
        """
        try:
            return Digest.parse(text) if text else None
        except BadDigest:
            self._log.debug("{host} sends the digest {digest}", host=self._host, digest=clean(text))
            return None

    def _verify(self, data: bytes, expected: Digest, name: str) -> None:
        """
        Hold bytes against a digest.
        """
        found = Digest.of(data, expected.algorithm)
        if found != expected:
            raise DigestMismatch(f"{self._host} sent {found} for {name}, not {expected}", host=self._host)

    def _wrong_size(self, name: str, size: int, found: str) -> SizeMismatch:
        return SizeMismatch(f"{self._host} sent {found} bytes for {name}, not {size}", host=self._host)


def _checked_reference(wanted: str) -> Digest | None:
    """
    Make sure that a tag or a digest can stand in an URL.

    @return: the digest, if it is one.
    @raise BadReference: it is neither.
    """
    if ":" in wanted:
        return Digest.parse(wanted)
    if _TAG.fullmatch(wanted) is None:
        raise BadReference(wanted, "it is neither a tag nor a digest")
    return None
