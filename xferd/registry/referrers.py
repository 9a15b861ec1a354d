# -*- test-case-name: tests.registry.test_referrers -*-
"""
Referrers: the manifests with another manifest as their subject (OCI
distribution-spec, "Listing Referrers" and "Pushing Manifests with Subject"), from
the registry's API, or from an index under the referrers tag.
"""

from __future__ import annotations

import json
from typing import Any, Final

from twisted.internet.defer import DeferredLock

from xferd.errors import BadDocument, ManifestUnknown, RegistryError, UnsupportedImage
from xferd.media_types import INDEXES, OCI_INDEX
from xferd.names import Digest, Repository
from xferd.oci import MAX_DOCUMENT, MAX_INDEX_ENTRIES, Descriptor, Document, Index, parse_document
from xferd.registry.access import AuthenticatedClient
from xferd.registry.list_pages import MAX_PAGES, follow, next_page, refused
from xferd.registry.manifests import ManifestChanged, Manifests
from xferd.registry.transport.errors import Resource, header, header_values
from xferd.registry.transport.exchange import Response
from xferd.subjects import json_of

MAX_PAGES_SIZE: Final = 2 * MAX_DOCUMENT
"""Bytes of all pages of one list, at most."""

_TRIES: Final = 3
"""Attempts to write an index that other clients write as well."""

_NO_API: Final = frozenset({400, 404, 405, 406, 501})
"""
The statuses of registries without the API: 404 (OCI distribution-spec,
"Unavailable Referrers API"), 400 (Quay), 406 (Artifactory), 405 and 501.
"""


def referrers_tag(digest: Digest) -> str:
    """
    The referrers tag of a subject, for registries without the API.
    """
    return f"{digest.algorithm[:32]}-{digest.hex[:64]}"


class Referrers:
    """
    The lists of referrers of one server.
    """

    def __init__(self, client: AuthenticatedClient, documents: Manifests) -> None:
        self._client = client
        self._documents = documents

    async def find(self, repository: Repository, digest: Digest) -> tuple[Descriptor, ...]:
        """
        See L{IRepository.referrers<xferd.interfaces.registry.IRepository.referrers>}.

        @raise RegistryError: the list is invalid, too long, or leads to another
            host.
        """
        resource = Resource(self._client.host, f"the referrers of {repository}@{digest}", ManifestUnknown)
        found: dict[Digest, Descriptor] = {}
        place = f"referrers/{digest}"
        size = 0
        for page in range(MAX_PAGES):
            response = await self._client.get(repository, place, {"Accept": OCI_INDEX}, resource)
            if page == 0 and response.status in _NO_API:
                await self._client.excerpt(response.raw)
                return await self._tagged(repository, digest)
            if response.status != 200:
                raise await self._client.refuse(response, resource)
            links = header_values(response.headers, "Link")
            try:
                listed, length = await self._read(response, resource)
            except (BadDocument, _NoIndex):
                if page > 0 or _is_index(response):
                    raise
                # A page of HTML, or a proxy's response to unknown paths.
                return await self._tagged(repository, digest)
            for entry in listed.manifests:
                found.setdefault(entry.digest, entry)
            size += length
            if size > MAX_PAGES_SIZE:
                raise refused(resource, f"it has more than {MAX_PAGES_SIZE} bytes")
            if len(found) > MAX_INDEX_ENTRIES:
                raise refused(resource, f"it lists more than {MAX_INDEX_ENTRIES}")
            following = next_page(links)
            if following is None:
                return tuple(found.values())
            place = await follow(self._client, response, following, resource)
        raise refused(resource, f"it lists them on more than {MAX_PAGES} pages")

    async def add(self, repository: Repository, subject: Digest, added: Descriptor) -> None:
        """
        Add a manifest to the index of its subject's referrers.

        @raise RegistryError: the tag has another document, or other clients
            change it at each attempt.
        """
        tag = referrers_tag(subject)
        key = (self._client.host, repository.path, tag)
        lock = self._client.locks.setdefault(key, DeferredLock())
        async with lock:
            for _ in range(_TRIES):
                try:
                    listed, etag = await self._index(repository, tag)
                except ManifestUnknown:
                    listed, etag = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}, ""
                if any(entry["digest"] == str(added.digest) for entry in listed["manifests"]):
                    return
                listed["manifests"].append(added.to_json())
                data = json.dumps(listed, separators=(",", ":")).encode()
                if len(data) > MAX_DOCUMENT:
                    raise BadDocument(f"the index {repository}:{tag} is full")
                try:
                    await self._documents.put(repository, tag, Document.verified(OCI_INDEX, data), etag)
                except ManifestChanged:
                    continue
                return
        raise RegistryError(
            f"others write the index {repository}:{tag} faster than it can be read", host=self._client.host
        )

    async def _index(self, repository: Repository, tag: str) -> tuple[dict[str, Any], str]:
        """
        The index under a tag, as JSON with its unknown members, and its ETag.
        """
        document, etag = await self._documents.fetch(repository, tag)
        if not isinstance(parse_document(document), Index):
            raise RegistryError(
                f"{repository}:{tag} should list referrers and is {document.media_type}",
                host=self._client.host,
            )
        value = json_of(document)
        value["manifests"] = value["manifests"] or []
        return value, etag

    async def _tagged(self, repository: Repository, digest: Digest) -> tuple[Descriptor, ...]:
        """
        The list under the referrers tag.
        """
        try:
            value, _ = await self._index(repository, referrers_tag(digest))
        except ManifestUnknown:
            return ()
        entries = enumerate(value["manifests"])
        return tuple(Descriptor.from_json(entry, f"manifests[{i}]") for i, entry in entries)

    async def _read(self, response: Response, resource: Resource) -> tuple[Index, int]:
        """
        Read one page.

        @return: the page, and its size in bytes.
        """
        media_type = header(response.headers, "Content-Type")
        document = Document.verified(media_type, await self._documents.read(response, MAX_DOCUMENT, resource))
        self._documents.check_readable(response, document, resource)
        try:
            found = parse_document(document)
        except UnsupportedImage as e:
            raise self._no_index(resource, f": {e}") from e
        if not isinstance(found, Index):
            raise self._no_index(resource)
        return found, len(document.data)

    def _no_index(self, resource: Resource, why: str = "") -> _NoIndex:
        return _NoIndex(str(refused(resource, f"it is no index{why}")), host=resource.host)


class _NoIndex(RegistryError):
    """
    A list of referrers is another document.
    """


def _is_index(response: Response) -> bool:
    """
    Whether a response has the media type of an index.
    """
    media_type = header(response.headers, "Content-Type").partition(";")[0].strip().lower()
    return media_type in INDEXES
