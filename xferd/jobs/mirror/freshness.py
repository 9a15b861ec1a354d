# -*- test-case-name: tests.jobs.mirror.test_freshness -*-
"""
Whether a mirrored tag is used as it is, checked with its upstream first, or served
although the upstream does not confirm it.

Pure: ages are arguments.
"""

from __future__ import annotations

import re
from enum import Enum
from fnmatch import fnmatchcase
from math import inf
from typing import Final

from xferd.errors import BadImage, Denied, ManifestUnknown, SourceError, TooManyRequests, XferdError
from xferd.interfaces.mirror import TagPolicy

VERSION_LIFETIME: Final = 3600.0
"""Seconds for which a tag that is a whole version is used without a check."""

_VERSION: Final = re.compile(r"v?[0-9]+\.[0-9]+\.[0-9]+(?:[-+._].*)?")
"""A version with all its parts, C{1.25.3-alpine}: rebuilt now and then, but not moved as C{1.25} is."""


class Fallback(Enum):
    """
    What to do with the known content of a tag that its upstream did not confirm.
    """

    SERVE = "serve it, with a warning"
    REFUSE = "keep it, and fail with the upstream's error"
    DROP = "remove the tag, and fail with the upstream's error"


def lifetime(policy: TagPolicy, tag: str) -> float:
    """
    The seconds for which a tag is used without a check: those of the first pattern
    that matches, else an hour for a whole version, else the policy's usual ones.
    """
    for pattern, seconds in policy.patterns:
        if fnmatchcase(tag, pattern):
            return seconds
    return VERSION_LIFETIME if _VERSION.fullmatch(tag) else policy.lifetime


def is_fresh(policy: TagPolicy, tag: str, age: float) -> bool:
    """
    Whether a tag is used without a check.

    @param age: seconds since the upstream was last known to have it.  A negative
        one shows that the clock was set back, and thus proves nothing.
    """
    seconds = lifetime(policy, tag)
    return seconds == inf or 0 <= age < seconds


def after(error: Exception, policy: TagPolicy, age: float) -> Fallback:
    """
    Decide what becomes of a tag that could not be confirmed.

    @param error: what the check failed with.
    @param age: as for L{is_fresh}.
    """
    if isinstance(error, ManifestUnknown) and not policy.keep_gone:
        return Fallback.DROP
    if isinstance(error, Denied) and not policy.keep_gone:
        # A wrong password must not remove anything.
        return Fallback.REFUSE
    if not isinstance(error, SourceError | BadImage) or age > policy.stale:
        return Fallback.REFUSE
    return Fallback.SERVE


def explanation(error: XferdError, name: str, age: float) -> str:
    """
    The warning for a client that gets what was not confirmed.

    @param name: the repository and the tag.
    """
    if isinstance(error, ManifestUnknown | Denied):
        why = "its registry does not have it"
    elif isinstance(error, TooManyRequests):
        why = "the rate limit of its registry is reached"
    else:
        why = "its registry does not answer"
    return f"{name} is as it was {in_words(age)} ago: {why}"


def in_words(seconds: float) -> str:
    """
    An age in one unit.
    """
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // size)
        if count:
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "less than a minute"
