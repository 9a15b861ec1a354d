# -*- test-case-name: tests.v2.test_description -*-
"""
The registry as the API describes it, so that clients can be configured for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xferd.v2.settings import RegistrySettings

if TYPE_CHECKING:
    from xferd.interfaces.job_json import RegistryJSON


def describe(settings: RegistrySettings, listen: Sequence[str], urls: Sequence[str]) -> RegistryJSON:
    """
    Describe a registry.

    @param listen: the endpoints at which it listens, whatever the settings have by now.
    @param urls: the URLs of those whose address is known.
    """
    listed = settings.upstreams
    upstreams = {} if isinstance(listed, str) else listed
    return {
        "listen": list(listen),
        "urls": [*filter(None, [settings.external_url]), *urls] if listen else [],
        "default": settings.default,
        "any_public": isinstance(listed, str),
        "upstreams": [{"host": host, "alias": each.alias} for host, each in upstreams.items()],
        "local": list(settings.local),
    }
