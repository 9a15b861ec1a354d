# -*- test-case-name: tests.ctl.display.test_progress -*-
"""
Tests for L{xferd.ctl.display.progress}.
"""

from __future__ import annotations

import json
from io import StringIO

from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.fake_daemon import DIGEST, TARGET, blob, job, layer, one_pull, push_job
from xferd.ctl.api import Event
from xferd.ctl.client import LOST
from xferd.ctl.display.job_view import JobView
from xferd.ctl.display.progress import (
    JsonLines,
    Progress,
    ProgressDisplay,
    Quiet,
    Result,
    job_result,
    summary,
)

PINNED = f"docker.io/library/alpine:latest@{DIGEST}"


def play(display: ProgressDisplay, lines: list[bytes]) -> JobView:
    """
    Show the events of a whole pull.
    """
    view = JobView({**json.loads(lines[0])["data"], "state": "queued"})
    with display:
        for line in lines:
            if line.strip():
                event = Event(**json.loads(line))
                display.show_event(view, event, view.update(event))
    display.finish(job_result(view))
    return view


class DisplayTests(SynchronousTestCase):
    """
    The displays without a terminal, for a job.
    """

    def test_quiet(self) -> None:
        """
        With --quiet the result is printed alone.
        """
        out = StringIO()
        play(Quiet(out), one_pull())
        self.assertEqual(out.getvalue(), f"{PINNED}\n")

    def test_json(self) -> None:
        """
        As JSON each event is one line, unchanged.
        """
        out = StringIO()
        play(JsonLines(out, "pull"), one_pull())
        sent = [json.loads(line) for line in one_pull() if line.strip()]
        self.assertEqual([json.loads(line) for line in out.getvalue().splitlines()], sent)

    def test_json_lost(self) -> None:
        """
        As JSON, too, a daemon that does not answer is reported.
        """
        out, view = StringIO(), JobView(job())
        JsonLines(out, "pull").lost(view, [])
        self.assertEqual(json.loads(out.getvalue()), {"kind": "lost", "data": {"why": LOST}, "final": False})

    def test_summary(self) -> None:
        """
        The summary has the number of layers, and of those that existed before.
        """
        name = "docker.io/library/alpine:latest"
        self.assertEqual(summary(JobView(job("done"))), f"{name}: 0 layers, 30.0 MB")
        two = job("done", layers=[layer(0, "exists"), layer(1, "exists")])
        self.assertEqual(summary(JobView(two)), f"{name}: 2 layers, all of which already existed, 30.0 MB")
        one = job("done", layers=[layer(0, "exists")])
        self.assertEqual(summary(JobView(one)), f"{name}: 1 layer, which already existed, 30.0 MB")

    def test_verdict(self) -> None:
        """
        The line on what bounded the job is before its name, which stays the last one.
        """
        bound = {"text": "moving 78 % of 4 min 2 s: the line"}
        done = job_result(JobView(job("done", timing={"bound": bound})))
        self.assertEqual((done.lines[-1], done.name), (bound["text"], PINNED))
        timing = {"bytes_received": 397e6, "bytes_saved": 88e6, "rate": 2.1e6, "bound": bound}
        moved = "397 MB received, 88.0 MB saved, 2.1 MB/s on average"
        done = job_result(JobView(job("done", timing=timing)))
        self.assertEqual(done.lines[-2:], (moved, bound["text"]))
        verified = job_result(JobView(job("done", kind="verify", timing=timing)))
        self.assertEqual(verified.lines, (moved, bound["text"]))
        quick = job_result(JobView(job("done", timing={"bound": None})))
        self.assertEqual(len(quick.lines), 1)

    def test_summary_of_sending(self) -> None:
        """
        The summary of a push or a copy has the bytes that were sent.
        """
        name = "docker.io/library/alpine:latest"
        there = push_job("done", target=name, layers=[blob(0, "exists"), blob(1, "exists")])
        self.assertEqual(summary(JobView(there)), f"{name}: 2 blobs, 2 already there, 0 B of 30.0 MB sent")
        all_sent = push_job("done", kind="copy", layers=[blob(0, "done")], bytes_total=10_000_000)
        self.assertEqual(summary(JobView(all_sent)), f"{name} -> {TARGET}: 1 blob, 10.0 MB of 10.0 MB sent")


class CopyTests(SynchronousTestCase):
    """
    The displays without a terminal, for a copy or download.
    """

    RESULT = Result("/there", ("2 files",), {"path": "/there"})

    def show(self, display: ProgressDisplay) -> None:
        """
        Show a copy in three hundred steps.
        """
        with display:
            display.show(Progress("reading layers", 0, 0, None))
            for step in range(301):
                display.show(Progress("copying", step, 300, step / 300, counts={"bytes_done": step}))
        display.finish(self.RESULT)

    def test_quiet(self) -> None:
        """
        With C{--quiet} only the path is printed.
        """
        out = StringIO()
        self.show(Quiet(out))
        self.assertEqual(out.getvalue(), "/there\n")

    def test_json(self) -> None:
        """
        JSON lines report each hundredth once, and the result last.
        """
        out = StringIO()
        self.show(JsonLines(out, "unpack"))
        *lines, last = [json.loads(line) for line in out.getvalue().splitlines()]
        self.assertEqual({line["kind"] for line in lines}, {"unpack"})
        self.assertEqual(len(lines), 101)
        self.assertEqual(lines[-1]["data"], {"state": "running", "bytes_done": 300})
        self.assertEqual(last, {"kind": "unpack", "data": {"state": "done", "path": "/there"}, "final": True})
