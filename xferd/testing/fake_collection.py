# -*- test-case-name: tests.testing.test_fake_store -*-
"""
The collection of what a store in memory has no use for.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xferd.interfaces.store import Freed, IGarbageCollector
from xferd.names import Digest, Reference

if TYPE_CHECKING:
    from xferd.testing.fake_store import FakeStore


class FakeUses:
    """
    Who uses the store, each with what it asked about.
    """

    def __init__(self) -> None:
        self.open: list[set[Digest]] = []

    def touch(self, *digests: Digest) -> None:
        """
        Somebody asked about these.
        """
        for use in self.open:
            use.update(digests)

    def begin(self) -> Callable[[], None]:
        """
        Begin a use; gives what ends it.
        """
        use: set[Digest] = set()
        self.open.append(use)

        def end() -> None:
            self.open[:] = [other for other in self.open if other is not use]

        return end

    def __contains__(self, digest: object) -> bool:
        return any(digest in use for use in self.open)


@implementer(IGarbageCollector)
class FakeCollection:
    """
    The collection.

    @ivar kept: digests that other tools rely on, for a test to fill.
    """

    def __init__(self, store: FakeStore, uses: FakeUses) -> None:
        self.kept: set[Digest] = set()
        self._store = store
        self._uses = uses

    def lease(self) -> Callable[[], None]:
        """
        Begin to use the store.
        """
        return self._uses.begin()

    def collect(
        self, dry_run: bool, partials: bool = False, abandoned: Set[Digest] = frozenset()
    ) -> Deferred[Freed]:
        """
        Free what is of no use, all at once; no partial blob is old.
        """
        return Deferred.fromCoroutine(self._collect(dry_run, partials, abandoned))

    def evict(
        self, excess: int, spare: Set[Reference] = frozenset(), enough: bool = False
    ) -> Deferred[list[Reference]]:
        """
        Take the names of images away.
        """
        return Deferred.fromCoroutine(self._evict(excess, spare, enough))

    async def _evict(self, excess: int, spare: Set[Reference], enough: bool) -> list[Reference]:
        store = self._store
        await store.gate.enter("gc.evict")
        gone: list[Reference] = []
        for image in sorted(store.images.all(), key=lambda image: store.images.used[image.reference]):
            held = (
                image.pinned or image.manifest.digest in self._uses or not self.kept.isdisjoint(image.parts)
            )
            if excess > 0 and not held and image.reference not in spare:
                gone.append(image.reference)
                excess -= image.size
                current = image.chain_id
                while current is not None:
                    excess -= store.layers.registered[current].size
                    current = store.layers.registered[current].parent
        if enough and excess > 0:
            return []
        for reference in gone:
            await store.images.remove(reference)
        return gone

    def removed(self) -> Deferred[None]:
        """
        All is removed at once.
        """
        return succeed(None)

    async def _collect(self, dry_run: bool, all_partials: bool, abandoned: Set[Digest]) -> Freed:
        store = self._store
        await store.gate.enter("gc.collect")
        wanted = {digest for image in store.images.all() for digest in image.parts} | self.kept
        chains: set[Digest] = set()
        for chain_id in store.layers.registered:
            current: Digest | None = chain_id if chain_id in wanted or chain_id in self._uses else None
            while current is not None:
                chains.add(current)
                current = store.layers.registered[current].parent
        diff_ids = {store.layers.registered[chain_id].diff_id for chain_id in chains}
        layers = store.layers.registered.keys() - chains
        trees = {d for d in store.trees.unpacked if d not in diff_ids and d not in self._uses}
        blobs = {d for d in store.blobs.contents if d not in wanted and d not in self._uses}
        blobs -= store.blobs.opened.keys()
        partials = store.blobs.partials.keys() - store.blobs.opened.keys()
        partials = {d for d in partials if (all_partials or d in abandoned) and d not in self._uses}
        freed = Freed(
            blobs=len(blobs),
            trees=len(trees),
            layers=len(layers),
            partials=len(partials),
            bytes=sum(len(store.blobs.contents[d]) for d in blobs)
            + sum(len(store.blobs.partials[d]) for d in partials)
            + sum(store.trees.unpacked[d].size for d in trees),
        )
        if not dry_run:
            store.blobs.free += freed.bytes
            for chain_id in layers:
                del store.layers.registered[chain_id]
            for digest in trees:
                del store.trees.unpacked[digest]
            for digest in blobs:
                del store.blobs.contents[digest]
            for digest in partials:
                del store.blobs.partials[digest]
        return freed
