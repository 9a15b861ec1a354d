"""
The daemon's API under schemathesis, which makes requests out of the OpenAPI
document, right ones and wrong ones, and holds the answers against it.
"""

from __future__ import annotations

import re
import sys

from twisted.internet.utils import getProcessOutputAndValue

from tests.integration.programs import environment
from tests.integration.test_daemon import DaemonCase, reactor

SCHEMATHESIS = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]

OFF = (
    # A job that was cancelled is still shown, as cancelled.
    "use_after_free",
    # A schema does not say all that makes a reference one, nor that a key
    # was used before; a 400 is a documented answer.
    "positive_data_acceptance",
    # Where an image gets another name, one whose name ends in "/tags" is shown
    # and removed; a document has two paths for that.
    "allow_header_conformance",
)


class OpenAPITests(DaemonCase):
    """
    All that can be asked for.
    """

    timeout = 180

    async def test_answers(self) -> None:
        """
        No request gets an answer that the document does not promise, and none
        breaks the daemon.
        """
        await self.until(lambda: "starting on" in self.daemon.output)
        found = re.search(r"starting on (\d+)", self.daemon.output)
        assert found is not None
        program, *options = SCHEMATHESIS
        output, errors, status = await getProcessOutputAndValue(
            program,
            [
                *options,
                "run",
                f"http://127.0.0.1:{found[1]}/api/v1/openapi.json",
                # They do not end; the tests of the web room read them.
                "--exclude-path-regex=events$",
                f"--exclude-checks={','.join(OFF)}",
                "--max-examples=30",
                "--seed=1",
                "--generation-database=none",
            ],
            environment(),
            str(self.place),
            reactor,
        )
        self.assertEqual(status, 0, (output + errors).decode(errors="replace"))
        self.assertNotIn("Traceback", self.daemon.output)
        self.assertEqual((await self.api("GET", "status"))["version"], (await self.described())["version"])

    async def described(self) -> dict[str, str]:
        """
        What the document says of the daemon.
        """
        info: dict[str, str] = (await self.api("GET", "openapi.json"))["info"]
        return info
