"""
Tests for L{xferd.ctl.commands.fleet}.
"""

from __future__ import annotations

import json
from typing import Any

from tests.ctl.fake_daemon import Answer, DaemonTestCase, refusal
from tests.ctl.run import run

NODES = [
    {
        "name": name,
        "url": f"http://{name}:5000",
        "version": "1.2.3",
        "since": "2026-01-02T03:04:05Z",
        "load": 2,
        "saved": 7_000_000,
    }
    for name in ("a", "b\x1b")
]
CLAIM = {"digest": f"sha256:{1:064x}", "size": 5_000_000, "node": "a", "source": "docker.io/library/golang"}
FLEET = {
    "state": "sharing",
    "problem": None,
    "name": "a",
    "url": "http://a:5000",
    "nodes": NODES,
    "claims": [{**CLAIM, "digest": f"sha256:{number:064x}"} for number in range(5)],
    "bytes": {"upstream": 1_000_000, "peer": 7_000_000, "store": 0, "sent": 3_000_000},
    "takeovers": 1,
    "left_out": ["c"],
    "troubles": [],
}


class FleetTests(DaemonTestCase):
    """
    C{xferctl fleet}.
    """

    def show(self, answer: Any, *words: str) -> Any:
        """
        Run the command.
        """
        self.fake.on("GET", "/fleet", answer)
        return run(["fleet", *words, "--host", self.fake.url])

    def test_show(self) -> None:
        """
        The bytes of this node, and each node with what it fetches for all.
        """
        outcome = self.show(Answer(FLEET))
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        for line in (
            "fleet:              sharing\n",
            "this node:          a\n",
            "from registries:    1.0 MB\n",
            "from peers:         7.0 MB\n",
            "saved by all nodes: 14.0 MB\n",
            "to peers:           3.0 MB\n",
            "taken over:         1\n",
            "left out:           c\n",
        ):
            self.assertIn(line, outcome.out)
        self.assertNotIn("problem", outcome.out)
        heads, first, second = outcome.out.splitlines()[-3:]
        self.assertRegex(heads, "^NODE +URL +VERSION +UP SINCE +SAVED +TRANSFERS +FETCHES FOR ALL$")
        self.assertRegex(
            first, "^a +http://a:5000 +1.2.3 .* 7.0 MB +2 +[0-9a-f]+ of docker.io/library/golang, .* 2 more$"
        )
        self.assertIn("b\\x1b", second)

    def test_alone(self) -> None:
        """
        The reason is shown why a node works alone.
        """
        outcome = self.show(
            Answer({**FLEET, "state": "alone", "problem": "etcd does not answer", "nodes": []})
        )
        self.assertIn("fleet:              alone\nproblem:            etcd does not answer\n", outcome.out)
        self.assertNotIn("NODE", outcome.out)

    def test_troubles(self) -> None:
        """
        The peers that did not deliver are named.
        """
        outcome = self.show(Answer({**FLEET, "troubles": [{"node": "b", "why": "it is silent"}]}))
        self.assertIn("trouble with b:     it is silent\n", outcome.out)

    def test_off(self) -> None:
        """
        Without a fleet there is one line.
        """
        self.assertEqual(
            self.show(Answer({"state": "off"})).out, "fleet: none: the settings have no [fleet]\n"
        )

    def test_json(self) -> None:
        """
        With C{--json}, the whole is one line.
        """
        (line,) = self.show(Answer(FLEET), "--json").out.splitlines()
        self.assertEqual(json.loads(line), FLEET)

    def test_of_another_version(self) -> None:
        """
        A daemon that knows no fleet is named as such; what one leaves out is empty.
        """
        outcome = self.show(refusal(404, "NOT_FOUND", "no such path"))
        self.assertEqual(outcome.status, 1)
        self.assertIn("an older version, which has no fleet", outcome.err)
        self.fake.on("GET", "/fleet", Answer({"state": "new", "nodes": [{}, 7], "claims": 3}))
        self.assertEqual(run(["fleet", "--host", self.fake.url]).status, 0)
