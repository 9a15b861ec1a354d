# -*- test-case-name: tests.web.test_idempotency -*-
"""
C{Idempotency-Key}: a repeated request returns the job of the first one.

A client that lost the response cannot know whether its job was begun.  It
repeats the request with the same key and gets the same job, also from a daemon
that was restarted meanwhile.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from xferd.errors import BadInput, KeyReused, NotFound, StoreError
from xferd.interfaces.journal import IdempotencyKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from xferd.interfaces.jobs import IJobs
    from xferd.interfaces.journal import IJournal
    from xferd.interfaces.reactor import WallClock

MAX_KEYS: Final = 10_000
"""The keys of one client that are remembered."""

MAX_ALL_KEYS: Final = 50_000
"""The keys of all clients together."""

MAX_AGE: Final = 24 * 3600.0
"""Seconds for which a key is remembered."""

_KEY = re.compile(r"[\x21-\x7e]{1,128}")


class Idempotency:
    """
    The keys of requests, and the jobs that they began.

    Life cycle: made; C{start}ed, when the journal can be read.  Requests with
    a key wait for that.
    """

    _log = Logger()

    def __init__(self, jobs: IJobs, journal: IJournal, clock: IReactorTime, *, wall_clock: WallClock) -> None:
        """
        @param wall_clock: makes the stamps of keys; their ages in memory are
            measured with C{clock}.
        """
        self._jobs = jobs
        self._journal = journal
        self._clock = clock
        self._wall_clock = wall_clock
        # Each with the time until which it is remembered.
        self._made: dict[tuple[str, str], tuple[IdempotencyKey, float]] = {}
        self._of_client: dict[str, dict[str, None]] = {}
        self._started = False
        self._waiting: list[Deferred[None]] = []

    async def start(self) -> None:
        """
        Read the keys of earlier daemons.

        @raise StoreError: the journal cannot be read.
        """
        now = self._wall_clock()
        for kept in await self._journal.keys(now - MAX_AGE):
            # The clock may have been set back since.
            self._remember(kept, max(now - kept.created, 0.0))
        self._started = True
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    async def begin(
        self, client: str, key: str, fingerprint: bytes, begin: Callable[[], str]
    ) -> tuple[str, bool]:
        """
        Begin a job, unless the same request has begun one.

        @param client: the client to which the key belongs.
        @param fingerprint: the digest of the request's body.
        @param begin: begins the job, and returns its ID.
        @return: the job's ID, and whether it is new.  The journal then has the key of
            a new job, unless its disk refuses.
        @raise BadInput: the key is not valid.
        @raise KeyReused: the key came with another request before.
        """
        if _KEY.fullmatch(key) is None:
            raise BadInput("Idempotency-Key must be 1 to 128 visible ASCII characters")
        if not self._started:
            # Needs no canceller: a waiter that was cancelled ignores the call.
            waiter: Deferred[None] = Deferred()
            self._waiting.append(waiter)
            await waiter
        while (made := self._find(client, key)) is not None:
            if made.fingerprint != fingerprint:
                raise KeyReused("this Idempotency-Key was used for another request; use a new one for each")
            try:
                await self._jobs.find(made.job_id)
                return made.job_id, False
            except NotFound:
                # So many jobs came since that the journal has dropped it.
                if self._find(client, key) is made:
                    self._forget(client, key)
        job_id = begin()
        kept = IdempotencyKey(client, key, fingerprint, job_id, self._wall_clock())
        self._remember(kept, 0.0)
        try:
            await self._journal.record_key(kept)
        except StoreError as e:
            self._log.error("an Idempotency-Key will not outlast a restart: {error}", error=e)
        return job_id, True

    def _remember(self, kept: IdempotencyKey, age: float) -> None:
        client, key = kept.client, kept.key
        if (client, key) in self._made:
            # The new one stands behind all others.
            self._forget(client, key)
        self._made[client, key] = kept, self._clock.seconds() + MAX_AGE - age
        own = self._of_client.setdefault(client, {})
        own[key] = None
        if len(own) > MAX_KEYS:
            self._forget(client, next(iter(own)))
        if len(self._made) > MAX_ALL_KEYS:
            self._forget(*next(iter(self._made)))

    def _forget(self, client: str, key: str) -> None:
        del self._made[client, key]
        own = self._of_client[client]
        del own[key]
        if not own:
            del self._of_client[client]

    def _find(self, client: str, key: str) -> IdempotencyKey | None:
        now = self._clock.seconds()
        while self._made:
            oldest = next(iter(self._made))
            if self._made[oldest][1] > now:
                break
            self._forget(*oldest)
        found = self._made.get((client, key))
        return None if found is None or found[1] <= now else found[0]
