"""
Tests for L{xferd.jobs.manager}, L{xferd.jobs.job} and L{xferd.jobs.rows}: jobs as
clients list and read them.
"""

from __future__ import annotations

import json

from tests.jobs.case import HOST, OTHER, JobsCase
from tests.jobs.conformance import JobsConformance
from xferd.errors import (
    BadPlatform,
    BadReference,
    NotFound,
    RegistryError,
    TooManyJobs,
    TooManyRequests,
)
from xferd.interfaces.job_json import JobJSON
from xferd.interfaces.store import Image
from xferd.jobs import runner
from xferd.jobs.ended_jobs import REMEMBERED
from xferd.names import Digest, Reference, Repository
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

    def test_layers_alone(self) -> None:
        """
        A pull for a container engine brings the layers, and no name.  Its end is
        reported, however it ends.
        """
        image = self.add(sample_image(2))
        ended: list[JobJSON] = []
        reference = f"{HOST}/app@{image.digest}"
        job_id = self.jobs.pull_layers(reference, "containerd main", ended.append)["id"]
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.store.images.all(), [])
        self.assertIsNotNone(self.store.layers.get(image.chain_ids[-1]))
        self.jobs.pull_layers(f"{HOST}/app@{Digest.of(b'unknown')}", "containerd main", ended.append)
        self.settle()
        self.registry.gate.hold("open")
        other = self.add(sample_image(1, seed=7), tag="other")
        last = self.jobs.pull_layers(f"{HOST}/app@{other.digest}", "containerd main", ended.append)["id"]
        self.settle()
        self.jobs.cancel(last)
        self.settle()
        self.assertEqual([job["state"] for job in ended], ["done", "failed", "cancelled"])
        self.assertEqual({job["client"] for job in ended}, {"containerd main"})
        self.assertRaises(BadReference, self.jobs.pull_layers, "A B", "containerd main", ended.append)
        self.assert_idle()

    def test_content(self) -> None:
        """
        A blob is read from the store, or fetched when its first byte is read.
        """
        blob = self.add(sample_image(1)).layers[0].blob
        for _ in range(2):
            content = self.jobs.content(blob.descriptor, Repository(HOST, "app"), "ann")
            data = b""
            while len(data) < blob.descriptor.size:
                reading = content.read(len(data), blob.descriptor.size)
                self.settle()
                data += self.successResultOf(reading)
            self.assertEqual((data, self.gets(blob.digest)), (blob.content, 1))
            content.close()
        self.assert_idle()

    def test_layers_again(self) -> None:
        """
        The manifest of a pull for a container engine is requested only where the store
        lacks it: the engine has it, and registries count requests.
        """
        image = self.add(sample_image(1))
        for _ in range(2):
            job_id = self.jobs.pull_layers(f"{HOST}/app@{image.digest}", "podman", lambda _: None)["id"]
            self.settle()
            self.assert_done(job_id)
        self.assertEqual(self.registry.count("manifest", image.digest), 1)

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
