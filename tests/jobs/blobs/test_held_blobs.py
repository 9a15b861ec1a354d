"""
Tests for L{xferd.jobs.blobs.held_blobs}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from zope.interface.verify import verifyObject

from tests.jobs.case import HOST, JobsCase
from xferd.errors import DigestMismatch, Interrupted, SourceError
from xferd.interfaces.peers import IHeldBlob, IHeldBlobs
from xferd.names import Digest
from xferd.oci import Descriptor
from xferd.realms import PUBLIC
from xferd.testing.images import sample_image


class HeldCase(JobsCase):
    """
    An image with one layer at the registry.
    """

    def setUp(self) -> None:
        """
        Add it.
        """
        super().setUp()
        self.image = self.add(sample_image(1, size=300_000))
        self.blob = self.image.layers[0].blob
        self.digest = self.blob.digest
        self.data = self.blob.read()
        self.held = self.jobs.held

    def open(self) -> IHeldBlob:
        """
        Open the layer's blob.
        """
        blob = self.held.open(self.digest)
        assert blob is not None
        self.addCleanup(blob.close)
        return blob

    def begin(self, size: int) -> str:
        """
        Begin to pull the image, and have some bytes arrive.
        """
        self.registry.stall(self.digest)
        pull = self.pull()
        self.settle()
        self.registry.feed(self.digest, size)
        self.settle()
        return pull


class HeldBlobTests(HeldCase):
    """
    Tests for L{HeldBlobs<xferd.jobs.blobs.held_blobs.HeldBlobs>}.
    """

    def test_interfaces(self) -> None:
        """
        They provide the Interfaces.
        """
        self.pulled()
        self.assertTrue(verifyObject(IHeldBlobs, self.held))
        self.assertTrue(verifyObject(IHeldBlob, self.open()))

    def test_absent(self) -> None:
        """
        A blob that is not here is not fetched.
        """
        self.assertIsNone(self.held.open(self.digest))
        self.assertIsNone(self.held.open(Digest.of(b"unknown")))
        self.settle()
        self.assertEqual(self.gets(self.digest), 0)

    def test_stored(self) -> None:
        """
        A blob of the store is read from its file, and has the origins of the catalog.
        """
        self.pulled()
        blob = self.open()
        self.assertEqual((blob.size, blob.here, blob.growing), (len(self.data), len(self.data), False))
        self.assertEqual(blob.origins, self.store.catalog.origins(self.digest))
        self.assertTrue(blob.origins)
        self.assertEqual(self.successResultOf(blob.read(1000, 500)), self.data[1000:1500])
        self.assertEqual(blob.path, self.store.blobs.path(self.digest))

    def test_lease(self) -> None:
        """
        While it is open, the collector spares it.
        """
        self.pulled()
        blob = self.held.open(self.digest)
        assert blob is not None
        removing = self.jobs.image_admin.remove(f"{HOST}/app")
        self.settle()
        self.successResultOf(removing)
        self.assertTrue(self.store.blobs.has(self.digest))
        blob.close()
        collecting = self.jobs.image_admin.collect(False)
        self.settle()
        self.successResultOf(collecting)
        self.assertFalse(self.store.blobs.has(self.digest))

    def test_growing(self) -> None:
        """
        A blob that arrives is read as it comes, to its last byte that is here.
        """
        self.begin(100_000)
        blob = self.open()
        self.assertEqual((blob.size, blob.here, blob.growing), (len(self.data), 100_000, True))
        self.assertEqual(self.successResultOf(blob.read(99_000, 5000)), self.data[99_000:100_000])
        reading = blob.part(100_000)
        self.assertNoResult(reading)
        self.registry.feed(self.digest, len(self.data) - 100_000)
        part = self.successResultOf(reading)
        assert part is not None
        self.settle()
        self.assertEqual(self.successResultOf(blob.read(len(self.data) - 1, 5)), self.data[-1:])
        self.assertEqual(self.successResultOf(blob.read(len(self.data), 5)), b"")

    def test_origin(self) -> None:
        """
        The origin of a blob that arrives is known before its first byte.
        """
        self.begin(0)
        self.assertEqual(self.open().origins, {self.registry.repository("app").origin})

    def test_another_origin(self) -> None:
        """
        Where it becomes another one, reads fail.
        """
        self.begin(100_000)
        blob = self.open()
        wanted = Descriptor("application/octet-stream", self.digest, len(self.data))
        self.jobs._layers.growth(wanted, self.registry.repository("app")).origins.add(PUBLIC)
        self.failureResultOf(blob.read(0, 10), SourceError)
        self.assertEqual(self.open().origins, set())

    def test_ended(self) -> None:
        """
        Where the download ends without the blob, reads fail.
        """
        pull = self.begin(100_000)
        blob = self.open()
        reading = blob.part(100_000)
        self.jobs.cancel(pull)
        self.settle()
        self.failureResultOf(reading, Interrupted)
        self.failureResultOf(blob.read(0, 10), Interrupted)
        self.assertIsNone(self.held.open(self.digest))

    def test_keeps_nothing_going(self) -> None:
        """
        A reader is no watcher of the download.
        """
        self.begin(100_000)
        self.open()
        self.assertEqual(self.transfer("download", self.digest)["watchers"], 1)

    def test_wrong_bytes(self) -> None:
        """
        Where the bytes were wrong, reads fail.
        """
        self.registry.corrupt(self.digest, bytes(len(self.data)))
        self.begin(100_000)
        blob = self.open()
        reading = blob.part(100_000)
        self.store.blobs.gate.hold("partial.commit")
        self.registry.finish(self.digest)
        self.settle()
        self.successResultOf(reading)
        self.store.blobs.gate.release("partial.commit")
        self.settle()
        self.failureResultOf(blob.read(0, 10), DigestMismatch)

    def test_cancelled(self) -> None:
        """
        A read can be cancelled; others go on.
        """
        self.begin(100_000)
        blob = self.open()
        one, two = blob.read(100_000, 10), blob.read(100_000, 10)
        one.cancel()
        self.failureResultOf(one, CancelledError)
        self.registry.feed(self.digest, 10)
        self.assertEqual(self.successResultOf(two), self.data[100_000:100_010])


class IsolatedTests(HeldCase):
    """
    In isolated mode.
    """

    sharing = "isolated"

    def test_not_shared(self) -> None:
        """
        What one client's registry sent is not for peers.
        """
        pull = self.begin(100_000)
        self.assertIsNone(self.held.open(self.digest))
        self.registry.finish(self.digest)
        self.settle()
        self.assert_done(pull)
        self.assertIsNone(self.held.open(self.digest))
