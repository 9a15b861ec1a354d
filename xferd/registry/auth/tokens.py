# -*- test-case-name: tests.registry.auth.test_tokens -*-
"""
Bearer tokens: what a token server answers.
"""

from __future__ import annotations

import json
from typing import Final

from attrs import frozen

from xferd.credentials import Secret

DEFAULT_LIFE: Final = 60.0
"""Seconds that a token lives if the token server does not say."""

_MARGIN: Final = 10.0


@frozen
class Token:
    """
    A Bearer token.

    @ivar secret: what to send.
    @ivar expires: the clock's seconds from which on it is not to be used.
    @ivar made: the clock's seconds when it was asked for.
    """

    secret: Secret
    expires: float
    made: float


def parse_token(data: bytes, began: float) -> Token | None:
    """
    Read a token server's answer: C{token} or C{access_token}, and for how
    many seconds it lives.

    @param began: the clock's seconds when it was asked for; a token ages on
        its way.
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
    # Not used in its last moments, lest it dies on its way.
    return Token(Secret(text), began + life - min(_MARGIN, life / 10), began)
