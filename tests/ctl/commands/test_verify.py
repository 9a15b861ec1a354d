"""
Tests for L{xferd.ctl.commands.verify}.
"""

from __future__ import annotations

from typing import Any

from tests.ctl.fake_daemon import DIGEST, DaemonTestCase, event, job
from tests.ctl.run import Outcome, run

FINDING = {
    "kind": "blob",
    "digest": DIGEST,
    "path": "content/blobs/sha256/1",
    "problem": "is missing",
    "state": "healed",
    "needed_by": ["alpine"],
    "kept": None,
    "why": "",
}


class VerifyTests(DaemonTestCase):
    """
    C{xferctl verify} without a terminal.
    """

    def verify(self, *argv: str, **ended: Any) -> Outcome:
        """
        Verify, by a job that ends so.
        """
        self.fake.takes(event("job", job(**{"kind": "verify", "state": "done", **ended}), True))
        return run(["--host", self.fake.url, "verify", *argv])

    def asked(self) -> Any:
        """
        The body of the last request for a job.
        """
        return [body for _, path, body in self.fake.requests if path == "/api/v1/jobs"][-1]

    def test_asked(self) -> None:
        """
        The job is for one image or for all content.
        """
        self.verify("alpine", "--priority", "3")
        self.assertEqual(self.asked(), {"kind": "verify", "reference": "alpine", "priority": 3})
        self.verify()
        self.assertEqual(self.asked(), {"kind": "verify", "reference": None, "priority": 0})

    def test_whole(self) -> None:
        """
        One line reports that all is whole.
        """
        outcome = self.verify("alpine", bytes_total=1000, findings=[])
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertIn("all whole", outcome.out.splitlines()[-1])

    def test_healed(self) -> None:
        """
        What was replaced is named, and counted once; the status is 0.
        """
        size = {**FINDING, "problem": "has 5 bytes"}
        outcome = self.verify("alpine", findings=[FINDING, size])
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertIn(f"blob {DIGEST}: content/blobs/sha256/1 is missing; replaced\n", outcome.out)
        self.assertIn("1 damaged and replaced", outcome.out.splitlines()[-1])

    def test_not_healed(self) -> None:
        """
        What was not replaced is named with the reason and its place; the status is 1.
        Control characters are escaped.
        """
        finding = {**FINDING, "state": "quarantined", "why": "gone\x1b", "kept": "/x/quarantine/b"}
        error = {"code": "STORE_DAMAGED", "message": "1 of 1"}
        outcome = self.verify(state="failed", error=error, findings=[finding])
        self.assertEqual((outcome.status, outcome.err), (1, "xferctl: 1 of 1 (STORE_DAMAGED)\n"))
        self.assertIn("is missing; not replaced: gone\\x1b; moved to /x/quarantine/b\n", outcome.out)
