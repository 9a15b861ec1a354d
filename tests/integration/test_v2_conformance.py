"""
The OCI conformance suite of the distribution-spec, in its push mode.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import Final
from unittest import SkipTest

from twisted.internet.utils import getProcessOutputAndValue

from tests.integration.test_v2_push import PushCase, reactor

OPTIONAL: Final[dict[str, frozenset[str]]] = {
    "1.1": frozenset({"post cancel/blob-post-cancel"}),
    "dev": frozenset(),
}
"""The tests that the suite itself leaves out, by its version: they are of later versions."""


class ConformanceTests(PushCase):
    """
    All tests pass.
    """

    timeout = 300

    async def check(self, version: str) -> None:
        """
        Run the suite for a version of the specification.
        """
        program = shutil.which("conformance")
        if program is None:
            raise SkipTest("the OCI conformance suite is not installed: .ci/run does that where Go is found")
        environment = {
            **os.environ,
            "OCI_REGISTRY": self.host,
            "OCI_TLS": "disabled",
            "OCI_REPO1": "local/conformance/a",
            "OCI_REPO2": "local/conformance/b",
            "OCI_RESULTS_DIR": str(self.place / version),
            "OCI_VERSION": version,
        }
        written, errors, code = await getProcessOutputAndValue(
            program, [], environment, str(self.place), reactor
        )
        output = written.decode(errors="replace")
        failed = [line for line in output.splitlines() if line.endswith((": FAIL", ": Error", ": Skip"))]
        self.assertEqual((code, failed), (0, []), output + errors.decode(errors="replace"))
        passed = re.search(r"Pass\.*:\s+([0-9]+)", output)
        assert passed is not None, output
        self.assertGreater(int(passed[1]), 800)
        left_out = re.findall(r"/([^/\n]+/[^/\n]+): Disabled$", output, re.MULTILINE)
        self.assertEqual(set(left_out), OPTIONAL[version])

    async def test_stable(self) -> None:
        """
        The released version.
        """
        await self.check("1.1")

    async def test_next(self) -> None:
        """
        The next version.
        """
        await self.check("dev")
