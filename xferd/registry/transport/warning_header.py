# -*- test-case-name: tests.registry.transport.test_warning_header -*-
"""
The C{Warning} header (OCI distribution-spec, "Warnings"), whose text is for
people.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from xferd.registry.transport.errors import clean

MAX_WARNINGS_SIZE: Final = 4096
"""Bytes of all warnings of one response that are read at most."""

# RFC 9110, section 5.6.4: a quoted string; section 5.6.1: lists in one header.
_WARNING: Final = re.compile(r'\s*([0-9]{3}) (\S+) "((?:[^"\\]|\\.)*)"(?: "[^"]*")?\s*(?:,|$)', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


def parse_warnings(values: Iterable[str]) -> tuple[str, ...]:
    """
    Read the texts of C{Warning} headers with code 299 and agent C{-}, without
    duplicates and control characters.

    Text after L{MAX_WARNINGS_SIZE} and invalid headers are ignored.
    """
    left = MAX_WARNINGS_SIZE
    found: dict[str, None] = {}
    for value in values:
        left -= len(value.encode("utf-8", "replace"))
        if left < 0:
            break
        at = 0
        while match := _WARNING.match(value, at):
            at = match.end()
            code, agent, quoted = match.groups()
            text = clean(_ESCAPED.sub(r"\1", quoted), MAX_WARNINGS_SIZE)
            if (code, agent) == ("299", "-") and text:
                found[text] = None
            if at >= len(value):
                break
    return tuple(found)
