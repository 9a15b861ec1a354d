# -*- test-case-name: tests.store.test_layers -*-
"""
The layers: records, in C{layers/}, of a tree on top of a parent chain.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from threading import Event
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import BadDigest, BadDocument, StoreError
from xferd.interfaces.store import ILayers, Layer
from xferd.names import Digest, chain_id
from xferd.oci import Descriptor
from xferd.store.disk.file_system import make_directory, trying_to, write_file
from xferd.store.leases import Leases
from xferd.store.paths import Paths, parse_tree_name
from xferd.store.threads import Threads, delay_cancellation
from xferd.store.trees.trees import Trees

T = TypeVar("T")


@frozen
class Record:
    """
    The content of a layer's file.

    @ivar chain_id: the identity of the stack.
    @ivar parent: the chain ID below, or L{None}.
    @ivar diff_id: the digest of the tar.
    @ivar tree: the name of the tree below C{trees/}.
    @ivar size: the bytes in the tree's regular files.
    @ivar blobs: the blobs that unpack to the layer.
    @ivar rules: the version of the rules that the tree was unpacked by.
    """

    chain_id: Digest
    parent: Digest | None
    diff_id: Digest
    tree: str
    size: int
    blobs: tuple[Descriptor, ...] = field(hash=False)
    rules: int = 0

    def to_json(self) -> bytes:
        """
        Encode the file.
        """
        value = {
            "version": 1,
            "chain_id": str(self.chain_id),
            "parent": None if self.parent is None else str(self.parent),
            "diff_id": str(self.diff_id),
            "tree": self.tree,
            "size": self.size,
            "blobs": [blob.to_json() for blob in self.blobs],
            "rules": self.rules,
        }
        return json.dumps(value).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Record:
        """
        Decode the file.

        @raise ValueError: it is damaged.
        """
        try:
            value: dict[str, Any] = json.loads(data)
            parent = value["parent"]
            record = cls(
                Digest.parse(value["chain_id"]),
                None if parent is None else Digest.parse(parent),
                Digest.parse(value["diff_id"]),
                str(value["tree"]),
                int(value["size"]),
                tuple(Descriptor.from_json(blob, "blobs") for blob in value["blobs"]),
                int(value.get("rules", 0)),
            )
        except (BadDigest, BadDocument, KeyError, TypeError, AttributeError) as e:
            raise ValueError(f"no record of a layer: {e!r}") from e
        tree = parse_tree_name(record.tree)
        if tree is None or tree[0] != record.diff_id:
            raise ValueError("the tree is not one of the layer's diff ID")
        if chain_id([record.diff_id], record.parent) != record.chain_id:
            raise ValueError("the chain ID is not the layer's")
        return record


@define
class LayerUses:
    """
    What records of layers refer to, with the number of records that do.

    @ivar parents: the chain IDs below.
    @ivar trees: the names of trees.
    @ivar diff_ids: the digests of tars.
    """

    parents: Counter[Digest | None] = field(factory=Counter)
    trees: Counter[str] = field(factory=Counter)
    diff_ids: Counter[Digest] = field(factory=Counter)

    def add(self, record: Record) -> None:
        """
        Count a record.
        """
        self.parents[record.parent] += 1
        self.trees[record.tree] += 1
        self.diff_ids[record.diff_id] += 1

    def remove(self, record: Record) -> None:
        """
        Count a record no longer.
        """
        _discard(self.parents, record.parent)
        _discard(self.trees, record.tree)
        _discard(self.diff_ids, record.diff_id)

    def copy(self) -> LayerUses:
        """
        A copy, which changes alone.
        """
        return LayerUses(self.parents.copy(), self.trees.copy(), self.diff_ids.copy())


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
        self._locks: WeakValueDictionary[Digest, DeferredLock] = WeakValueDictionary()

    async def load(self) -> None:
        """
        Read all records.  A record whose tree or parent is missing is removed.
        """
        records, broken = await self._threads.run(_load, self._paths)
        for path in broken:
            self._log.warn("{path} is not the record of a layer that is here, and is removed", path=path)
        for record in records.values():
            self._set(record)

    def get(self, chain_id: Digest) -> Layer | None:
        self._leases.touch(chain_id)
        record = self._records.get(chain_id)
        return None if record is None else self._layer(record)

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
            if record.rules < fresh.rules:
                record = evolve(fresh, blobs=record.blobs)
            if self._records.get(wanted) != record or blob not in record.blobs:
                blobs = record.blobs if blob in record.blobs else (*record.blobs, blob)
                record = evolve(record, blobs=blobs)
                await self._threads.run(_write, self._paths, record)
                self._set(record)
        return self._layer(record)

    def _set(self, record: Record) -> None:
        """
        Keep a record, in place of an older one of the same layer.
        """
        older = self._records.get(record.chain_id)
        if older is not None:
            self.uses.remove(older)
        self._records[record.chain_id] = record
        self.uses.add(record)

    def _lock(self, chain_id: Digest) -> DeferredLock:
        """
        The lock to hold while the record of a layer is written.
        """
        return self._locks.setdefault(chain_id, DeferredLock())

    def _can_renew(self, record: Record) -> bool:
        """
        Whether a layer's tree is outdated, and a newer one is in the store.
        """
        outdated = record.rules < self._trees.rules
        return (
            outdated and self._trees.is_here(record.diff_id) and not self._trees.is_outdated(record.diff_id)
        )

    def _chain(self, chain_id: Digest | None) -> Iterator[Record]:
        """
        The layers of a chain, the top one first.
        """
        while chain_id is not None:
            record = self._records[chain_id]
            yield record
            chain_id = record.parent

    def _layer(self, record: Record) -> Layer:
        path = os.path.join(self._paths.tree(record.tree), "fs")
        outdated = record.rules < self._trees.rules
        return Layer(record.chain_id, record.parent, record.diff_id, path, record.size, outdated)


def _discard(counter: Counter[T], key: T) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def _write(paths: Paths, record: Record) -> None:
    with trying_to(f"register the layer {record.chain_id}"):
        path = paths.layer(record.chain_id)
        make_directory(os.path.dirname(path), 0o700)
        write_file(path, record.to_json(), paths.staging)


def _load(paths: Paths) -> tuple[dict[Digest, Record], Sequence[str]]:
    """
    Read all records, and remove those without tree or parent.

    @return: the records, and the paths of those removed.
    """
    found: dict[Digest, Record] = {}
    broken = []
    with trying_to(f"read {paths.layers}"):
        for directory, _, names in os.walk(paths.layers):
            for name in names:
                path = os.path.join(directory, name)
                try:
                    with open(path, "rb") as file:
                        record = Record.from_json(file.read())
                except ValueError:
                    broken.append(path)
                    continue
                if paths.layer(record.chain_id) == path and os.path.isdir(paths.tree(record.tree)):
                    found[record.chain_id] = record
                else:
                    broken.append(path)
        whole: dict[Digest, Record] = {}
        for chain in found:
            stack = []
            current: Digest | None = chain
            while current is not None and current in found and current not in whole:
                stack.append(found[current])
                current = found[current].parent
            if current is None or current in whole:
                whole.update((record.chain_id, record) for record in stack)
        broken.extend(paths.layer(chain) for chain in found if chain not in whole)
        for path in broken:
            os.unlink(path)
    return whole, broken
