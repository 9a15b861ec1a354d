"""
Tests for L{xferd.jobs.images.documents}: documents, and their use by a pull.
"""

from __future__ import annotations

import json
from base64 import b64encode

from attrs import evolve

from tests.jobs.case import HOST, JobsCase
from xferd.media_types import OCI_INDEX, OCI_MANIFEST
from xferd.names import Digest, Reference
from xferd.oci import MAX_DOCUMENT, Document
from xferd.platforms import Platform
from xferd.testing.images import SampleImage, encode, image_of, index_of, sample_image, sample_layer


class DocumentsCase(JobsCase):
    """
    Manifests that a test writes.
    """

    def serve(self, value: object, media_type: str = OCI_MANIFEST) -> Document:
        """
        Put a document into the registry, under the usual name.
        """
        document = Document.verified(media_type, encode(value))
        self.registry.add_document(document, "app", "latest")
        return document

    def refused(self, code: str, **how: str) -> str:
        """
        Pull an image that fails; returns the message.
        """
        job_id = self.pull(**how)
        self.settle()
        message = self.assert_failed(job_id, code)
        self.assert_idle()
        return message


class DataTests(DocumentsCase):
    """
    Descriptors with embedded data.
    """

    def brought(self, image: SampleImage, wrong: bytes = b"") -> None:
        """
        Serve an image whose manifest embeds its config and its first layer.
        """
        value = json.loads(image.manifest.data)
        for entry, blob in ((value["config"], image.config), (value["layers"][0], image.layers[0].blob)):
            entry["data"] = b64encode(wrong or blob.read()).decode()
        self.serve(value)

    def test_instead_of_fetching(self) -> None:
        """
        An embedded config is not fetched, and is in the store nevertheless.
        """
        image = sample_image(2)
        self.registry.add(image, "app", None)
        self.brought(image)
        job = self.pulled()
        self.assertEqual([layer["state"] for layer in job["layers"]], ["done", "done"])
        self.assertEqual([r.wanted for r in self.registry.requests if r.kind == "document"], [])
        first, second = (layer.blob.digest for layer in image.layers)
        self.assertEqual((self.gets(first), self.gets(second)), (0, 1))
        for blob in image.blobs:
            self.assertTrue(self.store.blobs.has(blob.digest))
        self.assert_idle()

    def test_after_a_part(self) -> None:
        """
        A partial file of an earlier pull does no harm.
        """
        image = self.add(sample_image(1))
        digest = image.layers[0].blob.digest
        self.registry.stall(digest)
        job_id = self.pull()
        self.settle()
        self.registry.feed(digest, 1000)
        self.jobs.cancel(job_id)
        self.settle()
        self.brought(image)
        self.pulled()
        self.assert_idle()

    def test_wrong(self) -> None:
        """
        Embedded data that does not match its descriptor is refused, and not
        fetched instead: it was meant to deceive.
        """
        image = sample_image(1)
        self.registry.add(image, "app", None)
        self.brought(image, b"something else")
        self.assertIn("its data is not", self.refused("MANIFEST_INVALID"))

    def test_in_an_index(self) -> None:
        """
        A manifest that its index embeds is not fetched either.
        """
        image = sample_image(1)
        self.registry.add(image, "app", None)
        entry = evolve(image.manifest.descriptor, platform=image.platform).to_json()
        entry["data"] = b64encode(image.manifest.data).decode()
        self.serve({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}, OCI_INDEX)
        self.assertEqual(self.pulled()["result"]["digest"], str(image.digest))
        self.assertEqual(self.registry.count("manifest", image.digest), 0)


class TypeTests(DocumentsCase):
    """
    The types of documents.
    """

    def test_child_of_another_type(self) -> None:
        """
        A manifest that comes as another type than its index names is refused.
        """
        image = sample_image(1, docker=True)
        self.registry.add(image, "app", None)
        entry = evolve(image.manifest.descriptor, media_type=OCI_MANIFEST, platform=image.platform)
        self.serve({"schemaVersion": 2, "manifests": [entry.to_json()]}, OCI_INDEX)
        self.assertIn("and its index names", self.refused("MANIFEST_INVALID"))

    def test_large_child(self) -> None:
        """
        A manifest that is too large by its index is not requested.
        """
        entry = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"")), "size": MAX_DOCUMENT + 1}
        self.serve({"schemaVersion": 2, "manifests": [entry]}, OCI_INDEX)
        self.assertIn("at most", self.refused("MANIFEST_INVALID"))
        self.assertEqual(self.registry.count("manifest", Digest.of(b"")), 0)

    def test_attestations(self) -> None:
        """
        Attestations beside an image are not taken for it.
        """
        image = sample_image(1)
        about = image_of([], platform=Platform("unknown", "unknown"))
        self.registry.add(index_of({about.platform: about, image.platform: image}), "app")
        self.assertEqual(self.pulled()["result"]["digest"], str(image.digest))
        self.assertEqual(self.registry.count("manifest", about.digest), 0)

    def test_artifact(self) -> None:
        """
        An artifact is refused with an error that names the remedy.
        """
        empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": str(Digest.of(b"{}")), "size": 2}
        self.serve({"schemaVersion": 2, "artifactType": "application/x.poem", "config": empty, "layers": []})
        self.assertEqual(
            self.refused("UNSUPPORTED"),
            "this is an artifact of type application/x.poem, not a container image; "
            "'xferctl copy' can copy it, but it cannot be unpacked",
        )

    def test_name_twice(self) -> None:
        """
        A manifest in which a name stands twice is not guessed at.
        """
        image = sample_image(1)
        data = image.manifest.data.replace(b"{", b'{"layers": [],', 1)
        self.registry.add_document(Document.verified(OCI_MANIFEST, data), "app", "latest")
        self.assertIn("same name twice", self.refused("MANIFEST_INVALID"))


class Sha512Tests(DocumentsCase):
    """
    Images that are known by sha512.
    """

    def test_all(self) -> None:
        """
        Manifest, config, layers and diff IDs may be, and are kept under it.
        """
        image = image_of([sample_layer(seed=n).by("sha512") for n in range(2)], algorithm="sha512")
        self.add(image)
        job_id = str(self.jobs.pull(f"{HOST}/app@{image.digest}", None, "ci", 0)["id"])
        self.settle()
        self.assert_done(job_id)
        result = {"digest": str(image.digest), "image_id": str(image.config.digest)}
        self.assertEqual(self.job(job_id)["result"], result)
        self.assertEqual(len(self.unpacker.unpackings), 2)
        named = self.store.images.get(Reference.parse(f"{HOST}/app@{image.digest}"))
        assert named is not None
        self.assertEqual(named.chain_id, image.chain_ids[-1])
        for layer in image.layers:
            self.assertEqual(layer.diff_id.algorithm, "sha512")
            self.assertTrue(self.store.trees.has(layer.diff_id))
        self.assert_idle()

    def test_diff_id_of_another_algorithm(self) -> None:
        """
        A layer whose diff ID is of another algorithm than its blob is unpacked
        again for it, in both directions.
        """
        for blob, diff_id in (("sha256", "sha512"), ("sha512", "sha256")):
            image = image_of([sample_layer(seed=blob).by(blob, diff_id)])
            self.add(image, blob)
            self.pulled(blob)
            self.assertTrue(self.store.trees.has(image.diff_ids[0]))
            self.assertEqual(self.gets(image.layers[0].blob.digest), 1)
        self.assert_idle()

    def test_tree_by_another_algorithm(self) -> None:
        """
        A tree that is known by one algorithm does not serve for another: the
        blob is unpacked again, but not fetched.
        """
        layer = sample_layer()
        self.add(image_of([layer]))
        self.pulled()
        other = self.add(image_of([layer.by("sha256", "sha512")]), "other")
        self.pulled("other")
        self.assertEqual(self.gets(layer.blob.digest), 1)
        self.assertTrue(self.store.trees.has(other.diff_ids[0]))
        self.assert_idle()

    def test_wrong(self) -> None:
        """
        A diff ID that is not the layer's is refused by any algorithm.
        """
        good, wrong = sample_layer(seed="good").by("sha512"), sample_layer(seed="wrong").by("sha512")
        image = image_of([evolve(good, diff_id=wrong.diff_id)], algorithm="sha512")
        self.add(image)
        self.assertIn(str(good.diff_id), self.refused("DIFFID_MISMATCH"))
