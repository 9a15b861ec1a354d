# -*- test-case-name: tests.ctl.display.test_controls -*-
"""
Tests for L{xferd.ctl.display.controls} and the keys of L{xferd.ctl.display.screen}.
"""

from __future__ import annotations

from tests.ctl.fake_daemon import Answer, DaemonTestCase, job, refusal
from xferd.ctl.address import Address
from xferd.ctl.api import Event
from xferd.ctl.client import Daemon
from xferd.ctl.display.board import Board
from xferd.ctl.display.controls import Controls
from xferd.ctl.display.screen import read_keys


class KeysTests(DaemonTestCase):
    """
    Tests for L{read_keys}.
    """

    def test_keys(self) -> None:
        """
        Characters are keys, and so are the control sequences of arrows; others are left out.
        """
        self.assertEqual(
            list(read_keys("c\x1b[A\x1bOB\x1b[3~\x1b[1;5Cü\x7f\r\x00\x1b")),
            ["c", "up", "down", "ü", "backspace", "enter", "escape"],
        )


class ControlsTests(DaemonTestCase):
    """
    Tests for L{Controls}.
    """

    def setUp(self) -> None:
        """
        A board with two running jobs, and one that has ended.
        """
        super().setUp()
        self.board = Board()
        for each in (job(), job(id="j2", reference="quay.io/a/b:1"), job("done", id="j3")):
            self.board.update(Event("job", each, False))
        self.controls = Controls(self.board, Daemon([Address.parse(self.fake.url)], client="me"))

    def press(self, *keys: str) -> str:
        """
        Press keys, and return the line below the board.
        """
        for key in keys:
            self.assertTrue(self.controls.press(key))
        return self.controls.footer

    def shown(self) -> list[str]:
        """
        The IDs of the jobs on the board.
        """
        lines = self.board.lines(100, 30)[3:]
        return [word for line in lines for word in line.split() if word in ("j1", "j2", "j3")]

    def test_select(self) -> None:
        """
        Arrows select a job, and stop at the first and the last one.
        """
        self.press("down")
        self.assertEqual(self.board.selected, "j1")
        self.assertIn("> j1", "\n".join(" ".join(line.split()) for line in self.board.lines(100, 30)))
        self.press("down", "j", "j")
        self.assertEqual(self.board.selected, "j3")
        self.press("k", "up", "up")
        self.assertEqual(self.board.selected, "j1")
        self.press("escape", "up")
        self.assertEqual(self.board.selected, "j3")

    def test_cancel(self) -> None:
        """
        A job is cancelled after a question, and the daemon's answer is shown.
        """
        self.fake.on("DELETE", "/jobs/j2", Answer(job("cancelled", id="j2")))
        self.assertEqual(self.press("down", "down", "c"), "cancel the pull of quay.io/a/b:1? (y/n)")
        self.assertIn("c cancel", self.press("n"))
        self.assertEqual(self.fake.requests, [])
        self.assertEqual(self.press("c", "y"), "job j2: cancelled")
        self.assertEqual(self.fake.requests, [("DELETE", "/api/v1/jobs/j2", None)])
        self.assertIn("c cancel", self.press("x"))

    def test_cannot_cancel(self) -> None:
        """
        Without a selected job, for one that has ended, and where the daemon refuses, the reason is
        shown.
        """
        self.assertEqual(self.press("c"), "select the job to cancel with the arrow keys")
        self.assertEqual(self.press("up", "c"), "job j3 has ended")
        self.fake.on("DELETE", "/jobs/j1", refusal(503, "INTERRUPTED", "stopping"))
        self.assertEqual(self.press("up", "up", "c", "y"), "cannot cancel job j1: stopping (INTERRUPTED)")

    def test_pause(self) -> None:
        """
        A job is paused without a question, and continues with the same key.
        """
        self.fake.on(
            "PATCH",
            "/jobs/j2",
            Answer(job(id="j2", paused=True)),
            Answer(job(id="j2", paused=False)),
        )
        self.assertEqual(self.press("down", "down", "p"), "job j2: paused")
        self.assertEqual(self.press("p"), "job j2: continues")
        path = "/api/v1/jobs/j2"
        self.assertEqual(
            self.fake.requests, [("PATCH", path, {"paused": True}), ("PATCH", path, {"paused": False})]
        )

    def test_priority(self) -> None:
        """
        The priority of a job goes up and down by one, from the present one.
        """
        self.board.update(Event("job", job(priority=4), False))
        self.fake.on(
            "PATCH",
            "/jobs/j1",
            *(Answer(job(priority=number)) for number in (5, 6, 5)),
        )
        self.assertEqual(self.press("down", "+"), "job j1: priority 5")
        self.assertEqual(self.press("+", "-"), "job j1: priority 5")
        self.assertEqual([body["priority"] for _, _, body in self.fake.requests], [5, 6, 5])

    def test_filter(self) -> None:
        """
        Words select jobs while they are typed.  Enter keeps them, and Escape clears them.
        """
        self.assertEqual(self.press("/"), "filter: _  (Enter keeps it, Esc clears it)")
        self.assertIn("filter: Quay_", self.press(*"Quax", "backspace", "y"))
        self.assertEqual(self.shown(), ["j2"])
        self.assertIn("only with 'Quay'", self.press("enter"))
        self.press("down")
        self.assertEqual(self.board.selected, "j2")
        self.press("/", "escape")
        self.assertEqual(self.shown(), ["j1", "j2", "j3"])
        self.assertIn("filter: c_", self.press("/", "c"))

    def test_quit(self) -> None:
        """
        C{q} ends it, but is a word of the filter like any other.
        """
        self.press("/", "q", "enter")
        self.assertFalse(self.controls.press("q"))
