"""
Tests for L{xferd.unpack.sandbox_report}: what C{/proc} says of the sandbox of a
live layer's process, for root, with the rights of the shipped unit, in a user
namespace and for another user.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.forks import SECONDS, mapped
from tests.unpack.tars import IS_ROOT, NOBODY, in_child
from tests.unpack.test_landlock import available as landlocked
from xferd.unpack import sandbox, sandbox_report, seccomp

NEEDED = "CHOWN DAC_OVERRIDE FOWNER FSETID SYS_ADMIN MKNOD SETFCAP"

UNIT = Path(__file__).parents[2] / "docs" / "xferd.service"

ALWAYS = {
    "no_new_privs": "1",
    "seccomp": "filter",
    "rlimits": f"FSIZE={128 * 1024**3} CORE=0 NPROC=0 AS={sandbox.MEMORY}",
    "oom_score_adj": str(sandbox.OOM_SCORE),
    "descriptors": "6",
}
"""The measures that are in force everywhere."""

WHOLE = {
    **ALWAYS,
    "uid": "0",
    "root directory": "the tree, the only mount",
    "capabilities": NEEDED,
    "permitted": NEEDED,
    "bounding set": "none",
    "namespaces of its own": "net mnt ipc",
}
"""What root has."""


class ReportTests(SynchronousTestCase):
    """
    Tests for the command.
    """

    def setUp(self) -> None:
        """
        Skip the tests on machines without a system call filter.
        """
        if seccomp._machine is None:
            self.skipTest("no filter for this machine")

    def report(self, *before: str) -> Any:
        """
        The output of the command, run by another command.
        """
        argv = [*before, sys.executable, "-m", "xferd.unpack.sandbox_report", "--json"]
        done = subprocess.run(argv, capture_output=True, check=False, timeout=SECONDS)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return json.loads(done.stdout)

    def as_root(self) -> None:
        """
        Skip what only root can do.
        """
        if not IS_ROOT:
            self.skipTest("only root can")

    def test_root(self) -> None:
        """
        As root everything is in force.
        """
        self.as_root()
        found = self.report()
        self.assertEqual((found["layer"], found["missing"]), (WHOLE, {}))
        self.assertEqual(found["worker"]["namespaces of its own"], "net ipc")

    def test_unit(self) -> None:
        """
        The same with only the capabilities of the shipped unit, which permits
        the necessary namespaces.
        """
        self.as_root()
        unit = UNIT.read_text()
        (bounding,) = re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.M)
        (namespaces,) = re.findall(r"^RestrictNamespaces=(.*)$", unit, re.M)
        self.assertEqual(sorted(namespaces.split()), ["ipc", "mnt", "net"])
        kept = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in bounding.split())
        found = self.report("setpriv", f"--bounding-set=-all,{kept}", "--no-new-privs")
        self.assertEqual((found["layer"], found["missing"]), (WHOLE, {}))

    def test_without_rights(self) -> None:
        """
        Root without rights, as in a container, has no namespaces, and Landlock
        in their place.
        """
        self.as_root()
        found = self.report("setpriv", "--bounding-set=-all")
        self.assertEqual(
            found["layer"],
            {
                **WHOLE,
                "root directory": "/",
                "capabilities": "none",
                "permitted": "none",
                "namespaces of its own": "none",
            },
        )
        expected = {"network", "ipc", "mounts"} | (set() if landlocked() else {"landlock"})
        self.assertEqual(found["missing"].keys(), expected)

    def test_user_namespace(self) -> None:
        """
        Root of a user namespace, as in a container of an unprivileged user, has
        the namespaces, and no capability.
        """
        if subprocess.run(["unshare", "-Ur", "true"], check=False, capture_output=True).returncode:
            self.skipTest("no user namespaces here")
        found = self.report("unshare", "-Ur")
        self.assertEqual(found["layer"], {**WHOLE, "capabilities": "none", "permitted": "none"})
        self.assertEqual(found["missing"], {})

    def test_user(self) -> None:
        """
        An unprivileged user's layers have the limits, the filter and Landlock.
        """
        # A layer that meets its limit while its thread starts waits for ever.
        self.patch(sandbox, "MEMORY", sandbox.MEMORY + mapped())
        folder = tempfile.mkdtemp(prefix="xferd-report-")
        self.addCleanup(shutil.rmtree, folder)
        os.chmod(folder, 0o777)

        def inside() -> dict[str, Any]:
            # Else /proc of a process that changed its user is root's.
            ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE
            return sandbox_report.observe(folder)

        found = in_child(inside, NOBODY if IS_ROOT else None)
        layer, worker = found["layer"], found["worker"]
        self.assertEqual(
            {name: value for name, value in layer.items() if name != "rlimits"},
            {
                **{name: value for name, value in ALWAYS.items() if name != "rlimits"},
                "uid": worker["uid"],
                "root directory": "/",
                "capabilities": "none",
                "permitted": "none",
                "bounding set": worker["bounding set"],
                "namespaces of its own": "none",
            },
        )
        expected = {"network", "ipc", "mounts", "bounding_set"} | (set() if landlocked() else {"landlock"})
        self.assertEqual(found["missing"].keys(), expected)

    def test_table(self) -> None:
        """
        The table has a row for each fact and a column for each process.
        """
        self.assertEqual(
            sandbox_report.table({"worker": {"uid": "0"}, "layer": {"uid": "1"}}).splitlines(),
            [
                ".. list-table::",
                "   :header-rows: 1",
                "",
                "   * -",
                "     - worker",
                "     - layer",
                "   * - uid",
                "     - 0",
                "     - 1",
            ],
        )
