"""
Chromium, and a user who reads a page in it, clicks and types: WebDriver (W3C),
which is JSON over HTTP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers

from tests.integration.peers import PeerFailed
from tests.integration.programs import Program
from xferd.interfaces.reactor import IReactor

PATIENCE: Final = 60.0
"""Seconds for which a change of a page is awaited."""

SINCE: Final = r"( \(since .*\))?$"
"""The end of a pattern for a reason: after some seconds the page adds when the wait began."""

ENTER: Final = "\ue007"
TAB: Final = "\ue004"
ESCAPE: Final = "\ue00c"
"""The characters that WebDriver uses for these keys."""

_ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"
"""The key under which WebDriver names an element of the page."""

_READY: Final = "started successfully on port"
"""What chromedriver prints when it is ready."""

_READ: Final = """
const shown = (node) => node.checkVisibility({visibilityProperty: true});
const found = [...document.querySelectorAll(arguments[0])].filter(shown);
return found.map((node) => node.innerText.replace(/\\s+/g, " ").trim());
"""


AXE: Final = """
const done = arguments[arguments.length - 1];
axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}).then(
    (found) => done(found.violations.map(({id, nodes}) => [
        id, ...nodes.slice(0, 3).map((node) => node.html.slice(0, 150) + " " + node.failureSummary),
    ].join(" | "))),
    (error) => done([String(error)]));
"""
"""A script that returns what axe finds on the page, once axe was run there."""


class Browser(Program):
    """
    One window of Chromium, behind chromedriver.

    Life cycle: made; L{Program.start}ed; C{open}ed with a page; C{quit}.
    """

    def __init__(self, reactor: IReactor, directory: str, *, before: Sequence[str] = ()) -> None:
        """
        @param directory: is made.
        @param before: a program that runs the rest of its command line.
        """
        place = Path(directory).absolute()
        place.mkdir(parents=True)
        self._command = [*before, "chromedriver", "--port=0"]
        self._place = str(place)
        super().__init__(reactor, self._command, _READY, self._place)
        self._clock: IReactorTime = reactor
        self._agent = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))
        self._profile = str(place / "profile")
        self._session = ""

    async def start(self) -> None:
        """
        Start chromedriver.  The port that it chooses is free on IPv6, and may be in use on IPv4:
        then it chooses another one.
        """
        for tries_left in (2, 1, 0):
            try:
                await super().start()
                return
            except PeerFailed as e:
                if not tries_left or "Address already in use" not in str(e):
                    raise
            super().__init__(self._reactor, self._command, _READY, self._place)

    async def open(self, url: str, *, width: int = 1400, height: int = 900, dark: bool = False) -> None:
        """
        Open a window with a page.
        """
        arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={self._profile}",
            f"--window-size={width},{height}",
            *(["--force-dark-mode"] if dark else []),
        ]
        made = await self._ask(
            "POST",
            "",
            {
                "capabilities": {
                    "alwaysMatch": {
                        "goog:chromeOptions": {"args": arguments},
                        "goog:loggingPrefs": {"browser": "ALL"},
                    }
                }
            },
        )
        self._session = f"/{made['sessionId']}"
        # A window has a least width, which phones do not have.
        await self.devtools(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        await self.go(url)

    async def go(self, url: str) -> None:
        """
        Go to another page.
        """
        await self._ask("POST", "/url", {"url": url})

    async def quit(self) -> None:
        """
        Close the window, and end the driver process.
        """
        if self._session:
            await self._ask("DELETE", "")
        await self.stop()

    # -------------------------------------------------- the text of the page

    async def read(self, selector: str) -> list[str]:
        """
        The visible text of each element, without line breaks.
        """
        found: list[str] = await self.run(_READ, selector)
        return found

    async def reads(self, selector: str, pattern: str) -> str:
        """
        Wait until the text of a visible element matches.

        @return: the text of the first such element.
        """
        seen: list[str] = []
        deadline = self._clock.seconds() + PATIENCE
        while self._clock.seconds() < deadline:
            seen = await self.read(selector)
            for text in seen:
                if re.search(pattern, text):
                    return text
            await deferLater(self._clock, 0.05)
        raise AssertionError(f"nothing at {selector!r} reads {pattern!r}, but {seen}")

    async def gone(self, selector: str) -> None:
        """
        Wait until no visible element matches.
        """
        seen: list[str] = []
        deadline = self._clock.seconds() + PATIENCE
        while self._clock.seconds() < deadline:
            seen = await self.read(selector)
            if not seen:
                return
            await deferLater(self._clock, 0.05)
        raise AssertionError(f"{selector!r} is still there: {seen}")

    # -------------------------------------------------- clicks and keys

    async def click(self, selector: str) -> None:
        """
        Click an element, with the mouse.
        """
        await self._ask("POST", f"/element/{await self._find(selector)}/click", {})

    async def type(self, text: str) -> None:
        """
        Type into the element that has the focus.
        """
        keys = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        await self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": keys}]})

    # -------------------------------------------------- scripts and the log

    async def run(self, script: str, *arguments: object) -> Any:
        """
        Run a script in the page.

        @return: its result.
        """
        return await self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    async def run_async(self, script: str, *arguments: object) -> Any:
        """
        Run a script in the page that calls its last argument with its result.

        @return: that result.
        """
        return await self._ask("POST", "/execute/async", {"script": script, "args": list(arguments)})

    async def complaints(self) -> list[str]:
        """
        The browser's messages about the page: violations of its policy, errors
        of its scripts, files that failed to load.
        """
        return [entry["message"] for entry in await self._ask("POST", "/se/log", {"type": "browser"})]

    async def devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        """
        Send a command of the DevTools protocol.
        """
        return await self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    async def _find(self, selector: str) -> str:
        """
        WebDriver's identifier of an element.
        """
        found = await self._ask("POST", "/element", {"using": "css selector", "value": selector})
        return str(found[_ELEMENT])

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """
        Send a request to the driver.

        @raise PeerFailed: it refused.
        """
        match = re.search(r"successfully on port ([0-9]+)", self.output)
        assert match is not None, "start it first"
        url = f"http://127.0.0.1:{match[1]}/session{self._session}{path}"
        producer = None if body is None else FileBodyProducer(BytesIO(json.dumps(body).encode()))
        headers = Headers({"Content-Type": ["application/json"]})
        response = await self._agent.request(method.encode(), url.encode(), headers, producer)
        value = json.loads(await readBody(response))["value"]
        if isinstance(value, dict) and "error" in value:
            raise PeerFailed(f"{method} {path}: {value['error']}: {value['message']}")
        return value
