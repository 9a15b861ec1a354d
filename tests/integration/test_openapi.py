"""
The daemon's API under schemathesis, which makes valid and invalid requests from
the OpenAPI document, and checks the responses against it.
"""

from __future__ import annotations

import re
import sys

from twisted.internet.utils import getProcessOutputAndValue

from tests.integration.programs import environment
from tests.integration.test_daemon import DaemonCase, reactor

SCHEMATHESIS = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]

OFF = (
    # A cancelled job is still shown, as cancelled.
    "use_after_free",
    # A schema describes neither the whole grammar of references nor whether a key was used before; a 400 is
    # a documented response.
    "positive_data_acceptance",
    # An image whose new name ends in "/tags" is shown and removed under two paths of the document.
    "allow_header_conformance",
)


class OpenAPITests(DaemonCase):
    """
    All requests that the document describes.
    """

    async def test_answers(self) -> None:
        """
        Every response conforms to the document, and no request breaks the
        daemon.
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
                # Event streams do not end, and a daemon that drains is not ready; tests.web reads both.
                "--exclude-path-regex=events$|/drain$",
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
        The document that the daemon serves.
        """
        info: dict[str, str] = (await self.api("GET", "openapi.json"))["info"]
        return info
