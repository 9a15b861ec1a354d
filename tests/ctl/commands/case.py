# -*- test-case-name: tests.ctl.commands -*-
"""
A test case that reads a command's output.
"""

from __future__ import annotations

import json
from typing import Any

from tests.ctl.fake_daemon import DIGEST, DaemonTestCase
from tests.ctl.run import run

IMAGE = {
    "reference": "docker.io/library/alpine:latest",
    "digest": DIGEST,
    "image_id": DIGEST,
    "resolved": DIGEST,
    "source": "docker.io/library/alpine",
    "size": 41_200_000,
    "created": "2026-01-02T03:04:05Z",
    "pulled": "2026-01-02T03:04:05Z",
    "layers": [{"digest": DIGEST, "size": 1500, "media_type": "a/layer"}],
}


class CommandCase(DaemonTestCase):
    """
    Runs commands with a fake daemon.
    """

    def lines(self, *argv: str) -> list[list[str]]:
        """
        The output of a command, in words.
        """
        outcome = run([*argv, "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        return [line.split() for line in outcome.out.splitlines()]

    def objects(self, *argv: str) -> list[Any]:
        """
        The output of a command as JSON lines.
        """
        outcome = run([*argv, "--json", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        return [json.loads(line) for line in outcome.out.splitlines()]
