# -*- test-case-name: tests.jobs.mirror.test_upstream_manifests,tests.jobs.mirror.test_manifests -*-
"""
Questions to upstreams: one for all clients that have the same question at the same
time, and with an answer within a bounded time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Final, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from xferd.errors import (
    BlobUnknown,
    ManifestUnknown,
    RegistryUnavailable,
    SourceError,
    TimedOut,
    TooManyRequests,
)
from xferd.expiring import ExpiringDict
from xferd.interfaces.hosts import Availability, IHostMemory
from xferd.interfaces.registry import IRepository
from xferd.interfaces.transfer import HostAccount, ISource
from xferd.jobs.isolation import SharingScope
from xferd.jobs.mirror.limited import limited
from xferd.transfer.attempts import Unusable
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.transfer import Transfer

T = TypeVar("T")

PATIENCE: Final = 10.0
"""Seconds until a question has an answer or fails: a client can use another registry."""

IMPATIENCE: Final = 2.0
"""The same for an upstream that failed a moment ago."""

LONGEST: Final = 600.0
"""The most seconds for which a C{Retry-After} keeps from asking."""

REFUSED: Final = 30.0
"""Seconds after which clients may ask again, where a person has paused a host."""

RECENT: Final = 60.0
"""Seconds for which an upstream that answered counts as reachable."""


class Questions:
    """
    The questions to all upstreams, each with the credentials of the request.
    """

    def __init__(
        self,
        transfers: TransferManager,
        *,
        hosts: IHostMemory,
        clock: IReactorTime,
        refusal: Callable[[str], str] = lambda _: "",
    ) -> None:
        """
        @param transfers: the manager of these questions alone, of which each ends
            soon: a client waits.
        @param hosts: whether an upstream is down, and its quota low.
        @param refusal: returns why a person has stopped requests to a host, or an empty string.
        """
        self._refusal = refusal
        self._transfers = transfers
        self._hosts = hosts
        self._clock = clock
        self._answered: ExpiringDict[Hashable, float] = ExpiringDict(clock.seconds)

    def answered(self, source: IRepository) -> bool:
        """
        Whether an upstream has answered a moment ago.
        """
        when = self._answered.get((source.host, source.account))
        return when is not None and self._clock.seconds() - when <= RECENT

    async def ask(
        self,
        source: IRepository,
        what: str,
        wanted: str,
        attempt: Callable[[IRepository], Awaitable[T]],
        use: Callable[[T], Awaitable[object]],
        turn: Turn,
        *,
        checks: bool = False,
    ) -> T:
        """
        Ask a question, or join the clients that have asked it.

        @param what: the kind of the question; together with C{wanted} it stands for
            all of it.
        @param wanted: the tag or the digest, for people.
        @param attempt: asks a repository.
        @param use: keeps the answer, also where the client has left.
        @param checks: whether the client can be served without the answer.
        @raise SourceError: there is no answer, or a refusal.
        """
        patience = self._admit(source, checks)

        async def work(transfer: Transfer) -> T:
            answer = await self._answer(transfer, source, attempt, patience)
            await use(answer)
            return answer

        watcher = self._transfers.request(
            ("mirror", what, SharingScope.of(source), wanted), work, digest=wanted, source=source, turn=turn
        )
        waiting = watcher.result()
        # The question belongs to no client: it is asked to its end, for the next one.
        _ = watcher.result().addBoth(lambda _: watcher.release())
        return await waiting

    async def _answer(
        self,
        transfer: Transfer,
        source: IRepository,
        attempt: Callable[[IRepository], Awaitable[T]],
        patience: float,
    ) -> T:
        """
        The work of one question.
        """

        async def once(chosen: ISource) -> T:
            try:
                return await attempt(cast("IRepository", chosen))
            except TooManyRequests as e:
                # To ask once more would cost quota, too.
                if e.retry_after:
                    account = HostAccount(source.host, source.account)
                    self._transfers.slots.pause(account, min(e.retry_after, LONGEST))
                raise Unusable(e) from e

        def late() -> SourceError:
            return TimedOut(
                f"{source.host} gave no answer about {source.label} within {patience:g} s",
                phase="headers",
                host=source.host,
            )

        try:
            attempts = Deferred.fromCoroutine(transfer.attempts(once))
            answer = await limited(attempts, patience, late, self._clock)
        except (ManifestUnknown, BlobUnknown):
            self._note(source)
            raise
        self._note(source)
        return answer

    def _admit(self, source: IRepository, checks: bool) -> float:
        """
        Check that a request may be sent to an upstream now.

        @return: the seconds to wait for its answer.
        @raise SourceError: it may not.
        """
        refusal = self._refusal(source.host)
        if refusal:
            # Clients can use another registry, or the content of the store.
            why = f"{refusal}; no request was sent to {source.label}"
            raise RegistryUnavailable(why, host=source.host, retry_after=REFUSED)
        memory, account = self._hosts, source.account
        state = memory.admit(source.host, account) if checks else memory.state(source.host, account)
        why = f"{state.why}; no request was sent to {source.label}"
        if state.availability is Availability.PAUSED or (
            checks and state.availability is Availability.QUOTA_LOW
        ):
            raise TooManyRequests(why, host=source.host, retry_after=state.seconds)
        if state.availability is Availability.DOWN:
            if checks:
                raise RegistryUnavailable(why, host=source.host, retry_after=state.seconds)
            return IMPATIENCE
        return PATIENCE

    def _note(self, source: IRepository) -> None:
        self._answered[source.host, source.account] = self._clock.seconds()
