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
from collections.abc import Awaitable, Callable, Hashable, Iterable
from contextlib import nullcontext
from typing import Final, cast
from weakref import WeakValueDictionary

from attrs import evolve, field, frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import (
    BadLayer,
    ContentMismatch,
    DiffIDMismatch,
    DiskFull,
    SourceError,
    WorkerLost,
    XferdError,
)
from xferd.interfaces import (
    Displaced,
    IBlobSource,
    IFollower,
    IPartial,
    IProgressSink,
    ISource,
    IStore,
    IUnpacker,
    IUnpacking,
    Layer,
    Unpacked,
    UnpackProgress,
)
from xferd.jobs.content import BlobContent
from xferd.jobs.feed import Feed
from xferd.jobs.full_disk import Persistence, outlast
from xferd.jobs.realm import ISOLATED, SHARED, Realm
from xferd.jobs.reservations import Reservations
from xferd.jobs.streams import Streams, held
from xferd.names import Digest, chain_id
from xferd.oci import LAYERS, Descriptor
from xferd.transfer.bandwidth import Bandwidth
from xferd.transfer.slots import Turn
from xferd.transfer.transfer import Transfer, TransferManager, Watcher
from xferd.transfer.widening import Lessons, RangePolicy

QUEUED_LAYERS: Final = 2
"""
Whole blobs, for each unpacking worker, that are unpacked or about to be: the
next one is at hand when a worker is free.
"""


@frozen(eq=False)
class Stack:
    """
    A layer with all that is below it, as one image has it.

    @ivar blob: the layer's blob.
    @ivar diff_id: what it unpacks to, by the image's config.
    @ivar below: the stack that the layer stands on, or L{None} at the bottom.
    @ivar chain_id: what the layer is registered as.
    @ivar key: the key of its registration.  The blobs are a part of it: two
        images may have one layer in two compressions, and then each waits
        for its own bytes.
    @ivar realm: who shares it, if not everybody.
    """

    blob: Descriptor
    diff_id: Digest
    below: Stack | None = field(repr=False)
    chain_id: Digest
    key: tuple[Hashable, ...]
    realm: Realm | None = None

    @classmethod
    def of(
        cls, blobs: Iterable[Descriptor], diff_ids: Iterable[Digest], realm: Realm | None = None
    ) -> list[Stack]:
        """
        The stacks of an image, the bottom one first.

        @param realm: who shares them, if not everybody.
        """
        stacks: list[Stack] = []
        layers: Digest | None = None
        bytes_: Digest | None = None
        below: Stack | None = None
        for blob, diff_id in zip(blobs, diff_ids, strict=True):
            layers, bytes_ = chain_id([diff_id], layers), chain_id([blob.digest], bytes_)
            assert layers is not None
            assert bytes_ is not None
            key = ("layer", layers, bytes_) if realm is None else ("layer", layers, bytes_, realm)
            below = cls(blob, diff_id, below, layers, key, realm)
            stacks.append(below)
        return stacks


class DownloadManager:
    """
    Fetches, unpacks and registers layers for all jobs together.

    @ivar fetched: the bytes that came over the network, by registry host.
    @ivar reservations: the bytes that are still to come.
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
        sharing: str = SHARED,
    ) -> None:
        """
        @param ranges: when a blob is fetched by several streams.
        @param sharing: C{shared} or C{isolated}.
        """
        self._sharing = sharing
        self._locks: WeakValueDictionary[Digest, DeferredLock] = WeakValueDictionary()
        self._store = store
        self._unpacker = unpacker
        self._downloads = downloads
        self._unpackings = unpackings
        self._registrations = registrations
        self._bandwidth = bandwidth
        self._ranges = ranges
        self._lessons = Lessons()
        self._feeds: WeakValueDictionary[tuple[Digest, Realm | None], Feed] = WeakValueDictionary()
        self.fetched: Counter[str] = Counter()
        self.reservations = Reservations(store)

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
        return self._unpacker.workers

    @workers.setter
    def workers(self, workers: int) -> None:
        self._unpackings.slots.limit = workers * QUEUED_LAYERS
        self._unpacker.workers = workers

    @property
    def isolated(self) -> bool:
        """
        Whether clients are kept apart.
        """
        return self._sharing == ISOLATED

    def realm(self, source: ISource) -> Realm | None:
        """
        Those with whom what comes from a source is shared, if not everybody.
        """
        return Realm.of(source) if self.isolated else None

    def fetch(
        self,
        blob: Descriptor,
        source: IBlobSource,
        turn: Turn,
        sink: IProgressSink | None = None,
        *,
        given: IBlobSource | None = None,
    ) -> Watcher[None]:
        """
        Bring a blob into the store.

        Isolated, this is also how a client proves that it may have the blob:
        where that is there already, the client's registry is asked whether it
        would give it.

        @param given: C{source} again, if its bytes are at hand and need no
            slot.  It is tried first, and once.
        @return: a watcher whose result fires when the blob is there.  It
            fails with a L{SourceError} of the watcher's own source, or a
            L{StoreError}.
        """

        realm = self.realm(source)

        async def work(transfer: Transfer) -> None:
            if realm is None:
                await self._fetch(transfer, blob, self._feed(blob.digest), given)
            else:
                await self._fetch_alone(transfer, blob, realm, given)

        return self._downloads.request(
            _key("blob", blob.digest, realm),
            work,
            digest=blob.digest,
            size=blob.size,
            source=source,
            turn=turn,
            sink=sink,
        )

    def unpack(
        self,
        blob: Descriptor,
        turn: Turn,
        sink: IProgressSink | None = None,
        algorithm: str = "",
        realm: Realm | None = None,
    ) -> Watcher[Digest]:
        """
        Make a layer's tree, from the bytes that are there and those that come.

        Somebody has to L{fetch} the blob meanwhile, if it is not there.

        @param algorithm: the algorithm of the diff ID; the blob's own, as is
            usual, where the config is not known yet.
        @param realm: who shares it, if not everybody.
        @return: a watcher whose result is the tree's diff ID.  It fails with
            L{BadLayer}, L{WorkerLost} or a L{StoreError}.
        """

        algorithm = algorithm or blob.digest.algorithm

        async def work(transfer: Transfer) -> Digest:
            return await self._unpack(transfer, blob, algorithm, realm)

        return self._unpackings.request(
            _key("tree", blob.digest, algorithm, realm), work, digest=blob.digest, turn=turn, sink=sink
        )

    def register(self, stack: Stack, turn: Turn, sink: IProgressSink | None = None) -> Watcher[Layer]:
        """
        Put a layer on top of the one below.

        Ask for the layers of an image from the bottom up.  Where the tree is
        not there yet, somebody has to L{fetch} and L{unpack} it meanwhile.

        @return: a watcher whose result is the layer.  It fails with
            L{DiffIDMismatch}, a L{StoreError}, or as what it waits for.
        """

        async def work(transfer: Transfer) -> Layer:
            return await self._register(transfer, stack, turn)

        return self._registrations.request(stack.key, work, digest=stack.chain_id, turn=turn, sink=sink)

    def content(
        self,
        blob: Descriptor,
        source: IBlobSource,
        turn: Turn,
        sink: IProgressSink | None = None,
        *,
        named: bool = False,
    ) -> BlobContent:
        """
        Open a blob to be sent elsewhere: where it is not in the store, it is
        fetched once the first byte is asked for.

        @param sink: where the progress of the download goes.
        @param named: whether an image of the store has it, which everybody has
            who may use the daemon.
        """
        realm = self.realm(source)
        if (named or realm is None) and self._store.blobs.has(blob.digest):
            feed = Feed()
            feed.sealed(self._store.blobs.path(blob.digest), blob.size)
            return BlobContent(blob, feed, lambda: None)
        feed = self._feed(blob.digest, realm)
        return BlobContent(blob, feed, lambda: self.fetch(blob, source, turn, sink))

    # ------------------------------------------------------------- downloads

    async def _fetch_alone(
        self, transfer: Transfer, blob: Descriptor, realm: Realm, given: IBlobSource | None
    ) -> None:
        """
        The work of a download that only one realm shares.

        One at a time writes a blob's file; the next one finds it there, or
        goes on with what is there of it.
        """
        lock = self._locks.setdefault(blob.digest, DeferredLock())
        if lock.locked:
            transfer.report(bytes_done=0, bytes_total=blob.size)
            with transfer.wait("waiting for a download of the same blob by somebody else"):
                await lock.acquire()
        else:
            await lock.acquire()
        try:
            # Who has it in a manifest has it.
            feed = self._feed(blob.digest, realm)
            await self._fetch(transfer, blob, feed, given, confirm=blob.data is None)
        finally:
            lock.release()

    async def _fetch(
        self,
        transfer: Transfer,
        blob: Descriptor,
        feed: Feed,
        given: IBlobSource | None,
        *,
        confirm: bool = False,
    ) -> None:
        """
        The work of a download: any number of attempts on one partial file.

        @param confirm: whether a source has to say that the blob may be had,
            before a byte is used that did not come from it.
        """
        transfer.report(bytes_done=0, bytes_total=blob.size)

        async def ask(source: ISource) -> None:
            await cast("IBlobSource", source).confirm(blob.digest)

        if self._store.blobs.has(blob.digest):
            if confirm:
                await transfer.attempts(ask)
            # Whoever asked may not have known, and waits for its bytes.
            feed.sealed(self._store.blobs.path(blob.digest), blob.size)
            transfer.report(bytes_done=blob.size)
            return
        # A pull has reserved all of its blobs; the bytes of an archive come at once.
        if given is None:
            end = await self.reservations.reserve([blob], f"blob {blob.digest}")
        else:
            end = self.reservations.hold([blob])
        try:
            await self._fill(transfer, blob, feed, given, ask if confirm else None)
        finally:
            end()

    async def _fill(
        self,
        transfer: Transfer,
        blob: Descriptor,
        feed: Feed,
        given: IBlobSource | None,
        ask: Callable[[ISource], Awaitable[None]] | None,
    ) -> None:
        """
        Make any number of attempts on one partial file.

        @param ask: asks a source whether the blob may be had, if it has to be.
        """
        room = self._store.room
        partial = await outlast(
            room, lambda: self._store.blobs.partial(blob.digest, blob.size), transfer.wait
        )
        try:
            if ask is not None and held(partial):
                await transfer.attempts(ask)
            partial.follow(feed)
            if blob.data is not None:
                data = blob.data
                await outlast(room, lambda: _embedded(transfer, partial, data), transfer.wait)
                return
            transfer.report(bytes_done=held(partial))
            if given is not None:
                try:
                    with feed.arriving():
                        await self._attempt(transfer, partial, given)
                    return
                except SourceError:
                    if len(transfer.sources) == 1:
                        raise
                    # Others have joined meanwhile, with sources of their own.

            async def attempt(source: ISource) -> None:
                with feed.arriving():
                    await self._attempt(transfer, partial, cast("IBlobSource", source))

            persistence = Persistence(room, transfer)
            while True:
                try:
                    await transfer.attempts(attempt)
                except DiskFull as e:
                    persistence.check(e)
                else:
                    return
        finally:
            partial.unfollow(feed)
            partial.close()

    async def _attempt(self, transfer: Transfer, partial: IPartial, source: IBlobSource) -> None:
        """
        Go on with a partial file where it ends, and make it a blob.

        A mismatch leaves the file empty: the next attempt starts from scratch.
        """
        try:
            if partial.size is None or partial.offset < partial.size:
                await self._receive(transfer, partial, source)
            await partial.commit()
        except ContentMismatch:
            source.distrust(partial.digest)
            if held(partial):
                partial.restart()
            transfer.report(bytes_done=0)
            raise

    async def _receive(self, transfer: Transfer, partial: IPartial, source: IBlobSource) -> None:
        """
        Bring what is missing of a partial file.
        """

        def arrived(size: int) -> Deferred[None] | None:
            transfer.report(bytes_done=held(partial))
            if not source.host:
                return None  # it did not come over the network
            self.fetched[source.host] += size
            return self._bandwidth.take(size)

        streams = Streams(
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

    def _feed(self, digest: Digest, realm: Realm | None = None) -> Feed:
        """
        The feed of a blob, which lives as long as anybody holds it.
        """
        feed = self._feeds.get((digest, realm))
        if feed is None:
            feed = self._feeds[digest, realm] = Feed()
        return feed

    # ------------------------------------------------------------- unpacking

    async def _unpack(
        self, transfer: Transfer, blob: Descriptor, algorithm: str, realm: Realm | None
    ) -> Digest:
        """
        The work of an unpacking: as many tries as the bytes need to be right.
        """
        transfer.report(bytes_done=0, bytes_total=blob.size)
        feed = self._feed(blob.digest, realm)
        lost = False
        since: float | None = None
        room = self._store.room
        while True:
            known = self._store.trees.known(blob.digest)
            if known is not None and known.algorithm == algorithm:
                transfer.report(bytes_done=blob.size)
                return known
            if not self._store.blobs.has(blob.digest):
                with transfer.wait("waiting for its download"):
                    await feed.ready(self._unpacker.least)
            try:
                unpacked = await self._try(transfer, blob, algorithm, feed, last=lost)
            except BadLayer as e:
                raise BadLayer(f"layer {blob.digest}: {e}") from e
            except WorkerLost:
                if lost:
                    raise
                lost = True
            except DiskFull as e:
                since = room.now() if since is None else since
                waiting = room.wait(e, since)
                with transfer.wait(room.why):
                    await waiting
            else:
                if unpacked is not None:
                    transfer.report(bytes_done=blob.size)
                    return unpacked.diff_id

    async def _try(
        self, transfer: Transfer, blob: Descriptor, algorithm: str, feed: Feed, *, last: bool
    ) -> Unpacked | None:
        """
        Unpack a blob once, into a tree of the store.

        A blob that is whole waits for a worker, and has no staging directory
        before.  One that grows is unpacked as its bytes arrive.

        @param last: whether there is no other try.
        @return: the tree's facts, or L{None} if it has to be begun anew: the
            bytes were void, or ceased to arrive.
        """
        whole = self._store.blobs.has(blob.digest)
        staged: str | None = None
        try:
            async with transfer.slot() if whole else nullcontext():
                staged = await self._store.trees.stage()
                unpacked = await self._read(transfer, blob, staged, algorithm, feed, last=last)
            if unpacked is not None:
                await self._store.trees.commit(staged, unpacked, blob.digest)
                staged = None
            return unpacked
        except DiskFull as e:
            if staged is not None:
                # As much is free again when it is removed, and was not enough.
                e.need = await self._store.trees.weigh(staged) * 11 // 10
            raise
        finally:
            if staged is not None:
                await self._store.trees.discard(staged)

    async def _read(
        self, transfer: Transfer, blob: Descriptor, staged: str, algorithm: str, feed: Feed, *, last: bool
    ) -> Unpacked | None:
        """
        Have a process unpack a blob into a staging directory.
        """

        def notify(progress: UnpackProgress) -> None:
            transfer.report(bytes_done=progress.consumed)

        unpacking = self._unpacker.unpack(
            staged, LAYERS[blob.media_type], notify, algorithm, lambda: feed.moving
        )
        reader = _Reader(unpacking, last=last)
        if self._store.blobs.has(blob.digest):
            reader.sealed(self._store.blobs.path(blob.digest), blob.size)
        else:
            feed.follow(reader)
        try:
            return await reader.unpacked()
        finally:
            feed.unfollow(reader)

    # ---------------------------------------------------------- registration

    async def _register(self, transfer: Transfer, stack: Stack, turn: Turn) -> Layer:
        """
        The work of a registration: wait for the tree, wait for the parent.
        """
        registered = self._store.layers.get(stack.chain_id)
        if registered is not None:
            return registered
        wanted = stack.diff_id
        if not self._store.trees.has(wanted):
            tree = self.unpack(stack.blob, turn, algorithm=wanted.algorithm, realm=stack.realm)
            try:
                with transfer.wait("waiting for its bytes to be unpacked"):
                    found = await tree.result()
            finally:
                tree.release()
            if found != wanted:
                raise DiffIDMismatch(
                    f"layer {stack.blob.digest} unpacks to {found}, but the image's config says {wanted}; "
                    "whoever made the image has to make it again"
                )
        below = stack.below
        if below is not None:
            parent = self.register(below, turn)
            try:
                with transfer.wait("waiting for the parent layer"):
                    await parent.result()
            finally:
                parent.release()
        parent_id = None if below is None else below.chain_id
        return await outlast(
            self._store.room,
            lambda: self._store.layers.register(parent_id, wanted, stack.blob),
            transfer.wait,
        )


def _key(*parts: Hashable) -> tuple[Hashable, ...]:
    """
    A key, without what everybody has.
    """
    return tuple(part for part in parts if part is not None)


async def _embedded(transfer: Transfer, partial: IPartial, data: bytes) -> None:
    """
    Make a blob of the bytes that its descriptor brings.
    """
    if held(partial):
        partial.restart()
    partial.write(data)
    transfer.report(bytes_done=partial.offset)
    await partial.commit()


@implementer(IFollower)
class _Reader:
    """
    One unpacking that follows a feed, and what the feed says of its bytes.
    """

    _log = Logger()

    def __init__(self, unpacking: IUnpacking, *, last: bool) -> None:
        """
        @param last: whether there is no other try.
        """
        self._unpacking = unpacking
        self._last = last
        self._sealed = False
        self._void = False
        self._waiting: Deferred[None] | None = None

    def grown(self, path: str, size: int) -> None:
        """
        There is more to read.
        """
        if not self._void:
            self._unpacking.grown(path, size)

    def restarted(self) -> None:
        """
        What was read is void.
        """
        if not self._void:
            self._void = True
            self._unpacking.restarted()
            self._wake()

    def sealed(self, path: str, size: int) -> None:
        """
        All is there, and right.
        """
        if not self._void:
            self._sealed = True
            self._unpacking.sealed(path, size)
            self._wake()

    async def unpacked(self) -> Unpacked | None:
        """
        Wait for the unpacking's end.

        What goes wrong before the blob is verified may be the fault of the
        bytes: then their digest decides whose error it is.

        @return: the layer's facts, or L{None} if its bytes were void or ceased
            to arrive.
        """
        try:
            return await self._unpacking.result
        except CancelledError:
            if self._void:
                return None
            raise
        except Displaced:
            return None
        except XferdError as e:
            self._log.debug("an unpacking failed: {why}", why=str(e))
            if isinstance(e, WorkerLost) and not self._last and not self._void:
                raise  # the next try reads what is here already
            if isinstance(e, DiskFull):
                raise  # no bytes are at fault, and what was written is in the way
            if not self._sealed and not self._void:
                self._waiting = Deferred(lambda _: setattr(self, "_waiting", None))
                await self._waiting
            if self._void:
                return None
            raise

    def _wake(self) -> None:
        """
        Let go whoever waits for the verdict.
        """
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
