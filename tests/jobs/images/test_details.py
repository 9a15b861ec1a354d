# -*- test-case-name: tests.jobs.images.test_details -*-
"""
Tests for L{xferd.jobs.images.details}.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from tests.jobs.case import HOST, JobsCase
from xferd.errors import NoSuchPlatform, StoreError
from xferd.interfaces.store import Image
from xferd.jobs.events.broker import image_json
from xferd.jobs.images.details import image_details
from xferd.names import Digest, Reference
from xferd.platforms import Platform
from xferd.testing.images import image_of, index_of, sample_image


class DetailsTests(JobsCase):
    """
    The details of one image.
    """

    def image(self) -> Image:
        """
        The image that was pulled.
        """
        found = self.store.images.get(Reference.parse(f"{HOST}/app"))
        assert found is not None
        return found

    def shown(self, image: Image, wanted: str | None = None) -> Deferred[dict[str, Any]]:
        """
        Request all details.
        """
        platform = None if wanted is None else Platform.parse(wanted)
        asked = Deferred.fromCoroutine(image_details(self.store, image, platform))
        self.settle()
        return asked

    def test_image(self) -> None:
        """
        The details add the platform, the original config and the layers' trees,
        the bottom one first.
        """
        made = self.add(sample_image(3))
        self.pulled()
        shown = self.successResultOf(self.shown(self.image()))
        self.assertEqual({k: shown[k] for k in image_json(self.image())}, image_json(self.image()))
        self.assertEqual(shown["platform"], "linux/amd64")
        self.assertEqual(shown["config"], json.loads(made.config.read()))
        paths = []
        for chain_id in made.chain_ids:
            layer = self.store.layers.get(chain_id)
            assert layer is not None
            paths.append(layer.path)
        self.assertEqual(shown["trees"], paths)

    def test_platform(self) -> None:
        """
        An image that has to be for a platform is, or is not shown.
        """
        self.add(sample_image(1))
        self.pulled()
        self.successResultOf(self.shown(self.image(), "linux/amd64/v3"))
        error = self.failureResultOf(self.shown(self.image(), "linux/arm64"), NoSuchPlatform).value
        self.assertIn("for linux/amd64, not for linux/arm64", str(error))

    def test_listed_platform(self) -> None:
        """
        The platform in the index takes precedence over the one in the config.
        """
        self.registry.add(index_of({Platform("linux", "arm64"): sample_image(1)}), "app")
        self.pulled(platform="linux/arm64")
        shown = self.successResultOf(self.shown(self.image(), "linux/arm64"))
        self.assertEqual((shown["platform"], shown["config"]["architecture"]), ("linux/arm64", "amd64"))
        self.failureResultOf(self.shown(self.image(), "linux/amd64"), NoSuchPlatform)

    def test_odd_config(self) -> None:
        """
        A config is shown in texts that can be written.
        """
        self.add(image_of([], config={"Labels": {"a": "\ud83d"}}))
        self.pulled()
        shown = self.successResultOf(self.shown(self.image()))
        self.assertEqual(shown["config"]["config"]["Labels"], {"a": "\ufffd"})

    def test_no_layers(self) -> None:
        """
        An image without layers has no trees.
        """
        self.add(image_of([]))
        self.pulled()
        self.assertEqual(self.successResultOf(self.shown(self.image()))["trees"], [])

    def test_artifact(self) -> None:
        """
        An artifact has neither config nor platform.
        """
        self.add(sample_image(1))
        self.pulled()
        image = self.image()
        artifact = evolve(image, config=evolve(image.config, media_type="application/x-other"))
        shown = self.successResultOf(self.shown(artifact))
        self.assertEqual((shown["config"], shown["platform"]), (None, None))

    def test_lost_layer(self) -> None:
        """
        A layer that is gone is a fault of the store.
        """
        self.add(sample_image(1))
        self.pulled()
        damaged = evolve(self.image(), chain_id=Digest.of(b"gone"))
        error = self.failureResultOf(self.shown(damaged), StoreError).value
        self.assertIn("pull the image again", str(error))
