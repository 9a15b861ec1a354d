"""
Tests for L{xferd.ctl.commands.hosts}.
"""

from __future__ import annotations

import json
from typing import Any

from tests.ctl.fake_daemon import Answer, DaemonTestCase, refusal
from tests.ctl.run import run

OK = {"state": "ok", "why": "", "until": None}
PAUSED = {
    "state": "paused",
    "why": "docker.io asked to wait",
    "until": "2026-01-02T03:05:05.000Z",
}


def account(name: str, state: dict[str, Any], left: int | None = None, limit: int | None = None) -> Any:
    """
    An account, as the API has it.
    """
    quota = None if left is None else {"remaining": left, "limit": limit, "window": None, "reset": None}
    return {"account": name, **state, "quota": quota, "used": "2026-01-02T03:04:05.000Z"}


def host(
    name: str, state: dict[str, Any], *accounts: Any, failures: int = 0, rate: float | None = None
) -> Any:
    """
    A host, as the API has it.
    """
    return {
        "host": name,
        **state,
        "failures": failures,
        "error": "",
        "rate": rate,
        "capabilities": {},
        "used": "2026-01-02T03:04:05.000Z",
        "accounts": list(accounts),
    }


HUB = host("docker.io", OK, account("daemon", PAUSED, 76, 100), account("f00f00f00f00", OK, 5), rate=2.5e6)
DOWN = {"state": "down", "why": "mirror.lan failed once: no answer", "until": None}
MIRROR = host("mirror.lan", DOWN, failures=1)


class HostsTests(DaemonTestCase):
    """
    C{xferctl hosts}.
    """

    def run_hosts(self, *words: str) -> Any:
        """
        Run the command.
        """
        return run(["hosts", *words, "--host", self.fake.url])

    def test_show(self) -> None:
        """
        Each account has a row, and so has a mirror that has never responded.
        """
        self.fake.on("GET", "/hosts", Answer([HUB, MIRROR]))
        outcome = self.run_hosts()
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        heads, daemon, client, mirror = outcome.out.splitlines()
        self.assertEqual(
            heads.split(), ["HOST", "ACCOUNT", "STATE", "UNTIL", "QUOTA", "FAILURES", "RATE", "WHY"]
        )
        self.assertRegex(
            daemon, r"^docker.io +daemon +paused +\d\d:05:05 +76/100 +0 +2.5 MB/s +docker.io asked to wait$"
        )
        self.assertRegex(client, "^docker.io +f00f00f00f00 +ok +5 +0 +2.5 MB/s$")
        self.assertRegex(mirror, "^mirror.lan +down +1 +mirror.lan failed once: no answer$")

    def test_json(self) -> None:
        """
        With C{--json}, each host is a line.
        """
        self.fake.on("GET", "/hosts", Answer([HUB, MIRROR]))
        lines = self.run_hosts("--json").out.splitlines()
        self.assertEqual([json.loads(line) for line in lines], [HUB, MIRROR])

    def test_clear(self) -> None:
        """
        Hosts are cleared, one after the other.
        """
        for name in ("docker.io", "localhost:5000"):
            self.fake.on("DELETE", f"/hosts/{name}", Answer({"host": name, "cleared": True}))
        outcome = self.run_hosts("clear", "docker.io", "localhost:5000")
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertEqual(outcome.out.split(), ["cleared:", "docker.io", "cleared:", "localhost:5000"])

    def test_clear_unknown(self) -> None:
        """
        The daemon's error is printed.
        """
        self.fake.on("DELETE", "/hosts/quay.io", refusal(404, "NOT_FOUND", "nothing is known of quay.io"))
        outcome = self.run_hosts("clear", "quay.io")
        self.assertNotEqual(outcome.status, 0)
        self.assertIn("nothing is known of quay.io", outcome.err)

    def test_wrong_use(self) -> None:
        """
        Another word than C{clear}, and C{clear} without a host, are wrong use.
        """
        for words in (["clear"], ["docker.io"], ["remove", "docker.io"]):
            outcome = self.run_hosts(*words)
            self.assertEqual(outcome.status, 2, words)
            self.assertIn("xferctl hosts clear HOST", outcome.err)

    def test_of_another_version(self) -> None:
        """
        What a daemon of another version leaves out is empty, and control
        characters are escaped.
        """
        self.fake.on("GET", "/hosts", Answer([{"host": "a\x1b.example"}, {"accounts": [7, {"quota": 3}]}]))
        outcome = self.run_hosts()
        self.assertEqual(outcome.status, 0)
        self.assertIn("a\\x1b.example", outcome.out)
