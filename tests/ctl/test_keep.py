"""
Tests for L{xferd.ctl.keep}.
"""

from __future__ import annotations

import json

from tests.ctl.daemon import DIGEST, Answer, DaemonTestCase, refusal
from tests.ctl.run import run

IMAGE = {"reference": "docker.io/library/alpine:mine", "digest": DIGEST}


class TagTests(DaemonTestCase):
    """
    Tests for C{xferctl tag}.
    """

    def test_tag(self) -> None:
        """
        The new name is printed in full, with what it stands for.
        """
        self.fake.on("POST", "/images/r.example:5000/a:1/tags", Answer(IMAGE, 201))
        outcome = run(["tag", "r.example:5000/a:1", "alpine:mine", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertEqual([line.split()[-1] for line in outcome.out.splitlines()], [*IMAGE.values()])
        self.assertEqual(self.fake.requests[-1][2], {"reference": "alpine:mine"})
        outcome = run(["tag", "r.example:5000/a:1", "alpine:mine", "--json", "--host", self.fake.url])
        self.assertEqual(json.loads(outcome.out), IMAGE)

    def test_refused(self) -> None:
        """
        Why not is the last line on stderr.
        """
        self.fake.on("POST", "/images/a/tags", refusal(404, "NOT_FOUND", "the store has no image a"))
        outcome = run(["tag", "a", "b", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.out), (1, ""))
        self.assertEqual(outcome.err, "xferctl: the store has no image a (NOT_FOUND)\n")
