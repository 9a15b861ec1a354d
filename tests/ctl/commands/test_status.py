# -*- test-case-name: tests.ctl.commands.test_status -*-
"""
Tests for L{xferd.ctl.commands.status}.
"""

from __future__ import annotations

import json
import os

from tests.ctl.commands.case import CommandCase
from tests.ctl.fake_daemon import Answer, DaemonTestCase, job, transfer
from tests.ctl.run import run
from xferd.ctl.client import client_name

STATUS = {
    "version": "0.1.0",
    "started": "2024-05-06T07:08:09Z",
    "disk": {"path": "/var/lib/xferd", "free": 5_000_000, "total": 9_000_000, "why": ""},
    "images": 3,
    "jobs": {"running": 2},
    "slots": {
        "download": {"limit": 3, "in_use": 2, "queued": 7},
        "upload": {"limit": 0, "in_use": 0, "queued": 0},
    },
    "bytes_fetched": 41_200_000,
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
        self.assertEqual(shown["download slots"], "2 of 3 in use, 7 waiting")
        self.assertEqual(shown["upload slots"], "0 in use, 0 waiting")
        self.assertEqual(shown["fetched"], "41.2 MB")
        self.assertNotIn("sent", shown)
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
        self.assertEqual(first[4:9], ["4.0/10.0", "MB", "2.0", "MB/s", "3"])
        self.assertEqual(second[4:], ["4.0", "MB", "1", "docker.io/library/alpine", "slot", "4", "of", "3"])
        self.assertEqual(len(self.objects("transfers")), 2)

    def test_filters(self) -> None:
        """
        Transfers are selected by state, kind, registry, and the client of their jobs.
        """
        upload = transfer(2, kind="upload", source="quay.io/a/b", jobs=["j2", "j3"])
        self.fake.on("GET", "/transfers", Answer([transfer(1, state="waiting"), upload]))
        mine = client_name(os.geteuid())
        self.fake.on("GET", "/jobs", Answer([job(), job(id="j3", client=mine)]))
        for options, ids in (
            (("--kind", "upload"), ["t2"]),
            (("--state", "waiting", "--state", "queued"), ["t1"]),
            (("--state", "queued,waiting", "--kind", "download,upload"), ["t1"]),
            (("--state", "done,queued", "--state", "running"), ["t2"]),
            (("--host", "quay.io"), ["t2"]),
            (("--host", "docker.io", "--kind", "upload"), []),
            (("--mine",), ["t2"]),
        ):
            self.assertEqual([each["id"] for each in self.objects("transfers", *options)], ids, options)
        self.assertEqual(run(["transfers", "--state", "moving", "--host", self.fake.url]).status, 2)

    def test_order(self) -> None:
        """
        Those that move come first, then those that run, then those that wait, each group as it came.
        """
        found = [
            transfer(index, state=state, rate=rate)
            for index, (state, rate) in enumerate(
                (
                    ("queued", 0),
                    ("waiting", 0),
                    ("running", 0.0),
                    ("backing-off", 0),
                    ("running", 7),
                    ("queued", 0),
                    ("odd", None),
                    ("running", 900),
                )
            )
        ]
        self.fake.on("GET", "/transfers", Answer(found))
        listed = [each["id"] for each in self.objects("transfers")]
        self.assertEqual(listed, ["t4", "t7", "t2", "t3", "t1", "t0", "t5", "t6"])

    def test_wide(self) -> None:
        """
        Wide lists have attempts, streams and jobs, too.
        """
        self.fake.on("GET", "/transfers", Answer([transfer(1, streams=2, jobs=["j1", "j2"])]))
        heads, row = self.lines("transfers", "-o", "wide")
        self.assertLess({"ATTEMPT", "STREAMS", "JOBS"}, set(heads))
        self.assertIn("j1,j2", row)
