"""
Tests for L{xferd.jobs.images.platform_change}.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from tests.jobs.case import HOST, OTHER, JobsCase
from xferd.names import Digest, Reference
from xferd.platforms import Platform
from xferd.testing.images import SampleImage, index_of, sample_image

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


class ReplacedTests(JobsCase):
    """
    A name that gets an image for another platform.
    """

    def setUp(self) -> None:
        """
        Have an image for two platforms in the registry.
        """
        super().setUp()
        self.images = {
            AMD64: sample_image(1, seed="amd64", platform=AMD64),
            ARM64: sample_image(1, seed="arm64", platform=ARM64),
        }
        self.registry.add(index_of(self.images), "app", "latest")

    def warnings(self, platform: Platform, name: str = "app") -> Sequence[str]:
        """
        Pull for a platform; returns the warnings.
        """
        return list(self.pulled(name, platform=str(platform))["warnings"])

    def tag(self, name: str, new: str) -> None:
        """
        Give an image a second name.
        """
        tagging = self.jobs.image_admin.tag(name, new)
        self.settle()
        self.successResultOf(tagging)

    def collected(self) -> None:
        """
        Free what nothing uses.
        """
        collecting = self.jobs.image_admin.collect(dry_run=False)
        self.settle()
        self.successResultOf(collecting)

    def layer(self, image: SampleImage) -> Digest:
        """
        The digest of its layer.
        """
        return image.layers[0].blob.digest

    def test_other_platform(self) -> None:
        """
        The second platform is pulled with a warning that names both, and again in the other direction;
        the same platform is not worth one.
        """
        self.assertEqual(self.warnings(AMD64), [])
        self.assertEqual(self.warnings(AMD64), [])
        (warning,) = self.warnings(ARM64)
        self.assertIn(
            f"{HOST}/app:latest stands for linux/arm64 from now on, and stood for linux/amd64", warning
        )
        self.assertIn(f"'xferctl pull --platform linux/amd64 {HOST}/app:latest'", warning)
        (warning,) = self.warnings(AMD64)
        self.assertIn("stands for linux/amd64 from now on, and stood for linux/arm64", warning)

    def test_new_content(self) -> None:
        """
        A name that moves on to a newer image for the same platform is as usual.
        """
        self.warnings(AMD64)
        self.images[AMD64] = sample_image(1, seed="newer", platform=AMD64)
        self.registry.add(index_of(self.images), "app", "latest")
        self.assertEqual(self.warnings(AMD64), [])

    def test_damaged(self) -> None:
        """
        An image whose config is lost does not keep its name from another one.
        """
        self.warnings(AMD64)
        reference = Reference.parse(f"{HOST}/app")
        image = self.store.images.get(reference)
        assert image is not None
        putting = self.store.images.put(evolve(image, manifest=evolve(image.manifest, platform=None)))
        self.settle()
        self.successResultOf(putting)
        del self.store.blobs.contents[image.config.digest]
        self.assertEqual(self.warnings(ARM64), [])

    def test_kept_by_a_tag(self) -> None:
        """
        An image with another name stays, and the rest is freed.
        """
        self.warnings(AMD64)
        self.tag(f"{HOST}/app", "kept:1")
        self.warnings(ARM64)
        self.collected()
        self.assertTrue(self.store.blobs.has(self.layer(self.images[AMD64])))
        self.warnings(AMD64)
        self.collected()
        self.assertFalse(self.store.blobs.has(self.layer(self.images[ARM64])))

    def test_kept_by_a_job(self) -> None:
        """
        An image that a push sends stays until the push has ended, though its
        name stands for another platform.
        """
        self.warnings(AMD64)
        digest = self.layer(self.images[AMD64])
        self.other.gate.hold("push")
        job_id = str(self.jobs.push(f"{HOST}/app", f"{OTHER}/app:1", (), None, "ci", 0)["id"])
        self.settle()
        self.warnings(ARM64)
        self.collected()
        self.assertTrue(self.store.blobs.has(digest))
        self.other.gate.release("push")
        self.settle()
        self.assert_done(job_id)
        self.collected()
        self.assertFalse(self.store.blobs.has(digest))
