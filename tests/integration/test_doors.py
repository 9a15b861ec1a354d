"""
What a person changes while jobs run, by each door: the API, xferctl and the page.  Figures from the
wire show that it acts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.integration.browser import Browser
from tests.integration.doors import CtlDoor, Door, PageDoor
from tests.integration.slow_proxy import SlowProxy
from tests.integration.test_daemon import DaemonCase, reactor
from xferd.testing.images import sample_image
from xferd.testing.registry import Registry

LINE: Final = 400_000.0
"""Bytes per second of each connection."""

SIZE: Final = 40_000_000
"""Bytes of a layer that does not end meanwhile."""

LARGE: Final = 1_500_000
"""Bytes of a layer that has no slots of its own."""

DOCUMENTS: Final = 20_000
"""More bytes than the manifest and the config of an image have."""

ACTS: Final = 1.0
"""Seconds within which a change acts."""

WINDOW: Final = 2.5
"""Seconds over which the wire is measured."""

MOST, LEAST = 1.35, 0.4
"""
A rate as shares of its limit: kernels pass on bytes in large pieces, and a busy machine is slow, but
none makes bytes faster.
"""

WINDOWS: Final = 5
"""Windows until one has the rates: a kernel passes on what it has of before the change, and a busy machine
takes longer for that."""


def near(found: Sequence[float], limits: Sequence[float]) -> bool:
    """
    Whether rates are near their limits, and not above.
    """
    return all(LEAST * limit < rate < MOST * limit for rate, limit in zip(found, limits, strict=True))


class DoorsCase(DaemonCase):
    """
    Three jobs of three clients with three registries, which are as slow as a proxy makes them.

    @cvar way: C{download} or C{upload}.
    @cvar first: the limits with which the jobs begin.
    """

    timeout = 300
    way = "download"
    # The kernel's buffers remain small, and are full when a rate is measured.
    first: Mapping[str, int] = {"ranges": 1, "downloads": 4, "download_rate": 240_000}

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Begin them.
        """
        await super().setUp()
        await self.api("PATCH", "limits", dict(self.first))
        host = await self.slow()
        self.proxies = [SlowProxy(host, LINE) for _ in range(3)]
        for proxy in self.proxies:
            self.addCleanup(proxy.stop)
        self.names = ["one", "two", "three"]
        self.clients = ["ci", "bob", "eve"]
        self.jobs = [await self.begin(number, name) for number, name in enumerate(self.names)]
        await self.move(*self.names)

    async def slow(self) -> str:
        """
        The C{host:port} of the registry behind the proxies.
        """
        return self.registry.host

    async def begin(self, number: int, name: str, size: int = SIZE) -> str:
        """
        Begin to pull another image.

        @param number: of the client and of the registry.
        @return: the ID of the job.
        """
        self.registry.add(sample_image(1, size, seed=name, compression="tar"), f"team/{name}", "1")
        return await self.api.pull(
            f"{self.proxies[number].address}/team/{name}:1", client=self.clients[number]
        )

    def passed(self, name: str) -> int:
        """
        The bytes of a repository that the daemon has got, or sent.
        """
        return sum(
            (proxy.received if self.way == "download" else proxy.sent)[f"team/{name}"]
            for proxy in self.proxies
        )

    async def move(self, *names: str) -> None:
        """
        Wait until bytes of all of some repositories pass.
        """
        before = [self.passed(name) for name in names]
        await self.until(
            lambda: all(self.passed(name) > was + 100_000 for name, was in zip(names, before, strict=True))
        )

    async def measure(self, holds: Callable[[list[float]], bool]) -> None:
        """
        Measure the bytes a second of each pull, from the second after a change, until they are right.

        @param holds: whether they are.
        """
        await deferLater(reactor, ACTS)
        found: list[float] = []
        for _ in range(WINDOWS):
            began, before = reactor.seconds(), [self.passed(name) for name in self.names]
            await deferLater(reactor, WINDOW)
            seconds = reactor.seconds() - began
            found = [
                (self.passed(name) - was) / seconds for name, was in zip(self.names, before, strict=True)
            ]
            if holds(found):
                return
        self.fail(f"the last rates were {found}")

    async def silence(self, *names: str) -> None:
        """
        Assert that nothing of some repositories passes, from the second after a change.
        """
        await deferLater(reactor, ACTS)
        before = [self.passed(name) for name in names]
        await deferLater(reactor, ACTS)
        self.assertEqual([self.passed(name) for name in names], before)

    async def limited(self, door: Door) -> None:
        """
        The rate of a registry, of a client and of a job.
        """
        host, client, job = self.proxies[0].address, self.clients[1], self.jobs[2]
        name = f"{self.way}_rate"
        await door.limit("hosts", host, **{name: 120_000})
        await door.limit("clients", client, **{name: 180_000})
        await door.limit("jobs", job, **{name: 240_000})
        await door.limit("all", "", **{name: 0})
        await self.measure(lambda found: near(found, [120_000, 180_000, 240_000]))

    async def browser(self) -> Browser:
        """
        A browser with the page.
        """
        browser = Browser(reactor, str(self.place / "browser"))
        await browser.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(browser.quit()))
        await browser.open(self.daemon.page)
        return browser


class DoorsTests(DoorsCase):
    """
    Three pulls.
    """

    async def rates(self, door: Door) -> None:
        """
        The rate of a registry, of a client and of a job; weights below the rate of all; and one by
        time of day.
        """
        host, client, job = self.proxies[0].address, self.clients[1], self.jobs[2]
        await self.limited(door)
        await door.limit("all", "", download_rate=300_000)
        await door.limit("hosts", host, download_rate=0)
        await door.limit("jobs", job, download_rate=0)
        await door.limit("clients", client, download_rate=0, weight=3)
        # Three times as much, but for what the kernel has of it.
        await self.measure(
            lambda found: near([sum(found)], [300_000]) and found[1] > 1.3 * max(found[0], found[2])
        )
        await door.timetable(150_000)
        await self.measure(lambda found: near([sum(found)], [150_000]))
        await door.limit("all", "", download_rate=0)
        await self.measure(lambda found: sum(found) > MOST * 300_000)

    async def pauses(self, door: Door) -> None:
        """
        Pauses of a registry and of a job, while another one moves; of a direction, and of all.
        """
        one, two, three = self.names
        await door.pause("hosts", self.proxies[0].address)
        await door.pause("jobs", self.jobs[1])
        before = self.passed(three)
        await self.silence(one, two)
        self.assertGreater(self.passed(three), before + 100_000)
        await door.resume("hosts", self.proxies[0].address)
        await door.resume("jobs", self.jobs[1])
        await self.move(*self.names)
        for what in ("downloads", "all"):
            await door.pause(what)
            await self.silence(*self.names)
            await door.resume(what)
            await self.move(*self.names)

    async def order(self, door: Door) -> None:
        """
        The number of downloads from a registry, the order of those that wait for one, a retry, and
        the drain.
        """
        await door.limit("hosts", self.proxies[0].address, downloads=1)
        later = [await self.begin(0, name, LARGE) for name in ("fourth", "fifth")]
        await door.raise_priority(later[1])
        await self.move(self.names[0])
        # They have their manifests and configs.
        self.assertFalse([name for name in ("fourth", "fifth") if self.passed(name) > DOCUMENTS])
        await self.api("DELETE", f"jobs/{self.jobs[0]}")
        await self.move("fifth")
        self.assertLess(self.passed("fourth"), DOCUMENTS)
        for job_id in later:
            await self.api("DELETE", f"jobs/{job_id}")
        await door.retry(self.jobs[0])
        await self.move(self.names[0])
        await door.drain()
        refused = await self.api("POST", "jobs", {"kind": "pull", "reference": f"{self.registry.host}/a:1"})
        self.assertEqual(refused["error"]["code"], "DRAINING")
        await self.move(*self.names)
        await door.drain(end=True)
        await self.begin(1, "sixth", LARGE)
        await self.move("sixth")

    async def through(self, door: Door) -> None:
        """
        Everything by one door.
        """
        steps: tuple[Callable[[Door], Any], ...] = (self.rates, self.pauses, self.order)
        for step in steps:
            await step(door)

    async def test_api(self) -> None:
        """
        The API.
        """
        await self.through(Door(self.api))

    async def test_xferctl(self) -> None:
        """
        Xferctl.
        """
        await self.through(CtlDoor(self.daemon))

    async def test_page(self) -> None:
        """
        The page.
        """
        browser = await self.browser()
        await self.through(PageDoor(browser, self.daemon.page))
        self.assertEqual(await browser.complaints(), [])


class UploadsTests(DoorsCase):
    """
    Three pushes of one image.
    """

    way = "upload"
    first: Mapping[str, int] = {"upload_rate": 240_000}
    _stored = ""

    async def slow(self) -> str:
        """
        A registry that has nothing of the image.
        """
        empty = Registry(reactor)
        await empty.listen(reactor)
        self.addCleanup(empty.stop)
        return empty.host

    async def begin(self, number: int, name: str, size: int = SIZE) -> str:
        """
        Begin to push the image; the first time, pull it.
        """
        if not self._stored:
            self._stored = f"{self.registry.host}/team/image:1"
            self.registry.add(sample_image(1, size, seed="image", compression="tar"), "team/image", "1")
            await self.state(await self.api.pull(self._stored), "done")
        target = f"{self.proxies[number].address}/team/{name}:1"
        asked = {"kind": "push", "reference": self._stored, "target": target}
        return str((await self.api("POST", "jobs", asked, client=self.clients[number]))["id"])

    async def through(self, door: Door) -> None:
        """
        The rates by one door.
        """
        host, client, job = self.proxies[0].address, self.clients[1], self.jobs[2]
        await self.limited(door)
        await door.limit("all", "", upload_rate=150_000)
        await self.measure(lambda found: near([sum(found)], [150_000]))
        await door.limit("hosts", host, upload_rate=0)
        await door.limit("clients", client, upload_rate=0)
        await door.limit("jobs", job, upload_rate=0)
        await door.limit("all", "", upload_rate=0)
        await self.measure(lambda found: sum(found) > MOST * 540_000)

    async def test_api(self) -> None:
        """
        The API.
        """
        await self.through(Door(self.api))

    async def test_xferctl(self) -> None:
        """
        Xferctl.
        """
        await self.through(CtlDoor(self.daemon))

    async def test_page(self) -> None:
        """
        The page.
        """
        browser = await self.browser()
        await self.through(PageDoor(browser, self.daemon.page))
        self.assertEqual(await browser.complaints(), [])
