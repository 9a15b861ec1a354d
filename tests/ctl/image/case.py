# -*- test-case-name: tests.ctl.image.case -*-
"""
A test case with an image of two layers, which the test makes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from tests.ctl.fake_daemon import DIGEST, Answer, DaemonTestCase
from tests.ctl.run import Outcome, run

if TYPE_CHECKING:
    from collections.abc import Iterator


class UnpackCase(DaemonTestCase):
    """
    A daemon with one image of two layers, on this machine.
    """

    def setUp(self) -> None:
        """
        Make the layers and the image.
        """
        super().setUp()
        # Not below the working directory: other users have to get here too.
        self.place = Path(mkdtemp(prefix="xferd-unpack-"))
        self.addCleanup(shutil.rmtree, self.place)
        os.chmod(self.place, 0o755)
        self.trees = [self.place / "store" / name / "diff" for name in ("0", "1")]
        for number, tree in enumerate(self.trees):
            (tree / "etc").mkdir(parents=True)
            (tree / "etc" / f"file{number}").write_text(f"layer {number}\n")
        (self.trees[0] / "etc/passwd").write_text("app:x:1000:1001::/home/app:\n")
        (self.trees[0] / "data").mkdir(mode=0o750)
        self.trees[1].chmod(0o751)
        self.target = self.place / "target"
        self.image()

    def image(self, config: object = None, **more: object) -> None:
        """
        Set the daemon's description of the image.
        """
        value = {
            "reference": "docker.io/library/alpine:latest",
            "digest": DIGEST,
            "config": {"os": "linux", "config": {"Cmd": ["sh"], "User": "app"} if config is None else config},
            "trees": [str(tree) for tree in self.trees],
            **more,
        }
        self.fake.on("GET", "/images/alpine", Answer(value))

    def ctl(self, command: str, *argv: str) -> Outcome:
        """
        Run a command on the image.
        """
        return run([command, "--host", self.fake.url, "alpine", str(self.target), *argv])

    def refused(self, command: str, *argv: str, status: int = 1) -> str:
        """
        A command fails and leaves the directory unchanged; return its error.
        """
        before = sorted(os.listdir(self.place))
        outcome = self.ctl(command, *argv)
        self.assertEqual((outcome.status, outcome.out), (status, ""), outcome.err)
        self.assertEqual(sorted(os.listdir(self.place)), before)
        self.assertEqual(outcome.err.count("\n"), 1)
        return outcome.err

    def mounted(self) -> list[str]:
        """
        The mount points below the test's directory.
        """
        lines = Path("/proc/self/mounts").read_text().splitlines()
        return [line.split()[1] for line in lines if f" {self.place}" in line]

    @contextmanager
    def unmounting(self, path: Path) -> Iterator[None]:
        """
        Unmount after the block.
        """
        try:
            yield
        finally:
            subprocess.run(["umount", path], check=True)
