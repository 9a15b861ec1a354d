"""
The doors by which a person changes what runs: the API, xferctl and the page.
"""

from __future__ import annotations

from typing import Any

from tests.integration.browser import Browser
from tests.integration.programs import Xferd
from tests.integration.test_daemon import API


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
