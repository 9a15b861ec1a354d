# -*- test-case-name: tests.jobs.mirror.test_blobs -*-
"""
The blobs of a mirror: from the store, else from the growing file of a download that
continues without any reader, else from the upstream past the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial
from itertools import count
from typing import Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xferd.errors import DiskFull, RegistryError, TimedOut
from xferd.expiring import ExpiringDict
from xferd.interfaces.mirror import IBlobReader
from xferd.interfaces.registry import IRepository
from xferd.interfaces.store import IStore
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.deferreds import unless_failed
from xferd.jobs.mirror.arriving_blob import ArrivingBlob
from xferd.jobs.mirror.fills import Fills
from xferd.jobs.mirror.known import Known
from xferd.jobs.mirror.pass_through import PassThrough
from xferd.jobs.mirror.provenance import Provenance
from xferd.jobs.mirror.questions import PATIENCE, Questions
from xferd.jobs.mirror.room import Room
from xferd.jobs.mirror.traffic import Traffic
from xferd.names import Digest
from xferd.oci import Descriptor
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher

T = TypeVar("T")

HELD_BACK: Final = 64 * 1024
"""
The bytes at the end of a larger blob that are sent only after the whole blob has
been verified: no client takes wrong bytes for complete.  A smaller blob is sent
whole after that.
"""

FAR: Final = 8 * 1024 * 1024
"""A range that begins so many bytes behind those that are here is not waited for."""

SHORT: Final = 16 * 1024 * 1024
"""The bytes of a short range: any number of these are requested separately, and fetched twice."""

MOST_LONG: Final = 2
"""The longer ranges of one blob that are requested separately at the same time; others wait."""

CONFIRMED: Final = 60.0
"""Seconds for which it is remembered that an upstream has a blob that no manifest names."""

_LOOK: Final = 1.0


class MirroredBlobs:
    """
    The blobs of all upstreams.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        layers: DownloadManager,
        questions: Questions,
        passing: TransferManager,
        *,
        clock: IReactorTime,
        store_turn: Callable[[], Turn],
        traffic: Traffic,
        check_open: Callable[[], None] = lambda: None,
    ) -> None:
        """
        @param passing: the manager of downloads that are not kept.
        @param store_turn: see L{Fills}.
        @param traffic: counts hits, misses and bytes.
        @param check_open: called before a blob is requested that does not arrive yet; raises if
            new work is refused.
        """
        self._check_open = check_open
        self._store = store
        self._known = Known(store)
        self._layers = layers
        self._questions = questions
        self._provenance = Provenance(store, layers, questions)
        self._room = Room(store.free_space)
        self._passing = passing
        self._clock = clock
        self._traffic = traffic
        self._numbers = count(1)
        self.fills = Fills(store, layers, clock=clock, store_turn=store_turn, traffic=traffic)
        self._locks: dict[Digest, tuple[DeferredLock, int]] = {}
        self._long: Counter[Digest] = Counter()
        self._confirmed: ExpiringDict[tuple[Hashable, Digest], tuple[float, Descriptor]]
        self._confirmed = ExpiringDict(clock.seconds)

    async def describe(
        self, source: IRepository, digest: Digest, turn: Turn, images: bool, *, sure: bool = False
    ) -> Descriptor:
        """
        The descriptor of a blob: that of a manifest, else by the upstream's answer.

        @param images: see L{IMirror.manifest<xferd.interfaces.mirror.IMirror.manifest>}.
        @param sure: whether the upstream has to confirm a blob that is not in the store, and
            does not arrive.
        @raise BlobUnknown: the upstream does not have it in this repository.
        @raise SourceError: there is no answer.
        """
        known = self._known.blob(source.name, digest, images)
        if known is not None and not (sure and await self._is_doubtful(source, known, turn, images)):
            return known
        confirmed = self._confirmed.get((source.identity, digest))
        if confirmed is not None and self._clock.seconds() < confirmed[0] + CONFIRMED:
            return known or confirmed[1]

        async def use(blob: Descriptor) -> None:
            self._confirmed[source.identity, digest] = self._clock.seconds(), blob

        async def attempt(repository: IRepository) -> Descriptor:
            return Descriptor("application/octet-stream", digest, await _size(repository, digest))

        found = await self._questions.ask(source, "blob", str(digest), attempt, use, turn)
        return known or found

    async def _is_doubtful(self, source: IRepository, blob: Descriptor, turn: Turn, images: bool) -> bool:
        """
        Whether the upstream has to confirm that it has a blob that a manifest names.

        @raise SourceError: it has not proved to have the one of the store, and does not.
        """
        if self._store.blobs.has(blob.digest) and not self._layers.isolated:
            await self._may_read(source, blob.digest, turn, images)
            return False
        return not self.fills.has(source, blob)

    async def _may_read(self, source: IRepository, digest: Digest, turn: Turn, images: bool) -> bool:
        """
        Whether the clients of a repository may have a blob of the store: see
        L{Provenance.check}.
        """
        if images and self._known.is_of_image(source.name, digest):
            return True
        return await self._provenance.check(source, digest, turn)

    async def open(
        self, source: IRepository, blob: Descriptor, turn: Turn, start: int, stop: int, images: bool
    ) -> IBlobReader:
        """
        Open a blob.

        @param images: see L{IMirror.manifest<xferd.interfaces.mirror.IMirror.manifest>}.
        @param start: the offset of the first byte that will be read.
        @param stop: the exclusive offset of the last one.
        @return: the reader, when bytes arrive, so that an error until then has a
            status.  A small blob is complete then.
        @raise Draining: the daemon is being drained.
        @raise SourceError: no source delivers it.
        """
        stored = self._store.blobs.has(blob.digest)
        self._traffic.blob(source.host, stored, stop - start)
        if stored and not self._layers.isolated:
            if await self._may_read(source, blob.digest, turn, images):
                return self._layers.content(blob, source, turn)
            return await self._pass(source, blob, turn, start, stop)

        if not self.fills.has(source, blob):
            self._check_open()

        async def unkept(offset: int) -> IBlobReader:
            return await self._unkept(source, blob, turn, offset, stop)

        if self._room.is_short:
            return await unkept(start)
        watcher = self.fills.begin(source, blob, turn)
        try:
            here = max(self._layers.growth(blob, source).size, self._store.blobs.partial_size(blob.digest))
            if start > here + FAR:
                if stop - start <= SHORT:
                    return await self._pass(source, blob, turn, start, stop)
                if self._long[blob.digest] < MOST_LONG:
                    return await self._pass_long(source, blob, turn, start, stop)
            await self._room.wait(Deferred.fromCoroutine(self._flowing(watcher, source, blob)))
            growth = self._layers.growth(blob, source)
            reader = self._layers.content(blob, source, turn, held_back=HELD_BACK, prove=True)
            arriving = ArrivingBlob(
                reader, blob, growth, self._provenance, source, turn, room=self._room, unkept=unkept
            )
            try:
                admitted = self._layers.isolated or await arriving.admit()
            except BaseException:
                arriving.close()
                raise
            if admitted:
                return arriving
            # The bytes come from elsewhere, and only there clients may have them.
            arriving.close()
            return await self._pass(source, blob, turn, start, stop)
        except DiskFull as e:
            self._log.warn("{digest} is sent and not kept: {why}", digest=blob.digest, why=str(e))
            return await unkept(start)
        finally:
            watcher.release()

    async def _flowing(self, watcher: Watcher[None], source: IRepository, blob: Descriptor) -> None:
        """
        Wait until bytes arrive, or until a small blob is here.

        @raise TimedOut: none came for too long.
        """
        if blob.size > HELD_BACK:
            waiting = unless_failed([watcher.result()], self._layers.growth(blob, source).flowing())
            await self._bounded(watcher.transfer, source, Deferred.fromCoroutine(waiting))
        else:
            await self._bounded(watcher.transfer, source, watcher.result())

    async def _bounded(self, transfer: Transfer, source: IRepository, work: Deferred[T]) -> T:
        """
        Wait for work of a transfer, as long as it moves or waits for a slot.

        @raise SourceError: the upstream sent nothing for some seconds, or wants a
            longer pause: the newest error, if there was one.
        """
        spent, moved, late = 0.0, transfer.bytes_done, False
        timers: list[IDelayedCall] = []

        def look() -> None:
            nonlocal spent, moved, late
            timers[:] = [self._clock.callLater(_LOOK, look)]
            if transfer.bytes_done != moved:
                spent, moved = 0.0, transfer.bytes_done
            elif transfer.state in ("running", "backing-off"):
                spent += _LOOK
            until = transfer.reason().until
            paused = until is not None and until - self._clock.seconds() > PATIENCE
            if spent > PATIENCE or (paused and transfer.trouble(source) is not None):
                late = True
                work.cancel()

        look()
        try:
            return await work
        except CancelledError:
            if not late:
                raise
            raise transfer.trouble(source) or TimedOut(
                f"{source.host} sent nothing of {transfer.digest} within {PATIENCE:g} s",
                phase="headers",
                host=source.host,
            ) from None
        finally:
            timers[0].cancel()

    # ------------------------------------------------------- past the store

    async def _pass(
        self,
        source: IRepository,
        blob: Descriptor,
        turn: Turn,
        start: int,
        stop: int,
        closed: Callable[[], None] = lambda: None,
    ) -> IBlobReader:
        """
        Send a part of a blob, or all of it, without keeping it.
        """
        verified = partial(self._provenance.sent, source, blob.digest)
        reader = PassThrough(blob, start, stop, HELD_BACK, self._layers.counter, closed, verified)
        watcher = self._passing.request(
            ("pass", blob.digest, next(self._numbers)),
            reader.fetch,
            digest=blob.digest,
            size=stop - start,
            source=source,
            turn=turn,
        )
        reader.watch(watcher)
        try:
            await self._bounded(watcher.transfer, source, reader.ready())
        except BaseException:
            reader.close()
            raise
        return reader

    async def _pass_long(
        self, source: IRepository, blob: Descriptor, turn: Turn, start: int, stop: int
    ) -> IBlobReader:
        """
        Send a long part of a blob, and count it.
        """
        self._long[blob.digest] += 1

        def closed() -> None:
            self._long[blob.digest] -= 1
            if not self._long[blob.digest]:
                del self._long[blob.digest]

        return await self._pass(source, blob, turn, start, stop, closed)

    async def _unkept(
        self, source: IRepository, blob: Descriptor, turn: Turn, start: int, stop: int
    ) -> IBlobReader:
        """
        Send a blob to one client at a time, while the disk is full.
        """
        digest = blob.digest
        self._log.warn(
            "the disk is full: {digest} is sent to one client at a time, and not kept", digest=digest
        )
        lock, users = self._locks.get(digest, (DeferredLock(), 0))
        self._locks[digest] = lock, users + 1
        held = False

        def release() -> None:
            lock, users = self._locks.pop(digest)
            if users > 1:
                self._locks[digest] = lock, users - 1
            if held:
                lock.release()

        try:
            await lock.acquire()
            held = True
            return await self._pass(source, blob, turn, start, stop, release)
        except BaseException:
            if not held:
                release()
            raise


async def _size(repository: IRepository, digest: Digest) -> int:
    """
    The size of a blob by its upstream.
    """
    size = await repository.confirm(digest)
    if size is None:
        body = await repository.open(digest, 0)
        body.abandon()
        size = body.total
    if size is None:
        raise RegistryError(f"{repository.label} does not send the size of {digest}", host=repository.host)
    return size
