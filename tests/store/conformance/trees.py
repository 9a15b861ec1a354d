"""
Tests for providers of L{ITrees} and L{ILayers}.
"""

from __future__ import annotations

from attrs import evolve
from twisted.internet.defer import CancelledError

from tests.store.conformance.base import DATA, DIGEST, Conformance
from tests.store.support import layer_descriptor, plant
from xferd.errors import StoreError
from xferd.interfaces.store import Layer, Unpacked
from xferd.names import Digest, chain_id
from xferd.owners import Owners


class TreesConformance(Conformance):
    """
    L{ITrees}.
    """

    def unpacked(self, data: bytes) -> Unpacked:
        """
        The facts of an unpacked layer.
        """
        return Unpacked(Digest.of(data), len(data), len(data), 1)

    def test_commit(self) -> None:
        """
        A tree is here once it was committed, and known by its blob.
        """
        blob = Digest.of(b"compressed")
        staged = self.result(self.store.trees.stage())
        self.assertFalse(self.store.trees.has(DIGEST))
        self.assertIsNone(self.store.trees.diff_id_of(blob))
        self.result(self.store.trees.commit(staged, self.unpacked(DATA), blob))
        self.assertTrue(self.store.trees.has(DIGEST))
        self.assertEqual(self.store.trees.diff_id_of(blob), DIGEST)

    def test_owners(self) -> None:
        """
        The owners and the size of a tree's tar are known once it was committed.
        """
        self.assertIsNone(self.store.trees.tar_size(DIGEST))
        self.failure(self.store.trees.owners(DIGEST), StoreError)
        staged = self.result(self.store.trees.stage())
        owners = Owners((0, 33), (7,))
        unpacked = evolve(self.unpacked(DATA), tar_size=512, owners=owners)
        self.result(self.store.trees.commit(staged, unpacked, DIGEST))
        self.assertEqual(self.result(self.store.trees.owners(DIGEST)), owners)
        self.assertEqual(self.store.trees.tar_size(DIGEST), 512)

    def test_commit_again(self) -> None:
        """
        The same tree out of another blob is the tree that is here already,
        known by both.
        """
        blobs = [Digest.of(b"gzip"), Digest.of(b"zstd"), Digest.of(b"zstd")]
        for blob in blobs:
            staged = self.result(self.store.trees.stage())
            self.result(self.store.trees.commit(staged, self.unpacked(DATA), blob))
        self.assertEqual([self.store.trees.diff_id_of(blob) for blob in blobs], [DIGEST] * 3)

    def test_discard(self) -> None:
        """
        A discarded tree never was; and it can be discarded again.
        """
        staged = self.result(self.store.trees.stage())
        self.result(self.store.trees.discard(staged))
        self.result(self.store.trees.discard(staged))
        self.assertFalse(self.store.trees.has(DIGEST))

    def test_stages_differ(self) -> None:
        """
        Every caller gets a directory of its own.
        """
        staged = {self.result(self.store.trees.stage()) for _ in range(3)}
        self.assertEqual(len(staged), 3)


class LayersConformance(Conformance):
    """
    L{ILayers}.
    """

    def test_register(self) -> None:
        """
        A layer is a tree on top of a chain, and is here once it was
        registered.
        """
        parent = None
        for depth, blob in enumerate((b"one", b"two", b"three"), 1):
            self.do(plant(self.store, blob))
            expected = chain_id([Digest.of(b) for b in (b"one", b"two", b"three")[:depth]])
            assert expected is not None
            self.assertIsNone(self.store.layers.get(expected))
            layer = self.result(self.store.layers.register(parent, Digest.of(blob), layer_descriptor(blob)))
            self.assertEqual((layer.chain_id, layer.parent), (expected, parent))
            self.assertEqual((layer.diff_id, layer.size), (Digest.of(blob), len(blob)))
            self.assertEqual(self.store.layers.get(expected), layer)
            parent = expected

    def test_arrival(self) -> None:
        """
        Who waits for a layer gets it when it is registered, and at once from then on;
        each wait can be ended alone.
        """
        self.do(plant(self.store, DATA))
        waiting = [self.store.layers.arrival(DIGEST) for _ in range(3)]
        waiting[1].cancel()
        self.failure(waiting[1], CancelledError)
        layer = self.result(self.store.layers.register(None, DIGEST, layer_descriptor(DATA)))
        for arrived in (waiting[0], waiting[2], self.store.layers.arrival(DIGEST)):
            self.assertEqual(self.result(arrived), layer)

    def test_again(self) -> None:
        """
        A registered layer is returned, also for another blob.
        """
        self.do(plant(self.store, DATA))
        blobs = [DATA, DATA, b"the same, compressed"]
        layers = [
            self.result(self.store.layers.register(None, DIGEST, layer_descriptor(blob))) for blob in blobs
        ]
        self.assertEqual(layers, [layers[0]] * 3)

    def test_two_parents(self) -> None:
        """
        One tree under two parents is two layers.
        """
        for blob in (b"one", b"two", DATA):
            self.do(plant(self.store, blob))
        layers = []
        for below in (b"one", b"two"):
            base = self.result(self.store.layers.register(None, Digest.of(below), layer_descriptor(below)))
            layers.append(
                self.result(self.store.layers.register(base.chain_id, DIGEST, layer_descriptor(DATA)))
            )
        self.assertNotEqual(layers[0].chain_id, layers[1].chain_id)
        self.assertEqual(layers[0].path, layers[1].path)

    def test_no_tree(self) -> None:
        """
        A layer without a tree cannot be.
        """
        self.failure(self.store.layers.register(None, DIGEST, layer_descriptor(DATA)), StoreError)
        self.assertIsNone(self.store.layers.get(DIGEST))

    def test_no_parent(self) -> None:
        """
        A layer on nothing cannot be.
        """
        self.do(plant(self.store, DATA))
        parent = Digest.of(b"nobody")
        self.failure(self.store.layers.register(parent, DIGEST, layer_descriptor(DATA)), StoreError)

    def test_stack(self) -> None:
        """
        A layer is listed with all below it, and with its blobs.  Looking does not
        keep it.
        """
        layers = self.store.layers
        self.assertEqual((list(layers.chain_ids()), list(layers.stack(DIGEST))), ([], []))
        self.assertEqual(list(layers.blobs_of(DIGEST)), [])
        stack: list[Layer] = []
        for blob in (b"one", b"two"):
            self.do(plant(self.store, blob))
            parent = stack[0].chain_id if stack else None
            self.result(layers.register(parent, Digest.of(blob), layer_descriptor(blob)))
            again = layers.register(parent, Digest.of(blob), layer_descriptor(b"packed"))
            stack.append(self.result(again))
        top = stack[-1].chain_id
        end = self.store.gc.lease()
        self.assertEqual(list(layers.stack(top)), stack)
        self.assertEqual(set(layers.chain_ids()), {layer.chain_id for layer in stack})
        self.assertEqual(list(layers.blobs_of(top)), [layer_descriptor(b"two"), layer_descriptor(b"packed")])
        self.result(self.store.gc.collect(False))
        end()
        self.assertEqual(list(layers.chain_ids()), [])

    def test_separate(self) -> None:
        """
        Of layers with the same tree, each gets a directory of its own that asks
        for it, and keeps it.
        """
        for blob in (b"one", b"two", DATA):
            self.do(plant(self.store, blob))
        layers = []
        for below in (b"one", b"two"):
            base = self.result(self.store.layers.register(None, Digest.of(below), layer_descriptor(below)))
            layers.append(
                self.result(self.store.layers.register(base.chain_id, DIGEST, layer_descriptor(DATA)))
            )
        separate = [self.result(self.store.layers.separate(layer.chain_id)) for layer in layers]
        self.assertEqual(separate[0], layers[0])
        self.assertNotEqual(separate[0].path, separate[1].path)
        for layer in separate:
            self.assertEqual(self.store.layers.get(layer.chain_id), layer)
            self.assertEqual(self.result(self.store.layers.separate(layer.chain_id)), layer)
        again = self.result(self.store.layers.register(layers[1].parent, DIGEST, layer_descriptor(b"gzip")))
        self.assertEqual(again, separate[1])
        self.failure(self.store.layers.separate(Digest.of(b"nobody")), StoreError)
