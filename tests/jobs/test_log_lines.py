"""
Tests for L{xferd.jobs.log_lines}: the lines of jobs that have ended, and of attempts that
failed.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import LogEvent, capturedLogs, formatEvent

from tests.jobs.case import HOST, OTHER, JobsCase
from xferd.errors import ConnectionFailed, Denied
from xferd.interfaces.jobs import ALWAYS
from xferd.jobs.timing import PHASES
from xferd.logs.records import record_of
from xferd.testing.images import sample_image


class LinesCase(JobsCase):
    """
    Jobs whose lines are read.
    """

    def setUp(self) -> None:
        """
        Put an image into the registry, and observe the log.
        """
        super().setUp()
        self.image = self.add(sample_image(1, size=100_000))
        self.blob = self.image.layers[0].blob.digest
        captured = capturedLogs()
        self.events = captured.__enter__()
        self.addCleanup(captured.__exit__, None, None, None)

    def lines(self, event: str) -> list[LogEvent]:
        """
        The events of one sort.
        """
        return [each for each in self.events if each.get("event") == event]

    def fields(self, event: LogEvent) -> dict[str, Any]:
        """
        The values of an event, as other programs read them.
        """
        fields = record_of(event).fields
        return {name: fields[name] for name in fields if name not in ("details", "outcome")}


class EndedTests(LinesCase):
    """
    Jobs that end.
    """

    def test_done(self) -> None:
        """
        One line has all of a pull.
        """
        self.registry.stall(self.blob)
        job_id = self.pull()
        self.jobs.persist(job_id, ALWAYS, "user 7", "socket")
        self.settle()
        self.registry.feed(self.blob, 1)
        self.wait(2)
        self.registry.finish(self.blob)
        self.settle()
        job = self.job(job_id)
        (event,) = self.lines("job-ended")
        size = job["bytes_total"]
        self.assertEqual(
            self.fields(event),
            {
                "event": "job-ended",
                "job": job_id,
                "kind": "pull",
                "client": "ci",
                "user": "user 7",
                "door": "socket",
                "state": "done",
                "cancelled_by": "",
                "image": f"{HOST}/app:latest",
                "reference": f"{HOST}/app:latest",
                "target": None,
                "digest": str(self.image.digest),
                "code": None,
                "error": None,
                "seconds": 2.0,
                **{f"seconds_{phase}": 2.0 * (phase == "moving") for phase in PHASES},
                "rate": size / 2,
                "bytes_received": size,
                "bytes_sent": 0,
                "bytes_saved": 0,
                "bound_by": "line",
                "verdict": job["timing"]["bound"]["text"],
            },
        )
        self.assertEqual(
            formatEvent(event),
            f"pull of {HOST}/app:latest for ci: done; job {job_id} of user 7 by socket, "
            f"{self.image.digest}, 2.0 s (moving 2.0 s), {size / 1000:.1f} kB received, "
            f"{size / 2000:.1f} kB/s; {job['timing']['bound']['text']}",
        )
        self.assertEqual(event["log_level"].name, "info")

    def test_failed(self) -> None:
        """
        The line of a job that failed is a warning, with the error and its code.
        """
        self.registry.gate.fail("manifest", Denied("no", host=HOST))
        job_id = self.pull()
        self.settle()
        (event,) = self.lines("job-ended")
        self.assertEqual((event["code"], event["error"], event["log_level"].name), ("DENIED", "no", "warn"))
        self.assertEqual(
            formatEvent(event), f"pull of {HOST}/app:latest for ci: failed: no (DENIED); job {job_id}, 0.0 s"
        )

    def test_cancelled(self) -> None:
        """
        The line of a cancelled job names who cancelled it: the first, if there were two.
        """
        self.registry.stall(self.blob)
        job_id = self.pull()
        self.settle()
        self.jobs.cancel(job_id, "user 8 (ops)")
        self.jobs.cancel(job_id, "user 9 (late)")
        self.settle()
        (event,) = self.lines("job-ended")
        self.assertEqual((event["state"], event["cancelled_by"]), ("cancelled", "user 8 (ops)"))
        self.assertIn(": cancelled by user 8 (ops); job ", formatEvent(event))

    def test_push(self) -> None:
        """
        The line of a push has its target, and the bytes that were sent.
        """
        self.pulled()
        self.push()
        self.wait(1)
        event = self.lines("job-ended")[-1]
        self.assertEqual((event["kind"], event["target"]), ("push", f"{OTHER}/app:latest"))
        self.assertIn(f", to {OTHER}/app:latest, ", formatEvent(event))
        self.assertGreater(event["bytes_sent"], 100_000)


class FailedTests(LinesCase):
    """
    Attempts that fail.
    """

    def test_failed(self) -> None:
        """
        Each has one line with its jobs, its bytes and its error; those that succeed or are
        cancelled have none.
        """
        self.registry.stall(self.blob)
        jobs = [self.pull(), self.pull(client="other")]
        self.settle()
        self.registry.feed(self.blob, 30_000)
        self.wait(3)
        self.registry.fail(self.blob, ConnectionFailed("cut", host=HOST))
        self.wait(2)
        (event,) = self.lines("attempt-failed")
        transfer = self.transfer("download", self.blob)["id"]
        self.assertEqual(
            self.fields(event),
            {
                "event": "attempt-failed",
                "transfer": transfer,
                "kind": "download",
                "digest": str(self.blob),
                "source": f"{HOST}/app",
                "attempt": 1,
                "seconds": 3.0,
                "bytes_done": 30_000,
                "bytes_moved": 30_000,
                "code": "CONNECTION_FAILED",
                "error": "cut",
                "jobs": jobs,
                "clients": ["ci", "other"],
                "references": [f"{HOST}/app:latest"],
                "targets": [],
            },
        )
        self.assertEqual(
            formatEvent(event),
            f"attempt 1 of download {self.blob}, {HOST}/app, failed after 3.0 s and 30000 bytes: "
            f"cut (CONNECTION_FAILED); job {jobs[0]}, pull of {HOST}/app:latest for ci"
            f"; job {jobs[1]}, pull of {HOST}/app:latest for other",
        )
        for job_id in jobs:
            self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(len(self.lines("attempt-failed")), 1)
