"""
Tests for L{xferd.jobs.images.whole_images}, alone and in pulls.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.jobs.case import HOST, JobsCase
from xferd.errors import DiskFull
from xferd.image_config import ImageConfig
from xferd.interfaces.jobs import Event, IEventStream
from xferd.jobs.blobs.layers import Stack
from xferd.jobs.images import whole_images
from xferd.jobs.images.resolve import Resolved
from xferd.jobs.images.whole_images import FRESH, WholeImages
from xferd.names import Reference
from xferd.oci import Manifest, parse_document
from xferd.store.disk.free_space import LEAST
from xferd.testing.images import SampleImage, sample_image

APP = Reference.parse(f"{HOST}/app")


def resolved(image: SampleImage) -> Resolved:
    """
    An image, as its registry resolves it.
    """
    manifest = parse_document(image.manifest)
    assert isinstance(manifest, Manifest)
    return Resolved(image.digest, image.manifest.descriptor, manifest, chosen=False)


class WholeImagesTests(JobsCase):
    """
    L{WholeImages}, of an image of two layers that was pulled and noted.
    """

    def setUp(self) -> None:
        """
        Pull and note it.
        """
        super().setUp()
        self.image = self.add(sample_image(2))
        self.pulled()
        self.whole = WholeImages(self.store, self.jobs._transfers.layers, self.clock)
        self.note(self.image)

    def note(self, image: SampleImage) -> None:
        """
        Note that an image is whole.
        """
        config = ImageConfig(tuple(image.diff_ids), None)
        stacks = Stack.of(resolved(image).manifest.layers, config.diff_ids)
        self.whole.note(resolved(image), config, stacks)

    def found(self, since: int) -> bool:
        """
        Whether the image is found by a job that has its lease since a check.
        """
        return self.whole.find(resolved(self.image), since) is not None

    def test_found(self) -> None:
        """
        An image is found with its config and layers; another one is not.
        """
        found = self.whole.find(resolved(self.image), self.whole.now())
        assert found is not None
        self.assertEqual(list(found.config.diff_ids), list(self.image.diff_ids))
        self.assertEqual([stack.chain_id for stack in found.stacks], list(self.image.chain_ids))
        self.assertIsNone(self.whole.find(resolved(sample_image(2, seed="other")), 0))

    def test_incomplete(self) -> None:
        """
        An image is found only while all of its layers and its config are here, and no tree
        is outdated or damaged.
        """
        digest, trees = self.image.diff_ids[1], self.store.trees
        lost = self.store.blobs.contents.pop(self.image.config.digest)
        self.assertFalse(self.found(self.whole.now()))
        self.store.blobs.contents[self.image.config.digest] = lost
        for outdated in (trees.outdated, trees.damaged):
            outdated.add(digest)
            self.assertFalse(self.found(self.whole.now()))
            outdated.clear()
        self.assertTrue(self.found(self.whole.now()))
        tree = trees.unpacked.pop(digest)
        self.assertFalse(self.found(self.whole.now()))
        trees.unpacked[digest] = tree
        del self.store.layers.registered[self.image.chain_ids[1]]
        self.assertFalse(self.found(self.whole.now()))

    def test_checked_once(self) -> None:
        """
        A check counts for the jobs that held their leases before it, for a second; others
        check again.
        """
        early = self.whole.now()
        self.assertTrue(self.found(early))
        late = self.whole.now()
        self.store.trees.damaged.add(self.image.diff_ids[0])
        self.assertTrue(self.found(early))
        self.assertFalse(self.found(late))
        self.clock.advance(FRESH)
        self.assertFalse(self.found(early))

    def test_removed_after_check(self) -> None:
        """
        A check does not count for an image that has lost a layer since: a verification removes
        layers, with those above, in spite of leases.
        """
        early = self.whole.now()
        self.assertTrue(self.found(early))
        del self.store.layers.registered[self.image.chain_ids[1]]
        self.assertFalse(self.found(early))

    def test_leases(self) -> None:
        """
        The check keeps all parts for every lease that is held.
        """
        end = self.store.gc.lease()
        self.addCleanup(end)
        self.assertTrue(self.found(self.whole.now()))
        (touched,) = self.store.gc._leases.open
        parts = {self.image.config.digest, *self.image.diff_ids, *self.image.chain_ids}
        self.assertLessEqual(parts | {layer.blob.digest for layer in self.image.layers}, touched)

    def test_bound(self) -> None:
        """
        The image that was noted first is forgotten when there are too many.
        """
        self.patch(whole_images, "MOST", 2)
        self.note(sample_image(1, seed="second"))
        self.note(self.image)
        self.note(sample_image(1, seed="third"))
        self.assertTrue(self.found(self.whole.now()))
        self.note(sample_image(1, seed="fourth"))
        self.assertFalse(self.found(self.whole.now()))


class PullTests(JobsCase):
    """
    Pulls of an image that is here.
    """

    def setUp(self) -> None:
        """
        Pull it.
        """
        super().setUp()
        self.image = self.add(sample_image(2))
        self.pulled()

    def read(self, stream: IEventStream) -> list[Event]:
        """
        The events that a stream has.
        """
        getting: Deferred[list[Event]] = stream.get()
        self.wait(0.5)
        if not getting.called:
            getting.cancel()
            self.failureResultOf(getting, CancelledError)
            return []
        return self.successResultOf(getting)

    def test_events(self) -> None:
        """
        A client gets the beginning of the job, then each layer once, and its end.
        """
        job_id = self.pull()
        stream = self.jobs.events(job_id)
        first = self.read(stream)
        self.assertEqual([(e.kind, e.data["state"], e.final) for e in first], [("job", "running", False)])
        last = self.read(stream)
        self.assertEqual(
            [(e.kind, e.data["state"], e.final) for e in last],
            [("layer", "exists", True)] * 2 + [("job", "done", True)],
        )
        self.assertEqual(
            [e.data["diff_id"] for e in last[:2]], [str(diff_id) for diff_id in self.image.diff_ids]
        )

    def test_full_disk(self) -> None:
        """
        The layers are shown while the name waits for free space.
        """
        self.store.gate.hold("images.put")
        self.store.gate.fail("images.put", DiskFull("no space is left"))
        job_id = self.pull()
        stream = self.jobs.events(job_id)
        self.settle()
        self.store.blobs.free = 0
        self.store.gate.release("images.put")
        shown = self.read(stream) + self.read(stream)
        self.assertEqual([e.data["state"] for e in shown if e.kind == "layer"], ["exists"] * 2)
        self.assertIn("disk", [(e.data["reason"] or {}).get("what") for e in shown if e.kind == "job"])
        self.store.blobs.free = LEAST
        self.wait(3)
        self.assert_done(job_id)

    def test_platform(self) -> None:
        """
        An image for another platform is refused also where it is here.
        """
        job_id = self.pull(platform="linux/s390x")
        self.settle()
        self.assert_failed(job_id, "PLATFORM_UNKNOWN")

    def test_removed_meanwhile(self) -> None:
        """
        Two jobs rely on one check.  When the first has ended, its image loses the name and
        garbage is collected; what the second names is whole.
        """
        one, two = (Reference.parse(f"{HOST}/app:{tag}") for tag in ("one", "two"))
        for name in (one, two):
            self.add(self.image, tag=str(name.tag))
        self.registry.gate.hold("manifest")
        first, second = self.pull("app:one"), self.pull("app:two")
        self.settle()
        self.store.gate.hold("images.put", two)
        self.registry.gate.release("manifest")
        self.settle()
        self.assert_done(first)
        self.assertEqual(self.job(second)["state"], "running")
        for name in (one, APP):
            self.advanced(self.store.images.remove(name))
        self.advanced(self.store.gc.collect(False))
        self.store.gate.release("images.put", two)
        self.settle()
        self.assert_done(second)
        self.assertEqual([image.reference for image in self.store.images.all()], [two])
        for digest in (self.image.digest, self.image.config.digest):
            self.assertTrue(self.store.blobs.has(digest))
        for chain_id, diff_id in zip(self.image.chain_ids, self.image.diff_ids, strict=True):
            self.assertIsNotNone(self.store.layers.get(chain_id))
            self.assertTrue(self.store.trees.has(diff_id))
        self.assert_idle()

    def advanced(self, d: Deferred[Any]) -> None:
        """
        Let a change of the store end.
        """
        self.settle()
        self.successResultOf(d)
