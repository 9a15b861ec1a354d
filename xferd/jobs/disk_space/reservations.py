# -*- test-case-name: tests.jobs.disk_space.test_reservations -*-
"""
Reservations of the bytes that jobs have still to write.

A manifest names the size of each blob, so the job knows before the first byte
whether an image fits on the disk beside the blobs that other jobs fetch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from attrs import define
from twisted.internet.defer import DeferredLock

from xferd.errors import DiskFull
from xferd.interfaces.store import IStore
from xferd.jobs.disk_space.quota import Quota
from xferd.jobs.disk_space.sizes import in_words
from xferd.media_types import LAYERS
from xferd.names import Digest
from xferd.oci import Descriptor

EXPANSION: Final[Mapping[str, float]] = {"tar": 1.0, "gzip": 2.5, "zstd": 3.0}
"""The usual ratio of a layer's unpacked size to its packed size, by compression."""


_FRESH: Final = 2.0
"""Seconds for which a count of the bytes that may be freed is reused."""


@define
class _Reservation:
    """
    The reservation of one blob.

    @ivar size: the bytes of the blob.
    @ivar holders: the number of jobs that hold it.
    """

    size: int
    holders: int = 0


class Reservations:
    """
    The reservations of the jobs of one store.  A blob counts once, with its
    missing bytes.
    """

    def __init__(self, store: IStore, quota: Quota) -> None:
        self._store = store
        self._quota = quota
        self._blobs: dict[Digest, _Reservation] = {}
        self._lock = DeferredLock()
        self._counted: dict[bool, tuple[float, int]] = {}

    @property
    def total(self) -> int:
        """
        The bytes that are reserved.
        """
        return sum(self._missing(digest, held.size) for digest, held in self._blobs.items())

    def hold(self, blobs: Iterable[Descriptor]) -> Callable[[], None]:
        """
        Reserve space for blobs, whether it is free or not.

        @return: ends the reservation when called.  Idempotent.
        """
        held = {blob.digest: blob for blob in blobs}
        for blob in held.values():
            self._blobs.setdefault(blob.digest, _Reservation(blob.size)).holders += 1

        def end() -> None:
            for digest in held:
                self._blobs[digest].holders -= 1
                if not self._blobs[digest].holders:
                    del self._blobs[digest]
            held.clear()

        return end

    async def reserve(self, blobs: Iterable[Descriptor], name: str) -> Callable[[], None]:
        """
        Reserve space for blobs, if as much is free beside the other
        reservations.  Otherwise what nothing uses is freed first, if that
        suffices.

        @param name: what needs the blobs, for the error.
        @return: as for L{hold}.
        @raise DiskFull: they do not fit on the disk, or into the quota.
        """
        wanted = {blob.digest: blob for blob in blobs}
        if not self._quota.limit and self._lacking(wanted) <= 0:
            return self.hold(wanted.values())
        async with self._lock:
            await self._quota.admit(self._needed(wanted), self.total, name)
            if self._lacking(wanted) > 0:
                await self._make_space(wanted, name)
            return self.hold(wanted.values())

    def unpacked(self, blobs: Iterable[Descriptor]) -> str:
        """
        A warning where layers, whose blobs are reserved, will probably not fit
        when they are unpacked, by an estimate of their size.  Empty where they
        should fit.
        """
        trees = sum(
            int(size * EXPANSION[LAYERS[media_type]])
            for media_type, size in {blob.digest: (blob.media_type, blob.size) for blob in blobs}.values()
            if media_type in LAYERS
        )
        try:
            lacking = trees + self.total - self._store.free_space.free()
        except OSError:
            return ""
        if not trees or lacking <= 0:
            return ""
        return (
            f"the layers take about {in_words(trees)} unpacked, and the disk of {self._store.path} "
            f"probably lacks {in_words(lacking)} for that"
        )

    async def _make_space(self, wanted: Mapping[Digest, Descriptor], name: str) -> None:
        """
        Free what nothing uses, if that suffices.

        @raise DiskFull: it does not.
        """
        collection = self._store.gc
        await collection.removed()
        for partials in (False, True):
            lacking = self._lacking(wanted)
            if lacking <= 0:
                return
            if await self._count(partials) >= lacking:
                self._counted.clear()
                await collection.collect(False, partials=partials)
                await collection.removed()
        if self._lacking(wanted) <= 0:
            return
        free, reserved = self._store.free_space.free(), self.total
        beside = f", of which {in_words(reserved)} are reserved for other jobs" if reserved else ""
        raise DiskFull(
            f"{name} needs {in_words(self._needed(wanted))}, and the disk of {self._store.path} has "
            f"{in_words(free)} free{beside}; remove images with 'xferctl rm', or free space on the disk"
        )

    async def _count(self, partials: bool) -> int:
        """
        The bytes that may be freed.  Many jobs that do not fit share one count:
        removals by others wait while one is made.
        """
        now = self._store.free_space.now()
        counted = self._counted.get(partials)
        if counted is None or now >= counted[0] + _FRESH:
            freed = await self._store.gc.collect(True, partials=partials)
            counted = self._counted[partials] = now, freed.bytes
        return counted[1]

    def _lacking(self, wanted: Mapping[Digest, Descriptor]) -> int:
        """
        The number of bytes that these blobs need beyond the free space; 0 if the
        free space is not known.
        """
        if self._fits(sum(blob.size for blob in wanted.values())):
            return 0
        needed = self._needed(wanted)
        try:
            return needed + self.total - self._store.free_space.free() if needed else 0
        except OSError:
            return 0

    def _fits(self, size: int) -> bool:
        """
        Whether so many bytes fit even if all reserved blobs are missing: then no
        file has to be checked.
        """
        try:
            return size + sum(held.size for held in self._blobs.values()) <= self._store.free_space.free()
        except OSError:
            return False

    def _needed(self, wanted: Mapping[Digest, Descriptor]) -> int:
        """
        The bytes of some blobs that are neither in the store nor reserved.
        """
        return sum(
            self._missing(digest, blob.size) for digest, blob in wanted.items() if digest not in self._blobs
        )

    def _missing(self, digest: Digest, size: int) -> int:
        blobs = self._store.blobs
        return 0 if blobs.has(digest) else max(size - blobs.partial_size(digest), 0)
