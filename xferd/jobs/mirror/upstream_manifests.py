# -*- test-case-name: tests.jobs.mirror.test_upstream_manifests -*-
"""
Questions to upstreams about manifests: one for all clients that have the same
question at the same time, and with an answer within a bounded time.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xferd.errors import (
    DiskFull,
    ManifestUnknown,
    RegistryUnavailable,
    SourceError,
    TimedOut,
    TooManyRequests,
)
from xferd.expiring import ExpiringDict
from xferd.interfaces.hosts import Availability, IHostMemory
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.registry import IRepository
from xferd.interfaces.store import IStore
from xferd.interfaces.transfer import HostAccount, ISource
from xferd.jobs.isolation import SharingScope
from xferd.jobs.mirror.entries import catalog_entry
from xferd.jobs.mirror.limited import limited
from xferd.names import Digest
from xferd.oci import Document
from xferd.transfer.attempts import Unusable
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.transfer import Transfer

PATIENCE: Final = 10.0
"""Seconds until a question has an answer or fails: a client can use another registry."""

IMPATIENCE: Final = 2.0
"""The same for an upstream that failed a moment ago."""

LONGEST: Final = 600.0
"""The most seconds for which a C{Retry-After} keeps from asking."""

UNKNOWN: Final = 15.0
"""Seconds for which it is remembered that an upstream does not have a manifest."""

RECENT: Final = 60.0
"""Seconds for which an upstream that answered counts as reachable."""


class UpstreamManifests:
    """
    The manifests of upstreams, each with the credentials that a request brings.

    What arrives is kept in the store and listed in the catalog, also where the
    client has left.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        transfers: TransferManager,
        *,
        hosts: IHostMemory,
        clock: IReactorTime,
        wall_clock: WallClock,
    ) -> None:
        """
        @param transfers: the manager of these questions alone, of which each ends
            soon: a client waits.
        @param hosts: whether an upstream is down, and its quota low.
        """
        self._store = store
        self._transfers = transfers
        self._hosts = hosts
        self._clock = clock
        self._wall_clock = wall_clock
        self._answered: ExpiringDict[Hashable, float] = ExpiringDict(clock.seconds)
        self._unknown: ExpiringDict[tuple[Hashable, str], tuple[float, ManifestUnknown]]
        self._unknown = ExpiringDict(clock.seconds)

    def answered(self, source: IRepository) -> bool:
        """
        Whether an upstream has answered a moment ago.
        """
        when = self._answered.get((source.host, source.account))
        return when is not None and self._clock.seconds() - when <= RECENT

    def ask(
        self, source: IRepository, wanted: str, held: Digest | None, turn: Turn
    ) -> Deferred[Document | None]:
        """
        Ask for the present manifest of a tag, or for the manifest of a digest.

        @param held: the digest of the manifest that is here: where it is still the
            one, its bytes are not fetched.
        @return: fires with the manifest, or with L{None} if it is the one that is
            here.  Cancelling ends only the wait.
        @raise ManifestUnknown: the upstream does not have it, or did not a few
            seconds ago.
        @raise SourceError: there is no answer, or a refusal.
        """
        return Deferred.fromCoroutine(self._ask(source, wanted, held, turn))

    async def _ask(
        self, source: IRepository, wanted: str, held: Digest | None, turn: Turn
    ) -> Document | None:
        known = self._unknown.get((source.identity, wanted))
        if known is not None and self._clock.seconds() < known[0] + UNKNOWN:
            raise known[1]
        patience = self._admit(source, checks=held is not None)

        async def work(transfer: Transfer) -> Document | None:
            return await self._answer(transfer, source, wanted, held, patience)

        watcher = self._transfers.request(
            ("mirror", SharingScope.of(source), wanted, held),
            work,
            digest=wanted,
            source=source,
            turn=turn,
        )
        waiting = watcher.result()
        # The question belongs to no client: it is asked to its end, for the next one.
        _ = watcher.result().addBoth(lambda _: watcher.release())
        return await waiting

    async def _answer(
        self, transfer: Transfer, source: IRepository, wanted: str, held: Digest | None, patience: float
    ) -> Document | None:
        """
        The work of one question.
        """

        async def attempt(chosen: ISource) -> Document | None:
            try:
                repository = cast("IRepository", chosen)
                if held is not None and await repository.resolve(wanted) == held:
                    return None
                return await repository.manifest(wanted)
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
            document = await limited(
                Deferred.fromCoroutine(transfer.attempts(attempt)), patience, late, self._clock
            )
        except ManifestUnknown as e:
            self._note(source)
            self._unknown[source.identity, wanted] = self._clock.seconds(), e
            raise
        self._note(source)
        tags = [] if ":" in wanted else [wanted]
        if document is not None:
            await self._keep(source, document, tags)
        elif tags:
            self._store.catalog.confirm_tag(source.name, wanted, self._wall_clock())
        return document

    def _admit(self, source: IRepository, checks: bool) -> float:
        """
        Look whether an upstream may be asked now.

        @param checks: whether the client can be served without it.
        @return: the seconds to wait for its answer.
        @raise SourceError: it may not.
        """
        memory, account = self._hosts, source.account
        state = memory.admit(source.host, account) if checks else memory.state(source.host, account)
        why = f"{state.why}: {source.label} is not asked"
        if state.availability is Availability.PAUSED or (
            checks and state.availability is Availability.QUOTA_LOW
        ):
            raise TooManyRequests(why, host=source.host, retry_after=state.seconds)
        if state.availability is Availability.DOWN:
            if checks:
                raise RegistryUnavailable(why, host=source.host, retry_after=state.seconds)
            return IMPATIENCE
        return PATIENCE

    async def _keep(self, source: IRepository, document: Document, tags: list[str]) -> None:
        """
        Keep a manifest.  On a full disk it is served all the same.
        """
        entry = catalog_entry(document)
        try:
            if not self._store.blobs.has(document.digest):
                await self._store.blobs.put(document.digest, document.data)
            await self._store.catalog.put_manifest(source.name, entry, tags, self._wall_clock())
        except CancelledError:
            raise
        except DiskFull as e:
            self._log.warn("{digest} is served and not kept: {why}", digest=document.digest, why=str(e))

    def _note(self, source: IRepository) -> None:
        self._answered[source.host, source.account] = self._clock.seconds()
