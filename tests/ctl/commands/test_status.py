# -*- test-case-name: tests.ctl.commands.test_status -*-
"""
Tests for L{xferd.ctl.commands.status}.
"""

from __future__ import annotations

import json

from tests.ctl.commands.case import CommandCase
from tests.ctl.fake_daemon import Answer, DaemonTestCase, transfer
from tests.ctl.run import run

STATUS = {
    "version": "0.1.0",
    "started": "2024-05-06T07:08:09Z",
    "disk": {"path": "/var/lib/xferd", "free": 5_000_000, "total": 9_000_000, "why": ""},
    "images": 3,
    "jobs": {"running": 2},
    "sandbox": {
        "in_force": ["limits", "seccomp"],
        "missing": {"network": "unshare: Operation not permitted"},
    },
}


class StatusTests(DaemonTestCase):
    """
    C{xferctl status}.
    """

    def show(self, **changes: object) -> dict[str, str]:
        """
        The printed facts, by name.
        """
        self.fake.on("GET", "/status", Answer({**STATUS, **changes}))
        outcome = run(["status", "--host", self.fake.url])
        return {
            name: text.strip() for name, _, text in (line.partition(":") for line in outcome.out.splitlines())
        }

    def test_words(self) -> None:
        """
        The daemon's state is shown, with the measures that its sandbox has and lacks.
        """
        shown = self.show()
        self.assertEqual(shown["sandbox"], "limits, seccomp")
        self.assertEqual(shown["without network"], "unshare: Operation not permitted")
        self.assertEqual((shown["images"], shown["jobs"]), ("3", "2 running"))
        self.assertIn("free in /var/lib/xferd", shown["disk"])
        self.assertNotIn("disk is full", shown)

    def test_unknown(self) -> None:
        """
        Facts that the daemon does not know yet, or that an older one lacks, are no error.
        """
        shown = self.show(sandbox=None, jobs={}, disk=None)
        self.assertEqual(
            (shown["sandbox"], shown["jobs"], shown["disk"]), ("not known yet", "none", "unknown")
        )

    def test_json(self) -> None:
        """
        With --json the API's object is printed.
        """
        self.fake.on("GET", "/status", Answer(STATUS))
        self.assertEqual(json.loads(run(["status", "--json", "--host", self.fake.url]).out), STATUS)


class TransfersTests(CommandCase):
    """
    Tests for C{xferctl transfers}.
    """

    def test_transfers(self) -> None:
        """
        Transfers are listed with the number of their watchers and the reason for waiting.
        """
        waiting = transfer(2, rate=0, bytes_total=None, why="slot 4 of 3")
        self.fake.on("GET", "/transfers", Answer([transfer(1, watchers=3), waiting]))
        _, first, second = self.lines("transfers")
        self.assertEqual(first[4:12], ["3", "4.0", "MB", "of", "10.0", "MB", "2.0", "MB/s"])
        self.assertEqual(second[5:], ["4.0", "MB", "docker.io/library/alpine", "slot", "4", "of", "3"])
        self.assertEqual(len(self.objects("transfers")), 2)
