"""
Tests for L{xferd.jobs.manager} and L{xferd.jobs.runner}: the attempts of jobs, and
the start and the end of the daemon.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.jobs.case import HOST, JobsCase
from xferd.errors import (
    ConnectionFailed,
    Interrupted,
    NotFound,
    StoreError,
)
from xferd.interfaces.job_json import AttemptJSON
from xferd.jobs.job import BUG
from xferd.testing.images import sample_image


class AttemptTests(JobsCase):
    """
    The attempts behind a job.
    """

    def attempts(self, job_id: str) -> list[AttemptJSON]:
        """
        All of them.
        """
        asked = self.jobs.attempts(job_id)
        self.settle()
        return self.successResultOf(asked)

    def test_failed(self) -> None:
        """
        Each attempt has its times, its source, its bytes and its error; also
        for documents, and after the job has ended.
        """
        image = self.add(sample_image(1))
        blob = image.layers[0].blob.digest
        self.registry.gate.fail("open", ConnectionFailed("cut"), blob, times=3)
        job_id = self.pull()
        self.settle()
        self.wait(9)
        self.assert_failed(job_id, "CONNECTION_FAILED")
        found = self.attempts(job_id)
        documents = [a for a in found if a["kind"] == "document"]
        self.assertEqual({a["code"] for a in documents}, {None})
        downloads = [a for a in found if a["kind"] == "download"]
        self.assertEqual([a["attempt"] for a in downloads], [1, 2, 3])
        self.assertEqual({a["code"] for a in downloads}, {"CONNECTION_FAILED"})
        self.assertEqual({a["error"] for a in downloads}, {"cut"})
        self.assertEqual({a["source"] for a in downloads}, {f"{HOST}/app"})
        self.assertEqual([a["started"][-10:] for a in downloads], ["04:05.000Z", "04:06.000Z", "04:08.000Z"])
        self.assertEqual(set(self.job(job_id)["transfers"]), {a["transfer"] for a in found})
        self.assertNotIn("transfers", self.jobs.all()[0])

    def test_joined(self) -> None:
        """
        A job that joins a transfer shows the attempts made before, and none of
        other transfers.
        """
        image = self.add(sample_image(1))
        self.add(sample_image(1, seed=7), "other")
        self.registry.gate.fail("open", ConnectionFailed("cut"), image.layers[0].blob.digest)
        first = self.pull()
        self.settle()
        second, other = self.pull(client="late"), self.pull("other")
        self.wait(3)
        for job_id in (first, second):
            codes = [a["code"] for a in self.attempts(job_id) if a["kind"] == "download"]
            self.assertEqual(codes, ["CONNECTION_FAILED", None])
        self.assertEqual([a["attempt"] for a in self.attempts(other) if a["kind"] == "download"], [1])

    def test_unknown(self) -> None:
        """
        A job that does not exist has none.
        """
        asking = self.jobs.attempts("nope")
        self.settle()
        self.failureResultOf(asking, NotFound)

    def test_bug(self) -> None:
        """
        The text of an internal error goes to the log only.
        """
        self.add(sample_image(1))
        self.registry.gate.fail("manifest", ValueError("secret detail"))
        job_id = self.pull()
        self.settle()
        (attempt,) = self.attempts(job_id)
        self.assertEqual((attempt["code"], attempt["error"]), ("INTERNAL", BUG))
        self.flushLoggedErrors(ValueError)

    def test_remembered(self) -> None:
        """
        They are found after a restart.
        """
        self.add(sample_image(1))
        before = self.attempts(self.pulled()["id"])
        self.stop(self.jobs)
        self.store.journal.restart()
        self.jobs = self.make_jobs()
        self.start()
        (job,) = self.jobs.all()
        self.assertEqual(self.attempts(job["id"]), before)


class LifeTests(JobsCase):
    """
    The daemon starts and stops.
    """

    def start(self) -> None:
        """
        Do nothing: each test starts the jobs itself.
        """

    def begin(self) -> None:
        """
        Start.
        """
        super().start()

    def stopped(self, grace: float = 10.0) -> Deferred[None]:
        """
        Begin to stop.
        """
        stopping = Deferred.fromCoroutine(self.jobs.stop(grace))
        self.settle()
        return stopping

    def test_early_jobs(self) -> None:
        """
        A job that comes before the store is open waits, and begins with it.
        """
        self.add(sample_image(1))
        job_id = self.pull()
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "queued")
        self.assertEqual(self.registry.requests, [])
        self.begin()
        self.assert_done(job_id)

    def test_early_job_is_cancelled(self) -> None:
        """
        It can be cancelled before that.
        """
        job_id = self.pull()
        self.assertEqual(self.jobs.cancel(job_id)["state"], "cancelled")
        self.begin()
        self.assertEqual(self.registry.requests, [])

    def test_remembers(self) -> None:
        """
        Ended jobs are known to the next daemon, with their layers.
        """
        self.add(sample_image(2))
        self.begin()
        done = self.pulled()
        self.successResultOf(self.stopped())
        self.store.journal.restart()
        self.jobs = self.make_jobs()
        self.begin()
        self.assertEqual(self.jobs.get(done["id"]), done)

    def test_interrupted(self) -> None:
        """
        A job that a daemon left unfinished when it was killed has failed, with
        a remedy in its error.
        """
        image = self.add(sample_image(1))
        self.begin()
        self.registry.stall(image.layers[0].blob.digest)
        job_id = self.pull()
        self.settle()
        self.store.journal.restart()
        self.jobs = self.make_jobs()
        self.begin()
        self.assertIn("pull it again", self.assert_failed(job_id, "INTERRUPTED"))

    def test_stop(self) -> None:
        """
        A stop ends running jobs, keeps downloaded bytes, and refuses new jobs.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = image.layers[0].blob.digest
        self.begin()
        self.registry.stall(blob)
        job_id = self.pull()
        self.settle()
        self.registry.feed(blob, 30_000)
        stream = self.jobs.events(job_id)
        self.successResultOf(self.stopped())
        self.assert_failed(job_id, "INTERRUPTED")
        self.assertEqual(len(self.store.blobs.partials[blob]), 30_000)
        self.assertRaises(Interrupted, self.pull)
        self.assert_idle()
        last = self.successResultOf(stream.get())[-1]
        self.assertEqual((last.kind, last.data["state"], last.final), ("job", "failed", True))

    def test_stop_before_start(self) -> None:
        """
        A stop before the store is open ends the jobs that waited for it.
        """
        job_id = self.pull()
        self.successResultOf(self.stopped())
        self.assert_failed(job_id, "INTERRUPTED")

    def test_stop_takes_no_longer(self) -> None:
        """
        Transfers that do not end within the grace time are abandoned.
        """
        blob = self.add(sample_image(1)).layers[0].blob.digest
        self.begin()
        self.store.gate.hold("trees.discard")
        self.registry.stall(blob)
        self.pull()
        self.settle()
        self.registry.feed(blob, 10)
        self.settle()
        stopping = self.stopped(grace=3.0)
        self.assertNoResult(stopping)
        self.wait(3)
        self.successResultOf(stopping)
        self.store.gate.release("trees.discard")

    def test_journal_fails(self) -> None:
        """
        A journal that cannot be written is reported in the log; pulls
        continue.
        """
        self.add(sample_image(1))
        self.begin()
        self.store.gate.fail("journal.job", StoreError("the disk is gone"), times=2)
        self.pulled()
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 2)
