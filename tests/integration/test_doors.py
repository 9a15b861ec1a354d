"""
What a person changes while jobs run, by each door: the API, xferctl and the page.  Figures from the
wire show that it acts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.integration.browser import Browser
from tests.integration.programs import Xferd
from tests.integration.slow_proxy import SlowProxy
from tests.integration.test_daemon import API, DaemonCase, reactor
from xferd.testing.images import sample_image

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


class Door:
    """
    Changes what runs, by the API.
    """

    def __init__(self, api: API) -> None:
        self.api = api

    async def limit(self, of: str, name: str, **limits: Any) -> None:
        """
        Change limits.

        @param of: C{all}, C{hosts}, C{clients} or C{jobs}.
        @param name: of the registry, the client or the job.
        @param limits: 0 removes one.
        """
        if of == "jobs":
            await self.api("PATCH", f"jobs/{name}", limits)
        else:
            await self.api("PATCH", "limits", limits if of == "all" else {of: {name: limits}})

    async def timetable(self, rate: int) -> None:
        """
        Limit all downloads at all times of the day.
        """
        table = {"00:00-12:00": rate, "12:00-24:00": rate, "else": 1}
        await self.api("PATCH", "limits", {"download_rate": table})

    async def pause(self, what: str, name: str = "") -> None:
        """
        Pause C{jobs} or C{hosts} of a name, C{downloads} or C{all}.
        """
        if what == "jobs":
            await self.api("PATCH", f"jobs/{name}", {"paused": True})
        else:
            await self.api("PUT", f"pauses/{what}{'/' * bool(name)}{name}", {})

    async def resume(self, what: str, name: str = "") -> None:
        """
        End a pause.
        """
        if what == "jobs":
            await self.api("PATCH", f"jobs/{name}", {"paused": False})
        else:
            await self.api("DELETE", f"pauses/{what}{'/' * bool(name)}{name}")

    async def raise_priority(self, job_id: str) -> None:
        """
        Let a job precede others.
        """
        await self.api("PATCH", f"jobs/{job_id}", {"priority": 10})

    async def retry(self, job_id: str) -> None:
        """
        Do a job that has ended again.
        """
        await self.api("POST", f"jobs/{job_id}/retry", {})

    async def drain(self, *, end: bool = False) -> None:
        """
        Accept no more jobs; or accept them again.
        """
        await self.api("DELETE" if end else "PUT", "drain")


class CtlDoor(Door):
    """
    The same, by xferctl.
    """

    def __init__(self, daemon: Xferd) -> None:
        self.ctl = daemon.ctl

    async def limit(self, of: str, name: str, **limits: Any) -> None:
        """
        C{xferctl limits}.
        """
        scope = [] if of == "all" else [f"--{of.removesuffix('s')}", name]
        await self.ctl("limits", *scope, *(f"{limit}={value}" for limit, value in limits.items()))

    async def timetable(self, rate: int) -> None:
        """
        C{xferctl limits} with times.
        """
        await self.ctl("limits", f"download_rate=00:00-12:00={rate},12:00-24:00={rate},else=1")

    async def pause(self, what: str, name: str = "") -> None:
        """
        C{xferctl pause}.
        """
        await self.ctl("pause", *self._what(what, name))

    async def resume(self, what: str, name: str = "") -> None:
        """
        C{xferctl resume}.
        """
        await self.ctl("resume", *self._what(what, name))

    def _what(self, what: str, name: str) -> list[str]:
        return {"jobs": [name], "hosts": ["--host", name]}.get(what, [f"--{what}"])

    async def raise_priority(self, job_id: str) -> None:
        """
        C{xferctl priority}.
        """
        await self.ctl("priority", job_id, "10")

    async def retry(self, job_id: str) -> None:
        """
        C{xferctl retry}.
        """
        await self.ctl("retry", job_id)

    async def drain(self, *, end: bool = False) -> None:
        """
        C{xferctl drain}.
        """
        await self.ctl("drain", *["--end"] * end)


class PageDoor(Door):
    """
    The same, by clicks.
    """

    def __init__(self, browser: Browser, page: str) -> None:
        self.browser = browser
        self._page = page

    async def limit(self, of: str, name: str, **limits: Any) -> None:
        """
        The form of limits.
        """
        fields = {key: str(value / 1e6) if key.endswith("_rate") else value for key, value in limits.items()}
        await self._fill_in(of, name, fields)

    async def timetable(self, rate: int) -> None:
        """
        The form of limits, with times.
        """
        value = f"00:00-12:00 {rate / 1e6}, 12:00-24:00 {rate / 1e6}, else 1"
        await self._fill_in("all", "", {"download_rate": value})

    async def _fill_in(self, of: str, name: str, fields: dict[str, Any]) -> None:
        if of == "jobs":
            await self._visit(name)
        button = {
            "all": "#limits-open",
            "jobs": "#job-page .limit",
            "hosts": f"#registries [aria-label='Limit {name}']",
            "clients": f"#clients [aria-label='Limit {name}']",
        }[of]
        await self._click(button)
        await self.browser.reads("#limits", "Download MB/s")
        for field, value in fields.items():
            script = "document.querySelector(`#limits [name=${arguments[0]}]`).value = arguments[1]"
            await self.browser.run(script, field, str(value))
        await self._click("#limits .act button")
        await self.browser.gone("#limits")
        await self._visit()

    async def pause(self, what: str, name: str = "") -> None:
        """
        The buttons, and the question behind all but that of a job.
        """
        if what == "jobs":
            await self._hold(name, "Resume")
            return
        host = f"#registries [aria-label='Pause {name}']"
        await self._click(host if what == "hosts" else f"#pause-{what}")
        await self._click("#question-yes")

    async def resume(self, what: str, name: str = "") -> None:
        """
        The button at the pause.
        """
        if what == "jobs":
            await self._hold(name, "Pause")
            return
        words = {"downloads": "Downloads", "all": "Everything"}.get(what, name)
        await self._click(f"#pauses [aria-label='Resume {words}']")

    async def _hold(self, job_id: str, then: str) -> None:
        await self._visit(job_id)
        await self._click("#job-page .hold")
        await self.browser.reads("#job-page .hold", f"^{then}$")
        await self._visit()

    async def raise_priority(self, job_id: str) -> None:
        """
        The button on the page of the job.
        """
        await self._visit(job_id)
        await self._click("#job-page .higher")
        await self.browser.reads("#job-page .priority", "^priority 10$")
        await self._visit()

    async def retry(self, job_id: str) -> None:
        """
        The button on the page of the job.
        """
        await self._visit(job_id)
        await self._click("#job-page .again")
        await self.browser.reads("#job-page .facts", f"Retry of {job_id}")
        await self._visit()

    async def drain(self, *, end: bool = False) -> None:
        """
        The button at the top.
        """
        await self._click("#drain")
        if not end:
            await self._click("#question-yes")
        await self.browser.reads("#drain", "^Drain$" if end else "^End the drain$")

    async def _visit(self, job_id: str = "") -> None:
        await self.browser.go(f"{self._page}#/{'jobs/' * bool(job_id)}{job_id}")
        await self.browser.reads("#job-page .facts" if job_id else "#pull", job_id or "Image")

    async def _click(self, selector: str) -> None:
        await self.browser.reads(selector, ".")
        await self.browser.click(selector)


class DoorsTests(DaemonCase):
    """
    Three pulls of three clients from three registries, which are as slow as a proxy makes them.
    """

    timeout = 300

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Begin them.
        """
        await super().setUp()
        # The kernel's buffers remain small, and are full when a rate is measured.
        await self.api("PATCH", "limits", {"ranges": 1, "downloads": 4, "download_rate": 240_000})
        self.proxies = [SlowProxy(self.registry.host, LINE) for _ in range(3)]
        for proxy in self.proxies:
            self.addCleanup(proxy.stop)
        self.names = ["one", "two", "three"]
        self.clients = ["ci", "bob", "eve"]
        self.jobs = [await self.begin(number, name) for number, name in enumerate(self.names)]
        await self.move(*self.names)

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
        The bytes of a repository that the daemon has got.
        """
        return sum(proxy.received[f"team/{name}"] for proxy in self.proxies)

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

    async def rates(self, door: Door) -> None:
        """
        The rate of a registry, of a client and of a job; weights below the rate of all; and one by
        time of day.
        """
        host, client, job = self.proxies[0].address, self.clients[1], self.jobs[2]
        await door.limit("hosts", host, download_rate=120_000)
        await door.limit("clients", client, download_rate=180_000)
        await door.limit("jobs", job, download_rate=240_000)
        await door.limit("all", "", download_rate=0)
        await self.measure(lambda found: near(found, [120_000, 180_000, 240_000]))
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
        browser = Browser(reactor, str(self.place / "browser"))
        await browser.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(browser.quit()))
        await browser.open(self.daemon.page)
        await self.through(PageDoor(browser, self.daemon.page))
        self.assertEqual(await browser.complaints(), [])
