# -*- test-case-name: tests.web.test_replays -*-
"""
C{Idempotency-Key}: a request that is made again begins nothing new.

A client that lost the answer cannot know whether its job was begun.  It makes
the same request with the same key and gets the same job.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from attrs import frozen

from xferd.errors import BadInput, KeyReused

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

MAX_KEYS: Final = 10_000
"""How many keys are remembered, of all clients together."""

MAX_AGE: Final = 24 * 3600.0
"""Seconds for which a key is remembered."""

_KEY = re.compile(r"[\x21-\x7e]{1,128}")


@frozen
class _Made:
    """
    A request that was made.
    """

    body: bytes
    job_id: str
    when: float


class Replays:
    """
    The keys of the requests that were made, and the jobs that they began.

    They are in memory: a daemon that starts anew has ended the jobs, too.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._made: dict[tuple[str, str], _Made] = {}

    def find(self, client: str, key: str, body: bytes) -> str | None:
        """
        The job that the same request began before, if it did.

        @param client: whose key it is.
        @param body: a fingerprint of what is asked for.
        @raise BadInput: it is no key.
        @raise KeyReused: the key was used for another request.
        """
        if _KEY.fullmatch(key) is None:
            raise BadInput("Idempotency-Key must be 1 to 128 visible ASCII characters")
        self._forget()
        made = self._made.get((client, key))
        if made is None:
            return None
        if made.body != body:
            raise KeyReused("this Idempotency-Key was used for another request; use a new one for each")
        return made.job_id

    def made(self, client: str, key: str, body: bytes, job_id: str) -> None:
        """
        Remember what a request began.
        """
        self._made[client, key] = _Made(body, job_id, self._clock.seconds())
        if len(self._made) > MAX_KEYS:
            del self._made[next(iter(self._made))]

    def _forget(self) -> None:
        """
        Drop what is too old.
        """
        oldest = self._clock.seconds() - MAX_AGE
        while self._made:
            first = next(iter(self._made))
            if self._made[first].when > oldest:
                break
            del self._made[first]
