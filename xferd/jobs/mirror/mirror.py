# -*- test-case-name: tests.jobs.mirror.test_mirror -*-
"""
The content of upstream registries: manifests by the catalog, blobs by growing
files that any number of clients read.
"""

from __future__ import annotations

from itertools import count
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import BlobUnknown
from xferd.interfaces.hosts import IHostMemory
from xferd.interfaces.mirror import IBlobReader, IMirror, MirroredManifest, TagPolicy
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.registry import IRepository
from xferd.interfaces.store import IStore
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.mirror.known import Known
from xferd.jobs.mirror.manifests import MirroredManifests
from xferd.jobs.mirror.upstream_manifests import UpstreamManifests
from xferd.names import Digest
from xferd.oci import Descriptor
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.watcher import Watcher

HELD_BACK: Final = 64 * 1024
"""
The bytes at the end of a larger blob that are sent only after the whole blob has
been verified: no client takes wrong bytes for complete.
"""


@implementer(IMirror)
class Mirror:
    """
    The mirror of one daemon.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        layers: DownloadManager,
        questions: TransferManager,
        *,
        hosts: IHostMemory,
        wall_clock: WallClock,
    ) -> None:
        """
        @param questions: see L{UpstreamManifests}.
        @param hosts: what is known of the upstreams.
        """
        clock = questions.clock
        self._store = store
        self._layers = layers
        self._known = Known(store)
        upstreams = UpstreamManifests(store, questions, hosts=hosts, clock=clock, wall_clock=wall_clock)
        self._manifests = MirroredManifests(store, upstreams, clock=clock, wall_clock=wall_clock)
        self._numbers = count(1)
        # The store is a watcher of each fill: it goes on when its clients leave.
        self._fills: dict[Digest, Watcher[None]] = {}

    def manifest(
        self, source: IRepository, wanted: str, client: str, policy: TagPolicy | None = None
    ) -> Deferred[MirroredManifest]:
        async def find() -> MirroredManifest:
            turn = self._turn(client)
            if ":" in wanted:
                return await self._manifests.by_digest(source, Digest.parse(wanted), turn)
            return await self._manifests.by_tag(source, wanted, policy or TagPolicy(), turn)

        return Deferred.fromCoroutine(find())

    def describe(self, source: IRepository, digest: Digest, client: str) -> Deferred[Descriptor]:  # noqa: ARG002
        return Deferred.fromCoroutine(self._describe(source, digest))

    def blob(self, source: IRepository, digest: Digest, client: str) -> Deferred[IBlobReader]:
        return Deferred.fromCoroutine(self._blob(source, digest, client))

    async def _describe(self, source: IRepository, digest: Digest) -> Descriptor:
        known = self._known.blob(source.name, digest)
        if known is None:
            raise BlobUnknown(f"no manifest of {source.name} names {digest}", host=source.host)
        return known

    async def _blob(self, source: IRepository, digest: Digest, client: str) -> IBlobReader:
        blob = await self._describe(source, digest)
        turn = self._turn(client)
        if not self._store.blobs.has(digest):
            self._fill(source, blob, turn)
        return self._layers.content(blob, source, turn, held_back=HELD_BACK)

    def _fill(self, source: IRepository, blob: Descriptor, turn: Turn) -> None:
        """
        Have the store fetch a blob, whoever reads it.
        """
        digest = blob.digest
        if digest in self._fills:
            return
        watcher = self._fills[digest] = self._layers.fetch(blob, source, turn)

        def ended(_: object) -> None:
            del self._fills[digest]
            watcher.release()

        _ = watcher.result().addBoth(ended)

    def _turn(self, client: str) -> Turn:
        return Turn(client, 0, next(self._numbers), 0)
