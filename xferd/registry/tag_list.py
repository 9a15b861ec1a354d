# -*- test-case-name: tests.registry.test_tag_list -*-
"""
The tags of a repository, in as many pages as the registry sends (OCI
distribution-spec, "Listing Tags").
"""

from __future__ import annotations

import json
from typing import Final

from xferd.errors import BadDocument, BadReference, ManifestUnknown
from xferd.names import Repository, parse_tag
from xferd.oci import MAX_DOCUMENT, check_extent
from xferd.registry.access import AuthenticatedClient
from xferd.registry.list_pages import MAX_PAGES, follow, next_page, refused
from xferd.registry.manifests import Manifests
from xferd.registry.transport.errors import Resource, header_values

MAX_TAGS: Final = 100_000
"""Tags of one repository that are read, at most."""


class TagList:
    """
    The lists of tags of one server.
    """

    def __init__(self, client: AuthenticatedClient, documents: Manifests) -> None:
        self._client = client
        self._documents = documents

    async def find(self, repository: Repository) -> tuple[str, ...]:
        """
        See L{IRepository.tags<xferd.interfaces.registry.IRepository.tags>}.

        @raise RegistryError: the list is invalid, too long, or leads to another
            host.
        """
        resource = Resource(self._client.host, f"the tags of {repository}", ManifestUnknown)
        found: dict[str, None] = {}
        place = "tags/list"
        for _ in range(MAX_PAGES):
            response = await self._client.get(repository, place, {"Accept": "application/json"}, resource)
            if response.status != 200:
                raise await self._client.refuse(response, resource)
            links = header_values(response.headers, "Link")
            data = await self._documents.read(response, MAX_DOCUMENT, resource)
            found.update(dict.fromkeys(_tags(data, resource)))
            if len(found) > MAX_TAGS:
                raise refused(resource, f"it lists more than {MAX_TAGS}")
            following = next_page(links)
            if following is None:
                return tuple(found)
            place = await follow(self._client, response, following, resource)
        raise refused(resource, f"it lists them on more than {MAX_PAGES} pages")


def _tags(data: bytes, resource: Resource) -> list[str]:
    """
    The tags of one page; null is an empty list, as Go writes it.  Texts that are no tags are
    left out.

    @raise RegistryError: it is no list of tags.
    """
    try:
        check_extent(data, resource.name)
        value = json.loads(data)
    except (BadDocument, ValueError, RecursionError) as e:
        raise refused(resource, f"it is not JSON: {e}") from e
    tags = value.get("tags", 0) if isinstance(value, dict) else 0
    if tags is None:
        return []
    if not isinstance(tags, list):
        raise refused(resource, "it has no 'tags'")
    return [tag for tag in tags if isinstance(tag, str) and _is_tag(tag)]


def _is_tag(text: str) -> bool:
    try:
        parse_tag(text)
    except BadReference:
        return False
    return True
