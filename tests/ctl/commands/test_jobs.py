# -*- test-case-name: tests.ctl.commands.test_jobs -*-
"""
Tests for L{xferd.ctl.commands.jobs}.
"""

from __future__ import annotations

import os

from tests.ctl.commands.case import CommandCase
from tests.ctl.fake_daemon import (
    DIGEST,
    TARGET,
    TIMING,
    Answer,
    blob,
    job,
    layer,
    push_job,
    refusal,
    transfer,
)
from tests.ctl.run import run
from xferd.ctl.client import client_name

FAILED = job(
    "failed",
    error={"code": "DENIED", "message": "no \x1b[31maccess"},
    warnings=["hub.example: gone soon", "hub.example: read this"],
)


class JobsTests(CommandCase):
    """
    Tests for C{xferctl jobs}, C{job} and C{cancel}.
    """

    def test_jobs(self) -> None:
        """
        Running jobs are listed with their progress. --all lists every job, page by page,
        failed ones with their codes.
        """
        jobs = [job(bytes_done=5_000_000), FAILED, job("queued", bytes_total=None)]
        self.fake.on("GET", "/jobs", Answer(jobs))
        link = {"Link": '</api/v1/jobs?limit=500&after=1%7Ea>; rel="next"'}
        self.fake.on("GET", "/jobs?limit=500", Answer(jobs[:2], headers=link))
        self.fake.on("GET", "/jobs?limit=500&after=1%7Ea", Answer(jobs[2:]))
        lines = self.lines("jobs")
        self.assertEqual([line[2] for line in lines], ["STATE", "running", "queued"])
        self.assertEqual(lines[1][4:7], ["5.0/30.0", "MB", "me@here"])
        lines = self.lines("jobs", "--all")
        self.assertEqual([line[2] for line in lines], ["STATE", "running", "failed", "queued"])
        self.assertEqual(lines[2][-3:], ["no", "\\x1b[31maccess", "(DENIED)"])
        self.assertEqual(len(self.objects("jobs")), 2)
        self.assertEqual(len(self.objects("jobs", "-a")), 3)

    def test_filters(self) -> None:
        """
        Jobs are selected by state, kind, registry and client.  A state in which jobs have ended
        selects from all jobs.
        """
        copy = push_job(id="j2", kind="copy", client="you@there")
        failed = {**FAILED, "id": "j3"}
        self.fake.on("GET", "/jobs", Answer([job(), copy, failed]))
        self.fake.on("GET", "/jobs?limit=500", Answer([failed]))
        mine = client_name(os.geteuid())
        for options, ids in (
            (("--kind", "copy", "--kind", "push"), ["j2"]),
            (("--host", "docker.io"), ["j1", "j2"]),
            (("--host", "registry.example.com:5000"), ["j2"]),
            (("--state", "running", "--kind", "pull"), ["j1"]),
            (("--state", "queued,running", "--kind", "pull,import"), ["j1"]),
            (("--state", "failed"), ["j3"]),
            (("--mine",), []),
        ):
            self.assertEqual([each["id"] for each in self.objects("jobs", *options)], ids, options)
        self.fake.on("GET", "/jobs", Answer([job(), {**copy, "client": mine}]))
        self.assertEqual([each["id"] for each in self.objects("jobs", "--mine")], ["j2"])

    def test_prefix(self) -> None:
        """
        The first characters of an ID name its job, if no other ID begins with them.
        """
        self.fake.on("GET", "/jobs/60", Answer(job(id="60aa0a9e1b77")))
        self.fake.on("DELETE", "/jobs/5f3d", Answer(job("cancelled", id="5f3d0a9e1b77")))
        several = refusal(409, "AMBIGUOUS_ID", "several jobs have IDs that begin with '5f3': 5f3c, 5f3d")
        self.fake.on("DELETE", "/jobs/5f3", several)
        self.assertEqual(self.lines("job", "60")[0], ["job:", "60aa0a9e1b77"])
        self.assertEqual(self.lines("cancel", "5f3d")[0], ["job:", "5f3d0a9e1b77"])
        outcome = run(["cancel", "5f3", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.out), (2, ""))
        self.assertIn("begin with '5f3': 5f3c, 5f3d", outcome.err)
        for prefix in ("9", ""):
            outcome = run(["cancel", prefix, "--host", self.fake.url])
            self.assertEqual((outcome.status, outcome.out), (1, ""))

    def test_jobs_of_all_kinds(self) -> None:
        """
        Each job is listed with its kind and its destination.
        """
        self.fake.on("GET", "/jobs", Answer([push_job(), push_job(kind="copy"), job()]))
        lines = self.lines("jobs")
        self.assertEqual([line[1] for line in lines], ["KIND", "push", "copy", "pull"])
        self.assertEqual(lines[1][3:6], ["docker.io/library/alpine:latest", "->", TARGET])
        self.assertEqual(lines[3][3:5], ["docker.io/library/alpine:latest", "0"])

    def test_follow_has_no_forms(self) -> None:
        """
        Progress is not printed as YAML or by a template.
        """
        for form in (("-o", "yaml"), ("--format", "{{.id}}")):
            self.assertEqual(run(["job", "j1", "--follow", *form, "--host", self.fake.url]).status, 2)
        self.assertEqual(self.fake.requests, [])

    def test_push(self) -> None:
        """
        A push shows its target, its blobs and its result.
        """
        blobs = [blob(0, "exists", transfer=None), blob(1, "mounted")]
        self.fake.on("GET", "/jobs/j1", Answer({**push_job("done"), "layers": blobs}))
        lines = self.lines("job", "j1")
        self.assertIn(["target:", TARGET], lines)
        self.assertIn(["pushed:", f"{TARGET}@{DIGEST}"], lines)
        self.assertEqual(lines[-3], ["BLOB", "STATE", "PROGRESS", "TRANSFER", "WHY"])
        self.assertEqual([line[1] for line in lines[-2:]], ["already", "mounted"])

    def test_job(self) -> None:
        """
        A job is shown in full with its layers; control characters are escaped.
        """
        layers = [layer(0, "exists", transfer=None), layer(1, "failed", why="no\naccess")]
        self.fake.on("GET", "/jobs/j1", Answer({**FAILED, "layers": layers}))
        outcome = run(["job", "j1", "--host", self.fake.url])
        self.assertIn("error:      no \\x1b[31maccess (DENIED)\n", outcome.out)
        self.assertIn("warning:    hub.example: gone soon\nwarning:    hub.example: read this", outcome.out)
        self.assertNotIn("finished:", outcome.out)
        self.assertTrue(outcome.out.endswith("t1        no\\naccess\n"))
        self.assertEqual(self.objects("job", "j1"), [{**FAILED, "layers": layers}])

    def test_job_pace(self) -> None:
        """
        A job that runs shows its rate and the time left, from its transfers; none that no bytes move
        for, that has ended, or whose daemon does not select transfers by job.
        """
        layers = [layer(1, "downloading", bytes_done=4_000_000), layer(2)]
        shown = job(bytes_done=6_000_000, layers=layers)
        self.fake.on("GET", "/jobs/j1", Answer(shown))
        self.fake.on("GET", "/transfers?job=j1", Answer([transfer(1), transfer(2, state="queued", rate=0)]))
        self.assertIn(["rate:", "2.0", "MB/s,", "0:12", "left"], self.lines("job", "j1"))
        for answer in (Answer([transfer(1, rate=0)]), refusal(400, "BAD_INPUT", "unknown parameter 'job'")):
            self.fake.on("GET", "/transfers?job=j1", answer)
            self.assertNotIn("rate:", [line[0] for line in self.lines("job", "j1") if line])
        self.fake.on("GET", "/jobs/j1", Answer({**shown, "state": "done"}))
        self.fake.on("GET", "/transfers?job=j1", Answer([transfer(1)]))
        self.assertNotIn("rate:", [line[0] for line in self.lines("job", "j1") if line])

    def test_job_attempts(self) -> None:
        """
        The job's attempts follow, each with its end and its error.
        """
        tried = {
            "transfer": "t1",
            "kind": "download",
            "digest": DIGEST,
            "source": "r.example/app",
            "attempt": 1,
            "started": "2026-01-02T03:04:05.000Z",
            "finished": "2026-01-02T03:04:06.500Z",
            "bytes_done": 1500,
            "code": "TIMED_OUT",
            "error": "no\nword",
        }
        again = {**tried, "attempt": 2, "code": None, "error": None, "finished": "late", "bytes_moved": 400}
        shown = job("done", transfers=["t1"])
        self.fake.on("GET", "/jobs/j1", Answer(shown))
        self.fake.on("GET", "/jobs/j1/attempts", Answer([tried, again]))
        lines = self.lines("job", "j1")
        self.assertEqual(lines[-3][:3], ["ATTEMPT", "KIND", "DIGEST"])
        self.assertEqual(lines[-2][:3], ["1", "download", "0123456789ab"])
        told = ["1.5", "s", "1.5", "kB", "r.example/app", "no\\nword", "(TIMED_OUT)"]
        self.assertEqual(lines[-2][4:], told)
        self.assertEqual(lines[-1][3:], ["late", "400", "B", "r.example/app", "done"])
        self.assertEqual(self.objects("job", "j1"), [{**shown, "attempts": [tried, again]}])

    def test_job_timing(self) -> None:
        """
        A job that has ended shows where its time went.
        """
        self.fake.on("GET", "/jobs/j1", Answer(job("done", timing=TIMING)))
        outcome = run(["job", "j1", "--host", self.fake.url])
        for line in (
            "took:       4 min 2 s\n",
            "phases:     resolving 0.6 s, waiting 42 s, moving 3 min 9 s\n",
            "moved:      397 MB received, 88.0 MB saved, 2.1 MB/s on average\n",
            "bounded by: moving 78 % of 4 min 2 s: the line; ghcr.io sent 2.1 MB/s",
        ):
            self.assertIn(line, outcome.out)

    def test_job_done(self) -> None:
        """
        A job that is done shows its result.
        """
        self.fake.on("GET", "/jobs/j1", Answer(job("done")))
        self.assertIn(["pulled:", f"docker.io/library/alpine:latest@{DIGEST}"], self.lines("job", "j1"))

    def test_cancel(self) -> None:
        """
        A job is cancelled, and its state is printed.
        """
        self.fake.on("DELETE", "/jobs/j1", Answer(job("cancelled")))
        self.assertEqual(self.lines("cancel", "j1"), [["job:", "j1"], ["state:", "cancelled"]])
        self.assertEqual(self.fake.requests, [("DELETE", "/api/v1/jobs/j1", None)])
