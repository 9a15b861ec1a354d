# -*- test-case-name: tests.ctl.test_display -*-
"""
Tests for L{xferd.ctl.display}.
"""

from __future__ import annotations

import json
from io import StringIO

from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.daemon import DIGEST, job, layer, one_pull, transfer
from xferd.ctl.client import Event
from xferd.ctl.display import Display, JsonLines, PlainLines, Quiet, summary
from xferd.ctl.view import PullView

PINNED = f"docker.io/library/alpine:latest@{DIGEST}"


def play(display: Display, lines: list[bytes]) -> PullView:
    """
    Show the events of a whole pull.
    """
    view = PullView(job("queued"))
    with display:
        for line in lines:
            if line.strip():
                event = Event(**json.loads(line))
                display.show(view, event, view.take(event))
    display.finish(view)
    return view


class DisplayTests(SynchronousTestCase):
    """
    Tests for the displays that need no terminal.
    """

    def test_quiet(self) -> None:
        """
        In quiet all that is said is what was pulled.
        """
        out = StringIO()
        play(Quiet(out), one_pull())
        self.assertEqual(out.getvalue(), f"{PINNED}\n")

    def test_json(self) -> None:
        """
        As JSON, each event is one line, as it came.
        """
        out = StringIO()
        play(JsonLines(out), one_pull())
        sent = [json.loads(line) for line in one_pull() if line.strip()]
        self.assertEqual([json.loads(line) for line in out.getvalue().splitlines()], sent)

    def test_plain(self) -> None:
        """
        Plain lines tell each change of state once, that a layer is shared, and
        the digest last.
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

    def test_attempts(self) -> None:
        """
        A new attempt is told once, with its reason.
        """
        out = StringIO()
        display, view = PlainLines(out), PullView(job())
        for event in (
            Event("layer", layer(1, "downloading"), False),
            Event("transfer", transfer(1, attempt=2, why="connection reset"), False),
            Event("transfer", transfer(1, attempt=2, bytes_done=5), False),
        ):
            display.show(view, event, view.take(event))
        self.assertEqual(
            out.getvalue().splitlines(),
            ["0b0b0b0b0b0b: downloading (10.0 MB)", "0b0b0b0b0b0b: attempt 2 (connection reset)"],
        )

    def test_summary(self) -> None:
        """
        The sum names how many layers there are, and how many there were.
        """
        name = "docker.io/library/alpine:latest"
        self.assertEqual(summary(PullView(job("done"))), f"{name}: 0 layers, 30.0 MB")
        two = job("done", layers=[layer(0, "exists"), layer(1, "exists")])
        self.assertEqual(summary(PullView(two)), f"{name}: 2 layers, all of which already existed, 30.0 MB")
        one = job("done", layers=[layer(0, "exists")])
        self.assertEqual(summary(PullView(one)), f"{name}: 1 layer, which already existed, 30.0 MB")
