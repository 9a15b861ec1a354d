# -*- test-case-name: tests.registry.test_tokens -*-
"""
Bearer tokens: what a token server answers, and waiting for one together.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from xferd.registry.credentials import Secret

DEFAULT_LIFE: Final = 60.0
"""Seconds that a token lives if the token server does not say."""

_MARGIN: Final = 10.0


@frozen
class Token:
    """
    A Bearer token.

    @ivar secret: what to send.
    @ivar expires: the clock's seconds from which on it is not to be used.
    """

    secret: Secret
    expires: float


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
    return Token(Secret(text), began + life - min(_MARGIN, life / 10))


class TokenFetch:
    """
    One request for a token and all who wait for it.  It is cancelled when the
    last of them has gone.
    """

    def __init__(self) -> None:
        self._waiting: list[Deferred[Token]] = []
        self._work: Deferred[None] | None = None

    def start(self, work: Deferred[Token], done: Callable[[], None]) -> None:
        """
        Begin; C{done} is called before the first waiter is told.
        """

        def tell(result: Token | Failure) -> None:
            done()
            while self._waiting:
                waiter = self._waiting.pop(0)
                if isinstance(result, Failure):
                    waiter.errback(result)
                else:
                    waiter.callback(result)

        self._work = work.addBoth(tell)

    def wait(self) -> Deferred[Token]:
        """
        Wait for the token.  Cancelling ends only this wait.
        """
        waiter: Deferred[Token] = Deferred(self._leave)
        self._waiting.append(waiter)
        return waiter

    def _leave(self, waiter: Deferred[Token]) -> None:
        self._waiting.remove(waiter)
        if not self._waiting and self._work is not None:
            self._work.cancel()
