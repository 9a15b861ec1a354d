"""
Tests for L{xferd.jobs.blobs.ranged_download}: wrong responses, and the streams of a
job.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from tests.jobs.blobs.ranged_case import DATA, DIGEST, HOST, POLICY, RATE, LateRegistry, RangedDownloadCase
from tests.jobs.case import JobsCase
from xferd.errors import (
    DigestMismatch,
    RegistryError,
    SizeMismatch,
    Truncated,
)
from xferd.jobs.blobs.ranged_download import held
from xferd.jobs.manager import Jobs
from xferd.testing.images import sample_image
from xferd.transfer.retry import RetryPolicy


class WrongTests(RangedDownloadCase):
    """
    Registries that send wrong responses.
    """

    def test_too_early(self) -> None:
        """
        Bytes from a later offset than requested are refused.
        """
        self.running.cancel()
        self.failureResultOf(self.running, CancelledError)
        registry = LateRegistry(HOST, self.clock)
        registry.put_blob("app", DIGEST, DATA)
        self.registry = registry
        self.running = self.run_streams()
        self.failureResultOf(self.running, RegistryError)
        self.assert_over()

    def test_other_size(self) -> None:
        """
        A blob that has another size than was promised is refused.
        """
        self.running.cancel()
        self.failureResultOf(self.running, CancelledError)
        self.registry.put_blob("app", DIGEST, DATA + b"!")
        self.running = self.run_streams()
        self.failureResultOf(self.running, SizeMismatch)
        self.assert_over()

    def test_part_of_another_size(self) -> None:
        """
        A further stream of a blob with another size is closed, and the first
        one continues.
        """
        self.registry.corrupt(DIGEST, DATA + b"!")
        self.flow(120)
        self.assert_whole()
        self.assertEqual([body.sent > 0 for body in self.registry.bodies], [True, False])

    def test_ends_early(self) -> None:
        """
        A response that ends early was cut off, with or without a length, and
        with or without bytes behind it: the size is known.
        """
        body = self.registry.bodies[0]
        body.feed(100)
        body.cut()
        self.settle()
        self.failureResultOf(self.running, Truncated)
        self.assertEqual(self.partial.offset, 100)
        self.partial.write_at(200, DATA[200:300])
        self.running = self.run_streams()
        body = self.registry.open_bodies()[0]
        body._rest = body._rest[:50]
        body.finish()
        self.settle()
        self.failureResultOf(self.running, Truncated)
        self.assert_over()

    def test_wrong_bytes(self) -> None:
        """
        Parts that together are not the blob are all discarded.
        """
        self.registry.corrupt(DIGEST, DATA[::-1])
        self.flow(60)
        self.successResultOf(self.running)
        committing = self.partial.commit()
        self.settle()
        self.failureResultOf(committing, DigestMismatch)
        self.assertEqual(held(self.partial), 0)
        self.assert_over()


class JobTests(JobsCase):
    """
    Pulls of one large layer.
    """

    def make_jobs(self) -> Jobs:
        """
        Jobs that find a small blob large.
        """
        jobs = Jobs(
            self.store,
            self.registries,
            self.unpacker,
            clock=self.clock,
            wall_clock=self.wall_clock,
            ranges=POLICY,
            retry=RetryPolicy(attempts=3, jitter=0.0),
            small_blob=self.small_blob,
        )
        self.addCleanup(self.stop, jobs)
        return jobs

    def setUp(self) -> None:
        """
        Begin to pull, with as many streams as slots.
        """
        super().setUp()
        self.image = self.add(sample_image(1, size=200_000))
        self.blob = self.image.layers[0].blob.digest
        self.size = self.image.layers[0].blob.descriptor.size
        self.registry.stall(self.blob)
        self.job_id = self.pull()
        self.settle()
        self.flow(8)

    def flow(self, seconds: float) -> None:
        """
        Let each stream receive some bytes.
        """
        for _ in range(int(seconds * 4)):
            for body in self.registry.open_bodies():
                if not body.ended:
                    body.feed(RATE // 4)
            self.clock.advance(0.25)
            self.settle()

    def test_pulled(self) -> None:
        """
        The transfer shows its streams, and counts the bytes at all offsets;
        the image is complete in the end.
        """
        transfer = self.transfer("download", self.blob)
        self.assertEqual((transfer["streams"], transfer["state"]), (3, "running"))
        self.assertEqual(self.jobs.status()["slots"]["download"]["in_use"], 3)
        self.assertEqual(transfer["bytes_done"], sum(b.sent for b in self.registry.bodies))
        self.flow(40)
        self.assert_done(self.job_id)
        self.assertLess(sum(b.sent for b in self.registry.bodies), self.size * 1.02)
        self.assert_idle()

    def test_cancelled(self) -> None:
        """
        A cancelled job leaves no stream, and its bytes are used by the next.
        """
        self.jobs.cancel(self.job_id)
        self.settle()
        self.assert_idle()
        self.job_id = self.pull()
        self.settle()
        self.flow(40)
        self.assert_done(self.job_id)
        self.assertLess(sum(b.sent for b in self.registry.bodies), self.size * 1.02)

    def test_other_job(self) -> None:
        """
        Another job's layers go before further streams.
        """
        other = self.add(sample_image(1, seed="other"), "other")
        self.pulled("other")
        self.assertEqual(self.gets(other.layers[0].blob.digest), 1)
        self.assertEqual(self.transfer("download", self.blob)["streams"], 2)

    def test_broken(self) -> None:
        """
        When all streams break, the next attempt fetches what is missing.
        """
        self.registry.fail(self.blob)
        self.wait(2)
        self.flow(40)
        self.assert_done(self.job_id)
        self.assertLess(sum(b.sent for b in self.registry.bodies), self.size * 1.02)
        self.assert_idle()

    def test_wrong_bytes(self) -> None:
        """
        Wrong bytes in one part make all of the blob be fetched once more.
        """
        self.registry.fail(self.blob)
        self.registry.corrupt(self.blob, b"\0" * self.size)
        self.registry.finish(self.blob)
        self.wait(10)
        self.assert_done(self.job_id)
        self.assert_idle()
