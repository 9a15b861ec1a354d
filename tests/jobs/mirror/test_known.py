"""
Tests for L{xferd.jobs.mirror.known}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.jobs.case import JobsCase
from tests.jobs.mirror.case import APP
from xferd.jobs.mirror.known import Known, KnownTag
from xferd.names import Digest, Repository
from xferd.testing.images import AMD64, index_of, sample_image


class KnownTests(JobsCase):
    """
    What the store has, of an image that a job pulled by its index.
    """

    def setUp(self) -> None:
        """
        Pull it.
        """
        super().setUp()
        self.images = True
        self.image = sample_image(1)
        self.index = index_of({AMD64: self.image})
        self.registry.add(self.index, "app")
        self.known = Known(self.store)

    def tag(self, tag: str = "latest") -> KnownTag | None:
        """
        A tag.
        """
        finding = Deferred.fromCoroutine(self.known.tag(APP, tag, self.images))
        self.settle()
        return self.successResultOf(finding)

    def has(self, repository: Repository, digest: Digest) -> bool:
        """
        Whether a manifest is known.
        """
        finding = Deferred.fromCoroutine(self.known.manifest(repository, digest, self.images))
        self.settle()
        return self.successResultOf(finding) is not None

    def test_nothing(self) -> None:
        """
        Nothing is known at first.
        """
        self.assertIsNone(self.tag())
        self.assertFalse(self.has(APP, self.image.digest))
        self.assertIsNone(self.known.blob(APP, self.image.config.digest, True))

    def test_image(self) -> None:
        """
        The index is what its tag stands for; manifest and blobs are known, in this
        repository only.
        """
        self.pulled()
        found = self.tag()
        assert found is not None
        self.assertEqual((found.manifest.document, found.checked), (self.index.document, None))
        self.assertEqual(found.since, self.wall_clock())
        other = Repository(APP.host, "other")
        for repository, known in ((APP, True), (other, False)):
            for digest in (self.index.digest, self.image.digest):
                self.assertEqual(self.has(repository, digest), known)
            for blob in self.image.blobs:
                self.assertEqual(self.known.blob(repository, blob.digest, True) is not None, known)

    def test_without_images(self) -> None:
        """
        For clients that may not have the images of jobs, nothing is known of them.
        """
        self.pulled()
        self.images = False
        self.assertIsNone(self.tag())
        self.assertFalse(self.has(APP, self.image.digest))
        self.assertIsNone(self.known.blob(APP, self.image.config.digest, False))

    def test_complete(self) -> None:
        """
        It is complete unless a blob is missing: a tree in its place is of no use.
        """
        self.pulled()
        found = self.tag()
        assert found is not None
        self.assertTrue(self.known.is_complete(APP, found.manifest.entry))
        del self.store.blobs.contents[self.image.layers[0].blob.digest]
        self.assertFalse(self.known.is_complete(APP, found.manifest.entry))

    def test_index_removed(self) -> None:
        """
        Without the index, the tag stands for the image itself.
        """
        self.pulled()
        del self.store.blobs.contents[self.index.digest]
        found = self.tag()
        assert found is not None
        self.assertEqual(found.manifest.document, self.image.manifest)
