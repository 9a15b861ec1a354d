# -*- test-case-name: tests.ctl.display.test_board -*-
"""
Tests for L{xferd.ctl.display.board}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.fake_daemon import job, layer, transfer
from xferd.ctl.api import Event
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
        Totals, jobs with their rates, and transfers, running ones first.
        """
        board = self.board(
            ("job", job(bytes_done=12_000_000)),
            ("job", job("queued", id="j2", bytes_total=0)),
            ("transfer", transfer(2, state="queued", rate=0, why="slot 4 of 3", jobs=[])),
            ("transfer", transfer(1, watchers=3)),
            ("transfer", transfer(3, kind="upload", rate=500_000.0, jobs=["j2"])),
            ("transfer", transfer(4, state="done")),
            ("layer", layer(1)),
            ("image", {"reference": "x"}),
        )
        lines = board.lines(120, 24)
        self.assertEqual(
            lines[0], "1 job running, 1 queued; 2.0 MB/s in, 500 kB/s out; 3 transfers, 1 waiting"
        )
        self.assertEqual(lines[2].split()[:3], ["ID", "KIND", "STATE"])
        self.assertIn("12.0 MB of 30.0 MB  2.0 MB/s", lines[3])
        self.assertIn("500 kB/s", lines[4])
        self.assertEqual([line.split()[0] for line in lines[7:10]], ["download", "upload", "download"])
        self.assertIn("slot 4 of 3", lines[9])
        self.assertEqual(lines[10:], [""])

    def test_small(self) -> None:
        """
        The board fits the terminal's lines and columns, and counts what it leaves out.
        """
        board = self.board(
            *(("job", job(id=f"job{n}")) for n in range(10)),
            *(("transfer", transfer(n)) for n in range(20)),
        )
        lines = board.lines(40, 12)
        self.assertEqual(lines[-1], "7 more jobs, 17 more transfers")
        self.assertEqual(len(lines), 12)
        self.assertLessEqual(max(map(len, lines)), 40)
        self.assertLessEqual(len(board.lines(1, 1)), 1)

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
