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


def describe(settings: RegistrySettings, urls: Sequence[str]) -> RegistryJSON:
    """
    Describe a registry.

    @param urls: the URLs of its listeners.
    """
    listed = settings.upstreams
    upstreams = {} if isinstance(listed, str) else listed
    return {
        "listen": list(settings.listen),
        "urls": list(urls),
        "default": settings.default,
        "any_public": isinstance(listed, str),
        "upstreams": [{"host": host, "alias": each.alias} for host, each in upstreams.items()],
        "local": list(settings.local),
    }
