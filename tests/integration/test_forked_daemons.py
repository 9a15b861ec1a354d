"""
Daemons that are forked, in place of executed, for the tests.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.integration.programs import TWISTD, Xferd

reactor: Any = installed


class Watched(Xferd):
    """
    A daemon.

    @ivar reason: why it has ended.
    """

    reason: ProcessDone | ProcessTerminated

    def processEnded(self, reason: Failure) -> None:
        """
        Keep the reason.
        """
        self.reason = reason.value  # type: ignore[assignment]
        super().processEnded(reason)


class ForkedDaemonTests(TestCase):
    """
    Forked and executed daemons.
    """

    async def look(self, executed: bool, signal: str) -> dict[str, Any]:
        """
        Run a daemon, and look at its process.
        """
        place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, place, ignore_errors=True)
        daemon = Watched(reactor, str(place / "x"))
        if executed:
            daemon._argv[: len(TWISTD)] = ["env", *TWISTD]
        await daemon.start()
        process = Path(f"/proc/{daemon.pid}")
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
        kinds = {os.readlink(each).split(":")[0] for each in (process / "fd").iterdir()}
        seen: dict[str, Any] = {
            "descriptors": sorted(kind.replace(str(place), "") for kind in kinds),
            "directory": os.readlink(process / "cwd").replace(str(place), ""),
            "limits": (process / "limits").read_text(),
            **{key: status[key] for key in ("PPid", "Umask", "SigIgn", "SigBlk", "CapEff")},
        }
        await daemon.ctl("status")
        await daemon.stop(signal)
        seen["ended"] = type(daemon.reason), daemon.reason.exitCode, daemon.reason.signal
        seen["last"] = daemon.output.splitlines()[-1].split(" ", 1)[1]
        return seen

    async def test_same(self) -> None:
        """
        Both have the same parent, descriptors, limits and ends.
        """
        self.maxDiff = None
        for signal in ("TERM", "KILL"):
            forked = await self.look(False, signal)
            self.assertEqual(forked["PPid"], str(os.getpid()))
            executed = await self.look(True, signal)
            for seen in (forked, executed):
                if signal == "KILL":
                    del seen["last"]
            self.assertEqual(forked, executed)
