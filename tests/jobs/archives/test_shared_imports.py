"""
Tests for L{xferd.jobs.archives.importing}: clients that disconnect, and jobs that
need the same blobs.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.jobs.archives.import_case import PIECE, ImportCase
from tests.jobs.archives.samples import docker_save, layout, tar
from tests.jobs.case import HOST
from xferd.archive.contents import FULL_NAME
from xferd.errors import BadInput, Denied
from xferd.jobs.upload_stream import SILENCE
from xferd.testing.images import SampleImage, image_of, sample_image, sample_layer


class LeavingTests(ImportCase):
    """
    Clients that leave, and others that want the same.
    """

    def setUp(self) -> None:
        """
        Make an archive of which a good part is one blob.
        """
        super().setUp()
        self.sample: SampleImage = sample_image(1, size=200_000)
        self.blob = self.sample.layers[0].blob.digest
        self.data = tar(layout({"a:1": self.sample}, key=FULL_NAME))

    def test_cancelled_before_a_byte(self) -> None:
        """
        An import that is cancelled before the first byte leaves nothing.
        """
        job_id = self.begin()
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        self.assertRaises(BadInput, self.jobs.upload_stream, job_id)
        self.assert_idle()

    def test_cancelled_in_the_middle(self) -> None:
        """
        An import that is cancelled in the middle of a blob releases the blob.
        """
        job_id = self.begin()
        self.give(job_id, self.data[:100_000])
        self.assertEqual(self.job(job_id)["archive"], {"received": 100_000, "size": None})
        stream = self.jobs.upload_stream(job_id)
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        failed: Deferred[int] = stream.put(100_000, b"x")
        self.failureResultOf(failed, BadInput)
        self.assert_idle()
        self.imported(self.data)

    def test_progress(self) -> None:
        """
        The job's events show how much of the archive was received.
        """
        job_id = self.begin(size=len(self.data))
        stream = self.jobs.events(job_id)
        seen = []
        for at in range(0, 100_000, PIECE):
            self.give(job_id, self.data[at : at + PIECE], at)
            self.clock.advance(1)
            news = self.successResultOf(stream.get())
            seen += [event.data["archive"]["received"] for event in news if event.kind == "job"]
        self.assertEqual(seen, list(range(PIECE, 100_000 + 1, PIECE)))
        stream.close()
        self.jobs.cancel(job_id)

    def test_silence(self) -> None:
        """
        An import fails when its client stays silent.
        """
        job_id = self.begin()
        self.give(job_id, self.data[:100_000])
        self.clock.advance(SILENCE)
        self.settle()
        self.assertIn("sent nothing", self.assert_failed(job_id, "TIMED_OUT"))
        self.assert_idle()

    def test_stopped(self) -> None:
        """
        A daemon that stops ends its imports.
        """
        job_id = self.begin()
        self.give(job_id, self.data[:100_000])
        self.stop(self.jobs)
        self.assert_failed(job_id, "INTERRUPTED")

    def test_collection(self) -> None:
        """
        A collection during an import deletes none of its blobs, with or without
        their digests.
        """
        layer = sample_layer(compression="tar", seed="large", size=5_000_000)
        one, two = image_of([layer]), sample_image(2, seed="two")
        for data in (tar(docker_save({"a:1": one})), tar(layout({"a:1": two}))):
            job_id = self.begin()
            stream = self.jobs.upload_stream(job_id)
            half = len(data) - 3000
            for offset, piece in ((0, data[:half]), (half, data[half:])):
                sent = stream.put(offset, piece)
                self.settle()
                self.successResultOf(sent)
                collecting = self.jobs.image_admin.collect(False)
                self.settle()
                self.successResultOf(collecting)
            self.end_archive(job_id, len(data))
            self.settle()
            self.assert_done(job_id)

    def test_pull_joins(self) -> None:
        """
        A pull of a blob that is just being imported joins in.
        """
        self.add(self.sample)
        job_id = self.begin("b:1")
        self.give(job_id, self.data[:100_000])
        pull = self.pull()
        self.settle()
        self.give(job_id, self.data[100_000:], 100_000)
        self.assert_done(pull)
        self.assertEqual(self.gets(self.blob), 0)
        self.jobs.cancel(job_id)
        self.assert_idle()

    def test_pull_goes_on(self) -> None:
        """
        A pull that has joined an import continues where the import was
        cancelled.
        """
        self.add(self.sample)
        job_id = self.begin("b:1")
        self.give(job_id, self.data[:100_000])
        pull = self.pull()
        self.settle()
        self.jobs.cancel(job_id)
        self.settle()
        self.assert_done(pull)
        (request,) = [r for r in self.registry.requests if r.wanted == str(self.blob)]
        self.assertGreater(request.offset, 0)
        self.assert_idle()

    def test_joins_a_download(self) -> None:
        """
        An import of a blob that is being downloaded waits for the download,
        and supplies the bytes itself when it fails.
        """
        self.add(self.sample)
        self.registry.stall(self.blob)
        pull = self.pull()
        self.settle()
        job_id = self.begin("b:1", size=len(self.data))
        sending = self.jobs.upload_stream(job_id).put(0, self.data)
        self.settle()
        self.assertNoResult(sending)
        self.assertEqual(self.transfer("download", self.blob)["watchers"], 2)
        self.registry.fail(self.blob, Denied("not any more", host=HOST))
        self.settle()
        self.assertEqual(self.successResultOf(sending), len(self.data))
        self.end_archive(job_id, len(self.data))
        self.settle()
        self.assert_done(job_id)
        self.assert_done(pull)
        self.assert_idle()

    def test_download_ends_first(self) -> None:
        """
        Where the download succeeds, the bytes in the archive are skipped.
        """
        self.add(self.sample)
        self.registry.stall(self.blob)
        self.pull()
        self.settle()
        job_id = self.begin("b:1", size=len(self.data))
        sending = self.jobs.upload_stream(job_id).put(0, self.data)
        self.settle()
        self.registry.finish(self.blob)
        self.settle()
        self.successResultOf(sending)
        self.end_archive(job_id, len(self.data))
        self.settle()
        self.assert_done(job_id)
        self.assert_idle()
