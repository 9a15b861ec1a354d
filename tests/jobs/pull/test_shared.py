"""
Tests for L{xferd.jobs.pull}: many clients, and slots.
"""

from __future__ import annotations

from tests.jobs.case import HOST, JobsCase, every
from tests.jobs.pull.case import blob_of
from xferd.errors import StoreError
from xferd.testing.images import sample_image


class SharingTests(JobsCase):
    """
    Many clients, one image.
    """

    def test_fifty(self) -> None:
        """
        Fifty pulls of one image ask for each thing once.
        """
        image = self.add(sample_image(4))
        jobs = [self.pull(client=f"client-{n}") for n in range(50)]
        self.settle()
        every(self.assert_done, jobs)
        for blob in image.blobs:
            self.assertEqual(self.gets(blob.digest) + self.registry.count("document", blob.digest), 1)
        self.assertEqual(self.registry.count("manifest", "latest"), 1)
        status = self.jobs.status()
        layers = sum(layer.blob.descriptor.size for layer in image.layers)
        self.assertEqual(status["bytes_fetched"], layers)
        self.assertEqual(status["bytes_delivered"], 50 * layers)
        self.assertEqual(status["hosts"], {HOST: {"bytes": layers, "sent": 0}})
        self.assert_idle()

    def test_all_but_one_leave(self) -> None:
        """
        Forty-nine of fifty are cancelled, the first among them: the pull
        continues for the last.
        """
        image = self.add(sample_image(2))
        self.registry.stall(blob_of(image, 0))
        jobs = [self.pull(client=f"client-{n}") for n in range(50)]
        self.settle()
        self.assertEqual(self.transfer("download", blob_of(image, 0))["watchers"], 50)
        for job_id in jobs[:-1]:
            self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.transfer("download", blob_of(image, 0))["jobs"], [jobs[-1]])
        self.registry.finish(blob_of(image, 0))
        self.settle()
        self.assert_done(jobs[-1])
        self.assertEqual(self.job(jobs[0])["state"], "cancelled")
        self.assertEqual(self.gets(blob_of(image, 0)), 1)

    def test_all_leave(self) -> None:
        """
        All leave: the connection is dropped at once, the slot is free, and the
        bytes stay for the next try.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = blob_of(image, 0)
        self.registry.stall(blob)
        jobs = [self.pull(client=f"client-{n}") for n in range(5)]
        self.settle()
        self.registry.feed(blob, 30_000)
        self.settle()
        for job_id in jobs:
            self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.registry.open_bodies(), [])
        self.assert_idle()
        self.assertFalse(self.has_image())
        self.assertEqual(len(self.store.blobs.partials[blob]), 30_000)
        self.registry.finish(blob)
        self.pulled()
        self.assertEqual([r.offset for r in self.registry.requests if r.kind == "blob"], [0, 30_000])

    def test_late_joiner(self) -> None:
        """
        A late client shares the bytes that are still to come, and sees those
        that are here.
        """
        image = self.add(sample_image(1, size=100_000))
        self.registry.stall(blob_of(image, 0))
        first = self.pull()
        self.settle()
        self.registry.feed(blob_of(image, 0), 30_000)
        self.settle()
        second = self.pull(client="late")
        self.settle()
        self.assertEqual(self.job(second)["layers"][0]["bytes_done"], 30_000)
        self.jobs.cancel(first)
        self.registry.finish(blob_of(image, 0))
        self.settle()
        self.assert_done(second)
        self.assertEqual(self.gets(blob_of(image, 0)), 1)

    def test_again_at_once(self) -> None:
        """
        A client that cancels and pulls again at once gets a new pull, which
        resumes where the first one ended.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = blob_of(image, 0)
        self.registry.stall(blob)
        first = self.pull()
        self.settle()
        self.registry.feed(blob, 20_000)
        self.jobs.cancel(first)
        second = self.pull()
        self.settle()
        self.registry.finish(blob)
        self.settle()
        self.assert_done(second)
        self.assertEqual([r.offset for r in self.registry.requests if r.kind == "blob"], [0, 20_000])
        self.assert_idle()


class SlotsTests(JobsCase):
    """
    The number of blobs that move at once.
    """

    downloads = 1

    def test_order(self) -> None:
        """
        With one slot the layers come bottom first, the older job's before.
        """
        one, two = self.add(sample_image(2, seed=1), "one"), self.add(sample_image(2, seed=2), "two")
        jobs = [self.pull("one"), self.pull("two")]
        self.settle()
        every(self.assert_done, jobs)
        asked = [r.wanted for r in self.registry.requests if r.kind == "blob"]
        self.assertEqual(asked, [str(blob_of(i, n)) for i in (one, two) for n in (0, 1)])

    def test_no_length(self) -> None:
        """
        Where a response without a length is cut off, the pull resumes there:
        the manifest names the size.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = blob_of(image, 0)
        self.registry.stall(blob)
        job_id = self.pull()
        self.settle()
        self.registry.feed(blob, 30_000)
        self.registry.cut(blob)
        self.registry.finish(blob)
        self.wait(3)
        self.assert_done(job_id)
        offsets = [r.offset for r in self.registry.requests if r.wanted == str(blob)]
        self.assertEqual(offsets, [0, 30_000])
        self.assert_idle()

    def test_cancelled_while_naming(self) -> None:
        """
        Once the name is being written, the job is not cancelled any more: it
        is done, and its image has the name.
        """
        self.add(sample_image(1))
        self.store.gate.hold("images.put")
        job_id = self.pull()
        self.settle()
        self.assertEqual(self.jobs.cancel(job_id)["state"], "running")
        self.settle()
        self.store.gate.release("images.put")
        self.settle()
        self.assert_done(job_id)
        self.assertTrue(self.has_image())
        self.assert_idle()

    def test_cancelled_while_naming_fails(self) -> None:
        """
        Cancelled while the name is written, and the disk refuses: the job is
        cancelled, and nothing is named.
        """
        self.add(sample_image(1))
        self.store.gate.hold("images.put")
        self.store.gate.fail("images.put", StoreError("the disk is read-only"))
        job_id = self.pull()
        self.settle()
        self.jobs.cancel(job_id)
        self.store.gate.release("images.put")
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        self.assertFalse(self.has_image())

    def test_queued_is_cancelled(self) -> None:
        """
        A job whose layers wait for a slot ends at once when it is cancelled,
        and requests none of them.
        """
        one, two = self.add(sample_image(1, seed=1), "one"), self.add(sample_image(1, seed=2), "two")
        self.registry.stall(blob_of(one, 0))
        first, second = self.pull("one"), self.pull("two")
        self.settle()
        self.assertEqual(self.job(second)["layers"][0]["state"], "waiting")
        self.assertEqual(self.jobs.status()["slots"]["download"]["queued"], 1)
        self.assertEqual(self.jobs.cancel(second)["state"], "cancelled")
        self.settle()
        self.assertEqual(self.gets(blob_of(two, 0)), 0)
        self.registry.finish(blob_of(one, 0))
        self.settle()
        self.assert_done(first)
        self.assert_idle()

    def test_slot_is_free_while_unpacking(self) -> None:
        """
        A slot is released when the bytes are on disk, not when they are
        unpacked.
        """
        image = self.add(sample_image(2))
        self.unpacker.gate.hold("unpack")
        job_id = self.pull()
        self.settle()
        self.assertEqual([self.gets(blob_of(image, n)) for n in (0, 1)], [1, 1])
        self.assertEqual(self.jobs.status()["slots"]["download"]["in_use"], 0)
        self.unpacker.gate.release("unpack")
        self.settle()
        self.assert_done(job_id)
