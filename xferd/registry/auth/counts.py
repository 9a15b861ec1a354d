# -*- test-case-name: tests.registry.auth.test_counts -*-
"""
How often registries demanded authentication, and what came of it.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, TypeVar

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from xferd.errors import Denied

T = TypeVar("T")

CHALLENGED: Final = "challenged"
TOKEN_GIVEN: Final = "token"  # noqa: S105 - no password
REFUSED: Final = "refused"
FAILED: Final = "failed"

RESULTS: Final = (CHALLENGED, TOKEN_GIVEN, REFUSED, FAILED)
"""A registry answered 401; a token server gave a token; credentials or a token were refused; a token
server or a credential helper failed otherwise."""

MOST_HOSTS: Final = 1000
"""The registries that are counted singly, at most."""

OTHERS: Final = "other"


class AuthCounts:
    """
    Counts since the start, by registry and by one of L{RESULTS}.

    @ivar counts: the counts, 0 for a result that a registry has not had.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(self, host: str, result: str) -> None:
        """
        Count a result.
        """
        if (host, result) not in self.counts:
            if len(self.counts) >= MOST_HOSTS * len(RESULTS):
                host = OTHERS
            self.counts.update({(host, each): 0 for each in RESULTS})
        self.counts[host, result] += 1

    def token(self, result: T | Failure, host: str) -> T | Failure:
        """
        Count the result of a request for a token, as a callback; one that was cancelled has none.
        """
        if not isinstance(result, Failure):
            self.add(host, TOKEN_GIVEN)
        elif result.check(CancelledError) is None:
            self.add(host, REFUSED if result.check(Denied) else FAILED)
        return result
