"""
Tests for L{xferd.jobs.steering}: pulls, pushes and copies that are paused, over restarts too,
and retries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from tests.jobs.archives.import_case import ImportCase
from tests.jobs.archives.samples import docker_save, tar
from tests.jobs.case import HOST, OTHER, JobsCase
from tests.jobs.test_restarts import ANN, RestartsCase
from xferd.errors import BadInput, JobEnded, NotFound
from xferd.names import Digest
from xferd.testing.images import SampleImage, sample_image

BY = "bob (laptop)"


class SteeringCase(RestartsCase):
    """
    Jobs that are steered.
    """

    def change(self, job_id: str, **changes: Any) -> None:
        """
        Change a job.
        """
        self.jobs.steering.change(job_id, by=BY, **changes)
        self.settle()

    def pause(self, name: str, *, keep: bool = False) -> None:
        """
        Pause everything, a direction or a host.
        """
        paused = self.jobs.steering.pause(name, keep=keep, by=BY)
        self.settle()
        self.successResultOf(paused)

    def resume(self, name: str) -> None:
        """
        End a pause.
        """
        resumed = self.jobs.steering.resume(name)
        self.settle()
        self.successResultOf(resumed)

    def drain(self, *, keep: bool = False) -> None:
        """
        Drain the daemon.
        """
        drained = self.jobs.steering.drain(keep=keep, by=BY)
        self.settle()
        self.successResultOf(drained)

    def end_drain(self) -> None:
        """
        End the drain.
        """
        ended = self.jobs.steering.end_drain()
        self.settle()
        self.successResultOf(ended)

    def held(self, *images: SampleImage) -> list[Digest]:
        """
        Have the registry send nothing of the layers of some images.
        """
        blobs = [layer.blob.digest for image in images for layer in image.layers]
        for blob in blobs:
            self.registry.stall(blob)
        return blobs


class PausedJobTests(SteeringCase):
    """
    Jobs that are paused and continue.
    """

    def test_pull(self) -> None:
        """
        A pull that is paused has no request open, says who paused it, continues at the same
        byte, and counts the pause as a wait.
        """
        job_id, blob = self.stalled_pull()
        self.change(job_id, paused=True)
        self.assertEqual(self.registry.open_bodies(), [])
        job = self.job(job_id)
        self.assertEqual((job["state"], job["paused"], job["why"]), ("running", True, f"paused by {BY}"))
        self.assertEqual((job["reason"]["what"], job["reason"]["whom"]), ("paused", BY))
        self.assertEqual(job["layers"][0]["why"], job["why"])
        self.assertEqual(self.jobs.figures().waiting["paused"], 1)
        self.wait(90)
        self.change(job_id, paused=False)
        self.assertEqual(self.offsets(blob), [0, 30_000])
        self.registry.finish(blob)
        self.settle()
        self.assert_done(job_id)
        timing = self.job(job_id)["timing"]
        self.assertAlmostEqual(timing["phases"]["waiting"], 90, 1)
        self.assertEqual((timing["bound"]["by"], timing["bound"]["whom"]), ("paused", BY))
        self.assertIn(f"it was paused by {BY}", timing["bound"]["text"])

    def test_before_anything(self) -> None:
        """
        A pull that is paused at once requests nothing, not even its manifest.
        """
        self.add(sample_image(1))
        self.pause("all")
        job_id = self.pull()
        self.change(job_id, paused=True)
        self.resume("all")
        self.wait(60)
        self.assertEqual(self.registry.requests, [])
        self.change(job_id, paused=False)
        self.assert_done(job_id)
        self.assertEqual(self.job(job_id)["timing"]["phases"]["waiting"], 60)

    def test_one_of_two(self) -> None:
        """
        The pull of a client goes on at its own pace while another one of the same image is
        paused; what it brings is there for both.
        """
        image = self.add(sample_image(2, size=100_000))
        first, second = self.held(image)
        job_id, other = self.pull(), self.pull(client="ann")
        self.settle()
        self.change(job_id, paused=True)
        self.registry.finish(first)
        self.registry.finish(second)
        self.settle()
        self.assert_done(other)
        self.assertEqual((self.gets(first), self.gets(second)), (1, 1))
        # Nothing is left for it to want.
        self.assert_done(job_id)

    def test_unpacking(self) -> None:
        """
        What was fetched is unpacked while a job is paused.
        """
        image = self.add(sample_image(2, size=100_000))
        first, second = self.held(image)
        job_id = self.pull()
        self.settle()
        self.registry.finish(first)
        self.change(job_id, paused=True)
        self.settle()
        self.assertEqual(self.states(job_id)[0], "done")
        self.assertEqual(self.gets(second), 1)

    def test_cancelled(self) -> None:
        """
        A job that is paused is cancelled at once.
        """
        job_id, _ = self.stalled_pull()
        self.change(job_id, paused=True)
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        self.assert_idle()
        self.assertRaises(JobEnded, self.jobs.steering.change, job_id, paused=True, by=BY)

    def test_stopped(self) -> None:
        """
        A job that outlives the daemon stays paused and keeps its priority and its rates; when it
        continues, it does so at the same byte.
        """
        self.check_restarted(self.stopped)

    def test_killed(self) -> None:
        """
        The same after a kill.
        """
        self.check_restarted(self.killed)

    def check_restarted(self, restart: Callable[[], None]) -> None:
        """
        Restart the daemon while a job is paused.
        """
        job_id, blob = self.stalled_pull()
        self.change(job_id, paused=True, priority=7, rates={"download_rate": "5kB/s"})
        restart()
        self.wait(30)
        job = self.job(job_id)
        self.assertEqual((job["paused"], job["priority"], job["why"]), (True, 7, f"paused by {BY}"))
        self.assertEqual((job["download_rate"], job["upload_rate"]), (5000, 0))
        self.assertEqual(self.offsets(blob), [0])
        self.change(job_id, paused=False, rates={"download_rate": 0})
        self.registry.finish(blob)
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.offsets(blob), [0, 30_000])

    def test_changed_at_the_end(self) -> None:
        """
        A job that is changed while the journal writes its end is not begun again by the next
        daemon.
        """
        job_id, blob = self.stalled_pull()
        self.store.gate.hold("journal.job")
        self.registry.finish(blob)
        self.settle()
        self.change(job_id, priority=3)
        self.store.gate.release("journal.job")
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.store.journal.recorded[job_id]["state"], "done")

    def test_stopped_at_once(self) -> None:
        """
        A daemon that stops does not wait for a job that is paused.
        """
        job_id, _ = self.stalled_pull()
        self.change(job_id, paused=True)
        stopping = Deferred.fromCoroutine(self.jobs.stop(60))
        self.settle()
        self.successResultOf(stopping)
        self.assertEqual((self.job(job_id)["state"], self.jobs.unfinished), ("queued", 1))


class PausedPushTests(SteeringCase):
    """
    Pushes and copies that are paused.
    """

    def test_copy(self) -> None:
        """
        A copy whose source is paused waits with its uploads and its downloads, and
        continues.
        """
        image = self.add(sample_image(2, size=200_000))
        blobs = self.held(image)
        job_id = self.copy()
        self.settle()
        self.registry.feed(blobs[0], 50_000)
        self.settle()
        self.change(job_id, paused=True)
        self.assertEqual(self.registry.open_bodies(), [])
        self.assertEqual(self.other.uploads.running(), [])
        self.change(job_id, paused=False)
        for blob in blobs:
            self.registry.finish(blob)
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.offsets(blobs[0]), [0, 50_000])

    def test_shared_copy(self) -> None:
        """
        Of two copies of one image to one repository, the second one goes on alone while the
        first one, which began both uploads and downloads, is paused.
        """
        image = self.add(sample_image(1, size=200_000))
        blobs = self.held(image)
        job_id, other = self.copy(), self.copy(client="ann")
        self.settle()
        self.registry.feed(blobs[0], 50_000)
        self.settle()
        self.change(job_id, paused=True)
        self.registry.finish(blobs[0])
        self.settle()
        self.wait(5)
        self.assert_done(other)
        self.assertLessEqual(sum(offset == 0 for offset in self.offsets(blobs[0])), 1)
        # Nothing is left for it to want.
        self.assert_done(job_id)

    def test_small_blobs(self) -> None:
        """
        A small blob that passes through memory is not requested for a copy that is paused,
        and one that arrives is requested again.
        """
        image = self.add(sample_image(1, size=1000))
        blobs = self.held(image)
        job_id = self.copy()
        self.settle()
        self.assertEqual(len(self.registry.open_bodies()), 1)
        self.change(job_id, paused=True)
        self.assertEqual(self.registry.open_bodies(), [])
        self.wait(30)
        self.assertEqual(self.gets(blobs[0]), 1)
        self.change(job_id, paused=False)
        self.registry.finish(blobs[0])
        self.settle()
        self.wait(5)
        self.assert_done(job_id)


class PausedHostTests(SteeringCase):
    """
    Pauses of hosts, directions and everything.
    """

    def test_host(self) -> None:
        """
        A host that is paused is asked nothing; another one is.
        """
        self.add(sample_image(1))
        self.other.add(sample_image(1, seed="b"), "app")
        self.pause(f"hosts/{HOST}")
        waiting = self.pull()
        done = self.jobs.pull(f"{OTHER}/app", None, "ci", 0)["id"]
        self.settle()
        self.assert_done(done)
        self.assertEqual(self.registry.requests, [])
        self.assertEqual(self.job(waiting)["why"], f"{HOST} is paused by {BY}")
        self.resume(f"hosts/{HOST}")
        self.settle()
        self.assert_done(waiting)

    def test_kept(self) -> None:
        """
        A pause that is kept holds in the next daemon, and until it ends; others end with
        theirs.
        """
        self.pause("downloads")
        self.pause(f"hosts/{HOST}", keep=True)
        self.pause("all", keep=True)
        self.resume("all")
        self.stopped()
        (pause,) = self.jobs.steering.pauses()
        self.assertEqual((pause["what"], pause["host"], pause["by"]), ("host", HOST, BY))
        self.resume(f"hosts/{HOST}")
        self.stopped()
        self.assertEqual(self.jobs.steering.pauses(), [])

    def test_kept_later(self) -> None:
        """
        A pause is kept, or not any more, when it is made again; its author stays.
        """
        self.pause("all")
        for keep in (True, False):
            again = self.jobs.steering.pause("all", keep=keep, by="ann")
            self.settle()
            self.assertEqual(self.successResultOf(again)["by"], BY)
            self.assertEqual(bool(self.store.journal.kept_settings), keep)

    def test_unknown(self) -> None:
        """
        What is not paused cannot continue.
        """
        for name, words in (("downloads", "downloads are not"), (f"hosts/{HOST}", f"{HOST} is not")):
            failed = self.jobs.steering.resume(name)
            self.assertIn(words, str(self.failureResultOf(failed, NotFound).value))


class RetriedTests(SteeringCase):
    """
    Retries of jobs.
    """

    def again(self, job_id: str, client: str = "ann", **how: Any) -> str:
        """
        Retry a job.
        """
        again = self.jobs.steering.retry(job_id, client, **how)
        self.settle()
        return str(self.successResultOf(again)["id"])

    def test_failed(self) -> None:
        """
        A pull that has failed is retried with all of its request, also by the next
        daemon.
        """
        blob = self.add(sample_image(1, size=100_000)).layers[0].blob.digest
        self.registry.stall(blob)
        job_id = self.jobs.pull(f"{HOST}/app", "linux/amd64", "ci", 3)["id"]
        self.settle()
        self.registry.feed(blob, 30_000)
        self.jobs.cancel(job_id)
        self.settle()
        self.stopped()
        again = self.again(job_id)
        self.registry.finish(blob)
        self.settle()
        self.assert_done(again)
        job = self.job(again)
        self.assertEqual((job["retry_of"], job["priority"], job["platform"]), (job_id, 3, "linux/amd64"))
        self.assertEqual(self.offsets(blob), [0, 30_000])
        failed = self.jobs.steering.retry(again, "ann")
        self.assertIn("is done", str(self.failureResultOf(failed, BadInput).value))

    def test_push(self) -> None:
        """
        A push is retried with its further tags.
        """
        self.add(sample_image(1))
        self.pulled()
        job_id = self.jobs.push(f"{HOST}/app", f"{OTHER}/app:1", ["2"], None, "ci", 0)["id"]
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        again = self.again(job_id)
        self.assert_done(again)
        for tag in ("1", "2"):
            self.assertIsNotNone(self.other.document_of("app", tag))

    def test_credentials(self) -> None:
        """
        What began with credentials needs them again.
        """
        job_id = self.jobs.pull(f"{HOST}/app", None, "ci", 0, {HOST: ANN})["id"]
        self.jobs.cancel(job_id)
        self.settle()
        failed = self.jobs.steering.retry(job_id, "ann")
        self.assertIn(f"credentials for {HOST}", str(self.failureResultOf(failed, BadInput).value))
        again = self.jobs.get(self.again(job_id, credentials={HOST: ANN}))
        self.assertEqual(again["retry_of"], job_id)


class PausedImportTests(ImportCase):
    """
    Imports that are paused.
    """

    def test_import(self) -> None:
        """
        An import that is paused takes no further piece of its archive, and its client waits.
        """
        job_id = self.jobs.import_archive(None, None, None, "ci", 0)["id"]
        self.settle()
        archive = tar(docker_save({"app:1": sample_image(1)}))
        half = len(archive) // 2
        self.jobs.steering.change(job_id, paused=True, by=BY)
        first = self.jobs.upload_stream(job_id).put(0, archive[:half])
        self.wait(700)
        self.assertNoResult(first)
        self.assertEqual(self.job(job_id)["why"], f"paused by {BY}")
        self.jobs.steering.change(job_id, paused=False, by=BY)
        self.settle()
        self.assertEqual(self.successResultOf(first), half)
        second = self.jobs.upload_stream(job_id).put(half, archive[half:])
        self.settle()
        self.successResultOf(second)
        self.end_archive(job_id, len(archive))
        self.settle()
        self.assert_done(job_id)


class PausedVerificationTests(JobsCase):
    """
    Verifications that are paused.
    """

    def test_verify(self) -> None:
        """
        A verification that is paused begins no further check.
        """
        self.add(sample_image(2))
        self.pulled()
        job_id = self.jobs.verify(None, "ci", 0)["id"]
        self.jobs.steering.change(job_id, paused=True, by=BY)
        self.wait(60)
        self.assertEqual(self.job(job_id)["state"], "running")
        self.jobs.steering.change(job_id, paused=False, by=BY)
        self.wait(5)
        self.assert_done(job_id)
