# -*- test-case-name: tests.jobs.test_pull -*-
"""
Layers: from a registry to the store, each byte once.

Three kinds of shared work make a layer, each under a key of its own, each
with its watchers counted by the engine::

    download        key: the blob            holds a slot while bytes move
    unpacking       key: the blob            reads the blob while it grows
    registration    key: the stack of blobs  waits for its unpacking and for
                                             the registration below

A job watches all three for each of its layers.  A registration watches the
two that it waits for as well, so that it can outlive the job that began it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import cast
from weakref import WeakValueDictionary

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred

from xferd.errors import DiskFull
from xferd.interfaces.blobs import IPartial
from xferd.interfaces.registry import IBlobSource
from xferd.interfaces.store import IStore
from xferd.interfaces.transfer import IProgressSink, ISource
from xferd.interfaces.unpack import IUnpacker
from xferd.jobs.blobs.growth import Growth
from xferd.jobs.blobs.layers import LayerManager, key
from xferd.jobs.blobs.partial_download import PartialDownload
from xferd.jobs.blobs.partial_lock import PartialLock
from xferd.jobs.blobs.possession import Possession
from xferd.jobs.blobs.ranged_download import RangedDownload, held
from xferd.jobs.blobs.reader import BlobReader
from xferd.jobs.disk_space.full_disk import FullDiskRetries, retry_while_full
from xferd.jobs.disk_space.reservations import Reservations
from xferd.jobs.isolation import ISOLATED, SHARED, SharingScope
from xferd.names import Digest
from xferd.oci import Descriptor
from xferd.transfer.adaptive_streams import RangePolicy, StreamTrials
from xferd.transfer.bandwidth import Bandwidth
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher


class DownloadManager:
    """
    Fetches, unpacks and registers layers for all jobs together.

    @ivar fetched: the bytes that came over the network, by registry host.
    @ivar reservations: the bytes that are still to come.
    @ivar unpack: see L{LayerManager.unpack}.
    @ivar register: see L{LayerManager.register}.
    """

    def __init__(
        self,
        store: IStore,
        unpacker: IUnpacker,
        *,
        downloads: TransferManager,
        unpackings: TransferManager,
        registrations: TransferManager,
        bandwidth: Bandwidth,
        ranges: RangePolicy,
        reservations: Reservations,
        sharing: str = SHARED,
    ) -> None:
        """
        @param ranges: when a blob is fetched by several streams.
        @param sharing: C{shared} or C{isolated}.
        """
        self._sharing = sharing
        self._partial_locks: WeakValueDictionary[Digest, PartialLock] = WeakValueDictionary()
        self._store = store
        self._downloads = downloads
        self._bandwidth = bandwidth
        self._ranges = ranges
        self._lessons = StreamTrials()
        self._possession = Possession()
        self._waiting: dict[Digest, tuple[Transfer, Deferred[None]]] = {}
        self._growths: WeakValueDictionary[tuple[Digest, SharingScope | None], Growth] = WeakValueDictionary()
        self.fetched: Counter[str] = Counter()
        self.reservations = reservations
        self._layers = LayerManager(
            store, unpacker, unpackings=unpackings, registrations=registrations, growth=self._growth
        )
        self.unpack = self._layers.unpack
        self.register = self._layers.register

    @property
    def ranges(self) -> int:
        """
        By how many streams one blob may be fetched; from the next attempt on.
        """
        return self._ranges.most

    @ranges.setter
    def ranges(self, most: int) -> None:
        self._ranges = evolve(self._ranges, most=most)

    @property
    def workers(self) -> int:
        """
        How many layers unpack at a time; changes at once.
        """
        return self._layers.workers

    @workers.setter
    def workers(self, workers: int) -> None:
        self._layers.workers = workers

    @property
    def isolated(self) -> bool:
        """
        Whether clients are kept apart.
        """
        return self._sharing == ISOLATED

    def scope(self, source: ISource) -> SharingScope | None:
        """
        Those with whom what comes from a source is shared, if not everybody.
        """
        return SharingScope.of(source) if self.isolated else None

    def fetch(
        self,
        blob: Descriptor,
        source: IBlobSource,
        turn: Turn,
        sink: IProgressSink | None = None,
    ) -> Watcher[None]:
        """
        Bring a blob into the store.

        Isolated, this is also how a client proves that it may have the blob:
        where that is there already, the client's registry is asked whether it
        would give it.

        @return: a watcher whose result fires when the blob is there.  It
            fails with a L{SourceError} of the watcher's own source, or a
            L{StoreError}.
        """

        scope = self.scope(source)

        async def work(transfer: Transfer) -> None:
            await self._fetch(transfer, blob, scope)

        return self._downloads.request(
            key("blob", blob.digest, scope),
            work,
            digest=blob.digest,
            size=blob.size,
            source=source,
            turn=turn,
            sink=sink,
        )

    def content(
        self,
        blob: Descriptor,
        source: IBlobSource,
        turn: Turn,
        sink: IProgressSink | None = None,
        *,
        named: bool = False,
    ) -> BlobReader:
        """
        Open a blob to be sent elsewhere: where it is not in the store, it is
        fetched once the first byte is asked for.

        @param sink: where the progress of the download goes.
        @param named: whether an image of the store has it, which everybody has
            who may use the daemon.
        """
        scope = self.scope(source)
        if (named or scope is None) and self._store.blobs.has(blob.digest):
            growth = Growth()
            growth.sealed(self._store.blobs.path(blob.digest), blob.size)
            return BlobReader(blob, growth, lambda: None, clock=self._downloads.clock)
        growth = self._growth(blob.digest, scope)
        return BlobReader(
            blob,
            growth,
            lambda: self.fetch(blob, source, turn, sink),
            clock=self._downloads.clock,
            slowed=lambda: self._bandwidth.binding,
        )

    def brought(self, digest: Digest) -> None:
        """
        A blob is in the store by another way than a download: one that waits
        for a slot needs none any more.
        """
        transfer, attempts = self._waiting.get(digest, (None, None))
        if transfer is not None and attempts is not None and transfer.state != "running":
            del self._waiting[digest]
            attempts.cancel()

    # ------------------------------------------------------------- downloads

    async def _fetch(self, transfer: Transfer, blob: Descriptor, scope: SharingScope | None) -> None:
        """
        The work of a download: any number of attempts on one partial file.
        """
        transfer.report(bytes_done=0, bytes_total=blob.size)
        blobs, room, growth = self._store.blobs, self._store.free_space, self._growth(blob.digest, scope)
        # The manifest embeds the blob, so the client has proved access.
        confirm = scope is not None and blob.data is None
        if not blobs.has(blob.digest):
            if blob.data is not None:
                await retry_while_full(room, lambda: blobs.put(blob.digest, blob.data or b""), transfer.wait)
            else:
                # A pull has reserved all of its blobs; the bytes of an archive come at once.
                if all(source.host for source in transfer.sources):
                    end = await self.reservations.reserve([blob], f"blob {blob.digest}")
                else:
                    end = self.reservations.hold([blob])
                try:
                    await self._fill(
                        transfer, blob, growth, None if scope is None else self._partial_lock(blob.digest)
                    )
                finally:
                    end()
                return
        elif confirm:

            async def ask(source: ISource) -> None:
                path, size = blobs.path(blob.digest), blobs.size(blob.digest) or 0
                await self._possession.prove(cast("IBlobSource", source), blob.digest, path, size)

            await transfer.attempts(ask)
        # Whoever asked may not have known, and waits for its bytes.
        growth.sealed(blobs.path(blob.digest), blob.size)
        transfer.report(bytes_done=blob.size)

    async def _fill(
        self, transfer: Transfer, blob: Descriptor, growth: Growth, lock: PartialLock | None
    ) -> None:
        """
        Make attempts until the partial file is whole.
        """
        download = PartialDownload(
            transfer,
            blob,
            growth,
            blobs=self._store.blobs,
            clock=self._downloads.clock,
            receive=self._receive,
            lock=lock,
            possession=None if lock is None else self._possession,
        )
        persistence = FullDiskRetries(self._store.free_space, transfer)
        try:
            while True:
                try:
                    if not await download.finish():
                        await self._attempts(transfer, blob, download)
                except DiskFull as e:
                    persistence.check(e)
                else:
                    return
        finally:
            download.close()

    async def _attempts(self, transfer: Transfer, blob: Descriptor, download: PartialDownload) -> None:
        """
        Make attempts, unless the blob comes by another way before one begins.
        """
        attempts = Deferred.fromCoroutine(transfer.attempts(download.attempt))
        if self.isolated:
            # Without an attempt there is no proof.
            await attempts
            return
        self._waiting[blob.digest] = transfer, attempts
        try:
            await attempts
        except CancelledError:
            if blob.digest in self._waiting:
                raise
            self._growth(blob.digest).sealed(self._store.blobs.path(blob.digest), blob.size)
            transfer.report(bytes_done=blob.size)
        finally:
            self._waiting.pop(blob.digest, None)

    async def _receive(
        self,
        transfer: Transfer,
        partial: IPartial,
        source: IBlobSource,
        moved: Callable[[int, Deferred[None] | None], None],
    ) -> None:
        """
        Bring what is missing of a partial file.
        """

        def arrived(size: int) -> Deferred[None] | None:
            transfer.report(bytes_done=held(partial))
            hold = None
            if source.host:  # else it did not come over the network
                self.fetched[source.host] += size
                hold = self._bandwidth.take(size)
            moved(size, hold)
            return hold

        streams = RangedDownload(
            partial,
            source,
            clock=self._downloads.clock,
            slots=self._downloads.slots,
            # What is no registry gives its bytes once.
            policy=self._ranges if source.host else evolve(self._ranges, most=1),
            lessons=self._lessons,
            arrived=arrived,
            changed=lambda streams: transfer.report(streams=streams),
        )
        await streams.run()

    def _partial_lock(self, digest: Digest) -> PartialLock:
        """
        The lock of a blob's partial file, which lives as long as a download uses it.
        """
        lock = self._partial_locks.get(digest)
        if lock is None:
            lock = self._partial_locks[digest] = PartialLock()
        return lock

    def _growth(self, digest: Digest, scope: SharingScope | None = None) -> Growth:
        """
        The feed of a blob, which lives as long as anybody holds it.
        """
        growth = self._growths.get((digest, scope))
        # A blob may have been removed since.
        if growth is None or (growth.is_whole and not self._store.blobs.has(digest)):
            growth = self._growths[digest, scope] = Growth()
        return growth
