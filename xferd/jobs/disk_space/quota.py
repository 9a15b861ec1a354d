# -*- test-case-name: tests.jobs.disk_space.test_quota -*-
"""
The quota: the bytes that the store may take.
"""

from __future__ import annotations

from collections.abc import Callable, Set

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from xferd.errors import DiskFull, StoreError
from xferd.interfaces.store import IStore
from xferd.jobs.deferreds import then_cancelled
from xferd.jobs.disk_space.sizes import in_words
from xferd.names import Reference
from xferd.transfer.eventual import Background


class Quota:
    """
    The quota of one store.

    What is over it is freed: first what nothing names or uses, then what
    interrupted jobs have fetched, then images that no job, mount or pin holds,
    of which the one goes first that was last used the longest ago.

    @ivar limit: the bytes; 0 for any number.  It may be set at any time, and
        is in force from the next L{admit} or L{check} on.
    """

    _log = Logger()

    def __init__(self, store: IStore, removed: Callable[[Reference], None], limit: int = 0) -> None:
        """
        @param removed: told of each image that went.
        """
        self.limit = limit
        self._store = store
        self._removed = removed
        self._lock = DeferredLock()
        self._background = Background()
        self._spare: set[Reference] | None = None

    async def admit(self, needed: int, reserved: int, name: str) -> None:
        """
        See to it that there is room for a job.

        @param needed: the bytes that it is going to write.
        @param reserved: those that others are.
        @param name: what needs them, as the error says it.
        @raise DiskFull: they do not fit.
        """
        if not self.limit or not needed:
            return
        async with self._lock:
            coming = needed + reserved
            if needed <= self.limit and await self._free(coming, frozenset(), enough=True) <= 0:
                return
        raise DiskFull(
            f"{name} needs {in_words(needed)}, and the quota of the store is {in_words(self.limit)}; "
            "remove or unpin images, wait for other jobs, or raise 'quota' in [store]"
        )

    def check(self, spare: Set[Reference] = frozenset()) -> None:
        """
        Free what is over the quota, in the background.

        @param spare: images that stay this time.
        """
        if not self.limit:
            return
        if self._spare is not None:
            # One that waits for its turn does for all.
            self._spare |= spare
            return
        self._spare = set(spare)
        self._background.spawn(Deferred.fromCoroutine(self._check()), "while the quota is enforced")

    def stop(self) -> Deferred[None]:
        """
        End what goes on in the background.
        """
        return self._background.stop()

    async def _check(self) -> None:
        try:
            await self._lock.acquire()
        finally:
            spare, self._spare = self._spare or set(), None
        try:
            excess = await self._free(0, spare, enough=False)
        except StoreError as e:
            self._log.error("cannot enforce the quota: {error}", error=e)
            return
        finally:
            self._lock.release()
        if excess > 0:
            self._log.warn(
                "the store takes {excess} more than its quota, and jobs, mounts and pins hold its images",
                excess=in_words(excess),
            )

    async def _free(self, coming: int, spare: Set[Reference], *, enough: bool) -> int:
        """
        Free what is over the quota.

        @param coming: bytes that are going to be written.
        @param enough: remove no image if that would not be enough.
        @return: the bytes that are over it all the same; not positive if none
            are.
        """
        collection = self._store.gc
        excess = await self._excess(coming)
        for partials in (False, True):
            if excess > 0:
                await collection.collect(False, partials=partials)
                await collection.removed()
                excess = await self._excess(coming)
        while excess > 0:
            # A job that is cancelled meanwhile leaves names that are gone: they are reported.
            if not await then_cancelled(Deferred.fromCoroutine(self._evict(excess, spare, enough))):
                break
            await collection.collect(False)
            await collection.removed()
            excess = await self._excess(coming)
        return excess

    async def _evict(self, excess: int, spare: Set[Reference], enough: bool) -> list[Reference]:
        gone = await self._store.gc.evict(excess, spare, enough)
        for reference in gone:
            self._log.info("removed {name}, for the quota", name=reference)
            self._removed(reference)
        return gone

    async def _excess(self, coming: int) -> int:
        usage = await self._store.usage()
        return sum(usage.values()) + coming - self.limit
