# -*- test-case-name: tests.registry.test_manifests -*-
"""
Manifests, indexes and configs: fetched whole and verified against every digest
that is known of them; and manifests put.
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
    SourceError,
    UnsupportedImage,
)
from xferd.media_types import ACCEPT, DOCKER_SCHEMA1
from xferd.names import Digest, Repository
from xferd.oci import MAX_DOCUMENT, Descriptor, Document, parse_document
from xferd.registry.access import AuthenticatedClient, pull_scope, push_scope
from xferd.registry.transport.errors import Resource, clean, header
from xferd.registry.transport.exchange import Response
from xferd.registry.transport.request_body import BytesBody
from xferd.registry.transport.response_body import discard, read_whole

# Schema 1 is accepted in order to refuse it by its name, and everything else, as
# containerd does, in order to copy it.
_ACCEPTED: Final = (*ACCEPT, *(f"{t};q=0.1" for t in sorted(DOCKER_SCHEMA1)), "*/*;q=0.05")

# One line with all types for registries that read the first line only, as
# containerd sends it, and one for each type for those that compare whole lines
# (old Harbor and Distribution), as docker and podman send it.
_ACCEPT: Final = (", ".join(_ACCEPTED), *_ACCEPTED)

_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


_MISSING: Final = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"})


class ManifestChanged(RegistryError):
    """
    Another client has written the same tag.
    """

    retryable = True


class Manifests:
    """
    The manifests and configs of one server.
    """

    _log = Logger()

    def __init__(self, client: AuthenticatedClient) -> None:
        self._client = client
        self._host = client.host

    async def manifest(self, repository: Repository, wanted: str) -> Document:
        """
        Fetch a manifest and verify it against every digest that is known of it.
        """
        document, _ = await self.fetch(repository, wanted)
        return document

    async def fetch(self, repository: Repository, wanted: str) -> tuple[Document, str]:
        """
        Fetch a manifest, and the C{ETag} by which it can be replaced, or the
        empty string.
        """
        digest = checked_reference(wanted)
        resource = self._resource(repository, wanted)
        response = await self._client.get(repository, f"manifests/{wanted}", {"Accept": _ACCEPT}, resource)
        if response.status != 200:
            raise await self._client.refuse(response, resource)
        headers = response.headers
        data = await self.read(response, MAX_DOCUMENT, resource)
        document = Document.verified(header(headers, "Content-Type"), data)
        self.check_readable(response, document, resource)
        if document.media_type in DOCKER_SCHEMA1:
            # Its digest covers a part of its bytes only: refuse it by its type first.
            parse_document(document)
        for expected in (digest, self._promised(header(headers, "Docker-Content-Digest"))):
            if expected is not None:
                self._verify(data, expected, resource.name)
        return Document.verified(document.media_type, data, digest), header(headers, "ETag")

    async def resolve(self, repository: Repository, wanted: str) -> Digest:
        """
        Find the digest of a manifest by HEAD.  Where the answer does not have it, the
        manifest is fetched: old registries, and servers that refuse the method.
        """
        digest = checked_reference(wanted)
        resource = self._resource(repository, wanted)
        response = await self._client.request(
            b"HEAD", repository, f"manifests/{wanted}", resource, {"Accept": _ACCEPT}, pull_scope(repository)
        )
        status = response.status
        if status == 200:
            await self._client.excerpt(response.raw)
            promised = self._promised(header(response.headers, "Docker-Content-Digest"))
            if promised is not None:
                if digest is not None and promised != digest and promised.algorithm == digest.algorithm:
                    raise DigestMismatch(
                        f"{self._host} has {promised} for {resource.name}, not {digest}", host=self._host
                    )
                return promised
        elif status in (405, 501) or not response.is_own:
            await self._client.excerpt(response.raw)
        else:
            raise await self._client.refuse(response, resource)
        return (await self.manifest(repository, wanted)).digest

    async def put(
        self, repository: Repository, wanted: str, document: Document, etag: str = ""
    ) -> Digest | None:
        """
        Put a manifest, byte for byte.

        @param etag: the C{ETag} of the manifest that it replaces, if that is known.
        @return: the digest of the subject whose list of referrers the registry
            has added it to, if it has.
        @raise ManifestChanged: it would replace another manifest.
        @raise BlobUnknown: the registry lacks something that it names.
        @raise DigestMismatch: the registry reports another digest.
        """
        checked_reference(wanted)
        resource = self._resource(repository, wanted, push=True)
        headers = {"Content-Type": document.media_type} | ({"If-Match": etag} if etag else {})
        response = await self._client.request(
            b"PUT",
            repository,
            f"manifests/{wanted}",
            resource,
            headers,
            push_scope(repository),
            lambda: BytesBody(document.data),
        )
        status, body = response.status, await self._client.excerpt(response.raw)
        if status not in (200, 201, 202, 204):
            raise self._put_refused(response, resource, body, document)
        stored = self._promised(header(response.headers, "Docker-Content-Digest"))
        if stored is not None and stored != Digest.of(document.data, stored.algorithm):
            raise DigestMismatch(
                f"{self._host} got {stored} for {resource.name}, not {document.digest}", host=self._host
            )
        return self._promised(header(response.headers, "OCI-Subject"))

    def _put_refused(
        self, response: Response, resource: Resource, body: bytes, document: Document
    ) -> SourceError:
        """
        The error for a manifest that was not taken.
        """
        status, details = response.status, self._client.details(response, body)
        error = self._client.refusal(response, resource, body)
        said = f"{status}: {details.text}" if details.text else f"{status}"
        if status == 412:
            return ManifestChanged(f"{resource.name} has changed meanwhile", host=self._host, status=status)
        if _MISSING.intersection(details.codes):
            return BlobUnknown(
                f"{self._host} does not have everything that {resource.name} names ({said})",
                host=self._host,
                status=status,
            )
        if status == 413:
            why = f"its {len(document.data)} bytes are too many"
        elif status == 415 or "MANIFEST_INVALID" in details.codes:
            why = f"it does not like manifests of type {document.media_type}, or this one"
        elif status in (405, 501):
            why = "it is read-only"
        else:
            return error
        return RegistryError(
            f"{self._host} does not take {resource.name}: {why} ({said})", host=self._host, status=status
        )

    def _resource(self, repository: Repository, wanted: str, push: bool = False) -> Resource:
        """
        A manifest as errors name it.
        """
        joint = "@" if ":" in wanted else ":"
        return Resource(self._host, f"{repository}{joint}{wanted}", ManifestUnknown, push)

    async def document(self, repository: Repository, descriptor: Descriptor) -> bytes:
        """
        Fetch a config and verify it against its descriptor.
        """
        resource = Resource(self._host, f"{repository}@{descriptor.digest}", BlobUnknown)
        size = descriptor.size
        if size > MAX_DOCUMENT:
            raise BadDocument(f"{resource.name} has {size} bytes; a document has at most {MAX_DOCUMENT}")
        response = await self._client.get(repository, f"blobs/{descriptor.digest}", {}, resource)
        if response.status != 200:
            raise await self._client.refuse(response, resource)
        data = await self.read(
            response, size, resource, lambda: self._wrong_size(resource.name, size, "more")
        )
        if len(data) != size:
            raise self._wrong_size(resource.name, size, f"{len(data)}")
        self._verify(data, descriptor.digest, resource.name)
        return data

    def check_readable(self, response: Response, document: Document, resource: Resource) -> None:
        """
        Check that a document from another server than the registry's own is a
        manifest; errors would quote parts of any other text.

        @raise RegistryError: it is no manifest and no index.
        """
        if response.is_own:
            return
        try:
            parse_document(document)
        except BadDocument:
            raise RegistryError(
                f"{self._host} leads to {response.where} for {resource.name}, "
                "which answers with something else",
                host=self._host,
                status=response.status,
            ) from None
        except UnsupportedImage:
            pass  # The error quotes the type, which is a header.

    async def read(
        self,
        response: Response,
        limit: int,
        resource: Resource,
        too_long: Callable[[], Exception] | None = None,
    ) -> bytes:
        """
        Read a document's bytes.

        @param limit: bytes at most.
        @param too_long: makes the error for more.
        """
        if too_long is None:

            def too_long() -> BadDocument:
                return BadDocument(f"{resource.name} is larger than {limit} bytes")

        encoding = header(response.headers, "Content-Encoding").strip().lower()
        if encoding not in ("", "identity"):
            discard(response.raw)
            raise RegistryError(
                f"{resource.host} sends {resource.name} encoded ({clean(encoding)}), "
                "though identity was requested",
                host=resource.host,
                status=response.status,
            )
        return await read_whole(
            response.raw,
            limit,
            too_long,
            host=self._host,
            clock=self._client.clock,
            timeouts=self._client.timeouts,
        )

    def _promised(self, text: str) -> Digest | None:
        """
        The digest in a header, if there is one that can be verified; old
        registries send none.
        """
        try:
            return Digest.parse(text) if text else None
        except BadDigest:
            self._log.debug("{host} sends the digest {digest}", host=self._host, digest=clean(text))
            return None

    def _verify(self, data: bytes, expected: Digest, name: str) -> None:
        """
        Verify bytes against a digest.
        """
        found = Digest.of(data, expected.algorithm)
        if found != expected:
            raise DigestMismatch(f"{self._host} sent {found} for {name}, not {expected}", host=self._host)

    def _wrong_size(self, name: str, size: int, found: str) -> SizeMismatch:
        return SizeMismatch(f"{self._host} sent {found} bytes for {name}, not {size}", host=self._host)


def checked_reference(wanted: str) -> Digest | None:
    """
    Check that a reference is a tag or a digest, before it becomes a part of an URL.

    @return: the digest, if it is one.
    @raise BadReference: it is neither.
    """
    if ":" in wanted:
        return Digest.parse(wanted)
    if _TAG.fullmatch(wanted) is None:
        raise BadReference(wanted, "it is neither a tag nor a digest")
    return None
