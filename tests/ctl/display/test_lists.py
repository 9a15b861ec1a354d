# -*- test-case-name: tests.ctl.display.test_lists -*-
"""
Tests for L{xferd.ctl.display.lists}: lists in terminals of common widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.fake_daemon import TARGET, job, push_job, transfer
from xferd.ctl.columns import lay_out
from xferd.ctl.display.job_view import JobView
from xferd.ctl.display.lists import job_columns, transfer_columns

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
REASON = (
    "waiting for a download slot, behind 100 others or more; registry.example.com:5000 has its 3 download "
    "slots in use, and asked to wait 40 s"
)
ERROR = {"code": "MANIFEST_UNKNOWN", "message": f"registry.example.com has no such image: {REASON}"}
WIDTHS = (80, 120, 200)


class WidthTests(SynchronousTestCase):
    """
    Lists of jobs and transfers at 80, 120 and 200 columns.
    """

    def assert_fits(
        self, head: str, rows: Sequence[Sequence[str]], width: int, reasons: Sequence[str]
    ) -> None:
        """
        No line is too long, and each reason is whole, below or beside its item.
        """
        for line in (head, *(line for row in rows for line in row)):
            self.assertLessEqual(len(line), width)
        for row, reason in zip(rows, reasons, strict=True):
            self.assertTrue(" ".join(" ".join(row).split()).endswith(reason), row)

    def test_transfers(self) -> None:
        """
        No reason and no short digest is shortened, and the source keeps its end.
        """
        items: list[dict[str, Any]] = [
            transfer(1, id="5f3c0a9e1b77", source="registry.example.com:5000/team/service/app", why=REASON),
            transfer(2, id="5f3c0a9e1b78", kind="registration", state="backing-off", why="short"),
            transfer(3, id="5f3c0a9e1b79", state="running", bytes_total=None),
        ]
        for width in WIDTHS:
            head, rows = lay_out(transfer_columns(NOW), items, width)
            self.assert_fits(head, rows, width, [REASON, "short", ""])
            self.assertIn("0b" * 6, rows[0][0])
            self.assertRegex(rows[0][0], r"vice/app( |$)")
        self.assertIn(
            "registry.example.com:5000/team/service/app",
            lay_out(transfer_columns(NOW), items, 120).rows[0][0],
        )

    def test_since(self) -> None:
        """
        The reason of a job or a transfer has the time at which the wait began, at any width, unless
        it has the wait's duration.
        """
        began = NOW - timedelta(minutes=1)
        reason = {"what": "paused", "whom": "ci", "since": began.isoformat(), "until": None, "place": None}
        silence = {**reason, "what": "silence", "whom": "registry.example.com"}
        waits = ((REASON, reason), ("no bytes for 60 s", silence))
        told = [f"{REASON} (since {began.astimezone():%H:%M:%S})", "no bytes for 60 s"]
        transfers = [transfer(n, why=why, reason=data) for n, (why, data) in enumerate(waits)]
        jobs = [JobView(job(why=why, reason=data)) for why, data in waits]
        for width in WIDTHS:
            self.assert_fits(*lay_out(transfer_columns(NOW), transfers, width), width, told)
            self.assert_fits(*lay_out(job_columns(NOW), jobs, width), width, told)

    def test_jobs(self) -> None:
        """
        No reason, error or ID is shortened, and images of one repository can be told apart.
        """
        items = [
            job(id="5f3c0a9e1b77", reference="registry.example.com:5000/team/service/app:1", why=REASON),
            job("failed", id="5f3c0a9e1b78", error=ERROR),
            push_job(id="5f3c0a9e1b79", reference="registry.example.com:5000/team/service/app:2"),
        ]
        errors = [REASON, f"{ERROR['message']} ({ERROR['code']})", ""]
        for width in WIDTHS:
            head, rows = lay_out(job_columns(NOW), list(map(JobView, items)), width)
            self.assert_fits(head, rows, width, errors)
            self.assertEqual([row[0].split()[0] for row in rows], [item["id"] for item in items])
            self.assertIn("app:1", rows[0][0])
            self.assertIn("app:2 -> …" if width < 200 else f"app:2 -> {TARGET}", rows[2][0])
