# -*- test-case-name: tests.jobs.mirror.test_upstream_manifests -*-
"""
Manifests of upstreams: asked for, kept in the store and listed in the catalog.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xferd.errors import DiskFull, ManifestUnknown
from xferd.expiring import ExpiringDict
from xferd.interfaces.mirror import ISharedTags
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.registry import IRepository
from xferd.interfaces.store import IStore
from xferd.jobs.mirror.entries import catalog_entry
from xferd.jobs.mirror.questions import Questions
from xferd.names import Digest
from xferd.oci import Document
from xferd.transfer.fair_queue import Turn

UNKNOWN: Final = 15.0
"""Seconds for which it is remembered that an upstream does not have a manifest."""


class UpstreamManifests:
    """
    The manifests of upstreams.

    What arrives is kept, also where the client has left.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        questions: Questions,
        *,
        clock: IReactorTime,
        wall_clock: WallClock,
        tags: ISharedTags | None = None,
    ) -> None:
        """
        @param tags: those that other nodes of a fleet have checked.
        """
        self._store = store
        self._questions = questions
        self._clock = clock
        self._wall_clock = wall_clock
        self._tags = tags
        self._unknown: ExpiringDict[tuple[Hashable, str], tuple[float, str]]
        self._unknown = ExpiringDict(clock.seconds)

    def answered(self, source: IRepository) -> bool:
        """
        Whether an upstream has answered a moment ago.
        """
        return self._questions.answered(source)

    def ask(
        self, source: IRepository, wanted: str, held: Digest | None, turn: Turn, ttl: float = 0.0
    ) -> Deferred[Document | None]:
        """
        Ask for the present manifest of a tag, or for the manifest of a digest.

        @param held: the digest of the manifest that is here: where it is still the
            one, its bytes are not fetched.
        @param ttl: seconds for which the answer about a tag holds.
        @return: fires with the manifest, or with L{None} if it is the one that is
            here.  Cancelling ends only the wait.
        @raise ManifestUnknown: the upstream does not have it, or did not a few
            seconds ago.
        @raise SourceError: there is no answer, or a refusal.
        """
        return Deferred.fromCoroutine(self._ask(source, wanted, held, turn, ttl))

    async def _ask(
        self, source: IRepository, wanted: str, held: Digest | None, turn: Turn, ttl: float
    ) -> Document | None:
        known = self._unknown.get((source.identity, wanted))
        if known is not None and self._clock.seconds() < known[0] + UNKNOWN:
            # A new one each time: an error grows by a traceback with each raise.
            raise ManifestUnknown(known[1], host=source.host, status=404)

        tags = None if ":" in wanted else self._tags
        if tags is not None and held is not None and await tags.is_fresh(source, wanted, held):
            # It is not as fresh as if it were checked now, so nothing is recorded.
            return None

        async def attempt(repository: IRepository) -> Document | None:
            try:
                if held is not None and await repository.resolve(wanted) == held:
                    return None
                return await repository.manifest(wanted)
            except ManifestUnknown as e:
                self._unknown[source.identity, wanted] = self._clock.seconds(), str(e)
                raise

        async def use(document: Document | None) -> None:
            found = held if document is None else document.digest
            if tags is not None and found is not None:
                tags.checked(source, wanted, found, ttl)
            if document is not None:
                await self._keep(source, document, [] if ":" in wanted else [wanted])
            elif ":" not in wanted:
                self._store.catalog.confirm_tag(source.name, wanted, self._wall_clock())

        what = "manifest" if held is None else f"manifest, if not {held}"
        return await self._questions.ask(source, what, wanted, attempt, use, turn, checks=held is not None)

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
