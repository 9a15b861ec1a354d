# -*- test-case-name: tests.ctl.display.test_plain -*-
"""
Tests for L{xferd.ctl.display.plain}.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import StringIO
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.display.test_progress import PINNED, play
from tests.ctl.fake_daemon import DIGEST, TARGET, job, layer, one_pull, one_push, transfer
from xferd.ctl.api import Event
from xferd.ctl.display.job_view import JobView
from xferd.ctl.display.plain import PlainLines
from xferd.ctl.display.progress import Progress, Result


class ChangeTests(SynchronousTestCase):
    """
    The lines for changes of a job.
    """

    def test_waits(self) -> None:
        """
        Plain lines show what a job without layers waits for, and a layer that waits for
        something else, once for each reason.
        """
        out = StringIO()
        display, view = PlainLines(out), JobView(job())

        def show(kind: str, data: dict[str, Any]) -> None:
            event = Event(kind, data, False)
            display.show_event(view, event, view.update(event))

        def reason(what: str) -> dict[str, Any]:
            return {"what": what, "whom": "hub.example", "since": None, "until": None, "place": None}

        for seconds in (40, 39):
            show("job", job(why=f"trying again in {seconds} s: 429", reason=reason("back-off")))
        show("job", job(why="", reason=None))
        show("layer", layer(1, "downloading"))
        for seconds in (3, 4):
            silent: dict[str, Any] = {"why": f"no bytes for {seconds} s", "reason": reason("silence")}
            show("layer", layer(1, "downloading", **silent))
            show("job", job(**silent))
        show("layer", layer(1, "downloading", why="", reason=None))
        self.assertEqual(
            out.getvalue().splitlines(),
            [
                "waiting: trying again in 40 s: 429",
                "0b0b0b0b0b0b: downloading (10.0 MB)",
                "0b0b0b0b0b0b: downloading (no bytes for 3 s)",
            ],
        )

    def test_warnings(self) -> None:
        """
        Plain lines show each warning once, at once and escaped.
        """
        out = StringIO()
        first = {"warnings": ["hub.example: gone \x1b[1msoon"]}
        both = {"warnings": [*first["warnings"], "hub.example: read this"]}
        lines = [
            json.dumps({"kind": "job", "data": job("running", **more), "final": False}).encode()
            for more in (first, first, both)
        ]
        play(PlainLines(out), lines)
        self.assertEqual(
            out.getvalue().splitlines()[:2],
            ["warning: hub.example: gone \\x1b[1msoon", "warning: hub.example: read this"],
        )
        self.assertEqual(out.getvalue().count("warning"), 2)

    def test_plain(self) -> None:
        """
        Plain lines show each change of a layer's state and its sharing once, and the digest
        last.
        """
        out = StringIO()
        play(PlainLines(out), one_pull())
        self.assertEqual(
            out.getvalue().splitlines(),
            [
                "0a0a0a0a0a0a: already exists",
                "0b0b0b0b0b0b: waiting",
                "0c0c0c0c0c0c: waiting",
                "0b0b0b0b0b0b: downloading (10.0 MB)",
                "0b0b0b0b0b0b: downloading (shared by 3)",
                "0c0c0c0c0c0c: downloading (10.0 MB)",
                "0b0b0b0b0b0b: unpacking (shared by 3)",
                "0b0b0b0b0b0b: registering",
                "0b0b0b0b0b0b: complete",
                "0c0c0c0c0c0c: complete",
                "docker.io/library/alpine:latest: 3 layers, 1 of which already existed, 30.0 MB",
                PINNED,
            ],
        )

    def test_plain_push(self) -> None:
        """
        A push has a line for each change of a blob's state, and the target's digest last.
        """
        out = StringIO()
        play(PlainLines(out), one_push())
        said = "4 blobs, 1 mounted, 1 already there, 20.0 MB of 40.0 MB sent"
        self.assertEqual(
            out.getvalue().splitlines(),
            [
                "0a0a0a0a0a0a: already there",
                "0b0b0b0b0b0b: waiting (slot 6 of 5)",
                "0c0c0c0c0c0c: waiting",
                "0d0d0d0d0d0d: waiting",
                "0b0b0b0b0b0b: mounted",
                "0c0c0c0c0c0c: uploading (10.0 MB)",
                "0d0d0d0d0d0d: uploading (10.0 MB)",
                "0d0d0d0d0d0d: uploading (shared by 2)",
                "0c0c0c0c0c0c: attempt 2 (connection reset)",
                "0c0c0c0c0c0c: done",
                "0d0d0d0d0d0d: done",
                f"docker.io/library/alpine:latest -> {TARGET}: {said}",
                f"{TARGET}@{DIGEST}",
            ],
        )

    def test_attempts(self) -> None:
        """
        A new attempt is shown once, with its reason.
        """
        out = StringIO()
        display, view = PlainLines(out), JobView(job())
        for event in (
            Event("layer", layer(1, "downloading"), False),
            Event("transfer", transfer(1, attempt=2, why="connection reset"), False),
            Event("transfer", transfer(1, attempt=2, bytes_done=5), False),
        ):
            display.show_event(view, event, view.update(event))
        self.assertEqual(
            out.getvalue().splitlines(),
            ["0b0b0b0b0b0b: downloading (10.0 MB)", "0b0b0b0b0b0b: attempt 2 (connection reset)"],
        )

    def test_copy(self) -> None:
        """
        A copy that ends soon has lines at its end alone, the path last.
        """
        out = StringIO()
        display = PlainLines(out)
        with display:
            for step in range(301):
                display.show(Progress("copying", step, 300, step / 300))
        display.finish(Result("/there", ("2 files",)))
        self.assertEqual(out.getvalue(), "2 files\n/there\n")


class StateTests(SynchronousTestCase):
    """
    The lines while nothing changes.
    """

    def setUp(self) -> None:
        """
        A display whose time does not pass by itself.
        """
        self.out = StringIO()
        self.clock = Clock()
        self.display = PlainLines(
            self.out, self.clock.seconds, lambda: datetime.fromtimestamp(self.clock.seconds(), UTC)
        )

    def wait(self, seconds: int) -> list[str]:
        """
        The lines of some seconds.
        """
        before = len(self.out.getvalue())
        for _ in range(seconds):
            self.clock.advance(1)
            self.display.tick()
        return self.out.getvalue()[before:].splitlines()

    def show(self, view: JobView, *events: tuple[str, dict[str, object]]) -> None:
        """
        Show events of a job.
        """
        for kind, data in events:
            event = Event(kind, data, False)
            self.display.show_event(view, event, view.update(event))

    def test_since(self) -> None:
        """
        A reason is followed by the time at which the wait began.
        """
        self.clock.advance(60)
        since = datetime.fromtimestamp(30, UTC)
        reason = {"what": "pause", "whom": "h", "since": since.isoformat(), "until": None, "place": None}
        view = JobView(job())
        why = f"h asked to wait (since {since.astimezone():%H:%M:%S})"
        self.show(view, ("job", job(why="h asked to wait", reason=reason)))
        self.assertEqual(self.out.getvalue(), f"waiting: {why}\n")
        self.assertIn(f"0 B of 30.0 MB, {why}", self.wait(10)[0])
        self.show(view, ("layer", layer(1, "waiting", why="h asked to wait", reason=reason)))
        self.assertIn(f"waiting ({why})", self.out.getvalue())

    def test_states(self) -> None:
        """
        While anything is under way there is a line at least every 15 seconds, and each is
        different.
        """
        view = JobView(job())
        self.assertEqual(self.wait(60), [])
        self.show(view, ("job", job(bytes_done=3_000_000)), ("layer", layer(1, "downloading")))
        self.show(view, ("layer", layer(2, why="slot 4 of 3")), ("transfer", transfer(1)))
        name = "docker.io/library/alpine:latest"
        said = f"{name}: 3.0 MB of 30.0 MB, 0 of 2 layers, 2.0 MB/s, 0:13 left"
        self.assertEqual(self.wait(9), [])
        self.assertEqual(self.wait(1), [said])
        self.assertEqual(
            self.wait(20), [f"{said} (no change for 10 seconds)", f"{said} (no change for 20 seconds)"]
        )
        self.show(view, ("transfer", transfer(1, rate=0)), ("layer", layer(1, "waiting", why="slow line")))
        self.assertEqual(self.wait(15), [f"{name}: 3.0 MB of 30.0 MB, 0 of 2 layers, slow line"])
        self.show(view, ("job", job(why="docker.io asked to wait 40 s", bytes_done=3_000_000)))
        self.assertEqual(
            self.wait(10), [f"{name}: 3.0 MB of 30.0 MB, 0 of 2 layers, docker.io asked to wait 40 s"]
        )
        self.show(view, ("job", job("done")))
        self.assertEqual(self.wait(60), [])

    def test_lines_of_changes_count(self) -> None:
        """
        A line about a change is as good as one about the state.
        """
        view = JobView(job())
        self.show(view, ("job", job()))
        self.wait(9)
        self.show(view, ("layer", layer(1, "downloading")))
        self.assertEqual(self.wait(9), [])
        self.assertEqual(len(self.wait(1)), 1)

    def test_before_layers(self) -> None:
        """
        Before the layers are known, the state is the job's.
        """
        view = JobView(job())
        self.show(view, ("job", job(bytes_total=0, why="quay.io asked to wait 40 s")))
        self.assertEqual(
            self.wait(10), ["docker.io/library/alpine:latest: running, quay.io asked to wait 40 s"]
        )

    def test_lost(self) -> None:
        """
        While the daemon does not answer, the lines say so.
        """
        view = JobView(job())
        self.show(view, ("job", job()))
        self.display.note("the daemon does not answer")
        self.assertEqual(
            self.wait(20),
            [f"the daemon does not answer (no change for {seconds} seconds)" for seconds in (10, 20)],
        )
        self.show(view, ("job", job(bytes_done=1)))
        self.assertIn("1 B of 30.0 MB", self.wait(10)[0])

    def test_copy(self) -> None:
        """
        A copy that takes long has lines, too.
        """
        self.display.show(Progress("copying", 3_000_000, 4_000_000, 0.5, "1/2 files"))
        self.assertEqual(self.wait(10), ["copying: 3.0 MB of 4.0 MB, 1/2 files"])

    def test_thread(self) -> None:
        """
        The lines come while the daemon is silent, and end with the work.
        """
        with self.display:
            self.assertTrue(self.display._thread.is_alive())
        self.assertFalse(self.display._thread.is_alive())
