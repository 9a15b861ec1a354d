"""
Tests of jobs on a disk that is full.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.jobs.archives.samples import layout, tar
from tests.jobs.case import JobsCase
from xferd.errors import Denied, DiskFull
from xferd.jobs.disk_space.full_disk import retry_while_full
from xferd.store.disk.free_space import LEAST, PATIENCE, FreeSpace
from xferd.testing.images import sample_image

FULL = "the disk of {path} is full; transfers continue when space is free again"


class OutlastTests(SynchronousTestCase):
    """
    Work that needs disk space.
    """

    def setUp(self) -> None:
        """
        Have a disk that is full.
        """
        self.clock = Clock()
        self.free = 0
        self.calls = 0
        self.error: Exception | None = DiskFull("no space is left")
        room = FreeSpace("/data", self.clock, free=lambda: self.free)
        self.working = Deferred.fromCoroutine(retry_while_full(room, self.work))

    async def work(self) -> int:
        """
        Fail, or count the calls.
        """
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.calls

    def test_again(self) -> None:
        """
        The work is repeated when space is free, and not before.
        """
        self.clock.pump([1] * 5)
        self.assertEqual(self.calls, 1)
        self.free, self.error = LEAST, None
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(self.working), 2)

    def test_ten_minutes(self) -> None:
        """
        The ten minutes of a work that fails again and again are ten in all.
        """
        self.free = LEAST
        self.clock.pump([1] * int(PATIENCE - 1))
        self.assertNoResult(self.working)
        self.assertLess(self.calls, 100)
        self.clock.pump([1] * 40)
        self.assertEqual(str(self.failureResultOf(self.working, DiskFull).value), "no space is left")

    def test_other_errors(self) -> None:
        """
        Another error is its result.
        """
        self.free, self.error = LEAST, Denied("no")
        self.clock.advance(1)
        self.failureResultOf(self.working, Denied)

    def test_cancel(self) -> None:
        """
        The wait can be cancelled.
        """
        self.working.cancel()
        self.failureResultOf(self.working, CancelledError)
        self.clock.pump([1] * 5)
        self.assertEqual(self.calls, 1)


class FullDiskTests(JobsCase):
    """
    Jobs that find the disk full.
    """

    def whys(self, state: str) -> set[str]:
        """
        The reasons of transfers in a state.
        """
        return {t["why"] for t in self.jobs.transfers() if t["state"] == state}

    def pull_until(self, size: int) -> str:
        """
        Begin to pull, and have the disk full after so many bytes of layers.
        """
        self.registry.gate.hold("open")
        job_id = self.pull()
        self.settle()
        self.store.blobs.free = size
        self.registry.gate.release("open")
        return job_id

    def test_pause(self) -> None:
        """
        Downloads wait in the queue with the reason, without a slot, and resume
        when space is free; those that have not begun make no request
        meanwhile.
        """
        image = self.add(sample_image(5, size=100_000))
        job_id = self.pull_until(150_000)
        self.wait(2)
        queued = [t for t in self.jobs.transfers() if t["kind"] == "download" and t["state"] != "done"]
        self.assertGreater(len(queued), 2)
        self.assertEqual({(t["state"], t["why"]) for t in queued}, {("queued", self.full)})
        self.assertEqual(self.jobs.status()["slots"]["download"]["in_use"], 0)
        layers = self.job(job_id)["layers"]
        self.assertIn(self.full, {layer["why"] for layer in layers})
        asked = self.registry.gate.count("open")
        self.wait(30)
        self.assertEqual(self.registry.gate.count("open"), asked)
        self.store.blobs.free = LEAST
        self.wait(3)
        self.assert_done(job_id)
        self.assertLessEqual(max(self.gets(layer.blob.digest) for layer in image.layers), 2)
        self.assert_idle()

    @property
    def full(self) -> str:
        """
        The reason while the disk is full.
        """
        return FULL.format(path=self.store.path)

    def test_small_blobs(self) -> None:
        """
        Small blobs, which have slots of their own, wait likewise.
        """
        self.small_blob = 1 << 20
        self.jobs = self.make_jobs()
        self.start()
        image = self.add(sample_image(12, size=20_000))
        job_id = self.pull_until(50_000)
        self.wait(2)
        queued = [t for t in self.jobs.transfers() if t["kind"] == "download" and t["state"] != "done"]
        self.assertEqual({(t["state"], t["why"]) for t in queued}, {("queued", self.full)})
        self.assertLess(sum(self.gets(layer.blob.digest) for layer in image.layers), 10)
        self.store.blobs.free = LEAST
        self.wait(3)
        self.assert_done(job_id)

    def test_ten_minutes(self) -> None:
        """
        After ten minutes all fail, and a later job at once; when space is
        free, jobs continue with the fetched bytes.
        """
        image = self.add(sample_image(5, size=100_000))
        job_id = self.pull_until(150_000)
        self.clock.pump([1] * int(PATIENCE - 5))
        self.assertEqual(self.job(job_id)["state"], "running")
        self.clock.pump([1] * 10)
        self.settle()
        self.assertEqual(self.assert_failed(job_id, "DISK_FULL"), "no space is left")
        self.assert_idle()
        again = self.pull()
        self.settle()
        self.assert_failed(again, "DISK_FULL")
        self.store.blobs.free = 1 << 30
        self.wait(2)
        last = self.pull()
        self.wait(2)
        self.assert_done(last)
        del image

    def test_cancel(self) -> None:
        """
        A job that waits for space is cancelled at once.
        """
        self.add(sample_image(2, size=100_000))
        job_id = self.pull_until(50_000)
        self.wait(2)
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        self.assert_idle()

    def test_no_progress(self) -> None:
        """
        Where writing fails although space seems to be free, as with a quota of
        the file system, it ends after ten minutes, too, without many requests
        to the registry.
        """
        image = self.add(sample_image(1))
        blob = image.layers[0].blob.digest
        self.store.gate.fail("partial.write", DiskFull("no space is left"), key=blob, times=10_000)
        job_id = self.pull()
        self.clock.pump([0.5] * int(PATIENCE * 2 + 80))
        self.settle()
        self.assert_failed(job_id, "DISK_FULL")
        self.assertLess(self.gets(blob), 60)

    def test_unpacking(self) -> None:
        """
        An unpacking that finds the disk full discards its tree at once, and
        starts over when space is free.
        """
        image = self.add(sample_image(1, size=50_000))
        self.store.gate.fail("trees.stage", DiskFull("no space is left"))
        self.store.blobs.free = LEAST // 2
        job_id = self.pull()
        self.wait(2)
        self.assertEqual(self.whys("waiting") - {"waiting for its bytes to be unpacked"}, {self.full})
        self.store.blobs.free = LEAST
        self.wait(3)
        self.assert_done(job_id)
        del image

    def test_everything_else(self) -> None:
        """
        Manifests, configs, records of layers and names wait likewise.
        """
        for what in ("blobs.put", "layers.register", "images.put", "blobs.partial", "trees.commit"):
            self.add(sample_image(1, seed=what), what)
            self.store.gate.fail(what, DiskFull("no space is left"))
            job_id = self.pull(what)
            self.wait(4)
            self.assert_done(job_id)
        # A tree whose commit failed is gone, and its size is known.
        self.assertEqual(self.store.gate.count("trees.weigh"), 0)

    def archive(self, compression: str = "gzip") -> tuple[str, bytes]:
        """
        Begin an import; returns its job and the archive.
        """
        data = tar(layout({"a:1": sample_image(2, size=100_000, compression=compression)}))
        return str(self.jobs.import_archive(None, None, len(data), "ci", 0)["id"]), data

    def test_import(self) -> None:
        """
        An import accepts no more of its archive until there is space, and loses
        no byte of it.
        """
        job_id, data = self.archive()
        self.store.blobs.free = 70_000
        offset = waits = 0
        while offset < len(data):
            piece = data[offset : offset + 30_000]
            putting = self.jobs.upload_stream(job_id).put(offset, piece)
            self.settle()
            if not putting.called:
                waits += 1
                self.wait(30)
                self.assertNoResult(putting)
                self.store.blobs.free = LEAST
                self.wait(1.5)
            offset = self.successResultOf(putting)
        self.assertEqual(waits, 1)
        self.end_archive(job_id, len(data))
        self.wait(1.5)
        self.assertEqual((self.job(job_id)["state"], self.job(job_id)["error"]), ("done", None))
        self.assert_idle()

    def test_import_in_vain(self) -> None:
        """
        After ten minutes an import fails.
        """
        job_id, data = self.archive()
        self.store.blobs.free = 20_000
        putting = self.jobs.upload_stream(job_id).put(0, data[:150_000])
        self.clock.pump([1] * int(PATIENCE + 5))
        self.settle()
        self.assert_failed(job_id, "DISK_FULL")
        self.failureResultOf(putting)
