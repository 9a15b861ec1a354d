# -*- test-case-name: tests.test_patterns -*-
"""
Patterns of the names of repositories, as settings have them.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

_PATTERN: Final = re.compile(r"[A-Za-z0-9._:/*?-]+")
_TOKEN: Final = re.compile(r"\*\*|\*|\?|[^*?]+")


def is_pattern(text: str) -> bool:
    """
    Whether a text can be a pattern of names.
    """
    return _PATTERN.fullmatch(text) is not None


def matches_any(patterns: Iterable[str], name: str) -> bool:
    """
    Whether one of some patterns matches a name.

    C{*} stands for any characters within one component, C{**} for any number of
    components, C{?} for one character.
    """
    return any(_compiled(pattern).fullmatch(name) is not None for pattern in patterns)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    wild = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(wild.get(part, re.escape(part)) for part in _TOKEN.findall(pattern)))
