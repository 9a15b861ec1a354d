# -*- test-case-name: tests.ctl.display.test_bars -*-
"""
Tests for L{xferd.ctl.display.bars}.
"""

from __future__ import annotations

import os
import termios
from io import StringIO

from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.display.test_progress import PINNED, play
from tests.ctl.fake_daemon import DIGEST, TARGET, blob, job, layer, one_pull, one_push, push_job, transfer
from tests.ctl.run import Terminal
from xferd.ctl.api import Event
from xferd.ctl.display.bars import Bars, Picture
from xferd.ctl.display.job_view import JobView
from xferd.ctl.display.progress import Progress

HOSTILE = "\x1b[31mred [bold]x[/bold]"


class BarsTests(SynchronousTestCase):
    """
    Tests for L{Picture} and L{Bars}.
    """

    def picture(self, events: list[Event], width: int, height: int = 24) -> list[str]:
        """
        The output on a terminal of a size after some events.
        """
        out = StringIO()
        console = Console(file=out, width=width, height=height, color_system=None)
        picture = Picture(console)
        view = JobView(job("queued"))
        for event in events:
            picture.show_job("total", view, view.update(event))
        console.print(picture.text())
        return [line.rstrip() for line in out.getvalue().rstrip("\n").splitlines()]

    def some(self) -> list[Event]:
        """
        The events of an incomplete pull.
        """
        return [
            Event("job", job(bytes_done=12_000_000), False),
            Event("layer", layer(0, "exists", transfer=None), False),
            Event("layer", layer(1, "downloading", bytes_done=5_000_000), False),
            Event("transfer", transfer(1, watchers=3), False),
            Event("layer", layer(2, why="slot 4 of 3"), False),
        ]

    def test_wide(self) -> None:
        """
        A wide terminal shows bars, rates, reasons and sharing.
        """
        self.assertEqual(
            self.picture(self.some(), 80),
            [
                "0a0a0a0a0a0a already exists                     10.0 MB",
                "0b0b0b0b0b0b downloading    ━━━━━╸          5.0/10.0 MB 2.0 MB/s, shared by 3",
                "0c0c0c0c0c0c waiting                            10.0 MB slot 4 of 3",
                "total        1/3 layers     ━━━━           12.0/30.0 MB 2.0 MB/s, 0:09 left",
            ],
        )

    def test_waits(self) -> None:
        """
        A job without layers shows what it waits for, and since when, in its total.
        """
        since = "2026-01-02T03:04:05Z"
        reason = {"what": "back-off", "whom": "hub.example", "since": since, "until": "x", "place": None}
        waiting = job(why="trying again in 40 s: 429", reason=reason, bytes_total=0)
        shown = self.picture([Event("job", waiting, False)], 100)
        self.assertRegex(shown[0], "^total +waiting ")
        self.assertRegex(" ".join(shown), r"trying again in 40 s: 429 \(since 2026-01-0. ..:..:05\)")

    def test_lost(self) -> None:
        """
        When the daemon is gone, no rate and no time is shown.
        """
        shown = self.picture([*self.some(), Event("lost", {}, False)], 80)
        self.assertEqual(len(shown), 4)
        self.assertNotIn("/s", "".join(shown))
        self.assertNotIn("left", "".join(shown))

    def test_push(self) -> None:
        """
        A push has bars for blobs that are sent, and none for others.
        """
        events = [
            Event("job", push_job(bytes_total=40_000_000, bytes_done=25_000_000), False),
            Event("layer", blob(0, "exists"), False),
            Event("layer", blob(1, "mounted"), False),
            Event("layer", blob(2, "uploading", bytes_done=5_000_000), False),
            Event("transfer", transfer(2, kind="upload"), False),
            Event("layer", blob(3, why="slot 6 of 5"), False),
        ]
        self.assertEqual(
            self.picture(events, 80),
            [
                "0a0a0a0a0a0a already there                      10.0 MB",
                "0b0b0b0b0b0b mounted                            10.0 MB",
                "0c0c0c0c0c0c uploading      ━━━━━╸          5.0/10.0 MB 2.0 MB/s",
                "0d0d0d0d0d0d waiting                            10.0 MB slot 6 of 5",
                "total        2/4 blobs      ━━━━━━╸        25.0/40.0 MB 2.0 MB/s, 0:07 left",
            ],
        )

    def test_very_wide(self) -> None:
        """
        The width of bars is limited.
        """
        lines = self.picture(self.some(), 200)
        self.assertIn("━" * 20, lines[1])
        self.assertLess(max(map(len, lines)), 120)

    def test_narrow(self) -> None:
        """
        40 columns show names, states and sizes, and reasons below them.
        """
        self.assertEqual(
            self.picture(self.some(), 40),
            [
                "0a0a0a0 already exists         10.0 MB",
                "0b0b0b0 downloading        5.0/10.0 MB",
                "0c0c0c0 waiting                10.0 MB",
                "    slot 4 of 3",
                "total   1/3 layers        12.0/30.0 MB",
            ],
        )

    def test_every_width(self) -> None:
        """
        At any width each layer has one line, no line is too long, and no reason is shortened.
        The terminal can write C{^C} behind each line.
        """
        long = "registry.example.com:5000 asked to wait 40 s, as all clients here made too many requests"
        for reason in ("slot 4 of 3", long):
            events = [*self.some(), Event("layer", layer(2, why=reason), False)]
            for width in (*range(40, 100), 120, 132, 200):
                lines = self.picture(events, width)
                beginnings = [line.split()[0] for line in lines if not line.startswith(" ")]
                self.assertEqual(len(beginnings), 4, f"{width} columns: {lines}")
                self.assertLessEqual(max(map(len, lines)), width - len("^C"))
                self.assertIn(reason, " ".join(" ".join(lines).split()))
                self.assertEqual(lines[-1].split()[0], "total")

    def test_waiting_job(self) -> None:
        """
        The reason why a job waits as a whole is shown with its total.
        """
        lines = self.picture([Event("job", job(bytes_total=0, why="quay.io asked to wait 40 s"), False)], 80)
        self.assertEqual(len(lines), 2)
        self.assertRegex(lines[0], "^total +waiting +")
        self.assertEqual(lines[1], "    quay.io asked to wait 40 s")

    def test_failed(self) -> None:
        """
        A failed layer keeps its bar, and the total of a failed job has neither rate nor time left.
        """
        events = [
            *self.some(),
            Event("layer", layer(1, "failed", bytes_done=5_000_000, why="connection reset"), True),
            Event("job", job("failed", bytes_done=12_000_000), True),
        ]
        lines = self.picture(events, 80)
        self.assertEqual(lines[1], "0b0b0b0b0b0b failed         ━━━━━╸          5.0/10.0 MB connection reset")
        self.assertEqual(lines[-1], "total        failed         ━━━━           12.0/30.0 MB")
        out = StringIO()
        console = Console(file=out, width=80, force_terminal=True, color_system="standard")
        picture, view = Picture(console), JobView(job("queued"))
        for event in events:
            picture.show_job("total", view, view.update(event))
        console.print(picture.text())
        self.assertRegex(out.getvalue(), "total +\x1b\\[31mfailed +\x1b\\[0m \x1b\\[31m━━━━")

    def test_interrupted(self) -> None:
        """
        After Ctrl-C nothing looks as if it went on.
        """
        out = StringIO()
        console = Console(file=out, width=80, height=24, color_system=None)
        picture, view = Picture(console), JobView(job("queued"))
        for event in self.some():
            picture.show_job("total", view, view.update(event))
        picture.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        states = [str(line).split()[1] for line in picture.text().split("\n")]
        self.assertEqual(states, ["already", "interrupted", "interrupted", "interrupted"])

    def test_low(self) -> None:
        """
        If there are more layers than lines, those that have not ended are shown, then the
        newest of the others, and the total always.
        """
        states = ["exists", "done", "downloading", "done", "waiting"]
        events = [Event("layer", layer(n, state), False) for n, state in enumerate(states)]
        names = [line.split()[0] for line in self.picture(events, 80, 5)]
        self.assertEqual(names, ["0d" * 6, "0c" * 6, "0e" * 6, "total"])
        names = [line.split()[0] for line in self.picture(events, 80, 3)]
        self.assertEqual(names, ["0c" * 6, "total"])
        self.assertEqual([line.split()[0] for line in self.picture(events, 80, 1)], ["total"])

    def test_before_layers(self) -> None:
        """
        Before the layers are known, the image's name is shown.
        """
        (line,) = self.picture([Event("job", job(bytes_total=0), False)], 80)
        self.assertRegex(line, r"^total +running +…library/alpine:latest$")

    def test_nothing(self) -> None:
        """
        Without an event nothing is shown.
        """
        self.assertEqual(self.picture([], 80), [])

    def test_unknown_size(self) -> None:
        """
        A layer of unknown size has no bar.
        """
        (line, _) = self.picture(
            [Event("layer", layer(1, "downloading", size=0, bytes_done=5000), False)], 80
        )
        self.assertEqual(line, "0b0b0b0b0b0b downloading")

    def test_hostile(self) -> None:
        """
        Text from outside neither moves the cursor nor acts as markup.
        """
        text = "\n".join(self.picture([Event("layer", layer(1, HOSTILE, why=HOSTILE), False)], 200))
        self.assertNotIn("\x1b", text)
        self.assertIn(r"\x1b[31mred [bold]x[/bold]", text)

    def test_whole(self) -> None:
        """
        A pull is drawn in place; the totals and the digest follow.
        """
        self.patch(os, "environ", {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"})
        with Terminal() as terminal:
            play(Bars(terminal.file), one_pull())
        text = terminal.shown()
        self.assertIn("\x1b[?25h", text)
        self.assertEqual(text.splitlines()[-1], PINNED)
        self.assertIn("3/3 layers", text)
        with Terminal() as terminal:
            play(Bars(terminal.file), one_push())
        self.assertIn("4/4 blobs", terminal.shown())
        self.assertEqual(terminal.shown().splitlines()[-1], f"{TARGET}@{DIGEST}")

    def test_mode(self) -> None:
        """
        While bars are drawn, Ctrl-C discards no output; the terminal's mode is then as before.
        """
        with Terminal() as terminal:
            modes = []

            def note() -> None:
                modes.append(termios.tcgetattr(terminal.file)[3] & termios.NOFLSH)

            note()
            with Bars(terminal.file):
                note()
            note()
        self.assertEqual(modes, [0, termios.NOFLSH, 0])

    def test_copy(self) -> None:
        """
        A copy or download has one bar, which can disappear at the end.
        """
        out = StringIO()
        console = Console(file=out, width=80, height=24, color_system=None)
        picture = Picture(console)
        picture.show(Progress("reading layers", 0, 0, None))
        console.print(picture.text())
        picture.show(Progress("copying", 3_000_000, 4_000_000, 0.5, "1/2 files"))
        console.print(picture.text())
        self.assertEqual(
            [line.rstrip() for line in out.getvalue().splitlines()],
            [
                "total        reading layers",
                "total        copying        ━━━━━╸           3.0/4.0 MB 1/2 files",
            ],
        )
        with Terminal() as terminal, Bars(terminal.file, transient=True) as bars:
            bars.show(Progress("saving", 1, 2, 0.5))
        self.assertIn("\x1b[2K", terminal.shown())
