# -*- test-case-name: tests.registry.test_referrers,tests.registry.test_tag_list -*-
"""
Lists in pages: the C{Link} header that leads to the next one (OCI distribution-spec,
"Listing Tags", "Listing Referrers"; RFC 8288).
"""

from __future__ import annotations

import re
from typing import Final

from xferd.errors import RegistryError
from xferd.registry.access import AuthenticatedClient
from xferd.registry.transport.errors import Resource
from xferd.registry.transport.exchange import Response
from xferd.registry.transport.urls import resolve

MAX_PAGES: Final = 100
"""Pages of one list that are read, at most."""

_NEXT = re.compile(r'<([^<>]*)>[^,<>]*;\s*rel="?next"?', re.IGNORECASE)


def next_page(links: list[str]) -> str | None:
    """
    The URL of the next page from C{Link} headers (RFC 8288), if there is one.
    """
    matched = next((m for link in links if (m := _NEXT.search(link))), None)
    return matched.group(1) if matched is not None else None


async def follow(client: AuthenticatedClient, response: Response, link: str, resource: Resource) -> str:
    """
    The URL of the next page.

    @raise RegistryError: it is on another host, or the same page again.
    """
    try:
        url = resolve(response.url, link, response.zone)
    except ValueError as e:
        raise refused(resource, f"its next page is refused: {e}") from None
    if not await client.is_own(url) or url == response.url:
        raise refused(resource, "its next page is on another host, or the same again")
    return url


def refused(resource: Resource, why: str) -> RegistryError:
    """
    The error for a list that is not accepted.
    """
    return RegistryError(
        f"{resource.host} sends a list for {resource.name} that is refused: {why}", host=resource.host
    )
