"""
Tests for L{xferd.jobs.manager}, L{xferd.jobs.events.broker} and L{xferd.jobs.job}.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.jobs.case import HOST, OTHER, JobsCase
from tests.jobs.conformance import JobsConformance
from xferd.errors import (
    BadPlatform,
    BadReference,
    ConnectionFailed,
    Interrupted,
    NotFound,
    RegistryError,
    StoreError,
    TooManyJobs,
    TooManyRequests,
)
from xferd.interfaces.job_json import AttemptJSON
from xferd.interfaces.jobs import Event, IEventStream
from xferd.interfaces.store import Image
from xferd.jobs import runner
from xferd.jobs.ended_jobs import REMEMBERED
from xferd.jobs.job import BUG
from xferd.names import Reference, Repository
from xferd.testing.fake_wall_clock import BEGIN
from xferd.testing.images import sample_image


class ConformanceTests(JobsConformance, JobsCase):
    """
    L{Jobs<xferd.jobs.manager.Jobs>} do what their Interface says.
    """

    def setUp(self) -> None:
        """
        Have the image in the store, and a registry that does not answer.
        """
        super().setUp()
        image = sample_image(0)
        for blob in image.blobs:
            self.store.blobs.contents[blob.digest] = blob.read()
        self.store.blobs.contents[image.digest] = image.manifest.data
        descriptor = image.manifest.descriptor
        putting = self.store.images.put(
            Image(
                Reference.parse(f"{HOST}/app"),
                descriptor,
                image.config.descriptor,
                descriptor.digest,
                (),
                None,
                descriptor.size,
                "2026-01-02T03:04:05Z",
            )
        )
        self.settle()
        self.successResultOf(putting)
        self.registry.gate.hold("manifest")


class ListTests(JobsCase):
    """
    Jobs, as they are listed and shown.
    """

    def test_job(self) -> None:
        """
        A job shows its client, its reference, its times and its progress.
        """
        image = self.add(sample_image(2))
        self.clock.advance(5)
        job = self.pulled(client="ci-7", platform="linux/x86_64")
        self.assertEqual(job["reference"], f"{HOST}/app:latest")
        self.assertEqual((job["kind"], job["client"], job["platform"]), ("pull", "ci-7", "linux/amd64"))
        self.assertEqual(job["created"], "2026-01-02T03:04:10.000Z")
        self.assertEqual(job["started"], job["finished"])
        self.assertEqual([row["diff_id"] for row in job["layers"]], [str(d) for d in image.diff_ids])

    def test_clock_set(self) -> None:
        """
        Stamps are those of the wall clock, also when it is set meanwhile.  A
        transfer that waits for a host continues when the time has passed, and
        shows its end by the wall clock.
        """
        image = self.add(sample_image(1))
        blob = image.layers[0].blob.digest
        self.registry.gate.fail("open", TooManyRequests("slow", host=HOST, retry_after=60.0), blob)
        job_id = self.pull()
        self.settle()
        self.wall_clock.set(BEGIN - 3600)
        (waiting,) = [t for t in self.jobs.transfers() if t["kind"] == "download"]
        self.assertEqual(waiting["until"], "2026-01-02T02:05:05.000Z")
        self.wait(60.25)
        self.assert_done(job_id)
        job = self.job(job_id)
        self.assertEqual(job["created"], "2026-01-02T03:04:05.000Z")
        self.assertTrue("2026-01-02T02:05:05" <= job["finished"] < "2026-01-02T02:05:07", job["finished"])
        asked = self.jobs.attempts(job_id)
        self.settle()
        downloads = [a for a in self.successResultOf(asked) if a["kind"] == "download"]
        self.assertEqual([a["started"][11:17] for a in downloads], ["03:04:", "02:05:"])

    def test_refused(self) -> None:
        """
        A malformed request is refused at once and makes no job.
        """
        self.assertRaises(BadReference, self.jobs.pull, "A B", None, "ci", 0)
        for platform in ("linux", "all"):
            self.assertRaises(BadPlatform, self.jobs.pull, "alpine", platform, "ci", 0)
            self.assertRaises(BadPlatform, self.jobs.copy, "alpine", "other", platform, False, "ci", 0)
        self.assertEqual(self.jobs.all(), [])

    def test_too_many(self) -> None:
        """
        The number of unfinished jobs is limited, for each client and for all
        together; the end of a job frees its place.
        """
        self.assertEqual((runner.MAX_JOBS, runner.MAX_CLIENT_JOBS), (10_000, 5_000))
        self.patch(runner, "MAX_JOBS", 20)
        self.patch(runner, "MAX_CLIENT_JOBS", 10)
        jobs = self.make_jobs()

        def begin(client: str, count: int) -> list[str]:
            """
            Begin as many pulls, which wait until the store is open.
            """
            return [jobs.pull("alpine", None, client, 0)["id"] for _ in range(count)]

        first = begin("ann", 10)
        error = self.assertRaises(TooManyJobs, begin, "ann", 1)
        self.assertEqual(str(error), "10 jobs of ann have not ended: try again when some have")
        begin("bob", 10)
        error = self.assertRaises(TooManyJobs, begin, "cy", 1)
        self.assertEqual(str(error), "20 jobs have not ended: try again when some have")
        self.assertRaises(TooManyJobs, jobs.import_archive, None, None, None, "cy", 0)
        jobs.cancel(first[0])
        self.assertEqual(jobs.unfinished, 19)
        begin("ann", 1)
        self.assertRaises(TooManyJobs, begin, "cy", 1)

    def test_unknown(self) -> None:
        """
        A job that does not exist is not found, by any method.
        """
        for ask in (self.jobs.get, self.jobs.cancel, self.jobs.events):
            self.assertIn("'nope'", str(self.assertRaises(NotFound, ask, "nope")))

    def test_all(self) -> None:
        """
        The newest job stands first, and none shows its layers.
        """
        self.add(sample_image(1))
        self.pulled()
        self.clock.advance(1)
        newer = self.pull("other")
        jobs = self.jobs.all()
        self.assertEqual(jobs[0]["id"], newer)
        self.assertEqual(len(jobs), 2)
        self.assertNotIn("layers", jobs[0])
        self.assertNotIn("layers", jobs[1])

    def test_forgets(self) -> None:
        """
        Only so many ended jobs are remembered.
        """
        first = self.pull("missing")
        self.settle()
        for _ in range(REMEMBERED):
            self.pull("missing")
            self.settle()
        self.assertEqual(len(self.jobs.all()), REMEMBERED)
        self.assertRaises(NotFound, self.jobs.get, first)

    def test_cancel(self) -> None:
        """
        A job is cancelled at once; one that has ended stays as it is.
        """
        self.add(sample_image(1))
        self.registry.gate.hold("manifest")
        job_id = self.pull()
        self.settle()
        self.assertEqual(self.jobs.cancel(job_id)["state"], "cancelled")
        self.assertEqual(self.jobs.cancel(job_id)["state"], "cancelled")
        self.assert_idle()
        self.registry.gate.release("manifest")
        done = self.pulled()
        self.assertEqual(self.jobs.cancel(done["id"])["state"], "done")

    def test_warnings(self) -> None:
        """
        A job has the warnings that the registries of its repositories sent
        while it ran, each once, also after its end.
        """
        self.add(sample_image(1))
        self.registry.gate.hold("manifest")
        pull, copy = self.pull(), self.copy(target=f"{OTHER}/else")
        self.settle()
        source, target = Repository(HOST, "app"), Repository(OTHER, "else")
        for repository, text in (
            (source, "gone soon"),
            (source, "gone soon"),
            (target, "read-only on Friday"),
        ):
            self.jobs.warned(repository, text)
        self.jobs.warned(Repository(HOST, "another"), "not yours")
        self.assertEqual(self.job(pull)["warnings"], [f"{HOST}: gone soon"])
        self.registry.gate.release("manifest")
        self.settle()
        self.jobs.warned(source, "too late")
        self.assertEqual(self.job(pull)["warnings"], [f"{HOST}: gone soon"])
        self.assertEqual(self.job(copy)["warnings"], [f"{HOST}: gone soon", f"{OTHER}: read-only on Friday"])

    def test_long_texts(self) -> None:
        """
        Megabytes in the response of a registry are not copied into a job's
        error or warnings, which memory, events and the journal keep.
        """
        huge = "x" * 4_000_000
        self.add(sample_image(1))
        self.registry.gate.hold("manifest")
        pull = self.pull()
        self.settle()
        self.jobs.warned(Repository(HOST, "app"), huge)
        self.registry.gate.release("manifest")
        self.registry.gate.fail("open", RegistryError(f"it sends {huge}", host=HOST))
        self.settle()
        job = self.job(pull)
        self.assertLessEqual(len(job["warnings"][0]), 500)
        self.assertLessEqual(len((job["error"] or {}).get("message", "")), 500)
        self.assertLess(len(json.dumps(job)), 10_000)

    def test_many_warnings(self) -> None:
        """
        A registry that warns of everything is not quoted for ever.
        """
        self.add(sample_image(1))
        self.registry.gate.hold("manifest")
        job_id = self.pull()
        for number in range(100):
            self.jobs.warned(Repository(HOST, "app"), str(number))
        self.assertEqual(len(self.job(job_id)["warnings"]), 20)
        self.registry.gate.release("manifest")
        self.settle()

    def test_cancelled_rows(self) -> None:
        """
        The incomplete layers of a cancelled job are shown as cancelled.
        """
        image = self.add(sample_image(2))
        self.registry.stall(image.layers[0].blob.digest)
        job_id = self.pull()
        self.settle()
        self.jobs.cancel(job_id)
        self.settle()
        states = [row["state"] for row in self.job(job_id)["layers"]]
        self.assertEqual(states[0], "cancelled")

    def test_transfers(self) -> None:
        """
        Every transfer shows its kind, its jobs and its source.
        """
        image = self.add(sample_image(1))
        self.registry.stall(image.layers[0].blob.digest)
        jobs = [self.pull(), self.pull(client="other")]
        self.settle()
        download = self.transfer("download", image.layers[0].blob.digest)
        self.assertEqual(download["state"], "running")
        self.assertEqual(download["source"], f"{HOST}/app")
        self.assertEqual((download["watchers"], download["jobs"]), (2, jobs))
        kinds = sorted(t["kind"] for t in self.jobs.transfers())
        self.assertEqual(kinds, ["download", "registration", "unpacking"])

    def test_bug(self) -> None:
        """
        An internal error is logged, and reported without its text.
        """
        self.add(sample_image(1))
        self.store.gate.fail("images.put", ValueError("secret detail"))
        job_id = self.pull()
        self.settle()
        self.assertNotIn("secret", self.assert_failed(job_id, "INTERNAL"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


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


class EventsTests(JobsCase):
    """
    The events that clients get.
    """

    def read(self, stream: IEventStream) -> list[Event]:
        """
        Read the new events.
        """
        got: Deferred[list[Event]] = stream.get()
        self.wait(0.5)
        return self.successResultOf(got)

    def subjects(self, events: list[Event]) -> dict[tuple[Any, ...], Event]:
        """
        Events by their subject.
        """
        found = {}
        for event in events:
            data = event.data
            key = {"layer": ("job", "index"), "image": ("reference",)}.get(event.kind, ("id",))
            found[(event.kind, *(data[k] for k in key))] = event
        self.assertEqual(len(found), len(events), "a subject stands in one reading once")
        return found

    def test_one_job(self) -> None:
        """
        A job's stream has the job, its layers and their transfers, and ends
        with the job's last event.
        """
        image = self.add(sample_image(2))
        self.registry.stall(image.layers[0].blob.digest)
        job_id = self.pull()
        stream = self.jobs.events(job_id)
        self.settle()
        news = self.subjects(self.read(stream))
        self.assertEqual(news["job", job_id].data["layers_total"], 2)
        self.assertEqual(news["layer", job_id, 0].data["state"], "downloading")
        self.assertEqual(sum(kind == "transfer" for kind, *_ in news), 6)
        self.registry.finish(image.layers[0].blob.digest)
        self.settle()
        events = self.read(stream)
        self.assertEqual((events[-1].kind, events[-1].data["state"]), ("job", "done"))
        self.assertEqual([e.final for e in events if e.kind == "layer"], [True, True])
        self.assertTrue(events[-1].final)
        self.assertEqual(self.read(stream), [])
        stream.close()

    def test_ended_job(self) -> None:
        """
        The stream of a job that has ended has its last state, and ends.
        """
        self.add(sample_image(2))
        stream = self.jobs.events(self.pulled()["id"])
        events = self.read(stream)
        self.assertEqual([e.kind for e in events], ["layer", "layer", "job"])
        self.assertEqual(self.read(stream), [])

    def test_everything(self) -> None:
        """
        The stream of everything begins with the present state, and continues
        with changes: jobs of all clients, and images.
        """
        self.add(sample_image(1, seed=1), "one")
        self.add(sample_image(1, seed=2), "two")
        one = self.pulled("one")
        stream = self.jobs.events(None)
        news = self.subjects(self.read(stream))
        self.assertTrue(news["job", one["id"]].final)
        self.assertIn(("image", f"{HOST}/one:latest"), news)
        two = self.pulled("two")
        news = self.subjects(self.read(stream))
        self.assertEqual(news["job", two["id"]].data["state"], "done")
        image = news["image", f"{HOST}/two:latest"].data
        self.assertEqual(image["digest"], two["result"]["digest"])
        self.assertEqual([layer["digest"] for layer in image["layers"]], [two["layers"][0]["digest"]])
        waiting = stream.get()
        self.settle()
        self.assertNoResult(waiting)
        stream.close()
        self.settle()
        self.assertEqual(self.successResultOf(waiting), [])

    def test_other_jobs(self) -> None:
        """
        A job's stream is silent about others.
        """
        image = self.add(sample_image(1, seed=1), "one")
        self.add(sample_image(1, seed=2), "two")
        self.registry.stall(image.layers[0].blob.digest)
        stream = self.jobs.events(self.pull("one"))
        self.wait(1)
        self.read(stream)
        self.pulled("two")
        waiting = stream.get()
        self.wait(1)
        self.assertNoResult(waiting)

    def test_reader_leaves_while_it_pauses(self) -> None:
        """
        A reader may also go while it is kept from reading too often.
        """
        self.add(sample_image(1))
        self.registry.gate.hold("manifest")
        stream = self.jobs.events(self.pull())
        self.settle()
        self.successResultOf(stream.get())
        waiting = stream.get()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.registry.gate.release("manifest")
        self.settle()
        self.assertTrue(self.read(stream)[-1].final)

    def test_pace(self) -> None:
        """
        A stream is read at intervals, but a final event is delivered at once.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = image.layers[0].blob.digest
        self.registry.stall(blob)
        stream = self.jobs.events(self.pull())
        self.settle()
        self.read(stream)
        self.registry.feed(blob, 1000)
        self.clock.advance(0.11)
        self.settle()
        self.successResultOf(stream.get())
        waiting = stream.get()
        self.registry.feed(blob, 1000)
        self.settle()
        self.assertNoResult(waiting)
        self.registry.finish(blob)
        self.settle()
        self.assertTrue(self.successResultOf(waiting)[-1].final)

    def test_reader_leaves(self) -> None:
        """
        A reader that is cancelled while it waits loses nothing: the next one
        gets the events.
        """
        image = self.add(sample_image(1))
        self.registry.stall(image.layers[0].blob.digest)
        stream = self.jobs.events(self.pull())
        self.wait(1)
        self.read(stream)
        waiting = stream.get()
        waiting.cancel()
        self.settle()
        self.failureResultOf(waiting, CancelledError)
        self.registry.finish(image.layers[0].blob.digest)
        self.settle()
        self.assertTrue(self.read(stream)[-1].final)
        stream.close()
        stream.close()
