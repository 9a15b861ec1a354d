# -*- test-case-name: tests.jobs.pull -*-
"""
Layers are fetched, unpacked and registered: each byte once, for all jobs.

Three kinds of transfers make a layer, each with its own key::

    download        key: the blob            holds a slot while bytes move
    unpacking       key: the blob            reads the blob while it grows
    registration    key: the stack of blobs  waits for its unpacking and for
                                             the registration below

A job watches all three for each of its layers.  A registration also watches
the unpacking and the registration below, so that it can outlive the job that
began it.

The module is long because one class owns all that downloads share: bandwidth, ranges, peers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import cast
from weakref import WeakValueDictionary

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred

from xferd.errors import DiskFull
from xferd.interfaces.blobs import IPartial
from xferd.interfaces.peers import IFleetDownloads, IHeldBlobs, IPeerSource
from xferd.interfaces.registry import IBlobBody, IBlobSource
from xferd.interfaces.store import IStore
from xferd.interfaces.transfer import IProgressSink, ISource
from xferd.interfaces.unpack import IUnpacker
from xferd.jobs.blobs.fleet_attempts import FleetAttempts
from xferd.jobs.blobs.growth import Growth
from xferd.jobs.blobs.held_blobs import Filling, HeldBlobs
from xferd.jobs.blobs.layers import LayerManager, key
from xferd.jobs.blobs.partial_download import PartialDownload
from xferd.jobs.blobs.partial_lock import PartialLock
from xferd.jobs.blobs.possession import Possession
from xferd.jobs.blobs.ranged_download import RangedDownload, held
from xferd.jobs.blobs.reader import BlobReader
from xferd.jobs.blobs.relay import MOST, Relay, RelayedBlob
from xferd.jobs.disk_space.full_disk import FullDiskRetries, retry_while_full
from xferd.jobs.disk_space.reservations import Reservations
from xferd.jobs.isolation import ISOLATED, SHARED, SharingScope
from xferd.names import Digest
from xferd.oci import Descriptor
from xferd.realms import PUBLIC
from xferd.transfer.adaptive_streams import RangePolicy, StreamTrials
from xferd.transfer.bandwidth import Bandwidth, Flow
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher
from xferd.waits import CONFIRMATION, waiting_for


class DownloadManager:
    """
    Fetches, unpacks and registers layers for all jobs together.

    @ivar fetched: the bytes received over the network, by registry host.
    @ivar reservations: the disk space reserved for blobs that are to be fetched.
    @ivar held: the blobs that are here or arrive, for other nodes.
    @ivar unpack: see L{LayerManager.unpack}.
    @ivar register: see L{LayerManager.register}.
    @ivar record: see L{LayerManager.record}.
    @ivar is_registered: see L{LayerManager.is_registered}.
    @ivar steer: see L{Relay.steer}.
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
        moved: Callable[[str, int, float], object],
        sharing: str = SHARED,
        fleet: IFleetDownloads | None = None,
    ) -> None:
        """
        @param ranges: when a blob is fetched by several streams.
        @param moved: called at the end of each attempt with its host, its bytes
            and its seconds.
        @param sharing: C{shared} or C{isolated}.
        @param fleet: the nodes with which downloads are shared, in shared mode.
        """
        self._moved = moved
        self._fleet = fleet
        self._fillings: dict[Digest, Filling] = {}
        self._sharing = sharing
        self._partial_locks: WeakValueDictionary[Digest, PartialLock] = WeakValueDictionary()
        self._store = store
        self._downloads = downloads
        self._bandwidth = bandwidth
        self._ranges = ranges
        self._trials = StreamTrials()
        self._possession = Possession()
        self._waiting: dict[Digest, tuple[Transfer, Deferred[None]]] = {}
        self._growths: WeakValueDictionary[tuple[Digest, SharingScope | None], Growth] = WeakValueDictionary()
        self.fetched: Counter[str] = Counter()
        self.reservations = reservations
        self._relay = Relay(downloads, flow=self._flow, moved=moved)
        self.steer = self._relay.steer
        self._layers = LayerManager(
            store, unpacker, unpackings=unpackings, registrations=registrations, growth=self._growth
        )
        self.held: IHeldBlobs = HeldBlobs(
            store, self._fillings.get, downloads.clock, isolated=sharing == ISOLATED
        )
        self.unpack = self._layers.unpack
        self.register = self._layers.register
        self.record = self._layers.record
        self.is_registered = self._layers.is_registered

    @property
    def ranges(self) -> int:
        """
        The largest number of streams for one blob; a change counts from the next
        attempt on.
        """
        return self._ranges.most

    @ranges.setter
    def ranges(self, most: int) -> None:
        self._ranges = evolve(self._ranges, most=most)

    @property
    def workers(self) -> int:
        """
        The number of layers that are unpacked at the same time; a change counts at
        once.
        """
        return self._layers.workers

    @workers.setter
    def workers(self, workers: int) -> None:
        self._layers.workers = workers

    @property
    def isolated(self) -> bool:
        """
        Whether clients share only what each of them has access to.
        """
        return self._sharing == ISOLATED

    def scope(self, source: ISource) -> SharingScope | None:
        """
        The clients that share what comes from a source; L{None} for all.
        """
        return SharingScope.of(source) if self.isolated else None

    def growth(self, blob: Descriptor, source: ISource) -> Growth:
        """
        The growth of the file of a blob that comes from a source.
        """
        return self._growth(blob.digest, self.scope(source))

    def counter(self, host: str, transfer: Transfer) -> Callable[[int], Deferred[None] | None]:
        """
        Count the bytes that a transfer receives over the network from a host.

        @return: a function that is called with the size of each piece.  It returns a
            Deferred that fires when more may be received; L{None} if that is now.
        """
        flow = self._flow(host, lambda: transfer.turns)
        transfer.activity.limit = flow.reason
        return flow.take

    def _flow(self, host: str, turns: Callable[[], Sequence[Turn]]) -> Flow:
        return Flow(self._bandwidth, host, turns, self._count)

    def _count(self, host: str, size: int) -> None:
        self.fetched[host] += size

    def fetch(
        self,
        blob: Descriptor,
        source: IBlobSource,
        turn: Turn,
        sink: IProgressSink | None = None,
        *,
        prove: bool = False,
    ) -> Watcher[None]:
        """
        Fetch a blob into the store.

        In isolated mode this also proves that the client has access to the blob:
        where the store has it already, the client's registry has to confirm it.

        @param prove: whether a source has to prove that it has what an earlier
            download left of the blob, else that is discarded.  It has no effect on a
            download that is running.
        @return: a watcher whose result fires when the blob is in the store.  It
            fails with a L{SourceError} of the watcher's own source, or a
            L{StoreError}.
        """

        scope = self.scope(source)

        async def work(transfer: Transfer) -> None:
            await self._fetch(transfer, blob, scope, prove)

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
        held_back: int = 1,
        prove: bool = False,
    ) -> BlobReader:
        """
        Open a blob to be sent elsewhere.  Where it is not in the store, it is
        fetched when the first byte is read.

        @param sink: receives the progress of the download.
        @param named: whether an image of the store has the blob: all clients of
            the daemon have access to it.
        @param held_back: see L{BlobReader}.
        @param prove: see L{fetch}.
        """
        scope = self.scope(source)
        if (named or scope is None) and self._store.blobs.has(blob.digest):
            growth = Growth()
            growth.sealed(self._store.blobs.path(blob.digest), blob.size)
            return BlobReader(blob, growth, lambda: None, clock=self._downloads.clock)
        growth = self._growth(blob.digest, scope)

        def fetch() -> Watcher[None]:
            watcher = self.fetch(blob, source, turn, sink, prove=prove)
            # A download that had ended has not filled this growth.
            _ = watcher.result().addCallbacks(
                lambda _: growth.replaced(self._store.blobs.path(blob.digest), blob.size), lambda _: None
            )
            return watcher

        return BlobReader(
            blob,
            growth,
            fetch,
            clock=self._downloads.clock,
            held_back=held_back,
        )

    def relayed(
        self,
        blob: Descriptor,
        source: IBlobSource,
        turn: Turn,
        received: Callable[[int], None],
        sink: IProgressSink | None = None,
    ) -> BlobReader | RelayedBlob:
        """
        Open a blob to be sent to another registry; a small one passes through memory.

        @param received: called with the size of the blob when it is in memory.
        @param sink: receives the progress of the download, if there is one.
        """

        def download() -> BlobReader:
            return self.content(blob, source, turn, sink)

        small = blob.size <= MOST and self._downloads.is_small(blob.size)
        if not small or not source.host or blob.data is not None or self._fleet is not None:
            return download()
        scope = self.scope(source)

        def fetch() -> Deferred[bytes] | None:
            if scope is None and self._store.blobs.has(blob.digest):
                return None
            return self._relay.begin(key("blob", blob.digest, scope), blob, source, turn)

        return RelayedBlob(blob, fetch, download, received, clock=self._downloads.clock)

    def brought(self, digest: Digest) -> None:
        """
        Report that a blob came into the store by another way than a download: a
        download of it that waits for a slot ends.
        """
        transfer, attempts = self._waiting.get(digest, (None, None))
        if transfer is not None and attempts is not None and transfer.state != "running":
            del self._waiting[digest]
            attempts.cancel()

    # ------------------------------------------------------------- downloads

    async def _fetch(
        self, transfer: Transfer, blob: Descriptor, scope: SharingScope | None, prove: bool
    ) -> None:
        """
        The work of a download: any number of attempts on one partial file.
        """
        transfer.report(bytes_done=0, bytes_total=blob.size)
        blobs, space, growth = self._store.blobs, self._store.free_space, self._growth(blob.digest, scope)
        # The manifest embeds the blob, so the client has proved access.
        confirm = scope is not None and blob.data is None
        if not blobs.has(blob.digest):
            data = blob.data
            if data is None:
                data = await self._relay.joined(key("blob", blob.digest, scope), transfer.activity)
                transfer.report(moved=0 if data is None else len(data))
            if data is not None:
                await retry_while_full(space, lambda: blobs.put(blob.digest, data), transfer.wait_for_disk)
            else:
                # A pull has reserved space for all of its blobs; the bytes of an archive arrive at once.
                if all(source.host for source in transfer.sources):
                    end = await self.reservations.reserve([blob], f"blob {blob.digest}")
                else:
                    end = self.reservations.hold([blob])
                try:
                    lock = None if scope is None else self._partial_lock(blob.digest)
                    await self._fill(transfer, blob, growth, lock, prove)
                finally:
                    end()
                return
        elif confirm:

            async def ask(source: ISource) -> None:
                with waiting_for(CONFIRMATION, source.host):
                    await self.prove(cast("IBlobSource", source), blob.digest)

            await transfer.attempts(ask)
        # A watcher that began before the blob was in the store waits for its bytes.
        growth.replaced(blobs.path(blob.digest), blob.size)
        transfer.report(bytes_done=blob.size)

    async def _fill(
        self, transfer: Transfer, blob: Descriptor, growth: Growth, lock: PartialLock | None, prove: bool
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
            verified=lambda: self._verified(blob, growth),
            lock=lock,
            possession=self._possession if prove or lock is not None else None,
        )
        retries = FullDiskRetries(self._store.free_space, transfer)
        filling = Filling(blob, growth, lambda: _origins(transfer))
        if lock is None:
            self._fillings[blob.digest] = filling
        try:
            while True:
                try:
                    if not await download.finish():
                        await self._attempts(transfer, blob, download)
                except DiskFull as e:
                    retries.check(e)
                else:
                    return
        finally:
            download.close()
            if self._fillings.get(blob.digest) is filling:
                del self._fillings[blob.digest]
            filling.end()

    async def _attempts(self, transfer: Transfer, blob: Descriptor, download: PartialDownload) -> None:
        """
        Make attempts, unless the blob arrives by another way before one begins.
        """
        if self.isolated:
            # Only an attempt proves that the client has access.
            await transfer.attempts(download.attempt)
            return
        remote = all(source.host for source in transfer.sources)
        shared = self._fleet.begin(blob) if self._fleet is not None and remote else None
        attempts = Deferred.fromCoroutine(
            transfer.attempts(download.attempt)
            if shared is None
            else FleetAttempts(transfer, download, shared, self._downloads.clock).run()
        )
        self._waiting[blob.digest] = transfer, attempts
        try:
            await attempts
        except CancelledError:
            if blob.digest in self._waiting:
                raise
            download.take()
        finally:
            self._waiting.pop(blob.digest, None)

    async def _receive(
        self,
        transfer: Transfer,
        partial: IPartial,
        source: IBlobSource,
        opened: Callable[[IBlobBody], None],
        moved: Callable[[int, Deferred[None] | None], None],
    ) -> None:
        """
        Fetch what is missing of a partial file.
        """
        # Neither an archive's bytes nor those of a peer come from a registry.
        remote = bool(source.host) and not IPeerSource.providedBy(source)

        began, received = self._downloads.clock.seconds(), 0
        count = self.counter(source.host, transfer) if remote else None

        def arrived(size: int) -> Deferred[None] | None:
            nonlocal received
            received += size
            transfer.report(bytes_done=held(partial), moved=size)
            hold = None
            if IPeerSource.providedBy(source):
                transfer.report(from_peers=transfer.extra.get("from_peers", 0) + size)
            if count is not None:
                hold = count(size)
            moved(size, hold)
            return hold

        streams = RangedDownload(
            partial,
            source,
            clock=self._downloads.clock,
            slots=self._downloads.slots,
            # An archive passes its bytes once, and a peer is near.
            policy=self._ranges if remote else evolve(self._ranges, most=1),
            trials=self._trials,
            opened=opened,
            arrived=arrived,
            changed=lambda streams: transfer.report(streams=streams),
        )
        try:
            await streams.run()
        finally:
            if remote:
                self._moved(source.host, received, self._downloads.clock.seconds() - began)

    def _verified(self, blob: Descriptor, growth: Growth) -> None:
        """
        Record where a blob came from, if one origin has sent all of its bytes that are not
        public, and let clients have its end while it is written to the disk.
        """
        origins = growth.origins - {PUBLIC} or growth.origins
        if len(origins) == 1 and "" not in origins:
            (origin,) = origins
            self._store.catalog.add_origin(blob.digest, origin)
        growth.verified(blob.size)

    def prove(self, source: IBlobSource, digest: Digest) -> Deferred[None]:
        """
        Have a source prove that it has a blob of the store.

        @raise ContentMismatch: it sends other bytes.
        @raise SourceError: see L{Possession.prove}.
        """
        blobs = self._store.blobs
        return self._possession.prove(source, digest, blobs.path(digest), blobs.size(digest) or 0)

    def prove_by_parts(self, source: IBlobSource, digest: Digest) -> Deferred[bool]:
        """
        The same, as L{Possession.prove_by_parts}.
        """
        blobs = self._store.blobs
        return self._possession.prove_by_parts(source, digest, blobs.path(digest), blobs.size(digest) or 0)

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
        The growth of a blob's file, which lives as long as it is referenced.
        """
        growth = self._growths.get((digest, scope))
        # The blob may have been removed since.
        if growth is None or (growth.is_whole and not self._store.blobs.has(digest)):
            growth = self._growths[digest, scope] = Growth()
        return growth


def _origins(transfer: Transfer) -> frozenset[str]:
    """
    The origins of the registries that a transfer may receive bytes from.
    """
    return frozenset(source.origin for source in transfer.sources if IBlobSource.providedBy(source))
