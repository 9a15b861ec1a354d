# -*- test-case-name: tests.jobs.mirror.test_manifests -*-
"""
The manifests of a mirror: from the store while that may be, else from the upstream,
else as they were before.

A manifest is served only if what it names can be had: podman and others choose a
mirror by its manifest, and fail when a blob is missing there.
"""

from __future__ import annotations

from typing import Final

from attrs import evolve
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xferd.errors import NotFound, TimedOut, TooManyRequests, XferdError
from xferd.interfaces.mirror import MirroredManifest, TagPolicy
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.registry import IRepository
from xferd.interfaces.store import IStore
from xferd.jobs.mirror.freshness import Fallback, after, explanation, is_fresh, lifetime
from xferd.jobs.mirror.known import Known, KnownManifest, KnownTag
from xferd.jobs.mirror.limited import limited
from xferd.jobs.mirror.upstream_manifests import UpstreamManifests
from xferd.names import Digest, Repository
from xferd.oci import Document
from xferd.transfer.fair_queue import Turn

CHECK: Final = 2.0
"""Seconds for which a client waits for the check of a stored manifest.  The check continues."""

LONGEST: Final = 3600.0
"""Seconds for which other nodes of a fleet need not check a tag, at most."""


class MirroredManifests:
    """
    The manifests of all upstreams.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        upstreams: UpstreamManifests,
        *,
        clock: IReactorTime,
        wall_clock: WallClock,
    ) -> None:
        self._store = store
        self._upstreams = upstreams
        self._clock = clock
        self._wall_clock = wall_clock
        self._known = Known(store)

    async def by_digest(
        self, source: IRepository, digest: Digest, turn: Turn, images: bool
    ) -> MirroredManifest:
        """
        A manifest by its digest, which never changes.

        @param images: see L{IMirror.manifest<xferd.interfaces.mirror.IMirror.manifest>}.
        @raise SourceError: as for L{IMirror.manifest
            <xferd.interfaces.mirror.IMirror.manifest>}.
        """
        known = await self._known.manifest(source.name, digest, images)
        if known is not None:
            await self._check_available(source, known, turn)
            return MirroredManifest(known.document, stored=True)
        document = await self._upstreams.ask(source, str(digest), None, turn)
        assert document is not None, "nothing is held"
        return MirroredManifest(document)

    async def by_tag(
        self, source: IRepository, tag: str, policy: TagPolicy, turn: Turn, images: bool
    ) -> MirroredManifest:
        """
        The manifest of a tag.

        @param images: see L{IMirror.manifest<xferd.interfaces.mirror.IMirror.manifest>}.
        @raise SourceError: as for L{by_digest}.
        """
        known = await self._known.tag(source.name, tag, images)
        ttl = min(lifetime(policy, tag), LONGEST)
        if known is None:
            document = await self._upstreams.ask(source, tag, None, turn, ttl)
            assert document is not None, "nothing is held"
            return MirroredManifest(document)
        manifest = known.manifest
        if known.checked is not None and is_fresh(policy, tag, self._wall_clock() - known.checked):
            await self._check_available(source, manifest, turn)
            return MirroredManifest(manifest.document, stored=True)
        try:
            document = await self._ask(source, tag, manifest, turn, ttl)
        except XferdError as e:
            return await self._unconfirmed(source, tag, known, policy, e)
        if document is not None:
            return MirroredManifest(document)
        if known.checked is None:
            # An image of a job, which the upstream has as well: a tag from now on.
            await self._store.catalog.put_manifest(source.name, manifest.entry, [tag], self._wall_clock())
        return MirroredManifest(manifest.document, stored=True)

    async def _unconfirmed(
        self, source: IRepository, tag: str, known: KnownTag, policy: TagPolicy, error: XferdError
    ) -> MirroredManifest:
        """
        Serve a tag that its upstream did not confirm, or fail.

        @raise XferdError: C{error}.
        """
        name, age = f"{source.name}:{tag}", self._wall_clock() - known.since
        if known.checked is None:
            # An image of a job is local, and keeps its name until a client removes it.
            fallback = after(error, evolve(policy, keep_gone=True), 0.0)
        else:
            fallback = after(error, policy, age)
        if fallback is Fallback.DROP:
            await self._drop(source.name, tag)
        complete = self._known.is_complete(source.name, known.manifest.entry)
        # An upstream that counts the requests for manifests still sends blobs.
        if fallback is not Fallback.SERVE or not (complete or isinstance(error, TooManyRequests)):
            raise error
        self._log.info("{name} is served from the store: {why}", name=name, why=str(error))
        return MirroredManifest(known.manifest.document, (explanation(error, name, age),), stored=True)

    async def _drop(self, repository: Repository, tag: str) -> None:
        try:
            await self._store.catalog.remove_tag(repository, tag)
        except NotFound:
            pass  # Another request has removed it.
        else:
            self._log.info("{name}:{tag} is gone, and so removed here", name=repository, tag=tag)

    async def _check_available(self, source: IRepository, known: KnownManifest, turn: Turn) -> None:
        """
        Check that what a manifest names can be had: it is here, or the upstream
        answers.

        @raise SourceError: it cannot.
        """
        if self._upstreams.answered(source) or self._known.is_complete(source.name, known.entry):
            return
        try:
            await self._ask(source, str(known.document.digest), known, turn)
        except TooManyRequests:
            pass  # It counts requests for manifests, and sends blobs.

    async def _ask(
        self, source: IRepository, wanted: str, held: KnownManifest, turn: Turn, ttl: float = 0.0
    ) -> Document | None:
        """
        Ask the upstream about the stored manifest.  If that is of use without the answer, wait
        for it a little only.
        """

        def late() -> TimedOut:
            return TimedOut(
                f"{source.host} gave no answer about {source.label} within {CHECK:g} s",
                phase="headers",
                host=source.host,
            )

        asking = self._upstreams.ask(source, wanted, held.document.digest, turn, ttl)
        if not self._known.is_complete(source.name, held.entry):
            return await asking
        return await limited(asking, CHECK, late, self._clock)
