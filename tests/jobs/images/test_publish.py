"""
Tests for L{xferd.jobs.images.publish}: many blobs in one job.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.jobs.case import OTHER, JobsCase, every
from xferd.errors import Denied
from xferd.jobs import rows, runner
from xferd.jobs.images.publish import AHEAD
from xferd.names import Digest
from xferd.testing.images import SampleImage, image_of, sample_layer

LIMIT = 5
"""The number of slots for uploads, by default."""

LAYERS = 2 * AHEAD + 20


class ManyBlobsTests(JobsCase):
    """
    A job requests the uploads of its blobs a hundred ahead of the slots.
    """

    def setUp(self) -> None:
        """
        Have an image of many layers in the registry.
        """
        super().setUp()
        self.image: SampleImage = self.add(
            image_of([sample_layer(10, f"layer {n}", compression="tar") for n in range(LAYERS)])
        )

    def rows(self, job_id: str) -> list[dict[str, Any]]:
        """
        The rows of a job.
        """
        return list(self.job(job_id)["layers"])

    def uploads(self) -> list[Any]:
        """
        The uploads that are listed.
        """
        return [t for t in self.jobs.transfers() if t["kind"] == "upload"]

    def sent(self) -> list[str]:
        """
        The digests of the blobs that were sent, in their order.
        """
        return [str(attempt.digest) for attempt in self.other.uploads.attempts]

    def recorded(self, job_id: str) -> Mapping[str, Any]:
        """
        The record of a job in the journal.
        """
        reading = self.store.journal.job(job_id)
        self.settle()
        record = self.successResultOf(reading)
        assert record is not None
        return record

    def blob(self, index: int) -> Digest:
        """
        The digest of a layer's blob.
        """
        return self.image.layers[index].blob.digest

    def test_window(self) -> None:
        """
        The first blobs are requested, and each that is uploaded is followed by
        another one.
        """
        self.other.gate.hold("push")
        job_id = self.copy()
        self.settle()
        rows = self.rows(job_id)
        self.assertEqual(len(rows), LAYERS + 1)
        requested = AHEAD + LIMIT
        self.assertEqual(len(self.uploads()), requested)
        self.assertTrue(all(row["transfer"] for row in rows[:requested]))
        self.assertFalse(any(row["transfer"] for row in rows[requested:]))
        self.assertEqual({row["state"] for row in rows}, {"waiting"})
        self.assertEqual({row["why"] for row in rows[requested:]}, {"waiting for the blobs before it"})
        self.other.gate.release("push")
        self.wait(2)
        self.assert_done(job_id)
        self.assertEqual(set(self.states(job_id)), {"done"})
        self.assertEqual(sorted(self.sent()), sorted(row["digest"] for row in rows))
        job = self.job(job_id)
        self.assertEqual((job["bytes_done"], job["layers_done"]), (job["bytes_total"], LAYERS + 1))
        self.assert_idle()

    def test_order(self) -> None:
        """
        The bottom layer is the first one.
        """
        job_id = self.copy()
        self.wait(2)
        self.assert_done(job_id)
        index = {row["digest"]: row["index"] for row in self.rows(job_id)}
        order = [index[digest] for digest in self.sent()]
        self.assertEqual(order[:LIMIT], list(range(LIMIT)))
        self.assertLessEqual(max(abs(n - place) for place, n in enumerate(order)), AHEAD)

    def test_recorded(self) -> None:
        """
        The journal has all rows of a job while it runs, and their last states when
        it has ended, which the API shows, too.
        """
        self.patch(rows, "ROWS_IN_A_TURN", 50)
        self.patch(runner, "ROWS_IN_A_TURN", 50)
        self.other.uploads.stall(self.blob(LAYERS - 1))
        job_id = self.copy()
        self.wait(2)
        recorded = self.recorded(job_id)
        self.assertEqual((recorded["state"], len(recorded["layers"])), ("running", LAYERS + 1))
        self.other.uploads.finish(self.blob(LAYERS - 1))
        self.wait(2)
        self.assert_done(job_id)
        recorded = self.recorded(job_id)
        self.assertEqual((recorded["state"], recorded["layers"]), ("done", self.rows(job_id)))
        self.assertEqual({row["state"] for row in self.rows(job_id)}, {"done"})
        self.assert_idle()

    def test_recorded_late(self) -> None:
        """
        A job whose first rows are made into JSON when all jobs are to be recorded is recorded once,
        with all rows.
        """
        self.patch(rows, "ROWS_IN_A_TURN", 5)
        self.patch(runner, "ROWS_IN_A_TURN", 5)
        self.other.gate.hold("push")
        job_id = self.copy()
        kept = self.jobs.kept(job_id)

        def flush() -> None:
            if self.job(job_id)["layers"]:
                self.assertNoResult(kept)
                _ = self.jobs.flushed()
            else:
                self.clock.callLater(0, flush)

        flush()
        self.settle()
        self.successResultOf(kept)
        records = [record for record in self.store.journal.history if record["id"] == job_id]
        self.assertEqual([len(record["layers"]) for record in records], [LAYERS + 1])
        self.other.gate.release("push")
        self.wait(2)
        self.assert_done(job_id)

    def test_recorded_after_the_end(self) -> None:
        """
        A job that ends while its first rows are made into JSON is recorded as it
        ended.
        """
        self.patch(rows, "ROWS_IN_A_TURN", 5)
        self.patch(runner, "ROWS_IN_A_TURN", 5)
        self.other.gate.hold("push")
        job_id = self.copy()
        while not self.uploads():
            self.clock.advance(0)
        self.jobs.cancel(job_id)
        self.settle()
        self.other.gate.release("push")
        self.wait(2)
        recorded = self.recorded(job_id)
        self.assertEqual((recorded["state"], recorded["layers"]), ("cancelled", self.rows(job_id)))

    def test_cancelled_early(self) -> None:
        """
        A job that is cancelled at its beginning requests no more blobs.
        """
        self.other.gate.hold("push")
        job_id = self.copy()
        self.settle()
        self.jobs.cancel(job_id)
        self.other.gate.release("push")
        self.wait(2)
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        self.assertEqual(set(self.states(job_id)), {"cancelled"})
        self.assertEqual({row["why"] for row in self.rows(job_id) if not row["transfer"]}, {""})
        self.assertEqual(self.sent(), [])
        self.assert_idle()

    def test_cancelled_late(self) -> None:
        """
        A job that is cancelled while it waits for its last blob keeps what it
        has uploaded.
        """
        last = self.blob(LAYERS - 1)
        self.other.uploads.stall(last)
        job_id = self.copy()
        self.wait(2)
        self.assertEqual(self.states(job_id).count("done"), LAYERS)
        self.jobs.cancel(job_id)
        self.wait(2)
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        self.assertFalse(self.other.has_blob("app", last))
        self.assertTrue(self.other.has_blob("app", self.blob(0)))
        self.assert_idle()

    def test_one_fails(self) -> None:
        """
        The first blob that cannot be uploaded is the end of the job, which
        requests no more of them.
        """
        for n in range(LIMIT):
            self.other.uploads.stall(self.blob(n))
        job_id = self.copy()
        self.wait(2)
        self.other.uploads.fail(self.blob(1), Denied("no", host=OTHER))
        self.wait(2)
        self.assert_failed(job_id, "DENIED")
        requested = [row for row in self.rows(job_id) if row["transfer"]]
        self.assertEqual(len(requested), AHEAD + LIMIT + self.states(job_id).count("done"))
        self.assertLess(len(requested), LAYERS)
        self.assertNotIn("put", [r.kind for r in self.other.requests])
        self.assert_idle()

    def test_two_jobs(self) -> None:
        """
        Two jobs with the same blobs upload each once, also when the first one
        is cancelled meanwhile.
        """
        stalled = self.blob(AHEAD)
        self.other.uploads.stall(stalled)
        jobs = [self.copy(target=f"{OTHER}/app:{tag}") for tag in ("one", "two", "three")]
        self.wait(2)
        self.jobs.cancel(jobs[0])
        self.wait(2)
        self.other.uploads.finish(stalled)
        self.wait(2)
        every(self.assert_done, jobs[1:])
        self.assertEqual(self.job(jobs[0])["state"], "cancelled")
        self.assertEqual(len(self.sent()), LAYERS + 1)
        self.assertEqual(len(set(self.sent())), LAYERS + 1)
        self.assert_idle()


class SmallBlobsTests(JobsCase):
    """
    Many large blobs in front of a small one.
    """

    small_blob = 25_000

    def test_not_behind_large_ones(self) -> None:
        """
        The small one is uploaded while the large ones wait.
        """
        layers = [sample_layer(30_000, f"large {n}", compression="tar") for n in range(AHEAD + 10)]
        for layer in layers:
            self.other.uploads.stall(layer.blob.digest)
        small = sample_layer(10, "small", compression="tar")
        self.add(image_of([*layers, small]))
        job_id = self.copy()
        self.wait(2)
        states = {row["digest"]: row["state"] for row in self.job(job_id)["layers"]}
        self.assertEqual(states.pop(str(small.blob.digest)), "done")
        self.assertEqual({states[str(layer.blob.digest)] for layer in layers}, {"waiting"})
        for layer in layers:
            self.other.uploads.finish(layer.blob.digest)
        self.wait(2)
        self.assert_done(job_id)
        self.assert_idle()
