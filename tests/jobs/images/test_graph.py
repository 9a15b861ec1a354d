"""
Tests for L{xferd.jobs.images.graph}.
"""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import BadDocument, ManifestUnknown
from xferd.jobs.images.graph import Allowance, Graph, walk
from xferd.media_types import OCI_INDEX, OCI_MANIFEST
from xferd.names import Digest
from xferd.oci import Descriptor, Document
from xferd.platforms import Platform
from xferd.testing.images import image_of, index_of, sample_image, sample_layer


class WalkTests(SynchronousTestCase):
    """
    The graph of a document.
    """

    def setUp(self) -> None:
        """
        Know no documents.
        """
        self.known: dict[Digest, Document] = {}

    async def fetch(self, descriptor: Descriptor) -> Document:
        """
        Give one that is known.
        """
        try:
            return self.known[descriptor.digest]
        except KeyError:
            raise ManifestUnknown("there is none") from None

    def walk(self, *documents: Document) -> Graph:
        """
        Load the last of some documents.
        """
        self.known.update({d.digest: d for d in documents})
        return self.successResultOf(Deferred.fromCoroutine(walk(documents[-1], self.fetch)))

    def test_image(self) -> None:
        """
        An image is its manifest, its config and its layers, each blob once.
        """
        twice = sample_layer()
        image = image_of([twice, sample_layer(seed=2), twice])
        graph = self.walk(image.manifest)
        self.assertEqual(graph.documents, (image.manifest,))
        self.assertEqual([b.digest for b in graph.blobs], [b.digest for b in image.blobs])
        self.assertIs(graph.root.digest, image.manifest.digest)

    def test_index(self) -> None:
        """
        An index comes after its images, and shared blobs occur once.
        """
        shared = sample_layer()
        images = {
            Platform("linux", arch): image_of(
                [shared, sample_layer(seed=arch)], platform=Platform("linux", arch)
            )
            for arch in ("amd64", "arm64")
        }
        index = index_of(images)
        graph = self.walk(*index.documents)
        self.assertEqual([d.digest for d in graph.documents], [d.digest for d in index.documents])
        self.assertEqual({b.digest for b in graph.blobs}, {b.digest for b in index.blobs})
        self.assertEqual(len(graph.blobs), 5)

    def test_artifact(self) -> None:
        """
        An artifact's blobs are copied, of any types.
        """
        config = Descriptor("application/vnd.oci.empty.v1+json", Digest.of(b"{}"), 2)
        layer = Descriptor("text/x-poem", Digest.of(b"roses"), 5)
        value = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "x/poem"}
        data = json.dumps({**value, "config": config.to_json(), "layers": [layer.to_json()]}).encode()
        graph = self.walk(Document.verified(OCI_MANIFEST, data))
        self.assertEqual(graph.blobs, (config, layer))

    def test_foreign_layers(self) -> None:
        """
        A layer of a foreign type that has URLs stays there; one without URLs
        is moved, and so is one of an ordinary type.
        """
        config = Descriptor("application/vnd.oci.image.config.v1+json", Digest.of(b"{}"), 2)
        oci = "application/vnd.oci.image.layer."
        docker = "application/vnd.docker.image.rootfs."
        layers: list[tuple[Descriptor, bool, dict[str, object]]] = []
        for media_type, urls, stays in (
            (f"{docker}foreign.diff.tar.gzip", ["https://a.example/1"], True),
            (f"{oci}nondistributable.v1.tar+gzip", ["https://a.example/2"], True),
            (f"{docker}foreign.diff.tar.gzip", [], False),
            (f"{oci}nondistributable.v1.tar+zstd", None, False),
            (f"{oci}v1.tar+gzip", ["https://a.example/3"], False),
        ):
            layer = Descriptor(media_type, Digest.of(str(len(layers)).encode()), 1)
            layers.append((layer, stays, layer.to_json() | {"urls": urls}))
        value = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.to_json()}
        data = json.dumps(value | {"layers": [written for _, _, written in layers]}).encode()
        graph = self.walk(Document.verified(OCI_MANIFEST, data))
        self.assertEqual(graph.blobs, (config, *(layer for layer, stays, _ in layers if not stays)))
        self.assertEqual(graph.root.data, data)

    def test_plain_type(self) -> None:
        """
        A document that came under a plain type is put under its own.
        """
        image = sample_image(1)
        graph = self.walk(Document("text/plain", image.manifest.data, image.manifest.digest))
        self.assertEqual(graph.root.media_type, OCI_MANIFEST)

    def test_too_deep(self) -> None:
        """
        Indexes in indexes are followed only so deep.
        """
        documents = [sample_image(1).manifest]
        for _ in range(7):
            entries = [documents[-1].descriptor.to_json()]
            data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
            documents.append(Document.verified(OCI_INDEX, data.encode()))
        self.known.update({d.digest: d for d in documents})
        loading = Deferred.fromCoroutine(walk(documents[-1], self.fetch))
        self.assertIn("deep", str(self.failureResultOf(loading, BadDocument).value))

    def index(self, *entries: Descriptor) -> Document:
        """
        An index.
        """
        listed = [entry.to_json() for entry in entries]
        data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed})
        return Document.verified(OCI_INDEX, data.encode())

    def test_unknown_manifest(self) -> None:
        """
        An entry of an unknown kind in an index is copied as it is.
        """
        image = sample_image(1)
        odd = Document.verified("application/x.odd+json", b"[what, ever]")
        index = self.index(image.manifest.descriptor, odd.descriptor)
        graph = self.walk(image.manifest, odd, index)
        self.assertEqual(graph.documents, (image.manifest, odd, index))
        self.assertEqual([b.digest for b in graph.blobs], [b.digest for b in image.blobs])

    def test_unknown_blob(self) -> None:
        """
        An entry that the registry does not have as a manifest is a blob.
        """
        blob = Descriptor("application/x.bundle", Digest.of(b"bundle"), 6)
        index = self.index(blob, blob)
        graph = self.walk(index)
        self.assertEqual((graph.documents, graph.blobs), ((index,), (blob,)))

    def test_missing(self) -> None:
        """
        A manifest of a known kind that is not there is missed.
        """
        loading = Deferred.fromCoroutine(walk(self.index(sample_image(1).manifest.descriptor), self.fetch))
        self.failureResultOf(loading, ManifestUnknown)

    def test_too_much(self) -> None:
        """
        There may be so many documents, of so many bytes, and so many blobs,
        whether one document names them or several of one job.
        """
        image = sample_image(2)
        index = self.index(image.manifest.descriptor)
        self.known[image.digest] = image.manifest
        size = len(image.manifest.data) + len(index.data)
        for allowance, why in (
            (Allowance(documents=1), "manifests"),
            (Allowance(size=size - 1), "bytes"),
            (Allowance(blobs=2), "blobs"),
        ):
            loading = Deferred.fromCoroutine(walk(index, self.fetch, allowance))
            self.assertIn(why, str(self.failureResultOf(loading, BadDocument).value))
        allowance = Allowance(documents=2, size=size, blobs=3)
        self.successResultOf(Deferred.fromCoroutine(walk(index, self.fetch, allowance)))
        again = Deferred.fromCoroutine(walk(index, self.fetch, allowance))
        self.failureResultOf(again, BadDocument)
