# -*- test-case-name: tests.ctl.commands.test_listing -*-
"""
Tests for L{xferd.ctl.commands.listing} and L{xferd.ctl.session}.
"""

from __future__ import annotations

import json
import os
import pty
from datetime import UTC, datetime
from typing import Any

from tests.ctl.fake_daemon import DIGEST, TARGET, Answer, DaemonTestCase, blob, job, layer, push_job, transfer
from tests.ctl.run import run
from xferd.ctl.session import Printer

IMAGE = {
    "reference": "docker.io/library/alpine:latest",
    "digest": DIGEST,
    "image_id": DIGEST,
    "resolved": DIGEST,
    "source": "docker.io/library/alpine",
    "size": 41_200_000,
    "created": "2026-01-02T03:04:05Z",
    "layers": [{"digest": DIGEST, "size": 1500, "media_type": "a/layer"}],
}

FAILED = job(
    "failed",
    error={"code": "DENIED", "message": "no \x1b[31maccess"},
    warnings=["hub.example: gone soon", "hub.example: read this"],
)


class CommandTests(DaemonTestCase):
    """
    Tests for the commands that look, and C{cancel}.
    """

    def lines(self, *argv: str) -> list[list[str]]:
        """
        What a command prints, in words.
        """
        outcome = run([*argv, "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        return [line.split() for line in outcome.out.splitlines()]

    def objects(self, *argv: str) -> list[Any]:
        """
        What a command prints as JSON lines.
        """
        outcome = run([*argv, "--json", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        return [json.loads(line) for line in outcome.out.splitlines()]

    def test_images(self) -> None:
        """
        Images are listed by name, with digests in short.
        """
        self.fake.on("GET", "/images", Answer([IMAGE]))
        heads, row = self.lines("images")
        self.assertEqual(heads, ["REFERENCE", "DIGEST", "IMAGE", "ID", "LAYERS", "SIZE", "PULLED"])
        self.assertEqual(row[:6], [IMAGE["reference"], "0123456789ab", "0123456789ab", "1", "41.2", "MB"])
        self.assertEqual(row[-1], "ago")
        self.assertEqual(self.objects("images"), [IMAGE])

    def test_inspect(self) -> None:
        """
        One image is told in full.
        """
        self.fake.on("GET", "/images/alpine", Answer(IMAGE))
        lines = self.lines("inspect", "alpine")
        self.assertIn(["digest:", DIGEST], lines)
        self.assertEqual(lines[-2:], [["LAYER", "SIZE", "TYPE"], [DIGEST, "1.5", "kB", "a/layer"]])
        self.assertEqual(self.objects("inspect", "alpine"), [IMAGE])

    def test_inspect_for_a_platform(self) -> None:
        """
        The daemon is told for what platform the image has to be.
        """
        self.fake.on("GET", "/images/alpine?platform=linux/arm%2Bx", Answer(IMAGE))
        self.assertEqual(self.objects("inspect", "alpine", "--platform", "linux/arm+x"), [IMAGE])

    def test_jobs(self) -> None:
        """
        Jobs that run are listed with their progress; of all, page by page,
        those that failed with their codes.
        """
        jobs = [job(bytes_done=5_000_000), FAILED, job("queued", bytes_total=None)]
        self.fake.on("GET", "/jobs", Answer(jobs))
        link = {"Link": '</api/v1/jobs?limit=500&after=1%7Ea>; rel="next"'}
        self.fake.on("GET", "/jobs?limit=500", Answer(jobs[:2], headers=link))
        self.fake.on("GET", "/jobs?limit=500&after=1%7Ea", Answer(jobs[2:]))
        lines = self.lines("jobs")
        self.assertEqual([line[2] for line in lines], ["STATE", "running", "queued"])
        self.assertEqual(lines[1][4:10], ["5.0", "MB", "of", "30.0", "MB", "me@here"])
        lines = self.lines("jobs", "--all")
        self.assertEqual([line[2] for line in lines], ["STATE", "running", "failed", "queued"])
        self.assertEqual(lines[2][4], "DENIED")
        self.assertEqual(len(self.objects("jobs")), 2)
        self.assertEqual(len(self.objects("jobs", "-a")), 3)

    def test_jobs_of_all_kinds(self) -> None:
        """
        Each job is listed with its kind and where it goes.
        """
        self.fake.on("GET", "/jobs", Answer([push_job(), push_job(kind="copy"), job()]))
        lines = self.lines("jobs")
        self.assertEqual([line[1] for line in lines], ["KIND", "push", "copy", "pull"])
        self.assertEqual(lines[1][3:6], ["docker.io/library/alpine:latest", "->", TARGET])
        self.assertEqual(lines[3][3:5], ["docker.io/library/alpine:latest", "0"])

    def test_push(self) -> None:
        """
        Of a push, its target is told, its blobs, and what is there now.
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
        One job is told in full, layer by layer, harmlessly.
        """
        layers = [layer(0, "exists", transfer=None), layer(1, "failed", why="no\naccess")]
        self.fake.on("GET", "/jobs/j1", Answer({**FAILED, "layers": layers}))
        outcome = run(["job", "j1", "--host", self.fake.url])
        self.assertIn("error:      no \\x1b[31maccess (DENIED)\n", outcome.out)
        self.assertIn("warning:    hub.example: gone soon\nwarning:    hub.example: read this", outcome.out)
        self.assertNotIn("finished:", outcome.out)
        self.assertTrue(outcome.out.endswith("t1        no\\naccess\n"))
        self.assertEqual(self.objects("job", "j1"), [{**FAILED, "layers": layers}])

    def test_job_attempts(self) -> None:
        """
        The attempts behind a job follow, each with its end and its reason.
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
        again = {**tried, "attempt": 2, "code": None, "error": None, "finished": "late"}
        shown = job("done", transfers=["t1"])
        self.fake.on("GET", "/jobs/j1", Answer(shown))
        self.fake.on("GET", "/jobs/j1/attempts", Answer([tried, again]))
        lines = self.lines("job", "j1")
        self.assertEqual(lines[-3][:3], ["ATTEMPT", "KIND", "DIGEST"])
        self.assertEqual(lines[-2][:3], ["1", "download", "0123456789ab"])
        told = ["1.5", "s", "1.5", "kB", "r.example/app", "no\\nword", "(TIMED_OUT)"]
        self.assertEqual(lines[-2][4:], told)
        self.assertEqual(lines[-1][3:], ["late", "1.5", "kB", "r.example/app", "done"])
        self.assertEqual(self.objects("job", "j1"), [{**shown, "attempts": [tried, again]}])

    def test_job_done(self) -> None:
        """
        A job that is done tells what it gave.
        """
        self.fake.on("GET", "/jobs/j1", Answer(job("done")))
        self.assertIn(["pulled:", f"docker.io/library/alpine:latest@{DIGEST}"], self.lines("job", "j1"))

    def test_cancel(self) -> None:
        """
        A job is cancelled, and its state is told.
        """
        self.fake.on("DELETE", "/jobs/j1", Answer(job("cancelled")))
        self.assertEqual(self.lines("cancel", "j1"), [["job:", "j1"], ["state:", "cancelled"]])
        self.assertEqual(self.fake.requests, [("DELETE", "/api/v1/jobs/j1", None)])

    def test_transfers(self) -> None:
        """
        Transfers are listed with how many share them and what they wait for.
        """
        waiting = transfer(2, rate=0, bytes_total=None, why="slot 4 of 3")
        self.fake.on("GET", "/transfers", Answer([transfer(1, watchers=3), waiting]))
        _, first, second = self.lines("transfers")
        self.assertEqual(first[4:12], ["3", "4.0", "MB", "of", "10.0", "MB", "2.0", "MB/s"])
        self.assertEqual(second[5:], ["4.0", "MB", "docker.io/library/alpine", "slot", "4", "of", "3"])
        self.assertEqual(len(self.objects("transfers")), 2)


class PrinterTests(DaemonTestCase):
    """
    Tests for L{Printer} on a terminal.
    """

    def test_width(self) -> None:
        """
        A table is as wide as the terminal, if that has a width.
        """
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        with open(theirs, "w") as terminal:
            self.assertIsNone(Printer(terminal, datetime.now(UTC), as_json=False).width)
            os.system(f"stty cols 33 < {os.ttyname(theirs)}")
            printer = Printer(terminal, datetime.now(UTC), as_json=False)
            self.assertEqual(printer.width, 33)
            printer.rows([], ("A", "B"), [("x" * 60, "y" * 60)])
            terminal.flush()
            lines = os.read(ours, 4096).decode().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertEqual(len(lines[1]), 33)
