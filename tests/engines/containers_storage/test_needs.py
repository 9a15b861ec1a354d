"""
Tests for L{xferd.engines.containers_storage.needs}.
"""

from __future__ import annotations

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.engines.containers_storage.samples import layer_ids, sample
from xferd.engines.containers_storage.contents import Contents, Selection
from xferd.engines.containers_storage.engine_records import LayerUse
from xferd.engines.containers_storage.needs import HELD, Needs


class NeedsTests(SynchronousTestCase):
    """
    What engines need of a view.
    """

    def setUp(self) -> None:
        """
        Make an image, and the needs of a view of it.
        """
        self.clock = Clock()
        self.needs = Needs(self.clock.seconds)
        self.sample = sample("alpine", b"1", b"2")
        self.ids = layer_ids([layer.diff_id for layer in self.sample.chain])
        self.chains = [layer.chain_id for layer in self.sample.chain]
        self.by_id = dict(zip(self.ids, self.chains, strict=True))

    def contents(self) -> Contents:
        """
        A view of the image, without blobs.
        """
        selection = Selection("/trees")
        selection.add_image(self.sample.image, [evolve(each, blobs=()) for each in self.sample.chain])
        return selection.contents()

    def test_nothing(self) -> None:
        """
        At first nothing is needed.
        """
        self.assertEqual((self.needs.used(), self.needs.chains, self.needs.images()), ({}, set(), []))

    def test_recorded(self) -> None:
        """
        Layers that engines have recorded are needed, each by all that stand on it.
        """
        uses = [
            LayerUse(self.ids[1], "image", "x:1", "/root", is_pulled=True),
            LayerUse(self.ids[1], "container", "web", "/root", image="1"),
            LayerUse(self.ids[0], "container", "db", "/other"),
        ]
        self.needs.shown(self.contents())
        self.needs.recorded(uses, self.by_id)
        expected = {
            self.chains[1]: ["image x:1 of /root", "container web of /root"],
            self.chains[0]: ["container db of /other"],
        }
        self.assertEqual(self.needs.used(), expected)
        self.assertEqual(self.needs.chains, set(self.chains))
        self.assertEqual(self.needs.images_of_containers, {"1"})
        self.assertEqual(
            self.needs.images(),
            [
                {"image": "x:1", "layers": 2, "containers": 1, "by": "/root"},
                {"image": "", "layers": 1, "containers": 1, "by": "/other"},
            ],
        )
        self.needs.recorded(uses[1:2], self.by_id)
        (image,) = self.needs.images()
        self.assertEqual(image["image"], "docker.io/library/alpine:latest")
        self.needs.recorded([], self.by_id)
        self.assertEqual(self.needs.used(), {})

    def test_held(self) -> None:
        """
        A layer that an engine is about to use is needed for a while.
        """
        self.needs.hold(self.chains[1], "a pull of x")
        self.assertEqual(self.needs.used(), {self.chains[1]: ["a pull of x"]})
        self.clock.advance(HELD - 1)
        self.assertEqual(self.needs.chains, {self.chains[1]})
        self.clock.advance(1)
        self.assertEqual((self.needs.chains, self.needs.used()), (set(), {}))

    def test_leaving(self) -> None:
        """
        An image without a name keeps top layer and documents until the view is written.
        """
        self.needs.shown(self.contents())
        self.needs.named([self.sample.image])
        self.assertEqual(self.needs.used(), {})
        self.needs.named([])
        image = self.sample.image
        kept = {self.chains[1], image.manifest.digest, image.config.digest, image.resolved}
        self.assertEqual(self.needs.used().keys(), kept)
        self.needs.shown(Contents())
        self.assertEqual(self.needs.used(), {})

    def test_kept(self) -> None:
        """
        A layer that the view shows for an engine alone stays until the view is written.
        """
        use = LayerUse(self.ids[1], "container", "web", "/root")
        self.needs.recorded([use], self.by_id)
        self.needs.shown(Contents(), self.needs.chains)
        self.assertEqual(self.needs.used(), {self.chains[1]: ["container web of /root"]})
        self.needs.recorded([], self.by_id)
        self.assertEqual(self.needs.used(), {self.chains[1]: ["the view, until it is written again"]})
        self.needs.shown(Contents(), self.needs.chains)
        self.assertEqual(self.needs.used(), {})

    def test_blobs(self) -> None:
        """
        The blobs of layers stay that the view shows: engines read the layers from them.
        """
        selection = Selection("/trees")
        selection.add_image(self.sample.image, self.sample.chain)
        self.needs.shown(selection.contents())
        self.assertEqual(self.needs.used().keys(), {blob.digest for blob in self.sample.image.layers})

    def test_nameless(self) -> None:
        """
        The documents of an image stay that only containers need.
        """
        (record,) = self.contents().images.values()
        selection = Selection("/trees")
        selection.keep_image(record, [evolve(each, blobs=()) for each in self.sample.chain])
        self.needs.shown(selection.contents())
        self.assertEqual(self.needs.used().keys(), {*record.big_data().values()})
