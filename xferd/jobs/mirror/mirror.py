# -*- test-case-name: tests.jobs.mirror.test_mirror -*-
"""
The content of upstream registries, for clients of xferd's own registry.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from twisted.internet.defer import Deferred
from zope.interface import implementer

from xferd.interfaces.hosts import IHostMemory
from xferd.interfaces.mirror import (
    IBlobReader,
    IMirror,
    ISharedTags,
    MirroredManifest,
    TagPolicy,
    UpstreamFigures,
)
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.registry import IRepository
from xferd.interfaces.store import IStore
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.mirror.blobs import MirroredBlobs
from xferd.jobs.mirror.manifests import MirroredManifests
from xferd.jobs.mirror.questions import Questions
from xferd.jobs.mirror.traffic import Traffic
from xferd.jobs.mirror.upstream_manifests import UpstreamManifests
from xferd.names import Digest, Repository
from xferd.oci import Descriptor
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager


@implementer(IMirror)
class Mirror:
    """
    The mirror of one daemon.
    """

    def __init__(
        self,
        store: IStore,
        layers: DownloadManager,
        *,
        questions: TransferManager,
        passing: TransferManager,
        hosts: IHostMemory,
        wall_clock: WallClock,
        turn: Callable[[str], Turn],
        store_turn: Callable[[], Turn],
        tags: ISharedTags | None = None,
        refusal: Callable[[str], str] = lambda _: "",
        check_open: Callable[[], None] = lambda: None,
    ) -> None:
        """
        @param questions: see L{Questions}.
        @param passing: see L{MirroredBlobs}.
        @param hosts: what is known of the upstreams.
        @param turn: makes the turn of a client.
        @param store_turn: see L{MirroredBlobs}.
        @param tags: those that other nodes of a fleet have checked.
        @param refusal: see L{Questions}.
        @param check_open: see L{MirroredBlobs}.
        """
        clock = questions.clock
        asking = Questions(questions, hosts=hosts, clock=clock, refusal=refusal)
        upstreams = UpstreamManifests(store, asking, clock=clock, wall_clock=wall_clock, tags=tags)
        self._manifests = MirroredManifests(store, upstreams, clock=clock, wall_clock=wall_clock)
        self._traffic = Traffic()
        self._blobs = MirroredBlobs(
            store,
            layers,
            asking,
            passing,
            clock=clock,
            store_turn=store_turn,
            traffic=self._traffic,
            check_open=check_open,
        )
        self._turn = turn

    def manifest(
        self,
        source: IRepository,
        wanted: str,
        client: str,
        policy: TagPolicy | None = None,
        *,
        images: bool = False,
    ) -> Deferred[MirroredManifest]:
        async def find() -> MirroredManifest:
            turn = self._turn(client)
            if ":" in wanted:
                return await self._manifests.by_digest(source, Digest.parse(wanted), turn, images)
            return await self._manifests.by_tag(source, wanted, policy or TagPolicy(), turn, images)

        async def count() -> MirroredManifest:
            found = await find()
            self._traffic.manifest(source.host, found)
            return found

        return Deferred.fromCoroutine(count())

    def describe(
        self, source: IRepository, digest: Digest, client: str, *, images: bool = False, sure: bool = False
    ) -> Deferred[Descriptor]:
        turn = self._turn(client)
        return Deferred.fromCoroutine(self._blobs.describe(source, digest, turn, images, sure=sure))

    def blob(
        self,
        source: IRepository,
        digest: Digest,
        client: str,
        start: int = 0,
        stop: int | None = None,
        *,
        images: bool = False,
    ) -> Deferred[IBlobReader]:
        async def find() -> IBlobReader:
            turn = self._turn(client)
            blob = await self._blobs.describe(source, digest, turn, images)
            end = blob.size if stop is None else stop
            return await self._blobs.open(source, blob, turn, start, end, images)

        return Deferred.fromCoroutine(find())

    def sent(self, source: IRepository, size: int) -> None:
        self._traffic.sent(source.host, size)

    def resume(self, find: Callable[[Repository], Awaitable[IRepository | None]]) -> Deferred[None]:
        return Deferred.fromCoroutine(self._blobs.fills.resume(find))

    def stop(self) -> None:
        """
        Leave the fills to the next daemon.
        """
        self._blobs.fills.stop()

    def figures(self) -> Mapping[str, UpstreamFigures]:
        return self._traffic.figures()
