"""
Tests for L{xferd.jobs.restarts}: imports over a restart of the daemon.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.jobs.archives.import_case import ImportCase
from tests.jobs.archives.samples import docker_save, tar
from xferd.errors import Interrupted, WrongOffset
from xferd.interfaces.jobs import ALWAYS, REJOIN
from xferd.jobs.restarts import WINDOW
from xferd.testing.images import sample_image


class ImportRestartTests(ImportCase):
    """
    An import in mid-work when its daemon dies.
    """

    def setUp(self) -> None:
        """
        Make an archive.
        """
        super().setUp()
        self.data = tar(docker_save({"app:1": sample_image(2, 50_000)}))

    def persisted(self) -> str:
        """
        Begin an import that outlives the daemon.
        """
        job_id = self.begin(size=len(self.data))
        self.jobs.persist(job_id, REJOIN, "user 1")
        self.flush()
        return job_id

    def flush(self) -> None:
        """
        Wait until the journal has all jobs.
        """
        flushed = self.jobs.flushed()
        self.settle()
        self.successResultOf(flushed)

    def killed(self) -> None:
        """
        Kill the daemon, and start the next one.
        """
        self.store.journal.restart()
        self.stop(self.jobs)
        self.jobs = self.make_jobs()
        self.start()

    def ended(self, job_id: str) -> Deferred[None]:
        """
        Report the end of the archive.
        """
        ending = self.jobs.upload_stream(job_id).finish(len(self.data))
        self.settle()
        return ending

    def test_whole(self) -> None:
        """
        An archive whose end was acknowledged is not needed again: the job continues by itself,
        and acknowledges the end once more.
        """
        job_id = self.persisted()
        self.give(job_id, self.data)
        self.unpacker.gate.hold("unpack")
        self.successResultOf(self.ended(job_id))
        self.assertEqual((self.job(job_id)["state"], self.job(job_id)["restart"]), ("running", ALWAYS))
        self.killed()
        job = self.job(job_id)
        self.assertEqual((job["state"], job["archive"]["received"]), ("running", len(self.data)))
        collecting = self.jobs.image_admin.collect(False)
        self.settle()
        self.successResultOf(collecting)
        self.successResultOf(self.ended(job_id))
        late = self.failureResultOf(self.jobs.upload_stream(job_id).put(0, b"x"), WrongOffset)
        self.assertEqual(late.value.offset, len(self.data))
        self.unpacker.gate.release("unpack")
        self.settle()
        self.assert_done(job_id)
        self.assertIsNotNone(self.image("app:1"))

    def test_end_waits_for_the_journal(self) -> None:
        """
        The end is acknowledged when the journal has the content of the archive.
        """
        job_id = self.persisted()
        self.give(job_id, self.data)
        self.store.gate.hold("journal.job", job_id)
        ending = self.ended(job_id)
        self.assertNoResult(ending)
        self.store.gate.release("journal.job", job_id)
        self.settle()
        self.successResultOf(ending)
        self.assert_done(job_id)

    def test_cancelled_while_recorded(self) -> None:
        """
        A job that is cancelled meanwhile ends cancelled.
        """
        job_id = self.persisted()
        self.give(job_id, self.data)
        self.store.gate.hold("journal.job", job_id)
        ending = self.ended(job_id)
        self.jobs.cancel(job_id)
        self.store.gate.release("journal.job", job_id)
        self.settle()
        _ = ending.addErrback(lambda failure: None)
        self.assertEqual(self.job(job_id)["state"], "cancelled")

    def test_not_whole(self) -> None:
        """
        Otherwise the job waits for its client, which sends the archive from its beginning.
        """
        job_id = self.persisted()
        self.give(job_id, self.data[:60_000])
        self.killed()
        self.assertEqual(self.job(job_id)["why"], "waits up to 60 s for its client")
        self.jobs.rejoin(job_id, "ci", "user 1")
        lost = self.failureResultOf(self.jobs.upload_stream(job_id).put(60_000, b"x"), WrongOffset)
        self.assertEqual(lost.value.offset, 0)
        self.settle()
        self.give(job_id, self.data)
        self.successResultOf(self.ended(job_id))
        self.assert_done(job_id)

    def test_not_whole_with_key(self) -> None:
        """
        So does a job that would continue by itself.
        """
        job_id = self.begin(size=len(self.data))
        self.jobs.persist(job_id, ALWAYS, "user 1")
        self.flush()
        self.give(job_id, self.data[:60_000])
        self.killed()
        self.assertEqual(self.job(job_id)["state"], "queued")
        self.wait(WINDOW + 1)
        self.assert_failed(job_id, "INTERRUPTED")

    def test_stopped(self) -> None:
        """
        A client that sends to a daemon that stops is told so.
        """
        job_id = self.persisted()
        stream = self.jobs.upload_stream(job_id)
        self.stop(self.jobs)
        self.failureResultOf(stream.put(0, b"x"), Interrupted)
