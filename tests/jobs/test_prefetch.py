"""
Tests for L{xferd.jobs.prefetch}.
"""

from __future__ import annotations

from tests.jobs.case import HOST, JobsCase
from xferd.media_types import OCI_INDEX
from xferd.names import Digest, Repository
from xferd.oci import Document
from xferd.platforms import Platform
from xferd.testing.images import SampleIndex, encode, index_of, sample_image

APP = Repository(HOST, "app")
PLATFORMS = (Platform("linux", "amd64"), Platform("linux", "arm64", "v8"))


class PrefetchCase(JobsCase):
    """
    Prefetches from the first registry.
    """

    def prefetch(self, name: str = "app", platform: str | None = None) -> str:
        """
        Begin to prefetch; returns the job's id.
        """
        return str(self.jobs.prefetch(f"{HOST}/{name}", platform, "ci", 0)["id"])

    def index(self) -> SampleIndex:
        """
        Put an index of two images into the registry.
        """
        images = {
            platform: sample_image(2, 1000 * (n + 1), platform=platform)
            for n, platform in enumerate(PLATFORMS)
        }
        index = index_of(images)
        self.registry.add(index, "app", "latest")
        return index

    def listed(self) -> set[Digest]:
        """
        The manifests of the repository in the catalog.
        """
        return {entry.descriptor.digest for entry in self.store.catalog.manifests(APP)}

    def tag(self, tag: str = "latest") -> Digest | None:
        """
        The digest of a tag in the catalog.
        """
        found = self.store.catalog.tag(APP, tag)
        return None if found is None else found.digest


class ImageTests(PrefetchCase):
    """
    An image of one platform.
    """

    def test_fetched(self) -> None:
        """
        Its manifest, config and layers are in the store and in the catalog, and nothing is
        unpacked.
        """
        image = self.add(sample_image(3))
        job_id = self.prefetch()
        self.settle()
        self.assert_done(job_id)
        job = self.job(job_id)
        self.assertEqual((job["kind"], job["result"]), ("prefetch", {"digest": str(image.digest)}))
        self.assertEqual(self.states(job_id), ["done"] * 4)
        self.assertEqual((job["bytes_done"], job["layers_done"]), (job["bytes_total"], 4))
        for blob in image.blobs:
            self.assertEqual(self.gets(blob.digest), 1)
            self.assertTrue(self.store.blobs.has(blob.digest))
            self.assertIsNotNone(self.store.catalog.blob(APP, blob.digest))
        self.assertEqual((self.listed(), self.tag()), ({image.digest}, image.digest))
        self.assertEqual(self.unpacker.unpackings, [])
        self.assertFalse(self.has_image())
        self.assert_idle()

    def test_served(self) -> None:
        """
        A client of the mirror gets all of it without the registry.
        """
        image = self.add(sample_image(2))
        self.prefetch()
        self.settle()
        before = len(self.registry.requests)
        source = self.registries.repository(APP)
        found = self.jobs.mirror.manifest(source, str(image.digest), "node")
        self.settle()
        self.assertEqual(self.successResultOf(found).document, image.manifest)
        for blob in image.blobs:
            opened = self.jobs.mirror.blob(source, blob.digest, "node")
            self.settle()
            reader = self.successResultOf(opened)
            read = reader.read(0, 100_000)
            self.settle()
            self.assertEqual(self.successResultOf(read), blob.read())
            reader.close()
        self.assertEqual(len(self.registry.requests), before)

    def test_again(self) -> None:
        """
        A second one requests the manifest, and no blob.
        """
        image = self.add(sample_image(2))
        self.prefetch()
        self.settle()
        job_id = self.prefetch()
        self.settle()
        self.assertEqual(self.states(job_id), ["exists"] * 3)
        self.assertEqual([self.gets(blob.digest) for blob in image.blobs], [1, 1, 1])
        job = self.job(job_id)
        self.assertEqual(job["bytes_done"], job["bytes_total"])

    def test_shared(self) -> None:
        """
        It shares its downloads with a pull.
        """
        image = self.add(sample_image(2, size=50_000))
        blob = image.layers[0].blob.digest
        self.registry.stall(blob)
        jobs = [self.prefetch(), self.pull()]
        self.settle()
        self.registry.feed(blob, 20_000)
        self.wait(0.5)
        self.assertEqual(set(self.transfer("download", blob)["jobs"]), set(jobs))
        self.assertEqual(self.states(jobs[0])[1], "downloading")
        self.registry.finish(blob)
        self.settle()
        for job_id in jobs:
            self.assert_done(job_id)
        self.assertEqual(self.gets(blob), 1)
        self.assert_idle()

    def test_digest(self) -> None:
        """
        A reference with a digest sets no tag, also if it has one.
        """
        image = self.add(sample_image(1))
        job_id = self.prefetch(f"app:latest@{image.digest}")
        self.settle()
        self.assert_done(job_id)
        self.assertEqual((self.listed(), self.tag()), ({image.digest}, None))

    def test_cancelled(self) -> None:
        """
        Cancelling ends its downloads, and the tag is not set.
        """
        image = self.add(sample_image(6, size=50_000))
        for layer in image.layers:
            self.registry.stall(layer.blob.digest)
        job_id = self.prefetch()
        self.settle()
        self.assertEqual(self.states(job_id).count("downloading"), self.downloads)
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        self.assertEqual((self.listed(), self.tag()), (set(), None))
        self.assert_idle()

    def test_failed(self) -> None:
        """
        A blob that cannot be fetched fails the job, and the tag is not set.
        """
        image = self.add(sample_image(3))
        blob = image.layers[1].blob.digest
        self.registry.corrupt(blob, b"wrong", times=9)
        job_id = self.prefetch()
        self.settle()
        self.wait(60)
        self.assert_failed(job_id, "SIZE_MISMATCH")
        self.assertIn("failed", self.states(job_id))
        self.assertIsNone(self.tag())
        self.assert_idle()

    def test_unknown(self) -> None:
        """
        An image that the registry does not have is an error.
        """
        job_id = self.prefetch("nothing")
        self.settle()
        self.assert_failed(job_id, "MANIFEST_UNKNOWN")
        self.assert_idle()


class IndexTests(PrefetchCase):
    """
    An image for several platforms.
    """

    def fetched(self, index: SampleIndex) -> list[Platform]:
        """
        The platforms whose blobs are all in the store.
        """
        return [
            platform
            for platform, image in index.images.items()
            if all(self.store.blobs.has(blob.digest) for blob in image.blobs)
        ]

    def test_platform(self) -> None:
        """
        One platform comes with the index, which has the tag.
        """
        index = self.index()
        job_id = self.prefetch(platform="linux/arm64")
        self.settle()
        self.assert_done(job_id)
        arm = PLATFORMS[1]
        self.assertEqual(self.fetched(index), [arm])
        self.assertEqual(self.listed(), {index.digest, index.images[arm].digest})
        self.assertEqual(self.tag(), index.digest)
        self.assertEqual(self.job(job_id)["result"], {"digest": str(index.digest)})

    def test_all(self) -> None:
        """
        All platforms come with the index.
        """
        index = self.index()
        job_id = self.prefetch(platform="all")
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.fetched(index), list(PLATFORMS))
        manifests = {image.digest for image in index.images.values()}
        self.assertEqual(self.listed(), {index.digest, *manifests})
        self.assertEqual(self.tag(), index.digest)

    def test_nested(self) -> None:
        """
        The indexes between the tag and the image are listed too.
        """
        inner = self.index()
        entry = {"mediaType": OCI_INDEX, "digest": str(inner.digest), "size": len(inner.document.data)}
        data = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})
        outer = Document.verified(OCI_INDEX, data, Digest.of(data))
        self.registry.add_document(outer, "app", "deep")
        job_id = self.prefetch("app:deep", platform="linux/arm64")
        self.settle()
        self.assert_done(job_id)
        arm = inner.images[PLATFORMS[1]].digest
        self.assertEqual(self.listed(), {outer.digest, inner.digest, arm})
        self.assertEqual(self.tag("deep"), outer.digest)

    def test_no_such_platform(self) -> None:
        """
        A platform that the index lacks is an error, as is one that is not that of a single image.
        """
        self.index()
        self.add(sample_image(1), "single")
        for name in ("app", "single"):
            job_id = self.prefetch(name, platform="linux/s390x")
            self.settle()
            self.assert_failed(job_id, "PLATFORM_UNKNOWN")
        self.assert_idle()


class IsolatedTests(PrefetchCase):
    """
    In isolated mode.
    """

    sharing = "isolated"

    def test_proved(self) -> None:
        """
        The registry is asked for each blob, also if the store has it.
        """
        image = self.add(sample_image(2, size=5000))
        self.pulled()
        before = {blob.digest: self.gets(blob.digest) for blob in image.blobs}
        job_id = self.prefetch()
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.states(job_id), ["done"] * 3)
        self.assertTrue(all(self.gets(digest) > count for digest, count in before.items()))
