"""
Tests for L{xferd.engines.containers_storage.store_layers}.
"""

from __future__ import annotations

import os
import shutil
from typing import cast

from twisted.internet.defer import Deferred

from tests.engines.containers_storage.samples import layer_ids
from tests.store.support import StoreTestCase, layer_descriptor, pull, sample
from xferd.engines.containers_storage.store_layers import StoreLayers
from xferd.names import Digest


class StoreLayersTests(StoreTestCase):
    """
    The layers of a store.
    """

    def setUp(self) -> None:
        """
        Pull two images with a common layer.
        """
        super().setUp()
        self.one, self.two = sample("one", b"base", b"1"), sample("two", b"base", b"2")
        for each in (self.one, self.two):
            self.run_now(pull(self.store, each))
        self.layers = StoreLayers(self.store)
        self.top = cast(Digest, self.one.image.chain_id)

    def test_identities(self) -> None:
        """
        All layers are known by the IDs of engines; those that are gone are not.
        """
        self.assertEqual(self.layers.identity(self.top), "")
        chains = self.layers.chains()
        self.assertEqual(chains.keys(), {*layer_ids(self.one.diff_ids), *layer_ids(self.two.diff_ids)})
        self.assertEqual(chains[self.layers.identity(self.top)], self.top)
        self.successResultOf(self.store.images.remove(self.one.image.reference))
        self.successResultOf(self.store.gc.collect())
        self.assertEqual(self.layers.chains().keys(), {*layer_ids(self.two.diff_ids)})
        self.assertEqual(self.layers.identity(self.top), "")

    def test_stack(self) -> None:
        """
        A stack has the facts of each layer, in a directory that no other layer has.
        """
        stack = self.successResultOf(Deferred.fromCoroutine(self.layers.stack(self.top)))
        self.assertEqual([layer.diff_id for layer in stack], self.one.diff_ids)
        self.assertEqual([layer.tar_size for layer in stack], [4, 1])
        self.assertEqual([layer.blobs for layer in stack], [(layer_descriptor(b),) for b in (b"base", b"1")])
        self.assertTrue(all(os.path.isdir(layer.path) for layer in stack))
        for unknown in (None, Digest.of(b"unknown")):
            self.assertEqual(self.successResultOf(Deferred.fromCoroutine(self.layers.stack(unknown))), [])

    def test_kept(self) -> None:
        """
        What is known of a layer is read again once it was forgotten, and is the same.
        """
        stack = self.successResultOf(Deferred.fromCoroutine(self.layers.stack(self.top)))
        self.layers.keep({stack[0].path})
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(self.layers.stack(self.top))), stack)

    def test_gone(self) -> None:
        """
        An image has no layers after a restart if an operator has removed a tree.
        """
        stack = self.successResultOf(Deferred.fromCoroutine(self.layers.stack(self.top)))
        shutil.rmtree(os.path.dirname(stack[1].path))
        self.reopen()
        again = StoreLayers(self.store)
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(again.stack(self.top))), [])
