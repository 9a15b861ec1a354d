# -*- test-case-name: tests.ctl.display.test_board -*-
"""
Tests for L{xferd.ctl.display.board}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.fake_daemon import job, layer, transfer
from xferd.ctl.api import Event
from xferd.ctl.display import board as module
from xferd.ctl.display.board import RECENT, Board


class BoardTests(SynchronousTestCase):
    """
    Tests for L{Board}.
    """

    def board(self, *events: tuple[str, dict[str, Any]]) -> Board:
        """
        A board after these events.
        """
        board = Board()
        for kind, data in events:
            board.update(Event(kind, data, False))
        return board

    def test_lines(self) -> None:
        """
        Totals, jobs with their rates, and transfers; what moves comes first.
        """
        board = self.board(
            ("job", job("queued", id="j0", bytes_total=0)),
            ("job", job(id="j3", bytes_total=0)),
            ("job", job("queued", id="j2", bytes_total=0)),
            ("job", job(bytes_done=12_000_000)),
            ("transfer", transfer(2, state="queued", rate=0, why="slot 4 of 3", jobs=["j0"])),
            ("transfer", transfer(5, state="running", rate=0, why="no bytes for 12 s", jobs=["j3"])),
            ("transfer", transfer(1, watchers=3)),
            ("transfer", transfer(3, kind="upload", rate=500_000.0, jobs=["j2"])),
            ("transfer", transfer(4, state="done")),
            ("layer", layer(1)),
            ("image", {"reference": "x"}),
        )
        lines = board.lines(140, 24)
        self.assertEqual(
            lines[0], "2 jobs running, 2 queued; 2.0 MB/s in, 500 kB/s out; 4 transfers, 1 waiting"
        )
        self.assertEqual(lines[2].split()[:3], ["ID", "KIND", "STATE"])
        self.assertEqual([line.split()[0] for line in lines[3:7]], ["j2", "j1", "j3", "j0"])
        self.assertIn("500 kB/s", lines[3])
        self.assertIn("12.0/30.0 MB  2.0 MB/s", lines[4])
        self.assertEqual([line.split()[0] for line in lines[9:13]], ["t1", "t3", "t5", "t2"])
        self.assertIn("no bytes for 12 s", lines[11])
        self.assertIn("slot 4 of 3", lines[12])
        self.assertEqual(lines[13:], [""])

    def test_small(self) -> None:
        """
        The board fits any terminal, and counts what it leaves out.
        """
        board = self.board(
            *(("job", job(id=f"job{n}", why="waiting " * 30)) for n in range(10)),
            *(("transfer", transfer(n, why="because")) for n in range(20)),
        )
        board.selected = "job5"
        for width in (1, 10, 40, 80, 120, 200):
            for height in (*range(1, 30), 100):
                lines = board.lines(width, height, "the keys")
                self.assertLessEqual(len(lines), height)
                self.assertLessEqual(max(map(len, lines)), width)
        self.assertIn("the keys  7 more jobs, 11 more transfers", board.lines(200, 24, "the keys")[-1])
        self.assertEqual(len(board.lines(80, 100)[-1]), 0)
        # The reason of a job that is shown is whole.
        text = " ".join(" ".join(board.lines(80, 24)).split())
        self.assertIn("> job5", text)
        self.assertIn("waiting " * 29 + "waiting", text)

    def test_reasons(self) -> None:
        """
        At 80, 120 and 200 columns, the reason of each job and transfer that is shown is whole.
        """
        why = "registry.example.com:5000 has its 3 download slots in use, and asked all clients to wait {} s"
        board = self.board(
            *(("job", job(id=f"j{n}", why=why.format(1000 + n))) for n in range(9)),
            *(("transfer", transfer(n, why=why.format(2000 + n))) for n in range(30)),
        )
        for width in (80, 120, 200):
            for height in (10, 24, 40, 50):
                lines = board.lines(width, height)
                text = " ".join(" ".join(lines).split())
                begun = text.count("registry.example.com:5000 has")
                self.assertGreater(begun, 0)
                shown = sum(why.format(n) in text for n in (*range(1000, 1009), *range(2000, 2030)))
                self.assertEqual(shown, begun, (width, height))

    def test_released(self) -> None:
        """
        A transfer that its last job has released is gone, also before its own work has ended.
        """
        board = self.board(("job", job()), ("transfer", transfer(1)))
        self.assertIn("t1", "\n".join(board.lines(120, 24)))
        board.update(
            Event("transfer", transfer(1, state="waiting", why="waiting for its download", jobs=[]), False)
        )
        self.assertNotIn("t1", "\n".join(board.lines(120, 24)))
        self.assertIn("0 transfers", board.lines(120, 24)[0])

    def test_filtered(self) -> None:
        """
        Only chosen jobs are shown, with their transfers.
        """
        board = Board(lambda each: each["client"] == "me@here")
        for kind, data in (
            ("job", job()),
            ("job", job(id="j2", client="you@there")),
            ("transfer", transfer(1)),
            ("transfer", transfer(2, jobs=["j2"])),
        ):
            board.update(Event(kind, data, False))
        text = "\n".join(board.lines(100, 30))
        self.assertIn("j1", text)
        self.assertNotIn("j2", text)
        self.assertNotIn("t2", text)
        board.update(Event("job", job(client="you@there"), False))
        self.assertNotIn("j1", "\n".join(board.lines(100, 30)))

    def test_reported_once(self) -> None:
        """
        Of a stream that starts over, only changes are reported.
        """
        board = self.board(("job", job()))
        self.assertIsNone(board.update(Event("begin", {}, False)))
        self.assertIsNone(board.update(Event("job", job(), False)))
        changed = board.update(Event("job", job("done"), True))
        assert changed is not None
        self.assertEqual(changed.state, "done")

    def test_remembered(self) -> None:
        """
        The states of the newest jobs are remembered, and no more.
        """
        self.patch(module, "KNOWN", 2)
        board = self.board(*[("job", job("done", id=f"j{n}")) for n in range(3)])
        self.assertIsNone(board.update(Event("job", job("done", id="j2"), False)))
        self.assertIsNotNone(board.update(Event("job", job("done", id="j0"), False)))

    def test_lost(self) -> None:
        """
        A daemon that does not answer is reported until it does.
        """
        board = self.board(("job", job()), ("lost", {}))
        self.assertIn("does not answer", board.lines(100, 10)[0])
        board.update(Event("transfer", transfer(1), False))
        self.assertNotIn("does not answer", board.lines(100, 10)[0])

    def test_recent(self) -> None:
        """
        The newest ended jobs are kept, below the running ones.
        """
        board = self.board(*(("job", job("done", id=f"j{n}")) for n in range(20)), ("job", job(id="run")))
        ids = [line.split()[0] for line in board.lines(100, 30)[3 : 4 + RECENT]]
        self.assertEqual(ids, ["run", *(f"j{n}" for n in range(20 - RECENT, 20))])

    def test_changes(self) -> None:
        """
        A change of a job's state is returned, and a C{begin} event clears the board.
        """
        board = self.board(("job", job()))
        self.assertIsNone(board.update(Event("job", job(bytes_done=5), False)))
        changed = board.update(Event("job", job("done"), True))
        assert changed is not None
        self.assertEqual(changed.state, "done")
        board.update(Event("begin", {}, False))
        self.assertIn("0 jobs running", board.lines(100, 10)[0])

    def test_hostile(self) -> None:
        """
        Control characters are escaped.
        """
        board = self.board(
            ("job", job(client="\x1b[31m", error={"code": "A\x07", "message": ""})),
            ("transfer", {"id": None, "rate": "fast", "why": "\x1b]0;x\x07"}),
        )
        self.assertTrue(all(line.isprintable() for line in board.lines(200, 24)))
