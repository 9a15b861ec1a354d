"""
Tests for L{xferd.ctl.commands.doctor}.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.ctl.fake_daemon import Answer, DaemonTestCase
from tests.ctl.run import environment, run
from xferd._version import __version__

GOOD = {"name": "disk", "problems": []}
BAD = {"name": "sockets", "problems": [{"message": "all can \x1b[31mconnect", "remedy": "chmod o= /s"}]}


class DoctorTests(DaemonTestCase):
    """
    C{xferctl doctor}.
    """

    def examine(self, *checks: object, version: str = __version__) -> None:
        """
        Run the command with this answer of the daemon.
        """
        self.fake.on("GET", "/doctor", Answer({"checks": list(checks)}))
        self.fake.on("GET", "/status", Answer({"version": version}))

    def test_well(self) -> None:
        """
        Without a problem the exit status is 0.
        """
        self.examine(GOOD)
        outcome = run(["doctor", "--host", self.fake.url], environment(DOCKER_CONFIG=self.mktemp()))
        self.assertEqual(outcome.status, 0)
        self.assertEqual(
            [line.split() for line in outcome.out.splitlines()], [["disk:", "ok"], ["xferctl:", "ok"]]
        )

    def test_problem(self) -> None:
        """
        A problem is printed with its remedy, and the exit status is 1.
        """
        self.examine(BAD, GOOD)
        outcome = run(["doctor", "--host", self.fake.url], environment(DOCKER_CONFIG=self.mktemp()))
        self.assertEqual(outcome.status, 1)
        self.assertIn(
            "sockets:        1 problem\n  all can \\x1b[31mconnect\n    -> chmod o= /s\n", outcome.out
        )
        self.assertEqual(outcome.err, "xferctl: 1 problem found\n")

    def test_forms(self) -> None:
        """
        Checks are printed as YAML, or by a template.
        """
        for arguments, text in (
            (["-o", "yaml"], "name: sockets"),
            (["--format", "{{.name}}={{json .problems}}"], 'sockets=[{"message"'),
        ):
            self.examine(BAD, GOOD)
            outcome = run(
                ["doctor", *arguments, "--host", self.fake.url], environment(DOCKER_CONFIG=self.mktemp())
            )
            self.assertEqual(outcome.status, 1, outcome.err)
            self.assertIn(text, outcome.out)
            self.assertNotIn("1 problem", outcome.out)

    def test_json(self) -> None:
        """
        With C{--json} each check is one line.
        """
        self.examine(BAD, GOOD)
        outcome = run(["doctor", "--json", "--host", self.fake.url], environment(DOCKER_CONFIG=self.mktemp()))
        self.assertEqual(outcome.status, 1)
        lines = [json.loads(line) for line in outcome.out.splitlines()]
        self.assertEqual(lines, [BAD, GOOD, {"name": "xferctl", "problems": []}])

    def test_own(self) -> None:
        """
        C{xferctl} reports a version that differs from the daemon's, and credential files that
        others can read.
        """
        self.examine(GOOD, version="0.0.1")
        home = Path(self.mktemp()).absolute()
        (home / ".docker").mkdir(parents=True)
        file = home / ".docker/config.json"
        file.write_text("{}")
        file.chmod(0o644)
        outcome = run(["doctor", "--host", self.fake.url], environment(DOCKER_CONFIG=str(home / ".docker")))
        self.assertEqual(outcome.status, 1)
        self.assertIn(f"chmod go= {file}", outcome.out)
        self.assertIn(f"xferctl has version {__version__}, the daemon 0.0.1", outcome.out)
        self.assertEqual(outcome.err, "xferctl: 2 problems found\n")

    def test_stranger(self) -> None:
        """
        A server with another answer is not xferd.
        """
        self.fake.on("GET", "/doctor", Answer({"checks": 5}))
        self.assertEqual(run(["doctor", "--host", self.fake.url]).status, 1)
