"""
Tests for L{xferd.ctl.commands.limits}.
"""

from __future__ import annotations

import json

from tests.ctl.fake_daemon import Answer, DaemonTestCase, refusal
from tests.ctl.run import run
from xferd.ctl.commands.limits import read_changes
from xferd.ctl.errors import UsageError

LIMITS = {"downloads": 3, "downloads_per_host": 0, "download_rate": 2_000_000, "upload_rate": 0}

OWN = {
    **LIMITS,
    "timetables": {"download_rate": {"08:00-18:00": 2_000_000, "else": 0}},
    "hosts": {"ghcr.io": {"downloads": 2, "uploads": 0, "timetables": {}}},
    "clients": {"ci": {"weight": 3, "upload_rate": 0, "timetables": {}}},
    "kept": {},
    "binding": {"download": ["host ghcr.io"], "upload": []},
}


class ChangeTests(DaemonTestCase):
    """
    Parsing of changes.
    """

    def test_numbers(self) -> None:
        """
        A number may have a decimal or binary unit, and a fraction that gives whole bytes.
        """
        for word, value in [
            ("a=5", 5),
            ("a=0", 0),
            ("a=2k", 2000),
            ("a=2M", 2_000_000),
            ("a=1.5G", 1_500_000_000),
            ("a=1.5Mi", 1_572_864),
            ("a=3KiB", 3072),
            ("a=2MB", 2_000_000),
        ]:
            self.assertEqual(read_changes([word]), {"a": value}, word)
        self.assertEqual(read_changes(["a=1", "b_c=2"]), {"a": 1, "b_c": 2})
        self.assertEqual(read_changes(["a=none", "b_rate=2MB/s"]), {"a": None, "b_rate": 2_000_000})

    def test_timetables(self) -> None:
        """
        A rate may depend on the time of day; the daemon checks the times and the rates.
        """
        word = "download_rate=08:00-18:00=20MB/s, 22:00-06:00=x,else=0"
        expected = {"08:00-18:00": "20MB/s", "22:00-06:00": "x", "else": "0"}
        self.assertEqual(read_changes([word]), {"download_rate": expected})

    def test_refused(self) -> None:
        """
        Everything else is wrong use, and the word is named.
        """
        for word in ("a", "a=", "=5", "a=-1", "a=1.5", "a=5T", "a= 5", "a=1e3", "a=5/s", "a=08:00-18:00=1,x"):
            self.assertIn(repr(word), str(self.assertRaises(UsageError, read_changes, [word])))


class LimitsTests(DaemonTestCase):
    """
    C{xferctl limits}.
    """

    def test_show(self) -> None:
        """
        Limits are shown in words, or as the API's JSON.
        """
        self.fake.on("GET", "/limits", Answer(LIMITS))
        outcome = run(["limits", "--host", self.fake.url])
        self.assertEqual(
            [line.split(":") for line in outcome.out.splitlines()],
            [
                ["downloads", "          3"],
                ["downloads_per_host", " no limit"],
                ["download_rate", "      2.0 MB/s"],
                ["upload_rate", "        no limit"],
            ],
        )
        outcome = run(["limits", "--json", "--host", self.fake.url])
        self.assertEqual(json.loads(outcome.out), LIMITS)

    def test_set(self) -> None:
        """
        Several limits are set by one request, and all are shown.
        """
        self.fake.on("PATCH", "/limits", Answer({**LIMITS, "downloads": 5}))
        outcome = run(["limits", "downloads=5", "download_rate=2M", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertIn("downloads:          5\n", outcome.out)
        self.assertEqual(
            self.fake.requests, [("PATCH", "/api/v1/limits", {"downloads": 5, "download_rate": 2_000_000})]
        )

    def test_whose(self) -> None:
        """
        The limits of one registry or one client are set, removed and kept.
        """
        self.fake.on("PATCH", "/limits", Answer(OWN))
        daemon = "--host", self.fake.url
        for words, change in (
            (("--host", "ghcr.io", "downloads=2"), {"hosts": {"ghcr.io": {"downloads": 2}}}),
            (("--client", "ci", "weight=3", "--keep"), {"clients": {"ci": {"weight": 3}}, "keep": True}),
            (("--client", "ci", "--remove"), {"clients": {"ci": None}}),
            (("uploads=none", "--keep"), {"uploads": None, "keep": True}),
        ):
            self.fake.requests.clear()
            done = run(["limits", *words, *daemon])
            self.assertEqual((done.status, done.err), (0, ""))
            self.assertEqual(self.fake.requests, [("PATCH", "/api/v1/limits", change)])
        outcome = run(["limits", "downloads=3", *daemon])
        for line in (
            "download_rate:          2.0 MB/s now: 08:00-18:00 2.0 MB/s, else no limit",
            "host ghcr.io downloads: 2",
            "client ci weight:       3",
            "limited now:            downloads by host ghcr.io",
        ):
            self.assertIn(f"{line}\n", outcome.out)

    def test_job(self) -> None:
        """
        The rates of one job are set and shown.
        """
        job = {"id": "f00d", "download_rate": 2_000_000, "upload_rate": 0}
        self.fake.on("PATCH", "/jobs/f00d", Answer(job))
        self.fake.on("GET", "/jobs/f00d", Answer(job))
        shown = "download_rate: 2.0 MB/s\nupload_rate:   no limit\n"
        outcome = run(
            ["limits", "--job", "f00d", "download_rate=2M", "upload_rate=none", "--host", self.fake.url]
        )
        self.assertEqual((outcome.status, outcome.err, outcome.out), (0, "", shown))
        changes = {"download_rate": 2_000_000, "upload_rate": 0}
        self.assertEqual(self.fake.requests, [("PATCH", "/api/v1/jobs/f00d", changes)])
        self.assertEqual(run(["limits", "--job", "f00d", "--host", self.fake.url]).out, shown)

    def test_whose_wrong(self) -> None:
        """
        Options that do not fit together are wrong use.
        """
        for words, expected in (
            (("--host", "a.io", "--client", "b", "downloads=1"), "name one registry or one client"),
            (("--remove",), "--remove needs --host or --client"),
            (
                ("--client", "ci", "--remove", "weight=1"),
                "--remove needs --host or --client, and no NAME=VALUE",
            ),
            (("--keep",), "--keep needs a change"),
            (("--job", "f00d", "--keep"), "--job cannot be combined"),
        ):
            outcome = run(["limits", *words, "--host", self.fake.url])
            self.assertEqual((outcome.status, outcome.out), (2, ""))
            self.assertIn(expected, outcome.err)

    def test_wrong_use(self) -> None:
        """
        A word that sets no limit is wrong use, and no request is sent.
        """
        outcome = run(["limits", "downloads", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.out), (2, ""))
        self.assertIn("'downloads' sets no limit", outcome.err)
        self.assertEqual(self.fake.requests, [])

    def test_refused(self) -> None:
        """
        The daemon's refusal is reported.
        """
        self.fake.on("PATCH", "/limits", refusal(400, "BAD_INPUT", "there is no limit 'speed'"))
        outcome = run(["limits", "speed=5", "--host", self.fake.url])
        self.assertEqual(
            (outcome.status, outcome.err), (2, "xferctl: there is no limit 'speed' (BAD_INPUT)\n")
        )
