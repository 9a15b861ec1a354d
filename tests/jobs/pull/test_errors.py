"""
Tests for L{xferd.jobs.pull}: errors, with and without a recovery.
"""

from __future__ import annotations

import json

from tests.jobs.case import HOST, JobsCase
from tests.jobs.pull.case import blob_of
from xferd.errors import BadLayer, ConnectionFailed, Denied, TooManyRequests, WorkerLost
from xferd.media_types import OCI_MANIFEST
from xferd.oci import Document
from xferd.platforms import Platform
from xferd.testing.images import image_of, index_of, sample_image, sample_layer


class TroubleTests(JobsCase):
    """
    Errors that are recovered from.
    """

    def test_connection_breaks(self) -> None:
        """
        An interrupted download resumes; its unpacking does not start over.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = blob_of(image, 0)
        self.registry.stall(blob)
        job_id = self.pull()
        self.settle()
        self.registry.feed(blob, 40_000)
        self.registry.fail(blob)
        self.settle()
        self.assertEqual(self.transfer("download", blob)["state"], "backing-off")
        self.assertEqual(self.jobs.status()["slots"]["download"]["in_use"], 0)
        self.registry.finish(blob)
        self.wait(2)
        self.assert_done(job_id)
        self.assertEqual([r.offset for r in self.registry.requests if r.kind == "blob"], [0, 40_000])
        self.assertEqual(len(self.unpacker.unpackings), 1)

    def test_one_byte_for_each_connection(self) -> None:
        """
        A registry that sends one byte for each connection gets as many as one
        that sends none.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = blob_of(image, 0)
        self.registry.stall(blob)
        job_id = self.pull()
        for _ in range(100):
            self.settle()
            if self.registry.open_bodies(blob):
                self.registry.feed(blob, 1)
                self.registry.fail(blob)
            self.wait(1)
        self.assert_failed(job_id, "CONNECTION_FAILED")
        self.assertEqual(self.gets(blob), 3)
        self.assert_idle()

    def test_range_ignored(self) -> None:
        """
        A registry that ignores Range sends the first bytes again; they are
        passed over, and what was unpacked of them stands.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = blob_of(image, 0)
        self.registry.stall(blob)
        job_id = self.pull()
        self.settle()
        self.registry.feed(blob, 40_000)
        self.registry.fail(blob)
        self.registry.ignore_range(blob)
        self.registry.finish(blob)
        self.wait(2)
        self.assert_done(job_id)
        self.assertEqual(len(self.unpacker.unpackings), 1)

    def test_wrong_bytes_once(self) -> None:
        """
        Bytes that do not match their digest are discarded, with what was
        unpacked of them, and fetched once more.
        """
        image = self.add(sample_image(1, size=50_000))
        blob = blob_of(image, 0)
        size = image.layers[0].blob.descriptor.size
        self.registry.corrupt(blob, b"\0" * size)
        job_id = self.pull()
        self.wait(2)
        self.assert_done(job_id)
        self.assertEqual([r.offset for r in self.registry.requests if r.kind == "blob"], [0, 0])
        self.assertEqual(len(self.unpacker.unpackings), 2)
        self.assert_idle()
        self.assertEqual(self.registry.distrusted, [blob])

    def test_wrong_bytes_twice(self) -> None:
        """
        Wrong bytes twice fail the pull and leave nothing behind.
        """
        image = self.add(sample_image(1, size=50_000))
        blob = blob_of(image, 0)
        self.registry.corrupt(blob, b"\0" * image.layers[0].blob.descriptor.size, times=9)
        job_id = self.pull()
        self.wait(5)
        self.assertIn(str(blob), self.assert_failed(job_id, "DIGEST_MISMATCH"))
        self.assertEqual(self.gets(blob), 2)
        self.assertFalse(self.has_image())
        self.assertFalse(self.store.blobs.has(blob))
        self.assertEqual(self.store.trees.unpacked, {})
        self.assert_idle()

    def test_wrong_size(self) -> None:
        """
        A blob whose size is not its descriptor's is refused before its bytes.
        """
        image = self.add(sample_image(1))
        blob = blob_of(image, 0)
        self.registry.corrupt(blob, image.layers[0].blob.read() + b"more", times=9)
        job_id = self.pull()
        self.wait(5)
        self.assert_failed(job_id, "SIZE_MISMATCH")
        self.assertEqual(sum(body.sent for body in self.registry.bodies), 0)

    def test_bytes_are_wrong_and_do_not_unpack(self) -> None:
        """
        Where bytes do not unpack, their digest decides whose fault it is: here
        the registry's, and the right bytes are fetched.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = blob_of(image, 0)
        size = image.layers[0].blob.descriptor.size
        self.registry.corrupt(blob, b"x" * size)
        self.registry.stall(blob)
        job_id = self.pull()
        self.settle()
        self.registry.feed(blob, 30_000)
        self.settle()
        self.unpacker.unpackings[0].fail(BadLayer("the layer is not a tar"))
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "running")
        self.registry.finish(blob)
        self.wait(3)
        self.assert_done(job_id)
        self.assertEqual(len(self.unpacker.unpackings), 2)
        self.assert_idle()

    def test_layer_does_not_unpack(self) -> None:
        """
        Where the bytes are right and do not unpack, the image is at fault.
        """
        layer = sample_layer()
        image = self.add(image_of([sample_layer(seed="good"), layer]))
        self.registry.stall(layer.blob.digest)
        job_id = self.pull()
        self.settle()
        self.registry.feed(layer.blob.digest, 1000)
        self.settle()
        self.unpacker.unpackings[1].fail(BadLayer("an entry leads out of the tree"))
        self.registry.finish(layer.blob.digest)
        self.settle()
        message = self.assert_failed(job_id, "LAYER_INVALID")
        self.assertEqual(message, f"layer {layer.blob.digest}: an entry leads out of the tree")
        states = [row["state"] for row in self.job(job_id)["layers"]]
        self.assertEqual(states, ["done", "failed"])
        self.assertFalse(self.has_image())
        self.assertFalse(self.store.trees.has(image.diff_ids[1]))
        self.assert_idle()

    def test_worker_dies_once(self) -> None:
        """
        A worker that dies is replaced once; the bytes are not fetched again.
        """
        image = self.add(sample_image(1))
        self.unpacker.gate.fail("unpack", WorkerLost("the worker was killed"))
        self.pulled()
        self.assertEqual(len(self.unpacker.unpackings), 2)
        self.assertEqual(self.gets(blob_of(image, 0)), 1)

    def test_worker_dies_twice(self) -> None:
        """
        A worker that dies again fails the pull.
        """
        self.add(sample_image(1))
        self.unpacker.gate.fail("unpack", WorkerLost("the worker was killed"), times=2)
        job_id = self.pull()
        self.settle()
        self.assert_failed(job_id, "WORKER_LOST")
        self.assert_idle()

    def test_gives_up(self) -> None:
        """
        A registry that cannot be reached is tried as often as the policy
        allows.
        """
        image = self.add(sample_image(1))
        self.registry.gate.fail("open", ConnectionFailed("no route", host=HOST), times=9)
        job_id = self.pull()
        self.wait(10)
        self.assertEqual(self.assert_failed(job_id, "CONNECTION_FAILED"), "no route")
        self.assertEqual(self.gets(blob_of(image, 0)), 3)
        self.assert_idle()

    def test_rate_limit(self) -> None:
        """
        A pause that a registry requests is kept, and shown.
        """
        image = self.add(sample_image(1))
        self.registry.gate.fail("open", TooManyRequests("slow down", host=HOST, retry_after=30.0))
        job_id = self.pull()
        self.wait(29)
        self.assertEqual(self.gets(blob_of(image, 0)), 1)
        self.assertTrue(self.transfer("download", blob_of(image, 0))["why"])
        self.wait(3)
        self.assert_done(job_id)

    def test_denied(self) -> None:
        """
        A denied request is not repeated, and fails with the registry's error.
        """
        image = self.add(sample_image(2))
        self.registry.gate.fail("open", Denied("no pull access", host=HOST), key=blob_of(image, 1))
        job_id = self.pull()
        self.settle()
        self.assertEqual(self.assert_failed(job_id, "DENIED"), "no pull access")
        self.assertEqual(self.gets(blob_of(image, 1)), 1)
        self.assert_idle()

    def test_first_cause(self) -> None:
        """
        The first thing that goes wrong is the error, and ends the rest at once.
        """
        image = self.add(sample_image(3))
        for n in (0, 2):
            self.registry.stall(blob_of(image, n))
        self.registry.gate.hold("document")
        self.registry.gate.fail("open", Denied("not this one", host=HOST), key=blob_of(image, 1))
        job_id = self.pull()
        self.settle()
        self.assertEqual(self.assert_failed(job_id, "DENIED"), "not this one")
        self.registry.gate.release("document")
        self.assert_idle()


class RefusedTests(JobsCase):
    """
    Images that cannot be pulled.
    """

    def refused(self, code: str, name: str = "app", platform: str | None = None) -> str:
        """
        Pull an image that fails; returns the message.
        """
        job_id = self.pull(name, platform=platform)
        self.wait(5)
        message = self.assert_failed(job_id, code)
        self.assertFalse(self.has_image(name))
        self.assert_idle()
        return message

    def test_no_such_image(self) -> None:
        """
        A missing image is named.
        """
        self.assertIn("nothing", self.refused("MANIFEST_UNKNOWN", "nothing"))

    def test_no_such_platform_in_index(self) -> None:
        """
        The platforms of an index are listed when none fits.
        """
        arm = sample_image(1, platform=Platform("linux", "arm64"))
        self.registry.add(index_of({arm.platform: arm}), "app")
        self.assertIn("linux/arm64", self.refused("PLATFORM_UNKNOWN", platform="linux/s390x"))

    def test_no_such_platform_in_image(self) -> None:
        """
        An image for one platform is refused to a client that requests another.
        """
        self.add(sample_image(1))
        message = self.refused("PLATFORM_UNKNOWN", platform="linux/s390x")
        self.assertIn("linux/amd64 only", message)

    def test_wrong_diff_id(self) -> None:
        """
        A layer that is not the one its config names is refused.
        """
        good, other = sample_layer(seed="good"), sample_layer(seed="other")
        lying = image_of([good])
        said, given = good.blob.descriptor, other.blob.descriptor
        manifest = lying.manifest.data.replace(str(said.digest).encode(), str(given.digest).encode())
        manifest = manifest.replace(f'"size": {said.size}'.encode(), f'"size": {given.size}'.encode())
        self.registry.add(lying, "app", None)
        self.registry.add(image_of([other]), "app", None)
        self.registry.add_document(Document.verified(OCI_MANIFEST, manifest), "app", "latest")
        message = self.refused("DIFFID_MISMATCH")
        self.assertIn(str(other.diff_id), message)

    def test_schema_1(self) -> None:
        """
        Docker schema 1 is refused in a clear sentence.
        """
        media_type = "application/vnd.docker.distribution.manifest.v1+json"
        document = Document.verified(media_type, b'{"schemaVersion": 1}')
        self.registry.add_document(document, "app", "latest")
        self.assertIn("schema 1", self.refused("UNSUPPORTED"))

    def test_index_of_indexes(self) -> None:
        """
        Indexes in indexes are followed only so deep.
        """
        image = sample_image(1)
        inner = index_of({image.platform: image})
        data = inner.document
        self.registry.add(inner, "app", None)
        for _ in range(6):
            entries = [data.descriptor.to_json()]
            text = json.dumps({"schemaVersion": 2, "mediaType": data.media_type, "manifests": entries})
            data = Document.verified(data.media_type, text.encode())
            self.registry.add_document(data, "app", "latest")
        self.assertIn("deep", self.refused("MANIFEST_INVALID"))
