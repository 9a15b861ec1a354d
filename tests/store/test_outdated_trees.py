"""
Tests for trees that older rules have made, in L{xferd.store.trees.trees},
L{xferd.store.layers} and L{xferd.store.gc.collector}.
"""

from __future__ import annotations

import json
import os
from typing import Any

from attrs import evolve

from tests.store.support import LayerUser, Sample, StoreTestCase, layer_descriptor, plant, pull, sample
from xferd.interfaces.store import Layer
from xferd.names import Digest
from xferd.store.gc import collector
from xferd.store.gc.survey import Survey, survey

BOTTOM, TOP = b"bottom", b"top"


class OutdatedTests(StoreTestCase):
    """
    An image that an older daemon has unpacked.
    """

    rules = 0

    def setUp(self) -> None:
        """
        Pull an image, and continue with a newer daemon.
        """
        super().setUp()
        self.image = sample("one", BOTTOM, TOP)
        self.run_now(pull(self.store, self.image))
        self.old = self.layers()
        self.rules = 1
        self.reopen()

    def layers(self) -> list[Layer]:
        """
        The layers of the image, the top one first.
        """
        found = []
        chain = self.image.image.chain_id
        while chain is not None:
            layer = self.store.layers.get(chain)
            assert layer is not None
            found.append(layer)
            chain = layer.parent
        return found

    def renew(self, wanted: Sample, *implied: bytes) -> None:
        """
        Unpack and register an image's layers again.
        """
        parent = None
        for blob in wanted.blobs:
            self.run_now(plant(self.store, blob, *implied))
            layer = self.successResultOf(
                self.store.layers.register(parent, Digest.of(blob), layer_descriptor(blob))
            )
            parent = layer.chain_id

    def collect(self) -> Any:
        """
        Free what nothing needs.
        """
        return self.successResultOf(self.store.gc.collect())

    def test_outdated(self) -> None:
        """
        Its trees are there and are outdated; what has no version has the
        first.
        """
        for layer in self.layers():
            self.assertTrue(layer.outdated)
            self.assertTrue(self.store.trees.has(layer.diff_id))
            self.assertTrue(self.store.trees.is_outdated(layer.diff_id))
            path = os.path.join(os.path.dirname(layer.path), "tree.json")
            with open(path) as file:
                value = json.load(file)
            del value["rules"], value["linked"]
            with open(path, "w") as file:
                json.dump(value, file)
        self.reopen()
        self.assertTrue(self.store.trees.is_outdated(Digest.of(TOP)))
        self.assertEqual(self.store.trees.diff_id_of(Digest.of(TOP)), Digest.of(TOP))
        self.assertFalse(self.store.trees.is_outdated(Digest.of(b"nothing")))

    def test_renewed(self) -> None:
        """
        A tree that is unpacked again has another name, and its layer is
        registered with it; the old one is removed by the next collection.
        """
        self.renew(self.image)
        renewed = self.layers()
        for old, new in zip(self.old, renewed, strict=True):
            self.assertEqual((new.outdated, new.chain_id), (False, old.chain_id))
            self.assertNotEqual(old.path, new.path)
            self.assertTrue(os.path.isdir(old.path))
        size = len(BOTTOM + TOP)
        self.assertEqual(self.store.trees.total(), 2 * size)
        self.reopen()
        self.assertEqual(self.layers(), renewed)
        self.assertEqual(self.store.trees.total(), 2 * size)
        freed = self.collect()
        self.assertEqual((freed.trees, freed.layers, freed.bytes), (2, 0, size))
        self.assertEqual([os.path.isdir(layer.path) for layer in self.old], [False, False])
        self.reopen()
        self.assertEqual(self.layers(), renewed)
        with open(os.path.join(renewed[0].path, "content"), "rb") as file:
            self.assertEqual(file.read(), TOP)

    def test_awaited(self) -> None:
        """
        A wait for such a layer ends when its tree has been unpacked again.
        """
        (layer, _) = self.layers()
        waiting = self.store.layers.arrival(layer.chain_id)
        self.assertNoResult(waiting)
        self.renew(self.image)
        self.assertEqual(self.successResultOf(waiting), self.layers()[0])

    def test_renewed_in_use(self) -> None:
        """
        The old trees stay while an engine needs the layers: its containers may
        be on either.
        """
        self.renew(self.image)
        user = LayerUser(needs={self.layers()[0].chain_id: ["container 1"]})
        self.store.gc.add_user(user)
        self.assertEqual(self.collect().trees, 0)
        self.assertEqual([os.path.isdir(layer.path) for layer in self.old], [True, True])
        user.needs.clear()
        self.assertEqual(self.collect().trees, 2)

    def test_renewed_twice(self) -> None:
        """
        The same with still newer rules.
        """
        self.renew(self.image)
        self.rules = 2
        self.reopen()
        self.assertTrue(all(layer.outdated for layer in self.layers()))
        self.renew(self.image)
        self.assertEqual(self.collect().trees, 4)
        self.reopen()
        self.assertFalse(any(layer.outdated for layer in self.layers()))

    def test_half_renewed(self) -> None:
        """
        A daemon that ended before the layer was registered with the new tree
        leaves the layer unchanged; then it is registered without unpacking.
        """
        self.run_now(plant(self.store, BOTTOM))
        self.reopen()
        bottom = self.layers()[-1]
        self.assertEqual((bottom.outdated, bottom.path), (True, self.old[-1].path))
        self.assertFalse(self.store.trees.is_outdated(Digest.of(BOTTOM)))
        layer = self.successResultOf(
            self.store.layers.register(None, Digest.of(BOTTOM), layer_descriptor(BOTTOM))
        )
        self.assertFalse(layer.outdated)

    def test_still_registered(self) -> None:
        """
        An old tree is kept while another image's layer has it.
        """
        other = sample("two", b"other bottom", TOP)
        self.rules = 0
        self.reopen()
        self.run_now(pull(self.store, other))
        self.rules = 1
        self.reopen()
        self.renew(self.image)
        self.assertEqual(self.collect().trees, 1)
        assert other.image.chain_id is not None
        layer = self.store.layers.get(other.image.chain_id)
        assert layer is not None
        self.assertEqual((layer.outdated, layer.path), (True, self.old[0].path))
        self.assertTrue(os.path.isdir(layer.path))

    def test_mounted(self) -> None:
        """
        An old tree stays while it is mounted, by its path or by its chain.
        """
        self.renew(self.image)
        mounted = {"sha256/" + Digest.of(BOTTOM).hex}
        chains = {self.old[0].chain_id}

        def mounted_survey(*args: Any) -> Survey:
            return evolve(survey(*args), mounted=frozenset(mounted), chains=frozenset(chains))

        self.patch(collector, "survey", mounted_survey)
        self.assertEqual(self.collect().trees, 0)
        chains.clear()
        self.assertEqual(self.collect().trees, 1)
        self.assertEqual([os.path.isdir(layer.path) for layer in self.old], [False, True])
        mounted.clear()
        self.assertEqual(self.collect().trees, 1)

    def test_used(self) -> None:
        """
        An old tree stays while a job uses it.
        """
        end = self.store.gc.lease()
        self.store.trees.has(Digest.of(TOP))
        self.renew(self.image)
        self.assertEqual(self.collect().trees, 0)
        end()
        self.assertEqual(self.collect().trees, 2)

    def test_implied(self) -> None:
        """
        Implied directories get the metadata below again, in the layers of each
        chain.
        """
        other = sample("two", b"other bottom", TOP)
        for wanted, mode in ((self.image, 0o700), (other, 0o750)):
            for digest, data in wanted.documents.items():
                self.successResultOf(self.store.blobs.put(digest, data))
            self.renew(evolve(wanted, blobs=wanted.blobs[:1]), b"etc")
            bottom = self.store.layers.get(Digest.of(wanted.blobs[0]))
            assert bottom is not None
            os.chmod(os.path.join(bottom.path, "etc"), mode)
            self.run_now(plant(self.store, TOP, b"etc"))
            top = self.successResultOf(
                self.store.layers.register(bottom.chain_id, Digest.of(TOP), layer_descriptor(TOP))
            )
            self.assertFalse(top.outdated)
            self.assertEqual(os.stat(os.path.join(top.path, "etc")).st_mode & 0o777, mode)
