"""
Tests for providers of L{IImages}.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, succeed

from tests.store.conformance.base import Conformance
from tests.store.support import fetch, layer_descriptor, plant, sample
from xferd.errors import NotFound, StoreError
from xferd.names import Digest, Reference


class ImagesConformance(Conformance):
    """
    L{IImages}.
    """

    async def prepare(self, wanted: Any, keep_blobs: bool = True) -> None:
        """
        Store all blobs of an image, but not its name.
        """
        parent = None
        for digest, data in wanted.documents.items():
            await self.store.blobs.put(digest, data)
        for blob in wanted.blobs:
            if keep_blobs:
                await fetch(self.store, blob)
            await plant(self.store, blob)
            layer = await self.store.layers.register(parent, Digest.of(blob), layer_descriptor(blob))
            parent = layer.chain_id

    def test_none(self) -> None:
        """
        At first there are no images.
        """
        self.assertEqual(list(self.store.images.all()), [])
        self.assertIsNone(self.store.images.get(Reference.parse("alpine")))
        self.assertIsNone(self.store.images.peek(Reference.parse("alpine")))

    def test_put(self) -> None:
        """
        An image is found by its name, and images are listed by name.
        """
        for name in ("busybox", "alpine"):
            wanted = sample(name, b"one", b"two")
            self.do(self.prepare(wanted))
            self.assertEqual(self.result(self.store.images.put(wanted.image)), wanted.image)
            self.assertEqual(self.store.images.get(Reference.parse(name)), wanted.image)
            self.assertEqual(self.store.images.peek(Reference.parse(name)), wanted.image)
        self.assertEqual(
            [i.reference.familiar() for i in self.store.images.all()], ["alpine:latest", "busybox:latest"]
        )

    def test_replace(self) -> None:
        """
        A name that is set again refers to the new image.
        """
        for blob in (b"old", b"new"):
            wanted = sample("alpine", blob)
            self.do(self.prepare(wanted))
            self.result(self.store.images.put(wanted.image))
            self.assertEqual(list(self.store.images.all()), [wanted.image])

    def test_no_layers(self) -> None:
        """
        An image need not have layers.
        """
        wanted = sample("scratch")
        self.do(self.prepare(wanted))
        self.result(self.store.images.put(wanted.image))
        self.assertEqual(list(self.store.images.all()), [wanted.image])

    def test_tree_is_enough(self) -> None:
        """
        A layer's blob may be absent where its layer is registered.
        """
        wanted = sample("alpine", b"one", b"two")
        self.do(self.prepare(wanted, keep_blobs=False))
        self.result(self.store.images.put(wanted.image))
        self.assertEqual(list(self.store.images.all()), [wanted.image])

    def test_incomplete(self) -> None:
        """
        An incomplete image gets no name.
        """
        wanted = sample("alpine", b"one")
        self.failure(self.store.images.put(wanted.image), StoreError)
        for digest, data in wanted.documents.items():
            self.result(self.store.blobs.put(digest, data))
        reason = self.failure(self.store.images.put(wanted.image), StoreError)
        self.assertIn(str(wanted.image.layers[0].digest), str(reason.value))
        self.assertEqual(list(self.store.images.all()), [])

    def test_pin(self) -> None:
        """
        A name is pinned and unpinned; one that is pinned stays so when it is
        given to another image, until it is removed.
        """
        one, two = sample("alpine", b"one"), sample("alpine", b"two")
        images = self.store.images
        for wanted in (one, two):
            self.do(self.prepare(wanted))
        self.failure(images.pin(one.image.reference, True), NotFound)
        self.result(images.put(one.image))
        pinned = evolve(one.image, pinned=True)
        self.assertEqual(self.result(images.pin(one.image.reference, True)), pinned)
        self.assertEqual(list(images.all()), [pinned])
        self.assertEqual(self.result(images.put(two.image)), evolve(two.image, pinned=True))
        self.assertEqual(list(images.all()), [evolve(two.image, pinned=True)])
        self.assertEqual(self.result(images.pin(one.image.reference, False)), two.image)
        self.result(images.pin(one.image.reference, True))
        self.result(images.remove(one.image.reference))
        self.result(images.put(one.image))
        self.assertEqual(list(images.all()), [one.image])

    def test_no_config(self) -> None:
        """
        A config that is not here is named.
        """
        wanted = sample("alpine", b"one")
        self.do(self.prepare(wanted))
        image = evolve(wanted.image, config=layer_descriptor(b"absent"))
        reason = self.failure(self.store.images.put(image), StoreError)
        self.assertIn("config", str(reason.value))

    def test_remove(self) -> None:
        """
        Removing a name leaves the others; an unknown name is not found.
        """
        one, two = sample("alpine", b"one"), sample("busybox", b"one")
        for wanted in (one, two):
            self.do(self.prepare(wanted))
            self.result(self.store.images.put(wanted.image))
        self.result(self.store.images.remove(one.image.reference))
        self.assertIsNone(self.store.images.get(one.image.reference))
        self.assertEqual(list(self.store.images.all()), [two.image])
        self.failure(self.store.images.remove(one.image.reference), NotFound)
        self.assertTrue(self.store.blobs.has(one.image.manifest.digest))

    def test_follow(self) -> None:
        """
        Followers are called after each change, which they see.
        """
        wanted = sample("alpine", b"one")
        images, seen = self.store.images, list[list[bool]]()
        images.follow(lambda: seen.append([image.pinned for image in images.all()]), lambda: succeed(None))
        self.do(self.prepare(wanted))
        self.assertEqual(seen, [])
        self.result(images.put(wanted.image))
        self.result(images.pin(wanted.image.reference, True))
        self.result(images.layers_changed())
        self.result(images.remove(wanted.image.reference))
        self.assertEqual(seen, [[False], [True], [True], []])

    def test_settled(self) -> None:
        """
        A name is set at once; who set it waits for the followers.
        """
        wanted = sample("alpine", b"one")
        images = self.store.images
        settled: Deferred[None] = Deferred()
        images.follow(lambda: None, lambda: settled)
        self.do(self.prepare(wanted))
        put = images.put(wanted.image)
        self.assertFalse(put.called)
        self.assertIsNotNone(images.get(wanted.image.reference))
        changed = images.layers_changed()
        self.assertFalse(changed.called)
        settled.callback(None)
        self.result(put)
        self.result(changed)
