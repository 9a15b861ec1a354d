# -*- test-case-name: tests.registry.auth.test_tokens -*-
"""
Bearer tokens, as token servers send them.
"""

from __future__ import annotations

import json
from typing import Final

from attrs import frozen

from xferd.credentials import Secret

DEFAULT_LIFE: Final = 60.0
"""Seconds for which a token is valid if the token server does not state it."""

_MARGIN: Final = 10.0


@frozen
class Token:
    """
    A Bearer token.

    @ivar secret: the token itself.
    @ivar expires: the clock's seconds from which on it is not used.
    @ivar made: the clock's seconds when it was requested.
    """

    secret: Secret
    expires: float
    made: float


def parse_token(data: bytes, began: float) -> Token | None:
    """
    Read a token server's response: C{token} or C{access_token}, and
    C{expires_in}.

    @param began: the clock's seconds when it was requested, from which its age
        is counted.
    @return: L{None} if there is no token in it.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    text = value.get("token") or value.get("access_token")
    if not isinstance(text, str) or not text.isascii() or not text.isprintable():
        return None
    life = value.get("expires_in")
    if not isinstance(life, int | float) or isinstance(life, bool) or not 0 < life < 1e9:
        life = DEFAULT_LIFE
    # Not used in its last moments: it could expire on the way.
    return Token(Secret(text), began + life - min(_MARGIN, life / 10), began)
