# -*- test-case-name: tests.engines.containers_storage.test_created -*-
"""
The time at which an image was created, in a form that all engines read: one that they
cannot read would make all images of the view an error.

Pure.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final

UNKNOWN: Final = "1970-01-01T00:00:00Z"


def created_of(config: bytes) -> str:
    """
    The time in an image's config, RFC 3339 in UTC; L{UNKNOWN} if there is none.
    """
    try:
        found = datetime.fromisoformat(json.loads(config)["created"])
        zoned = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return UNKNOWN
    return zoned.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
