"""
Tests for L{xferd.jobs.shutdown_errors}, by daemons that end in the middle of jobs.
"""

from __future__ import annotations

from tests.jobs.case import JobsCase
from xferd.errors import Interrupted
from xferd.jobs.shutdown_errors import killed
from xferd.testing.images import sample_image

REMEDIES = {
    "pull": "pull it again to resume",
    "push": "push it again to resume",
    "copy": "copy it again to resume",
    "import": "import it again from its beginning",
}


class InterruptionTests(JobsCase):
    """
    A job of each kind, interrupted.
    """

    def begun(self) -> dict[str, str]:
        """
        Have a job of each kind in the middle of its work; their ids by kind.
        """
        self.add(sample_image(1), "here")
        self.pulled("here")
        there = self.add(sample_image(1, seed="there"), "there")
        self.registry.stall(there.layers[0].blob.digest)
        self.other.gate.hold("put_manifest")
        jobs = {
            "pull": self.pull("there"),
            "push": self.push("here"),
            "copy": self.copy("there"),
            "import": str(self.jobs.import_archive(None, None, None, "ci", 0)["id"]),
        }
        self.settle()
        self.assertEqual({self.job(job_id)["state"] for job_id in jobs.values()}, {"running"})
        return jobs

    def assert_remedies(self, jobs: dict[str, str], word: str) -> None:
        """
        Each job has failed, with the remedy of its kind.
        """
        for kind, job_id in jobs.items():
            message = self.assert_failed(job_id, "INTERRUPTED")
            self.assertTrue(message.startswith(f"the daemon {word} before the "), message)
            self.assertTrue(message.endswith(REMEDIES[kind]), message)

    def test_stopped(self) -> None:
        """
        The error of each kind names its remedy where the daemon stops.
        """
        jobs = self.begun()
        self.stop(self.jobs)
        self.assert_remedies(jobs, "stopped")

    def test_killed(self) -> None:
        """
        It is the same with the next daemon, where the first one was killed.
        """
        jobs = self.begun()
        _ = self.jobs.flushed()
        self.settle()
        self.store.journal.restart()
        self.jobs = self.make_jobs()
        self.start()
        self.assert_remedies(jobs, "ended")

    def test_unknown_kind(self) -> None:
        """
        A job of a kind that only another version knows is to be begun again.
        """
        self.assertIn("begin it again", str(killed("weave")))

    def test_export(self) -> None:
        """
        It is the same with an export that is fetching a layer.
        """
        image = self.add(sample_image(1))
        self.pulled()
        digest = image.layers[0].blob.digest
        del self.store.blobs.contents[digest]
        self.registry.stall(digest)
        opening = self.jobs.export(str(self.store.images.all()[0].reference), "oci", "ci")
        self.settle()
        self.stop(self.jobs)
        error = self.failureResultOf(opening, Interrupted).value
        self.assertIn("export it again from its beginning", str(error))
