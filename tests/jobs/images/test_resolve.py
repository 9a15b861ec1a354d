"""
Tests for L{xferd.jobs.images.resolve}.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import BadDocument, NoSuchPlatform
from xferd.jobs.images.resolve import MAX_LOOKS, Resolved, Search, check_platform
from xferd.media_types import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from xferd.names import Digest
from xferd.oci import MAX_INDEX_DEPTH, Descriptor, Document
from xferd.platforms import Platform
from xferd.testing.images import SampleImage, image_of, sample_image

AMD64, ARM64, S390X = (Platform("linux", name) for name in ("amd64", "arm64", "s390x"))


class SearchTests(SynchronousTestCase):
    """
    Which image of a tree of indexes is found.
    """

    def setUp(self) -> None:
        """
        Know nothing.
        """
        self.documents: dict[Digest, Document] = {}
        self.configs: dict[Digest, bytes] = {}
        self.fetched: list[Digest] = []
        self.clock = Clock()
        self.slowness = 0.0

    def image(self, platform: Platform = AMD64, seed: str = "") -> SampleImage:
        """
        An image that is known.
        """
        image = sample_image(1, seed=f"{platform}{seed}", platform=platform)
        self.documents[image.digest] = image.manifest
        self.configs[image.config.digest] = image.config.read()
        return image

    def test_slow(self) -> None:
        """
        After ten minutes no more than ten documents are read; fewer are, also
        when they take longer.
        """
        images = [self.image(S390X, str(n)) for n in range(50)]
        nameless = [evolve(image.manifest.descriptor, platform=None) for image in images]
        self.slowness = 100
        failure = self.failureResultOf(self.search(self.index(*nameless)), BadDocument)
        self.assertIn("more than 600 s", str(failure.value))
        self.assertEqual(len(self.fetched), 10)
        wanted = self.image(AMD64)
        few = [*nameless[:8], evolve(wanted.manifest.descriptor, platform=None)]
        self.assertEqual(self.found(self.index(*few)), wanted.digest)

    def index(self, *entries: Descriptor) -> Document:
        """
        An index that is known.
        """
        listed = [entry.to_json() for entry in entries]
        data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode()
        document = Document.verified(OCI_INDEX, data)
        self.documents[document.digest] = document
        return document

    def search(self, root: Document, wanted: Platform = AMD64) -> Deferred[Resolved]:
        """
        Search from a document on.
        """

        async def fetch(entry: Descriptor) -> Document:
            self.clock.advance(self.slowness)
            self.fetched.append(entry.digest)
            return self.documents[entry.digest]

        async def config(entry: Descriptor) -> bytes:
            return self.configs[entry.digest]

        return Deferred.fromCoroutine(
            Search("team/app:1", wanted, fetch, config, self.clock.seconds).run(root)
        )

    def found(self, root: Document, wanted: Platform = AMD64) -> Digest:
        """
        The manifest that is found.
        """
        resolved = self.successResultOf(self.search(root, wanted))
        self.assertEqual(resolved.digest, root.digest)
        self.assertIs(resolved.chosen, resolved.descriptor.digest != root.digest)
        return resolved.descriptor.digest

    def refused(self, root: Document, wanted: Platform = AMD64) -> str:
        """
        The error if nothing is found.
        """
        return str(self.failureResultOf(self.search(root, wanted), NoSuchPlatform).value)

    def named(self, *images: SampleImage) -> Iterable[Descriptor]:
        """
        Entries with their platforms.
        """
        return (evolve(image.manifest.descriptor, platform=image.platform) for image in images)

    def test_manifest(self) -> None:
        """
        A manifest is returned as it is, for any platform.
        """
        image = self.image(ARM64)
        self.assertEqual(self.found(image.manifest), image.digest)

    def test_named(self) -> None:
        """
        One document is read where the entries name their platforms.
        """
        amd, arm = self.image(), self.image(ARM64)
        root = self.index(*self.named(amd, arm))
        self.assertEqual(self.found(root, ARM64), arm.digest)
        self.assertEqual(self.fetched, [arm.digest])

    def test_nested(self) -> None:
        """
        Every nested index is read until one has the image.
        """
        amd, arm, s390x = self.image(), self.image(ARM64), self.image(S390X)
        first = self.index(*self.named(s390x))
        second = self.index(*self.named(amd, arm))
        root = self.index(first.descriptor, second.descriptor)
        self.assertEqual(self.found(root, ARM64), arm.digest)
        self.assertEqual(self.fetched, [first.digest, second.digest, arm.digest])

    def test_nested_platform(self) -> None:
        """
        A nested index that names its platform is read first.
        """
        arm = self.image(ARM64)
        inner = self.index(arm.manifest.descriptor)
        other = self.index(*self.named(self.image()))
        root = self.index(other.descriptor, evolve(inner.descriptor, platform=ARM64))
        self.assertEqual(self.found(root, ARM64), arm.digest)
        self.assertEqual(self.fetched, [inner.digest, arm.digest])

    def test_all_that_is_offered(self) -> None:
        """
        The platforms of all indexes are listed when none fits.
        """
        inner = self.index(*self.named(self.image(ARM64)))
        root = self.index(*self.named(self.image()), inner.descriptor)
        self.assertEqual(
            self.refused(root, S390X),
            "team/app:1 is not offered for linux/s390x; it is offered for: linux/amd64, linux/arm64",
        )

    def test_listed_platform(self) -> None:
        """
        The platform that the nearest index names is with what is found; where
        none does, nothing is.
        """
        amd, arm = self.image(), self.image(ARM64)
        inner = self.index(arm.manifest.descriptor)
        for root, wanted, platform in (
            (self.index(*self.named(amd, arm)), ARM64, ARM64),
            (self.index(*self.named(amd)), Platform("linux", "amd64", "v3"), AMD64),
            (self.index(evolve(inner.descriptor, platform=ARM64)), ARM64, ARM64),
            (self.index(amd.manifest.descriptor), AMD64, None),
            (amd.manifest, AMD64, None),
        ):
            resolved = self.successResultOf(self.search(root, wanted))
            self.assertEqual(resolved.descriptor.platform, platform)

    def test_misnamed_config(self) -> None:
        """
        An artifact whose config is of a type of anything is no image, and one
        that is an image is.
        """
        amd, arm = self.image(), self.image(ARM64)
        found = []
        for image, layer in ((amd, b"application/x.squashfs"), (arm, b"")):
            data = image.manifest.data.replace(OCI_CONFIG.encode(), b"application/octet-stream")
            if layer:
                data = data.replace(image.layers[0].blob.descriptor.media_type.encode(), layer)
            found.append(Document.verified(OCI_MANIFEST, data))
        self.documents |= {document.digest: document for document in found}
        root = self.index(*(document.descriptor for document in found))
        self.assertEqual(self.found(root, ARM64), found[1].digest)
        self.assertIn("linux/arm64", self.refused(root, AMD64))

    def test_check(self) -> None:
        """
        The index's word counts above the config's, and what neither names is
        taken.
        """
        for listed, configured in ((AMD64, ARM64), (None, AMD64), (AMD64, None), (None, None)):
            check_platform("app", Platform("linux", "amd64", "v2"), listed, configured)
        for listed, configured in ((ARM64, AMD64), (None, ARM64), (ARM64, None)):
            error = self.assertRaises(NoSuchPlatform, check_platform, "app", AMD64, listed, configured)
            self.assertIn("app is an image for linux/arm64 only, not for linux/amd64", str(error))

    def test_nameless(self) -> None:
        """
        For entries without platforms, the configs decide.
        """
        amd, arm = self.image(), self.image(ARM64)
        root = self.index(amd.manifest.descriptor, arm.manifest.descriptor)
        self.assertEqual(self.found(root, ARM64), arm.digest)
        self.assertIn("linux/amd64, linux/arm64", self.refused(root, S390X))

    def test_alone(self) -> None:
        """
        The only image of an index is chosen, for any platform; attestations do
        not count.
        """
        arm = self.image(ARM64)
        about = Descriptor(OCI_MANIFEST, Digest.of(b""), 0, Platform("unknown", "unknown"))
        self.assertEqual(self.found(self.index(arm.manifest.descriptor, about)), arm.digest)

    def test_artifacts(self) -> None:
        """
        Among images, an artifact is not chosen.
        """
        amd = self.image()
        config = Descriptor("application/vnd.oci.empty.v1+json", Digest.of(b"{}"), 2)
        data = amd.manifest.data.replace(
            json.dumps(amd.config.descriptor.to_json(), indent=2).replace("\n", "\n  ").encode(),
            json.dumps(config.to_json()).encode(),
        )
        artifact = Document.verified(OCI_MANIFEST, data)
        self.documents[artifact.digest] = artifact
        root = self.index(artifact.descriptor, amd.manifest.descriptor)
        self.assertEqual(self.found(root), amd.digest)
        self.assertEqual(self.fetched, [artifact.digest, amd.digest])

    def test_deep(self) -> None:
        """
        Indexes in indexes are followed so deep, and no deeper.
        """
        image = self.image()
        document = image.manifest
        for _ in range(MAX_INDEX_DEPTH):
            document = self.index(document.descriptor)
        self.assertEqual(self.found(document), image.digest)
        error = self.failureResultOf(self.search(self.index(document.descriptor)), BadDocument).value
        self.assertIn("more than 4 deep", str(error))

    def test_many(self) -> None:
        """
        The number of documents that are read has a bound.
        """
        image = image_of([])
        self.configs[image.config.digest] = image.config.read()
        entries = []
        for number in range(MAX_LOOKS + 1):
            data = image.manifest.data + b" " * number
            document = Document.verified(OCI_MANIFEST, data)
            self.documents[document.digest] = document
            entries.append(document.descriptor)
        error = self.failureResultOf(self.search(self.index(*entries), ARM64), BadDocument).value
        self.assertIn("by its digest", str(error))
        self.assertEqual(len(self.fetched), MAX_LOOKS)

    def test_config_fails(self) -> None:
        """
        A config that cannot be fetched ends the search with its error.
        """
        amd = self.image()
        self.configs.clear()
        root = self.index(amd.manifest.descriptor, amd.manifest.descriptor)
        self.failureResultOf(self.search(root), KeyError)
