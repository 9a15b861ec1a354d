# -*- test-case-name: tests.jobs.disk_space.test_quota -*-
"""
The quota: the largest number of bytes in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Set

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from xferd.errors import DiskFull, StoreError
from xferd.interfaces.collection import Evicted
from xferd.interfaces.store import IStore
from xferd.jobs.deferreds import then_cancelled
from xferd.jobs.disk_space.sizes import in_words
from xferd.names import Digest, Reference, Repository
from xferd.transfer.eventual import Background


class Quota:
    """
    The quota of one store.

    What exceeds it is freed: first what nothing names or uses, then what
    interrupted jobs have fetched, then images that no job, mount, engine or pin
    holds and mirrored content that no rule keeps, the least recently used first.

    @ivar limit: the bytes; 0 is no limit.  It may be set at any time, and
        is in force from the next L{admit} or L{check} on.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        removed: Callable[[Reference], None],
        limit: int = 0,
        spared: Callable[[], Callable[[Repository, Digest], bool]] = lambda: lambda *_: False,
    ) -> None:
        """
        @param removed: called with the name of each removed image.
        @param spared: returns a function that decides whether a rule keeps a
            manifest of a mirrored repository.
        """
        self.limit = limit
        self._store = store
        self._removed = removed
        self._spared = spared
        self._lock = DeferredLock()
        self._background = Background()
        self._spare: set[Reference] | None = None

    async def admit(self, needed: int, reserved: int, name: str) -> None:
        """
        Make space for a job.

        @param needed: the bytes that it is going to write.
        @param reserved: the bytes that other jobs are going to write.
        @param name: what needs the bytes, for the error.
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
        Free what exceeds the quota, in the background.

        @param spare: images that are not removed this time.
        """
        if not self.limit:
            return
        if self._spare is not None:
            # The check that waits serves all callers.
            self._spare |= spare
            return
        self._spare = set(spare)
        self._background.spawn(Deferred.fromCoroutine(self._check()), "while the quota is enforced")

    def stop(self) -> Deferred[None]:
        """
        End the check in the background.
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
        Free what exceeds the quota.

        @param coming: bytes that are going to be written.
        @param enough: remove no image if that would not suffice.
        @return: the bytes that still exceed the quota; not positive if none do.
        """
        collection = self._store.gc
        excess = await self._excess(coming)
        for partials in (False, True):
            if excess > 0:
                await collection.collect(False, partials=partials)
                await collection.removed()
                excess = await self._excess(coming)
        while excess > 0:
            # Names that are removed are reported, also if the job is cancelled meanwhile.
            if not await then_cancelled(Deferred.fromCoroutine(self._evict(excess, spare, enough))):
                break
            await collection.collect(False)
            await collection.removed()
            excess = await self._excess(coming)
        return excess

    async def _evict(self, excess: int, spare: Set[Reference], enough: bool) -> Evicted:
        gone = await self._store.gc.evict(excess, spare, enough, self._spared())
        for repository, digest in gone.manifests:
            self._log.info("removed {name}@{digest}, for the quota", name=repository, digest=digest)
        for reference in gone.images:
            self._log.info("removed {name}, for the quota", name=reference)
            self._removed(reference)
        return gone

    async def _excess(self, coming: int) -> int:
        usage = await self._store.usage()
        return sum(usage.values()) + coming - self.limit
