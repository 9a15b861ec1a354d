"""
The status page of a daemon with 200 jobs and 5,000 transfers, whose events a test makes: its cost
in a real browser, as CPU time, which does not depend on what else the machine does.
"""

from __future__ import annotations

import shutil
from tempfile import mkdtemp
from typing import Any, Final

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.browser import Browser
from tests.integration.test_daemon import reactor
from tests.web.fakes import TRANSFER, job
from tests.web.test_page import Connections
from tests.web.world import World
from xferd.interfaces.jobs import Event

JOBS: Final = 200
LAYERS: Final = 25
MOVING: Final = 50
SIZE: Final = 1_000_000

FRAME: Final = 1 / 60
"""Seconds of one frame."""

WAIT: Final = "waiting for a download slot, 5th in line"


def events(number: int, index: int, done: int) -> list[Event]:
    """
    The events of a layer, and of its job and transfer.
    """
    digest, moves = f"sha256:{number * LAYERS + index:064x}", done > 0
    job_id, transfer = f"j{number}", f"t{number}-{index}"
    layer = {
        "job": job_id,
        "index": index,
        "digest": digest,
        "diff_id": None,
        "size": SIZE,
        "state": "downloading" if moves else "waiting",
        "bytes_done": done,
        "unpacked": done // 2,
        "transfer": transfer,
        "why": "" if moves else WAIT,
        "reason": None,
    }
    shared = {
        **TRANSFER,
        "id": transfer,
        "key": transfer,
        "digest": digest,
        "state": "running" if moves else "queued",
        "bytes_done": done,
        "bytes_total": SIZE,
        "rate": 300_000.0 if moves else 0.0,
        "why": "" if moves else WAIT,
        "jobs": [job_id],
    }
    figures = {"bytes_done": done, "bytes_total": LAYERS * SIZE, "layers_total": LAYERS}
    name = f"ghcr.io/team/image-{number}:1.2"
    return [
        Event("job", job(id=job_id, reference=name, client=f"ci-{number % 7}", **figures)),
        Event("layer", layer),
        Event("transfer", shared),
    ]


class LoadTests(TestCase):
    """
    A page with much to show.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Open the page of a daemon with all of its jobs.
        """
        world = World()
        waiting = [events(number, index, 0) for number in range(JOBS) for index in range(LAYERS)]
        world.jobs.present = [event for each in waiting for event in each]
        connections = Connections(world.site)
        port = IReactorTCP(reactor).listenTCP(0, connections, interface="127.0.0.1")  # type: ignore[arg-type]
        self.addCleanup(port.stopListening)
        self.addCleanup(connections.close)
        place = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, place)
        self.browser = browser = Browser(reactor, f"{place}/browser")
        await browser.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(browser.quit()))
        address = port.getHost()
        assert isinstance(address, IPv4Address)
        await browser.open(f"http://127.0.0.1:{address.port}/", width=1300)
        await browser.reads("#transfers-count", "^5000$")
        self.stream = world.jobs.streams[-1][1]
        self.ticks = 0
        self.tick()
        self.addCleanup(lambda: self.timer.cancel())

    def tick(self) -> None:
        """
        Move what moves, ten times a second.
        """
        self.ticks += 1
        done = 1 + self.ticks * 1000 % SIZE
        self.stream.tell(*(event for number in range(MOVING) for event in events(number, 0, done)))
        self.timer = reactor.callLater(0.1, self.tick)

    async def cost(self, seconds: float) -> float:
        """
        Draw as many frames as the browser can, for some seconds.

        @return: the CPU time of the page's thread for each of them, in seconds.
        """
        await self.browser.devtools("Performance.enable", {"timeDomain": "threadTicks"})
        await self.browser.run(
            "window.drawn = 0; const draw = () => { window.drawn++; requestAnimationFrame(draw); }; draw();"
        )
        before = await self.busy()
        await deferLater(reactor, seconds)
        used = await self.busy() - before
        frames: int = await self.browser.run("return window.drawn")
        self.assertGreater(frames, 10)
        return used / frames

    async def busy(self) -> float:
        """
        The CPU time of the page's thread until now.
        """
        found: dict[str, Any] = await self.browser.devtools("Performance.getMetrics", {})
        return float(next(each["value"] for each in found["metrics"] if each["name"] == "TaskDuration"))

    async def test_frames(self) -> None:
        """
        Frames take less than their sixtieth of a second, and rows out of sight do not exist.
        """
        self.assertLess(await self.cost(4.0), FRAME / 2)
        rows = await self.browser.run("return document.querySelectorAll('#transfers > li').length")
        self.assertLess(rows, 30)
        nodes = await self.browser.run("return document.querySelectorAll('*').length")
        self.assertLess(nodes, 10_000)

    async def test_scrolling(self) -> None:
        """
        So do they while the transfers are scrolled, each of which is reached.
        """
        await self.browser.run(
            "const frame = document.getElementById('transfers-frame');"
            "const scroll = () => { frame.scrollTop += 400; requestAnimationFrame(scroll); }; scroll();"
        )
        self.assertLess(await self.cost(4.0), FRAME)
        await self.browser.run("document.getElementById('transfers-frame').scrollTop = 1e9; return true")
        await self.browser.reads("#transfers > li:last-child .digest", ".")

        last = "return document.querySelector('#transfers > li:last-child').getAttribute('aria-posinset')"
        self.assertEqual(await self.browser.run(last), str(JOBS * LAYERS))
