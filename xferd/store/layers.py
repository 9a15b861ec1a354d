# -*- test-case-name: tests.store.test_layers -*-
"""
The layers: records, in C{layers/}, of a tree on top of a parent chain.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from threading import Event
from weakref import WeakValueDictionary

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import StoreError
from xferd.interfaces.store import ILayers, Layer
from xferd.names import Digest, chain_id
from xferd.oci import Descriptor
from xferd.store.disk.file_system import trying_to
from xferd.store.layer_records import LayerUses, Record, load_records, write_record
from xferd.store.leases import Leases
from xferd.store.paths import Paths
from xferd.store.threads import Threads, delay_cancellation
from xferd.store.trees.facts import files_of
from xferd.store.trees.trees import Trees


@implementer(ILayers)
class Layers:
    """
    The layers of a data directory.

    @ivar uses: what they refer to.
    """

    _log = Logger()

    def __init__(self, paths: Paths, threads: Threads, trees: Trees, leases: Leases) -> None:
        self._paths = paths
        self._leases = leases
        self._threads = threads
        self._trees = trees
        self._records: dict[Digest, Record] = {}
        self.uses = LayerUses()
        self._arrivals: dict[Digest, list[Deferred[Layer]]] = {}
        self._locks: WeakValueDictionary[Digest, DeferredLock] = WeakValueDictionary()
        self._separating = DeferredLock()

    async def load(self) -> None:
        """
        Read all records.  A record whose tree or parent is missing is removed.
        """
        records, broken = await self._threads.run(load_records, self._paths)
        for path in broken:
            self._log.warn("{path} is not the record of a layer that is here, and is removed", path=path)
        for record in records.values():
            self._set(evolve(record, owns=record.owns and record.tree not in self.uses.owners))

    def get(self, chain_id: Digest) -> Layer | None:
        self._leases.touch(chain_id)
        record = self._records.get(chain_id)
        return None if record is None else self._layer(record)

    def arrival(self, chain_id: Digest) -> Deferred[Layer]:
        layer = self.get(chain_id)
        if layer is not None and not layer.outdated:
            return succeed(layer)

        def forget(d: Deferred[Layer]) -> None:
            waiting = self._arrivals[chain_id]
            waiting.remove(d)
            if not waiting:
                del self._arrivals[chain_id]

        arrival: Deferred[Layer] = Deferred(forget)
        self._arrivals.setdefault(chain_id, []).append(arrival)
        return arrival

    def chain_ids(self) -> Set[Digest]:
        return self._records.keys()

    def stack(self, chain_id: Digest) -> Sequence[Layer]:
        found = [
            self._layer(record) for record in self._chain(chain_id if chain_id in self._records else None)
        ]
        return found[::-1]

    def blobs_of(self, chain_id: Digest) -> Sequence[Descriptor]:
        record = self._records.get(chain_id)
        return () if record is None else record.blobs

    def depth(self, chain_id: Digest) -> int:
        """
        The number of layers in a chain; 0 if it is not registered.
        """
        return sum(1 for _ in self._chain(chain_id)) if chain_id in self._records else 0

    def chain_size(self, chain_id: Digest | None) -> int:
        """
        The bytes in the trees of a chain; 0 if it is not registered.
        """
        if chain_id not in self._records:
            return 0
        return sum(record.size + self._trees.size_of_copy(record.tree) for record in self._chain(chain_id))

    def all(self) -> Mapping[Digest, Record]:
        """
        All layers, by chain ID.
        """
        return self._records

    def from_the_top(self) -> Sequence[Digest]:
        """
        All layers, each before its parent.
        """
        depths: dict[Digest, int] = {}
        for top in self._records:
            above: list[Digest] = []
            current: Digest | None = top
            while current is not None and current not in depths:
                above.append(current)
                current = self._records[current].parent
            depth = 0 if current is None else depths[current]
            depths.update((c, depth + n) for n, c in enumerate(reversed(above), 1))
        return sorted(depths, key=lambda c: -depths[c])

    def using(self, diff_id: Digest) -> Sequence[Digest]:
        """
        The layers with a damaged tree of a diff ID, and all on top of those, each before
        its parent.
        """
        found: set[Digest] = set()
        order = self.from_the_top()
        for record in (self._records[each] for each in reversed(order)):
            marked = record.diff_id == diff_id and self._trees.is_marked(record.tree)
            if marked or record.parent in found:
                found.add(record.chain_id)
        return [each for each in order if each in found]

    def with_parents(self, chain_ids: Iterable[Digest]) -> Set[Digest]:
        """
        Some layers with all their parents.
        """
        found: set[Digest] = set()
        for top in chain_ids:
            current: Digest | None = top
            while current is not None and current not in found:
                found.add(current)
                current = self._records[current].parent
        return found

    def forget(self, chain_id: Digest) -> None:
        """
        Remove the record of a layer that is no layer's parent.

        @raise StoreError: the disk refuses.
        """
        with trying_to(f"remove the record of the layer {chain_id}"):
            os.unlink(self._paths.layer(chain_id))
        self.uses.remove(self._records.pop(chain_id))

    def register(self, parent: Digest | None, diff_id: Digest, blob: Descriptor) -> Deferred[Layer]:
        """
        Cancelling ends it at its next step, and waits for that.
        """
        stop = Event()
        return delay_cancellation(
            Deferred.fromCoroutine(self._register(parent, diff_id, blob, stop)), stop=stop.set
        )

    async def _register(self, parent: Digest | None, diff_id: Digest, blob: Descriptor, stop: Event) -> Layer:
        wanted = chain_id([diff_id], parent)
        assert wanted is not None
        self._leases.touch(wanted, *(() if parent is None else (parent,)))
        known = self._records.get(wanted)
        if known is None or self._can_renew(known):
            if parent is not None and parent not in self._records:
                raise StoreError(f"the layer below {diff_id}, {parent}, is not registered")
            below = [record.tree for record in self._chain(parent)]
            tree, rules = await self._trees.fit(diff_id, below, stop)
            fresh = Record(wanted, parent, diff_id, tree, self._trees.size(diff_id), (), rules)
        else:
            fresh = known
        async with self._lock(wanted):
            # Another job may have registered it meanwhile, with another blob.
            record = self._records.get(wanted, fresh)
            if record.tree != fresh.tree and self._is_outdated(record):
                record = evolve(fresh, blobs=record.blobs)
            if self._records.get(wanted) != record or blob not in record.blobs:
                blobs = record.blobs if blob in record.blobs else (*record.blobs, blob)
                record = await self._write(evolve(record, blobs=blobs))
        return self._layer(record)

    def separate(self, chain_id: Digest) -> Deferred[Layer]:
        """
        Cancelling ends it at its next step, and waits for that.
        """
        record = self._records.get(chain_id)
        if record is not None and record.owns:
            return succeed(self._layer(record))
        stop = Event()
        return delay_cancellation(Deferred.fromCoroutine(self._separate(chain_id, stop)), stop=stop.set)

    async def _separate(self, chain_id: Digest, stop: Event) -> Layer:
        # The copy has no layer until its record is written.
        release = self._leases.acquire()
        try:
            self._leases.touch(chain_id)
            # A copy of a tree is made by one layer at a time.
            async with self._separating, self._lock(chain_id):
                record = self._records.get(chain_id)
                if record is None:
                    raise StoreError(f"the layer {chain_id} is not registered")
                if not record.owns:
                    if record.tree in self.uses.owners:
                        tree = await self._trees.copy(record.diff_id, record.tree, chain_id, stop)
                        record = evolve(record, tree=tree)
                    record = await self._write(record)
        finally:
            release()
        return self._layer(record)

    async def _write(self, record: Record) -> Record:
        """
        Write and keep a record.  It owns its tree unless another layer does.

        @return: the record as it was written.
        """
        owners = self.uses.owners
        is_new = record.tree not in owners
        record = evolve(record, owns=owners.setdefault(record.tree, record.chain_id) == record.chain_id)
        try:
            await self._threads.run(write_record, self._paths, record)
        except BaseException:
            if is_new:
                del owners[record.tree]
            raise
        self._set(record)
        return record

    def _set(self, record: Record) -> None:
        """
        Keep a record, in place of an older one of the same layer.
        """
        older = self._records.get(record.chain_id)
        if older is not None:
            self.uses.remove(older)
        self._records[record.chain_id] = record
        self.uses.add(record)
        layer = self._layer(record)
        if not layer.outdated:
            for arrival in self._arrivals.pop(record.chain_id, ()):
                arrival.callback(layer)

    def _lock(self, chain_id: Digest) -> DeferredLock:
        """
        The lock to hold while the record of a layer is written.
        """
        return self._locks.setdefault(chain_id, DeferredLock())

    def _can_renew(self, record: Record) -> bool:
        """
        Whether a layer's tree is outdated, and a newer one is in the store.
        """
        return (
            self._is_outdated(record)
            and self._trees.is_here(record.diff_id)
            and not self._trees.is_outdated(record.diff_id)
        )

    def _is_outdated(self, record: Record) -> bool:
        """
        Whether a layer's tree was unpacked by older rules, or is damaged.
        """
        return record.rules < self._trees.rules or self._trees.is_marked(record.tree)

    def _chain(self, chain_id: Digest | None) -> Iterator[Record]:
        """
        The layers of a chain, the top one first.
        """
        while chain_id is not None:
            record = self._records[chain_id]
            yield record
            chain_id = record.parent

    def _layer(self, record: Record) -> Layer:
        path = files_of(self._paths, record.tree)
        outdated = self._is_outdated(record)
        return Layer(record.chain_id, record.parent, record.diff_id, path, record.size, outdated)
