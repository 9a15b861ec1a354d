"""
Tests for L{xferd.jobs.images.naming}, by pulls of a tag that moves.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from tests.jobs.case import HOST, JobsCase
from xferd.errors import BlobUnknown, StoreError
from xferd.interfaces.jobs import Event
from xferd.interfaces.store import Image
from xferd.names import Reference
from xferd.testing.images import SampleImage, sample_image

APP = Reference.parse(f"{HOST}/app")


class NamingTests(JobsCase):
    """
    Two images, of which the tag stood for the one and stands for the other.
    """

    def setUp(self) -> None:
        """
        Begin to pull the old one, and hold it in the middle; then move the tag.
        """
        super().setUp()
        self.old = self.add(sample_image(1, seed="old"))
        self.registry.gate.hold("open", self.blob(self.old))
        self.slow = self.pull()
        self.settle()
        self.new = self.add(sample_image(1, seed="new"))
        self.stream = self.jobs.events(None)
        self.told()

    def blob(self, image: SampleImage) -> object:
        """
        The digest of its layer.
        """
        return image.layers[0].blob.digest

    def told(self) -> list[object]:
        """
        The digests of the images that a stream gets.
        """
        getting: Deferred[list[Event]] = self.stream.get()
        self.wait(0.5)
        if not getting.called:
            getting.cancel()
            self.failureResultOf(getting, CancelledError)
            return []
        return [e.data.get("digest") for e in self.successResultOf(getting) if e.kind == "image"]

    def release(self) -> None:
        """
        Let the older pull end.
        """
        self.registry.gate.release("open", self.blob(self.old))
        self.settle()
        self.assert_done(self.slow)

    def assert_named(self, image: SampleImage) -> None:
        """
        The name stands for an image.
        """
        named = self.store.images.get(APP)
        assert named is not None
        self.assertEqual(named.manifest.digest, image.manifest.digest)

    def assert_kept(self) -> None:
        """
        The older pull has succeeded without changing the name, and has a
        warning.
        """
        self.told()
        self.release()
        self.assert_named(self.new)
        self.assertEqual(self.told(), [])
        job = self.job(self.slow)
        self.assertEqual(job["result"]["digest"], str(self.old.manifest.digest))
        (warning,) = job["warnings"]
        self.assertIn("app:latest keeps a newer image", warning)
        self.assertIn(str(self.old.manifest.digest), warning)
        self.assert_idle()

    def test_newer_pull(self) -> None:
        """
        Where a pull that resolved the tag later has given the name, the older
        one does not change it.
        """
        self.pulled()
        self.assert_kept()
        self.pulled()
        self.assert_named(self.new)

    def test_in_order(self) -> None:
        """
        Where the older pull ends first, each names its image.
        """
        self.registry.gate.hold("open", self.blob(self.new))
        second = self.pull()
        self.settle()
        self.release()
        self.assert_named(self.old)
        self.registry.gate.release("open", self.blob(self.new))
        self.settle()
        self.assert_done(second)
        self.assert_named(self.new)
        self.assertEqual(self.job(second)["warnings"], [])

    def test_newer_pull_fails(self) -> None:
        """
        A later pull that fails names nothing, and the older one does.
        """
        self.registry.gate.fail("open", BlobUnknown("gone"), self.blob(self.new), times=9)
        second = self.pull()
        self.settle()
        self.assert_failed(second, "BLOB_UNKNOWN")
        self.release()
        self.assert_named(self.old)

    def test_disk_refuses_the_newer(self) -> None:
        """
        It is the same where the later one cannot write the name.
        """
        self.store.gate.fail("images.put", StoreError("read-only"))
        second = self.pull()
        self.settle()
        self.assert_failed(second, "STORE_FAILED")
        self.release()
        self.assert_named(self.old)

    def test_at_the_same_time(self) -> None:
        """
        Where the later pull is writing the name, the older one does not write
        it after that.
        """
        self.store.gate.hold("images.put")
        second = self.pull()
        self.settle()
        self.release()
        self.store.gate.release("images.put")
        self.settle()
        self.assert_done(second)
        self.assert_named(self.new)

    def test_removed_meanwhile(self) -> None:
        """
        If the name was removed meanwhile, the older pull sets it.
        """
        self.pulled()
        removing = self.jobs.image_admin.remove(str(APP))
        self.settle()
        self.successResultOf(removing)
        self.release()
        self.assert_named(self.old)

    def test_tag(self) -> None:
        """
        A name that a tag gave meanwhile stays.
        """
        self.registry.add(self.new, "other", "latest")
        self.pulled("other")
        tagging: Deferred[Image] = self.jobs.image_admin.tag(f"{HOST}/other", str(APP))
        self.settle()
        self.successResultOf(tagging)
        self.assert_kept()

    def test_other_names(self) -> None:
        """
        Other names do not matter, in any number.
        """
        for n in range(300):
            self.registry.add(self.new, f"other{n}", "latest")
            self.pulled(f"other{n}")
        self.release()
        self.assert_named(self.old)
        self.assertEqual(self.jobs._naming._given, {})
        self.assertEqual(self.jobs._naming._open, {})

    def test_bounded(self) -> None:
        """
        Only names are remembered for which an open pull may be too old.
        """
        naming = self.jobs._naming
        oldest = next(iter(naming._open))
        naming._given = {Reference.parse(f"r.example/n{n}"): oldest - 1 for n in range(200)}
        self.pulled()
        self.assertEqual(list(naming._given), [APP])

    def test_cancelled(self) -> None:
        """
        A pull that is cancelled gives no name.
        """
        self.jobs.cancel(self.slow)
        self.settle()
        self.assertFalse(self.has_image())
        self.assertEqual(self.jobs._naming._open, {})
