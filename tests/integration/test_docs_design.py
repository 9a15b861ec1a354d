"""
The documentation as a browser shows it: axe finds nothing on pages with text, tables, code and
pictures.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.resources import files
from pathlib import Path
from tempfile import mkdtemp

from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.integration.browser import AXE, Browser
from tests.integration.programs import ROOT
from tests.integration.test_daemon import reactor

PAGES = ("index", "status-page", "webhooks")


class DocsTests(TestCase):
    """
    Some pages, in the theme of all.
    """

    timeout = 240

    async def test_axe(self) -> None:
        """
        Axe finds nothing, on a desktop and on a phone.
        """
        place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, place)
        built = place / "docs"
        sphinx = ["-m", "sphinx", "-q", "-b", "html", "-d", str(place / "doctrees")]
        sources = [f"{ROOT}/docs/{page}.rst" for page in PAGES]
        arguments = [*sphinx, f"{ROOT}/docs", str(built), *sources]
        output, errors, status = await getProcessOutputAndValue(
            sys.executable, arguments, os.environ, reactor=reactor
        )
        self.assertEqual(status, 0, (output, errors))
        browser = Browser(reactor, str(place / "browser"))
        await browser.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(browser.quit()))
        axe = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
        await browser.open("about:blank")
        for page in PAGES:
            for width in (1300, 400):
                screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
                await browser.devtools("Emulation.setDeviceMetricsOverride", screen)
                await browser.go(f"file://{built}/{page}.html")
                await browser.run(axe)
                self.assertEqual(await browser.run_async(AXE), [], (page, width))
