# -*- test-case-name: tests.jobs.blobs.test_relay -*-
"""
Small blobs that are copied from one registry to another in memory.

A file and a transfer of its own cost several times as much as the few bytes of such
a blob.  It is requested when its upload needs the first byte, holds a slot for
downloads meanwhile, and is verified before a byte of it is sent.

Everything else is left to a download into the store, which has retries, other sources and
reasons to show: when no slot is free, or no bytes arrive, within a second, when another job
downloads the blob, or when the request fails.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.errors import DigestMismatch, SizeMismatch, SourceError, Truncated
from xferd.interfaces.registry import IBlobSource, IContent
from xferd.jobs.blobs.reader import PATIENCE, BlobReader
from xferd.names import Digest
from xferd.oci import Descriptor
from xferd.single_flight import SingleFlight
from xferd.transfer.activity import Activity
from xferd.transfer.bandwidth import Flow
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots
from xferd.transfer.sources import pause_for

MOST: Final = 64 * 1024
"""The largest blob that passes through memory, in bytes: fetching it again costs little."""


class NoSlot(Exception):
    """
    No slot is free soon: the download that has to wait for one shows why.
    """


class Relay:
    """
    Fetches small blobs into memory, each once for all that need it at the same time.
    """

    def __init__(
        self,
        downloads: TransferManager,
        *,
        flow: Callable[[str, Callable[[], Sequence[Turn]]], Flow],
        moved: Callable[[str, int, float], object],
    ) -> None:
        """
        @param downloads: has the slots.
        @param flow: makes the flow of the bytes from a host, for those whose turns the
            function returns.
        @param moved: called at the end of each request with its host, its bytes and its
            seconds.
        """
        self._downloads = downloads
        self._flow = flow
        self._moved = moved
        self._fetches: dict[Hashable, tuple[SingleFlight[bytes], Flow]] = {}
        self._ends: dict[Hashable, tuple[list[Turn], IBlobSource, Callable[[], None]]] = {}

    def begin(
        self, key: Hashable, blob: Descriptor, source: IBlobSource, turn: Turn
    ) -> Deferred[bytes] | None:
        """
        Fetch a blob, or share the request that does.

        @param key: that of its download.
        @return: fires with its bytes, which are verified; L{None} if the blob has to be
            downloaded.  Cancelling ends this wait alone.
        @raise SourceError: the request failed.
        @raise NoSlot: it could not begin soon.
        """
        if self._downloads.is_paused((turn,), source):
            return None
        shared = self._fetches.get(key)
        if shared is not None:
            self._ends[key][0].append(turn)
            return shared[0].wait()
        slots = self._downloads.slots_of(blob.size)
        if self._downloads.has(key) or slots.hosts.closed(source.host, source.account):
            return None
        turns = (turn,)
        fetch: SingleFlight[bytes] = SingleFlight()
        flow = self._flow(source.host, lambda: turns)
        self._fetches[key] = fetch, flow
        waiting = fetch.wait()

        def done() -> None:
            del self._fetches[key], self._ends[key]

        work = Deferred.fromCoroutine(self._fetch(blob, source, turn, slots, flow))
        paused = False

        def end() -> None:
            nonlocal paused
            paused = True
            work.cancel()

        def ended(failure: Failure) -> Failure:
            return Failure(NoSlot()) if paused and failure.check(CancelledError) else failure

        self._ends[key] = [turn], source, end
        fetch.start(work.addErrback(ended), done)
        return waiting

    def steer(self) -> None:
        """
        A pause has begun: end the requests that only paused jobs need.
        """
        for turns, source, end in list(self._ends.values()):
            if self._downloads.is_paused(turns, source):
                end()

    async def joined(self, key: Hashable, activity: Activity) -> bytes | None:
        """
        Wait for a blob that is in transit.

        @param activity: that of the transfer that waits.
        @return: its bytes, or L{None} if it is not, or if its request fails.
        """
        if key not in self._fetches:
            return None
        shared, flow = self._fetches[key]
        activity.limit = flow.reason
        try:
            return await shared.wait()
        except (NoSlot, SourceError):
            return None

    async def _fetch(
        self, blob: Descriptor, source: IBlobSource, turn: Turn, slots: Slots, flow: Flow
    ) -> bytes:
        """
        Fetch a blob by one request.
        """
        downloads, host = self._downloads, source.host
        request = SlotRequest((turn,), host, source.account)
        await self._acquire(request, slots)
        began, data = downloads.clock.seconds(), bytearray()

        def sink(piece: bytes) -> Deferred[None] | None:
            if len(data) + len(piece) > blob.size:
                raise SizeMismatch(
                    f"{source.label} sent more than {blob.size} bytes of {blob.digest}", host=host
                )
            data.extend(piece)
            return flow.take(len(piece))

        try:
            body = await source.open(blob.digest, 0)
            await body.deliver(sink)
            if len(data) < blob.size:
                raise Truncated(f"{source.label} ended {blob.digest} after {len(data)} bytes", host=host)
            whole = bytes(data)
            if Digest.of(whole, blob.digest.algorithm) != blob.digest:
                source.distrust(blob.digest)
                raise DigestMismatch(f"{source.label} sent other bytes for {blob.digest}", host=host)
        except SourceError as e:
            pause = pause_for(e, source, downloads.retry)
            if pause.seconds:
                slots.pause(pause.whom, pause.seconds)
            raise
        finally:
            request.release()
            self._moved(host, len(data), downloads.clock.seconds() - began)
        slots.reputation.record(host, good=True)
        return whole

    async def _acquire(self, request: SlotRequest, slots: Slots) -> None:
        """
        Acquire a slot.

        @raise NoSlot: there is none within a second, or the host is paused.
        """
        acquired = slots.acquire(request)
        if request.held:
            return
        request.host_paused = request.release
        patience = self._downloads.clock.callLater(PATIENCE, request.release)
        try:
            await acquired
        except CancelledError:
            raise NoSlot from None
        finally:
            # It leads to itself: no cycle is left for the garbage collector.
            request.host_paused = None
            if patience.active():
                patience.cancel()


@implementer(IContent)
class RelayedBlob:
    """
    A small blob for an upload: the bytes in memory, or those of a download.

    States: I{made}; I{arriving}, from the first C{ready} or C{read} on; then I{here}, or
    I{downloaded} by a L{BlobReader}; closed.  A blob that has not arrived within a second is
    downloaded: the download shares the request, and shows what the job waits for.
    """

    def __init__(
        self,
        blob: Descriptor,
        fetch: Callable[[], Deferred[bytes] | None],
        download: Callable[[], BlobReader],
        received: Callable[[int], None],
        *,
        clock: IReactorTime,
    ) -> None:
        """
        @param fetch: fetches the blob into memory, see L{Relay.begin}.
        @param download: opens the blob in the store, or its download.
        @param received: called with the blob's size when its bytes are in memory.
        """
        self.size = blob.size
        self._fetch = fetch
        self._download = download
        self._received = received
        self._clock = clock
        self._data: bytes | None = None
        self._reader: BlobReader | None = None
        self._arriving: Deferred[bytes] | None = None
        self._waits: list[Deferred[None]] = []

    def ready(self, offset: int, size: int, least: int = 1) -> Deferred[int]:
        self._begin()
        if self._reader is not None:
            return self._reader.ready(offset, size, least)
        if self._data is not None:
            return succeed(min(size, self.size - offset))
        return Deferred.fromCoroutine(self._ready(offset, size, least))

    def read(self, offset: int, most: int) -> Deferred[bytes]:
        self._begin()
        if self._reader is not None:
            return self._reader.read(offset, most)
        if self._data is not None:
            return succeed(self._data[offset : offset + most])
        return Deferred.fromCoroutine(self._read(offset, most))

    def rest(self) -> None:
        """
        Close the file of a download until the next C{read}.
        """
        if self._reader is not None:
            self._reader.rest()

    def close(self) -> None:
        """
        Release the bytes, the request and the download.  Idempotent.
        """
        self._data = None
        arriving, self._arriving = self._arriving, None
        if arriving is not None:
            arriving.cancel()
        if self._reader is not None:
            self._reader.close()

    def _begin(self) -> None:
        if self._data is not None or self._reader is not None or self._arriving is not None:
            return
        arriving = self._fetch()
        if arriving is None:
            self._reader = self._download()
        else:
            self._arriving = arriving
            _ = arriving.addCallbacks(self._arrived, self._failed)

    def _arrived(self, data: bytes) -> None:
        self._arriving = None
        if self._reader is None:
            self._data = data
            self._received(self.size)
            self._wake()

    def _failed(self, _: Failure) -> None:
        """
        Leave the blob to a download, unless this is the end.
        """
        if self._arriving is not None:
            self._arriving = None
            self._leave()

    def _leave(self) -> None:
        """
        Leave the blob to a download.  The request goes on until this is closed, so that
        the download can share it.
        """
        if self._reader is None:
            self._reader = self._download()
            self._wake()

    def _wake(self) -> None:
        while self._waits:
            self._waits.pop(0).callback(None)

    async def _ready(self, offset: int, size: int, least: int) -> int:
        patience = self._clock.callLater(PATIENCE, self._leave)
        try:
            await self._wait()
        finally:
            if patience.active():
                patience.cancel()
        return await self.ready(offset, size, least)

    async def _read(self, offset: int, most: int) -> bytes:
        await self._wait()
        return await self.read(offset, most)

    def _wait(self) -> Deferred[None]:
        """
        Wait until the bytes are here, or are left to a download.
        """
        wait: Deferred[None] = Deferred(self._waits.remove)
        self._waits.append(wait)
        return wait
