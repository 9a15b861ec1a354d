"""
Programs that the tests start.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor as installed
from twisted.trial.unittest import TestCase

from tests.integration.browser import Browser
from tests.integration.peers import PeerFailed

reactor: Any = installed


class RestartedTests(TestCase):
    """
    A program that is started again, as it did not get its port.
    """

    async def test_each_end_once(self) -> None:
        """
        Each end belongs to the start that it ends: the last one raises, and none is told twice.
        """
        place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, place, ignore_errors=True)
        script = "echo >> starts; echo Address already in use; exit 1"
        browser = Browser(reactor, str(place / "b"), before=["sh", "-c", script])
        with self.assertRaisesRegex(PeerFailed, "Address already in use"):
            await browser.start()
        await browser.ended
        self.assertEqual((place / "b/starts").read_text(), 3 * "\n")
