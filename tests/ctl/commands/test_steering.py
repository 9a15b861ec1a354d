"""
Tests for L{xferd.ctl.commands.steering}.
"""

from __future__ import annotations

from tests.ctl.commands.case import CommandCase
from tests.ctl.fake_daemon import Answer, job, one_pull, refusal
from tests.ctl.run import run

PAUSE = {"what": "host", "host": "ghcr.io", "by": "me (x)", "since": "2026-01-02T03:04:05Z", "keep": False}


class SteeringTests(CommandCase):
    """
    Tests for C{xferctl pause}, C{resume}, C{priority}, C{retry} and C{drain}.
    """

    def test_jobs(self) -> None:
        """
        Jobs are paused and continue, by the first characters of their IDs.
        """
        for each, job_id in (("5f", "5f3c"), ("7000", "7000")):
            self.fake.on("PATCH", f"/jobs/{each}", Answer(job(id=job_id, paused=True, priority=3)))
        lines = self.lines("pause", "5f", "7000")
        self.assertEqual([line[1] for line in lines if line[0] == "job:"], ["5f3c", "7000"])
        self.assertIn(["paused:", "yes"], lines)
        self.assertEqual(self.fake.requests[-1], ("PATCH", "/api/v1/jobs/7000", {"paused": True}))
        self.lines("resume", "7000")
        self.assertEqual(self.fake.requests[-1], ("PATCH", "/api/v1/jobs/7000", {"paused": False}))
        self.assertIn(["priority:", "3"], self.lines("priority", "7000", "-3"))
        self.assertEqual(self.fake.requests[-1], ("PATCH", "/api/v1/jobs/7000", {"priority": -3}))

    def test_more(self) -> None:
        """
        Everything, directions and registries are paused, for this run or kept, and continue.
        """
        for name in ("all", "downloads", "uploads", "hosts/ghcr.io"):
            self.fake.on("PUT", f"/pauses/{name}", Answer(PAUSE))
            self.fake.on("DELETE", f"/pauses/{name}", Answer(PAUSE))
        options = ("--all", "--downloads", "--uploads", "--host", "ghcr.io")
        lines = self.lines("pause", *options, "--keep")
        self.assertEqual(lines[0], ["paused:", "ghcr.io"])
        self.assertEqual(
            [path for _, path, _ in self.fake.requests],
            [
                "/api/v1/pauses/all",
                "/api/v1/pauses/downloads",
                "/api/v1/pauses/uploads",
                "/api/v1/pauses/hosts/ghcr.io",
            ],
        )
        self.assertEqual({body["keep"] for _, _, body in self.fake.requests}, {True})
        self.lines("pause", "--host", "ghcr.io")
        self.assertEqual(self.fake.requests[-1][2], {"keep": False})
        self.assertEqual(self.lines("resume", *options)[0], ["resumed:", "ghcr.io"])
        self.assertEqual(self.fake.requests[-1][:2], ("DELETE", "/api/v1/pauses/hosts/ghcr.io"))

    def test_wrong_use(self) -> None:
        """
        A command without anything to pause, C{--keep} for jobs, and a priority that is no
        number are wrong use.
        """
        for argv, words in (
            (["pause"], "name a job, or use --all"),
            (["resume"], "name a job, or use --all"),
            (["pause", "5f3c", "--keep"], "a paused job stays paused"),
            (["priority", "5f3c", "high"], "invalid int"),
            (["retry", "5f3c", "--progress", "plain"], "--progress belongs to --follow"),
            (["retry", "5f3c", "--follow", "-o", "yaml"], "leave -o and --format out"),
        ):
            outcome = run([*argv, "--host", self.fake.url])
            self.assertEqual(outcome.status, 2, argv)
            self.assertIn(words, outcome.err)
        self.assertEqual(self.fake.requests, [])

    def test_ended(self) -> None:
        """
        The daemon's refusal is the error.
        """
        self.fake.on("PATCH", "/jobs/j1", refusal(409, "JOB_ENDED", "job j1 has ended (done)"))
        outcome = run(["pause", "j1", "--host", self.fake.url])
        self.assertEqual(outcome.status, 1)
        self.assertIn("job j1 has ended (done) (JOB_ENDED)", outcome.err)

    def test_retry(self) -> None:
        """
        Jobs are retried; with --follow, their progress is shown.
        """
        self.fake.on("GET", "/jobs/j0", Answer(job("failed", id="j0")))
        self.fake.on("POST", "/jobs/j0/retry", Answer(job(retry_of="j0"), 202))
        self.assertEqual(self.lines("retry", "j0"), [["job:", "j1"], ["retry", "of:", "j0"]])
        self.fake.on("GET", "/jobs/j1/events", Answer(lines=one_pull()))
        outcome = run(["retry", "j0", "--follow", "--host", self.fake.url])
        self.assertEqual(outcome.status, 0, outcome.err)
        self.assertIn("docker.io/library/alpine", outcome.out)

    def test_drain(self) -> None:
        """
        The daemon is drained, and C{--wait} waits until no job is left.
        """
        drain = {"draining": True, "by": "me (x)", "since": "2026-01-02T03:04:05Z", "jobs": 2, "paused": 1}
        self.fake.on("PUT", "/drain", Answer(drain))
        self.fake.on("DELETE", "/drain", Answer({**drain, "draining": False}))
        self.assertIn(["jobs", "left:", "2"], self.lines("drain"))
        self.assertNotIn("restarts:", str(self.lines("drain")))
        self.fake.on("PUT", "/drain", Answer({**drain, "keep": True}))
        self.assertIn(["after", "restarts:", "yes"], self.lines("drain", "--keep"))
        keeps = [body["keep"] for method, _, body in self.fake.requests if method == "PUT"]
        self.assertEqual(keeps, [False, False, True])
        self.assertEqual(run(["drain", "--end", "--keep", "--host", self.fake.url]).status, 2)
        self.fake.on("PUT", "/drain", Answer(drain))
        self.assertIn(["draining:", "no"], self.lines("drain", "--end"))
        self.fake.on("GET", "/status", Answer({"drain": drain}), Answer({"drain": {**drain, "jobs": 0}}))
        outcome = run(["drain", "--wait", "--host", self.fake.url])
        self.assertEqual(outcome.status, 0, outcome.err)
        self.assertIn("2 jobs left, 1 of them paused", outcome.err)
        self.assertIn("jobs left:", outcome.out)

    def test_drain_and_restart(self) -> None:
        """
        C{--wait} waits for a daemon that is restarted, and reports that once.  If another client
        ends the drain meanwhile, the command fails with 1, not with 2.
        """
        drain = {"draining": True, "by": "me (x)", "since": "2026-01-02T03:04:05Z", "jobs": 2, "paused": 0}
        stopping = refusal(503, "INTERRUPTED", "the daemon is stopping")
        for last, status in (({**drain, "jobs": 0}, 0), ({**drain, "draining": False}, 1)):
            self.fake.on("PUT", "/drain", Answer(drain))
            self.fake.on("GET", "/status", stopping, stopping, Answer({"drain": last}))
            outcome = run(["drain", "--wait", "--host", self.fake.url])
            self.assertEqual(outcome.status, status, outcome.err)
            self.assertEqual(outcome.err.count("the daemon does not answer; waiting up to 60 s"), 1)
            self.assertEqual("the drain was ended meanwhile" in outcome.err, status == 1)
