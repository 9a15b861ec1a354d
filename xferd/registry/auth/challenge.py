# -*- test-case-name: tests.registry.auth.test_challenge -*-
"""
The C{WWW-Authenticate} header (RFC 9110, section 11.6.1).

Pure.  Registries send several challenges in one header or in several, with
commas inside quoted strings; the grammar is ambiguous only to those who split
at commas.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from attrs import field, frozen

_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SEPARATORS = re.compile(r"[ \t,]*")
_SCHEME = re.compile(rf"({_WORD})(?=[ \t,]|$)[ \t]*")
_PARAMETER = re.compile(rf'({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', re.DOTALL)
_TOKEN68 = re.compile(r"([A-Za-z0-9\-._~+/]+=*)[ \t]*(?=,|$)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)

MAX_HEADER = 16 * 1024
"""Characters of a header that are read; a longer one is cut."""

MAX_CHALLENGES = 16
"""Challenges of one response that are read; the others are ignored."""


@frozen
class Challenge:
    """
    One challenge.

    @ivar scheme: in lower case, C{basic} or C{bearer}.
    @ivar parameters: by name in lower case; of duplicates, the first.
    """

    scheme: str
    parameters: Mapping[str, str] = field(factory=dict)


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """
    Read all challenges of all C{WWW-Authenticate} headers of one response, in
    order.

    A header is read up to its first syntax error.
    """
    found: list[Challenge] = []
    for header in headers:
        found.extend(_parse_header(header[:MAX_HEADER], MAX_CHALLENGES - len(found)))
        if len(found) == MAX_CHALLENGES:
            break
    return tuple(found)


def _parse_header(text: str, most: int) -> list[Challenge]:
    """
    Read one header's challenges, at most so many.
    """
    found: list[Challenge] = []
    parameters: dict[str, str] = {}
    at = _skip(text, 0)
    while at < len(text):
        # A parameter has a "=" behind its name, a scheme never has.
        parameter = _PARAMETER.match(text, at) if found else None
        if parameter is not None:
            name, quoted, plain = parameter.groups()
            value = _ESCAPE.sub(r"\1", quoted) if quoted is not None else plain
            parameters.setdefault(name.lower(), value)
            at = _skip(text, parameter.end())
            continue
        scheme = _SCHEME.match(text, at)
        if scheme is None or len(found) == most:
            break
        parameters = {}
        found.append(Challenge(scheme.group(1).lower(), parameters))
        at = scheme.end()
        credential = _TOKEN68.match(text, at)
        if credential is not None:
            at = credential.end()
        at = _skip(text, at)
    return found


def _skip(text: str, at: int) -> int:
    """
    The place behind blanks and empty list elements.
    """
    matched = _SEPARATORS.match(text, at)
    assert matched is not None
    return matched.end()
