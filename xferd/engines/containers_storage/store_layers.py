# -*- test-case-name: tests.engines.containers_storage.test_store_layers -*-
"""
The layers of the store as a view needs them: each with its ID, in a directory of its own, and
with the facts that engines want to know.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from xferd.engines.containers_storage.contents import StoredLayer
from xferd.engines.containers_storage.identity import layer_id
from xferd.errors import StoreError
from xferd.interfaces.store import IStore, Layer
from xferd.names import Digest
from xferd.owners import Owners


class StoreLayers:
    """
    The layers of one store.
    """

    def __init__(self, store: IStore) -> None:
        self._store = store
        self._identities: dict[Digest, str] = {}
        self._facts: dict[str, tuple[int, Owners]] = {}

    def identity(self, chain_id: Digest) -> str:
        """
        The ID of a layer; the empty string if L{chains} has not found it.
        """
        return self._identities.get(chain_id, "")

    def chains(self) -> Mapping[str, Digest]:
        """
        The chain IDs of all layers, by their IDs.
        """
        layers, known = self._store.layers, self._identities
        for chain in layers.chain_ids() - known.keys():
            below = ""
            for layer in layers.stack(chain):
                if layer.chain_id not in known:
                    known[layer.chain_id] = layer_id(layer.diff_id, below)
                below = known[layer.chain_id]
        present = layers.chain_ids()
        self._identities = {chain: identity for chain, identity in known.items() if chain in present}
        return {identity: chain for chain, identity in self._identities.items()}

    async def stack(self, chain_id: Digest | None) -> list[StoredLayer]:
        """
        The layers of an image, the bottom one first; none if they are not all registered.

        @raise StoreError: the disk refuses.
        """
        layers, blobs = self._store.layers, self._store.blobs
        found = []
        for each in () if chain_id is None else layers.stack(chain_id):
            layer = await layers.separate(each.chain_id)
            size, owners = await self._facts_of(layer)
            found.append(
                StoredLayer(
                    chain_id=layer.chain_id,
                    diff_id=layer.diff_id,
                    path=layer.path,
                    tar_size=size,
                    outdated=layer.outdated,
                    uids=owners.users,
                    gids=owners.groups,
                    blobs=tuple(blob for blob in layers.blobs_of(layer.chain_id) if blobs.has(blob.digest)),
                )
            )
        return found

    def keep(self, paths: Set[str]) -> None:
        """
        Forget what is known of layers in other directories.
        """
        self._facts = {path: known for path, known in self._facts.items() if path in paths}

    async def _facts_of(self, layer: Layer) -> tuple[int, Owners]:
        """
        The bytes of a layer's tar, and the owners of its files.

        @raise StoreError: its tree is gone, or cannot be read.
        """
        known = self._facts.get(layer.path)
        if known is None:
            size = self._store.trees.tar_size(layer.diff_id)
            if size is None:
                raise StoreError(f"the tree of the layer {layer.chain_id} is gone")
            known = self._facts[layer.path] = size, await self._store.trees.owners(layer.diff_id)
        return known
