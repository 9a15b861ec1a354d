# -*- test-case-name: tests.testing.test_fake_store -*-
"""
The trees and layers of a store in memory.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xferd.errors import StoreError
from xferd.interfaces.store import ILayers, ITrees, Layer, Unpacked
from xferd.jobs.deferreds import then_cancelled
from xferd.names import Digest, chain_id
from xferd.oci import Descriptor
from xferd.owners import Owners
from xferd.testing.fake_leases import FakeLeases
from xferd.testing.gate import Gate


@implementer(ITrees)
class FakeTrees:
    """
    The trees, without their files.

    @ivar unpacked: the facts of the trees, by diff ID.
    @ivar blobs: the diff ID of each unpacked blob.
    @ivar outdated: the diff IDs of trees made by older rules.
    @ivar damaged: the diff IDs of trees that were found damaged.
    @ivar staged: the directories in C{staging/}.
    """

    def __init__(self, path: str, gate: Gate, leases: FakeLeases) -> None:
        self._leases = leases
        self.unpacked: dict[Digest, Unpacked] = {}
        self.blobs: dict[Digest, Digest] = {}
        self.outdated: set[Digest] = set()
        self.damaged: set[Digest] = set()
        self.staged: set[str] = set()
        self._root = path
        self._gate = gate
        self._number = 0

    def has(self, diff_id: Digest) -> bool:
        self._leases.touch(diff_id)
        return diff_id in self.unpacked

    def diff_id_of(self, blob: Digest) -> Digest | None:
        diff_id = self.blobs.get(blob)
        if diff_id is None or diff_id not in self.unpacked:
            return None
        self._leases.touch(diff_id, blob)
        return diff_id

    def is_outdated(self, diff_id: Digest) -> bool:
        return diff_id in self.unpacked and diff_id in (*self.outdated, *self.damaged)

    def is_damaged(self, diff_id: Digest) -> bool:
        return diff_id in self.unpacked and diff_id in self.damaged

    def tar_size(self, diff_id: Digest) -> int | None:
        self._leases.touch(diff_id)
        unpacked = self.unpacked.get(diff_id)
        return None if unpacked is None else unpacked.tar_size

    def owners(self, diff_id: Digest) -> Deferred[Owners]:
        return Deferred.fromCoroutine(self._owners(diff_id))

    async def _owners(self, diff_id: Digest) -> Owners:
        await self._gate.enter("trees.owners", diff_id)
        unpacked = self.unpacked.get(diff_id)
        if unpacked is None:
            raise StoreError(f"the tree of {diff_id} is not here")
        # As of a tree without any file that lists an owner.
        return Owners((0,), (0,)) if unpacked.owners is None else unpacked.owners

    def path(self, diff_id: Digest) -> str:
        """
        Where the tree would be.
        """
        return f"{self._root}/trees/{diff_id}"

    def stage(self) -> Deferred[str]:
        return Deferred.fromCoroutine(self._stage())

    def commit(self, staged: str, unpacked: Unpacked, blob: Digest) -> Deferred[None]:
        self._leases.touch(unpacked.diff_id)
        return Deferred.fromCoroutine(self._commit(staged, unpacked, blob))

    def staged_size(self, staged: str) -> Deferred[int]:
        return self._gate.enter("trees.weigh", staged).addCallback(lambda _: 0)

    def discard(self, staged: str) -> Deferred[None]:
        # As in the store, a cancellation does not stop it.
        return Deferred.fromCoroutine(then_cancelled(Deferred.fromCoroutine(self._discard(staged))))

    async def _stage(self) -> str:
        await self._gate.enter("trees.stage")
        self._number += 1
        staged = f"{self._root}/staging/{self._number}"
        self.staged.add(staged)
        return staged

    async def _commit(self, staged: str, unpacked: Unpacked, blob: Digest) -> None:
        if staged not in self.staged:
            raise StoreError(f"{staged} is not in staging/")
        try:
            await self._gate.enter("trees.commit", unpacked.diff_id)
        finally:
            self.staged.discard(staged)
        self.unpacked.setdefault(unpacked.diff_id, unpacked)
        self.outdated.discard(unpacked.diff_id)
        self.damaged.discard(unpacked.diff_id)
        self.blobs[blob] = unpacked.diff_id

    async def _discard(self, staged: str) -> None:
        await self._gate.enter("trees.discard", staged)
        self.staged.discard(staged)


@implementer(ILayers)
class FakeLayers:
    """
    The layers.

    @ivar registered: the layers by chain ID, in the order of registration.
    @ivar blobs: the blobs of each layer, by chain ID.
    @ivar outdated: the chain IDs of layers with trees made by older rules.
    """

    def __init__(self, trees: FakeTrees, gate: Gate, leases: FakeLeases) -> None:
        self._leases = leases
        self.registered: dict[Digest, Layer] = {}
        self.blobs: dict[Digest, set[Digest]] = {}
        self.outdated: set[Digest] = set()
        self._arrivals: list[tuple[Digest, Deferred[Layer]]] = []
        self._trees = trees
        self._gate = gate
        self._owners: dict[str, Digest] = {}
        self._descriptors: dict[Digest, list[Descriptor]] = {}

    def get(self, chain_id: Digest) -> Layer | None:
        self._leases.touch(chain_id)
        layer = self.registered.get(chain_id)
        return None if layer is None else evolve(layer, outdated=chain_id in self.outdated)

    def arrival(self, chain_id: Digest) -> Deferred[Layer]:
        layer = self.get(chain_id)
        if layer is not None and not layer.outdated:
            return succeed(layer)
        arrival: Deferred[Layer] = Deferred(lambda d: self._arrivals.remove((chain_id, d)))
        self._arrivals.append((chain_id, arrival))
        return arrival

    def chain_ids(self) -> Set[Digest]:
        return self.registered.keys()

    def stack(self, chain_id: Digest) -> Sequence[Layer]:
        found: list[Layer] = []
        current: Digest | None = chain_id
        while current is not None and current in self.registered:
            found.append(evolve(self.registered[current], outdated=current in self.outdated))
            current = found[-1].parent
        return found[::-1]

    def blobs_of(self, chain_id: Digest) -> Sequence[Descriptor]:
        return self._descriptors.get(chain_id, [])

    def lose(self, diff_id: Digest) -> None:
        """
        Remove the layers that have a tree, and those on top.
        """
        for chain in list(self.registered):
            layer = self.registered[chain]
            if layer.diff_id == diff_id or (layer.parent is not None and layer.parent not in self.registered):
                del self.registered[chain]

    def register(self, parent: Digest | None, diff_id: Digest, blob: Descriptor) -> Deferred[Layer]:
        return Deferred.fromCoroutine(self._register(parent, diff_id, blob))

    async def _register(self, parent: Digest | None, diff_id: Digest, blob: Descriptor) -> Layer:
        await self._gate.enter("layers.register", diff_id)
        if parent is not None and parent not in self.registered:
            raise StoreError(f"the parent {parent} is not registered")
        if not self._trees.has(diff_id):
            raise StoreError(f"there is no tree {diff_id}")
        chain = chain_id([diff_id], parent)
        assert chain is not None
        self._leases.touch(chain)
        size = self._trees.unpacked[diff_id].size
        layer = self.registered.setdefault(
            chain, Layer(chain, parent, diff_id, self._trees.path(diff_id), size)
        )
        self._owners.setdefault(layer.path, chain)
        self.blobs.setdefault(chain, set()).add(blob.digest)
        known = self._descriptors.setdefault(chain, [])
        known += [] if blob in known else [blob]
        if not self._trees.is_outdated(diff_id):
            self.outdated.discard(chain)
        arrived = [each for each in self._arrivals if each[0] == chain and chain not in self.outdated]
        for each in arrived:
            self._arrivals.remove(each)
            each[1].callback(layer)
        return layer

    def separate(self, chain_id: Digest) -> Deferred[Layer]:
        return Deferred.fromCoroutine(self._separate(chain_id))

    async def _separate(self, chain_id: Digest) -> Layer:
        await self._gate.enter("layers.separate", chain_id)
        layer = self.registered.get(chain_id)
        if layer is None:
            raise StoreError(f"the layer {chain_id} is not registered")
        owner = self._owners.setdefault(layer.path, chain_id)
        if owner != chain_id:
            layer = self.registered[chain_id] = evolve(layer, path=f"{layer.path}.{chain_id.hex}")
            self._owners[layer.path] = chain_id
        return layer
