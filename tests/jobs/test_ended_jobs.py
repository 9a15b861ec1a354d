"""
Tests for L{xferd.jobs.ended_jobs}: requests of clients for jobs that have
ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.jobs.case import JobsCase
from xferd.errors import AmbiguousID, Interrupted, NotFound, StoreError
from xferd.interfaces.job_json import AttemptJSON
from xferd.interfaces.jobs import Event
from xferd.jobs.ended_jobs import REMEMBERED
from xferd.testing.images import sample_image


class EndedTests(JobsCase):
    """
    A job that ended so long ago that it is not in memory any more.
    """

    def find(self, job_id: str) -> Mapping[str, Any]:
        """
        Find a job.
        """
        finding = self.jobs.find(job_id)
        self.settle()
        return self.successResultOf(finding)

    def attempts(self, job_id: str) -> list[AttemptJSON]:
        """
        The attempts behind a job.
        """
        finding = self.jobs.attempts(job_id)
        self.settle()
        return self.successResultOf(finding)

    def crowd_out(self) -> None:
        """
        End as many other jobs as are kept in memory.
        """
        for _ in range(REMEMBERED):
            self.pull("missing")
        self.settle()

    def restart(self) -> None:
        """
        Continue with the jobs of the next daemon.
        """
        self.stop(self.jobs)
        self.store.journal.restart()
        self.jobs = self.make_jobs()
        self.start()

    def followed(self, job_id: str, position: str | None = None) -> list[Event]:
        """
        The events of a job, until the stream ends.
        """
        following = self.jobs.follow(job_id, position)
        self.settle()
        stream = self.successResultOf(following)
        events: list[Event] = []
        while True:
            getting: Deferred[list[Event]] = stream.get()
            self.wait(0.25)
            batch = self.successResultOf(getting)
            if not batch:
                return events
            events += batch

    def test_named(self) -> None:
        """
        A job is named by its ID, or by its first characters if no other ID begins with them: one that
        runs, one in memory, and one that only the journal has.
        """
        self.add(sample_image(1))
        old = self.pulled()["id"]
        self.crowd_out()
        recent, running = self.pulled()["id"], self.pull("missing")
        for job_id in (old, recent, running):
            for prefix in (job_id, job_id[:-1]):
                self.assertEqual(self.named(prefix), job_id)
        self.settle()
        known = [job["id"] for job in self.jobs.all()]
        self.store.journal.recorded.update(
            {f"{old[:-1]}{end}": self.store.journal.recorded[old] for end in "xyz"}
        )
        self.assertEqual(self.named(old), old)
        several = self.failureResultOf(self.naming(old[:-1]), AmbiguousID)
        self.assertIn(f"begin with {old[:-1]!r}: {old}, {old[:-1]}x, ", str(several.value))
        self.assertIn(", ...", str(self.failureResultOf(self.naming(known[0][0]), AmbiguousID).value))
        for prefix in ("", "?", "é", old + "0", "0" * 65):
            self.failureResultOf(self.naming(prefix), NotFound)

    def naming(self, prefix: str) -> Deferred[str]:
        """
        Look for the job that some characters name.
        """
        naming = self.jobs.named(prefix)
        self.settle()
        return naming

    def named(self, prefix: str) -> str:
        """
        The ID of that job.
        """
        return self.successResultOf(self.naming(prefix))

    def test_after_many_others(self) -> None:
        """
        It is found with its layers, its attempts and its events.
        """
        self.add(sample_image(2))
        before = dict(self.pulled())
        attempts = self.attempts(before["id"])
        self.assertTrue(attempts)
        self.crowd_out()
        self.assertRaises(NotFound, self.jobs.get, before["id"])
        self.assertEqual(self.find(before["id"]), before)
        self.assertEqual(self.attempts(before["id"]), attempts)
        events = self.followed(before["id"])
        self.assertEqual([e.kind for e in events], ["layer", "layer", "job"])
        self.assertEqual((events[-1].data["state"], events[-1].final), ("done", True))

    def test_position(self) -> None:
        """
        A client with a position gets the end of the job again: a position does
        not cover jobs that are dropped from memory.
        """
        self.add(sample_image(1))
        job_id = self.pulled()["id"]
        stream = self.jobs.events(job_id)
        self.successResultOf(stream.get())
        position = stream.position
        stream.close()
        self.assertEqual(self.followed(job_id, position), [])
        self.crowd_out()
        self.assertEqual(self.followed(job_id, position)[-1].data["id"], job_id)

    def test_after_a_restart(self) -> None:
        """
        It is found after a restart of the daemon.
        """
        self.add(sample_image(2))
        before = dict(self.pulled())
        self.crowd_out()
        self.restart()
        self.assertEqual(self.find(before["id"]), before)
        self.assertEqual(self.followed(before["id"])[-1].data["state"], "done")

    def test_recent_and_running(self) -> None:
        """
        A job that runs, or is in memory, is found at once.
        """
        self.add(sample_image(1))
        job_id = self.pull()
        self.assertEqual(self.successResultOf(self.jobs.find(job_id))["state"], "running")
        self.settle()
        self.assertEqual(self.successResultOf(self.jobs.find(job_id))["state"], "done")

    def test_recorded(self) -> None:
        """
        The journal lists jobs page by page, without layers.
        """
        self.add(sample_image(1))
        first = self.pulled()["id"]
        self.clock.advance(1)
        second = self.pulled()["id"]
        reading = self.jobs.recorded(1)
        self.settle()
        (newest,) = self.successResultOf(reading)
        self.assertEqual(newest["id"], second)
        self.assertNotIn("layers", newest)
        reading = self.jobs.recorded(9, (newest["created"], newest["id"]))
        self.settle()
        self.assertEqual([job["id"] for job in self.successResultOf(reading)], [first])

    def test_unknown(self) -> None:
        """
        An ID that no journal can have is not searched for.
        """
        for job_id in ("nope", "x" * 1000, "\ud800", ""):
            for ask in (self.jobs.find, self.jobs.follow, self.jobs.attempts):
                asking: Deferred[Any] = ask(job_id)
                self.settle()
                self.failureResultOf(asking, NotFound)
        self.assertEqual(self.store.journal._gate.count("journal.read_job", "\ud800"), 0)

    def test_starting(self) -> None:
        """
        A daemon that is starting refuses: its journal is not open.
        """
        jobs = self.make_jobs()
        for ask in (jobs.find, jobs.follow, jobs.attempts):
            self.failureResultOf(ask("0123456789ab"), Interrupted)
        self.assertEqual(self.successResultOf(jobs.recorded(9)), [])

    def test_until_written(self) -> None:
        """
        It stays in memory until the journal has it.
        """
        gate = self.store.journal._gate
        gate.hold("journal.job")
        job_id = self.pull("missing")
        self.crowd_out()
        self.assertEqual(self.jobs.get(job_id)["state"], "failed")
        gate.release("journal.job")
        self.settle()
        self.assertRaises(NotFound, self.jobs.get, job_id)
        self.assertEqual(len(self.jobs.all()), REMEMBERED)

    def test_never_written(self) -> None:
        """
        A job whose end could not be written is shown so, once it was dropped
        from memory.
        """
        job_id = self.pull("missing")
        self.store.journal.recorded[job_id] = dict(self.jobs.all()[0])
        real, self.store.journal.recorded = self.store.journal.recorded, {}
        self.settle()
        self.store.journal.recorded = real
        self.crowd_out()
        found = self.find(job_id)
        self.assertEqual((found["state"], found["error"]["code"]), ("failed", "INTERRUPTED"))
        self.assertEqual(found["layers"], [])

    def test_journal_fails(self) -> None:
        """
        A journal that cannot be read fails the request, and no other.
        """
        job_id = self.pull("missing")
        self.crowd_out()
        self.store.journal._gate.fail("journal.read_job", StoreError("no"))
        asking = self.jobs.find(job_id)
        self.settle()
        self.failureResultOf(asking, StoreError)
        self.assertEqual(self.find(job_id)["id"], job_id)

    def test_cancel(self) -> None:
        """
        A request that is cancelled gets nothing.
        """
        job_id = self.pull("missing")
        self.crowd_out()
        asking = self.jobs.follow(job_id)
        asking.cancel()
        self.settle()
        self.failureResultOf(asking, CancelledError)
