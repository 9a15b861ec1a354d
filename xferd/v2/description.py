# -*- test-case-name: tests.v2.test_description -*-
"""
The registry as the API describes it, so that clients can be configured for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xferd.interfaces.mirror import UpstreamFigures
from xferd.v2.settings import RegistrySettings

if TYPE_CHECKING:
    from xferd.interfaces.job_json import RegistryJSON, UpstreamJSON


def describe(
    settings: RegistrySettings,
    urls: Sequence[str],
    figures: Mapping[str, UpstreamFigures],
) -> RegistryJSON:
    """
    Describe a registry.

    @param urls: the URLs of the listeners whose address is known.
    @param figures: the counters of upstreams, by host.
    """
    listed = settings.upstreams
    aliases = {} if isinstance(listed, str) else {host: each.alias for host, each in listed.items()}
    return {
        "listen": list(settings.listen),
        "urls": [*filter(None, [settings.external_url]), *urls] if settings.listen else [],
        "default": settings.default,
        "any_public": isinstance(listed, str),
        "upstreams": [
            _upstream(host, aliases.get(host, ""), figures.get(host, UpstreamFigures()))
            for host in dict.fromkeys([*aliases, *figures])
        ],
        "local": list(settings.local),
    }


def _upstream(host: str, alias: str, figures: UpstreamFigures) -> UpstreamJSON:
    return {
        "host": host,
        "alias": alias,
        "hits": figures.hits,
        "misses": figures.misses,
        "stale": figures.stale,
        "sent": figures.sent,
        "fetched": figures.fetched,
        "saved": figures.saved,
    }
