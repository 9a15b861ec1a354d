"""
The status page in Chromium: pauses, priorities, the drain and retries.
"""

from __future__ import annotations

from typing import Any

from tests.integration.browser import ENTER
from tests.integration.test_page import PageCase


class SteeringTests(PageCase):
    """
    The controls of the page; the daemon and the registry show that they act.
    """

    async def test_job(self) -> None:
        """
        A job is paused and resumed, and its priority is raised; after it was cancelled, it is done
        again.
        """
        image, reference = self.add(1)
        self.stall(image, 0)
        job_id = await self.api.pull(reference)
        await self.browser.go(f"{self.daemon.page}#/jobs/{job_id}")
        await self.browser.reads("#job-page .layer .size", "^1.00 / 201 kB$")
        await self.browser.click("#job-page .higher")
        await self.browser.reads("#job-page .priority", "^priority 10$")
        await self.browser.click("#job-page .hold")
        await self.browser.reads("#job-page .state", "^paused$")
        await self.browser.reads("#job-page .layer .why", "^paused by ")
        job = await self.api("GET", f"jobs/{job_id}")
        self.assertEqual((job["paused"], job["priority"]), (True, 10))
        self.stall(image, 0)
        await self.browser.click("#job-page .hold")
        await self.browser.reads("#job-page .state", "^running$")
        await self.browser.click("#job-page .cancel")
        await self.browser.click("#question-yes")
        await self.browser.reads("#job-page .state", "^cancelled$")
        self.registry.resume()
        await self.browser.click("#job-page .again")
        await self.browser.reads("#job-page .state", "^done$")
        await self.browser.reads("#job-page .facts", f"Retry of {job_id}")
        await self.assert_quiet()

    async def test_everything(self) -> None:
        """
        Downloads are paused after a question, also for the next daemon, and resumed; so is all.
        """
        for control, name, words in (
            ("#pause-downloads", "downloads", "Downloads are paused by .*, also after a restart. Resume$"),
            ("#pause-all", "all", "Everything is paused by .*, also after a restart. Resume$"),
        ):
            await self.browser.click(control)
            await self.browser.reads("#question-title", "^Pause ")
            await self.browser.click("#question-check")
            await self.browser.click("#question-yes")
            await self.browser.reads("#pauses .pause", words)
            (pause,) = await self.api("GET", "pauses")
            self.assertEqual((pause["what"], pause["keep"]), (name, True))
            await self.browser.reads(control, "^Resume")
            await self.browser.click("#pauses .end")
            await self.browser.gone("#pauses")
            self.assertEqual(await self.api("GET", "pauses"), [])
        await self.assert_quiet()

    async def test_host(self) -> None:
        """
        A registry is paused, and resumed.
        """
        image, reference = self.add(1)
        self.stall(image, 0)
        await self.api.pull(reference)
        await self.browser.reads("#registries .name", f"^{self.registry.host}$")
        await self.browser.click("#registries .hold")
        await self.browser.click("#question-yes")
        await self.browser.reads("#pauses .pause", f"^{self.registry.host} is paused by ")
        await self.browser.reads(".job .layer .why", "paused by ")
        self.registry.resume()
        await self.browser.click("#pauses .end")
        await self.browser.reads("#ended-jobs .name", f"^{reference}$")
        await self.browser.gone("#pauses")
        await self.assert_quiet()

    async def test_drain(self) -> None:
        """
        A drained daemon accepts no jobs, which the form reports; the drain is ended.
        """
        _, reference = self.add(1)
        await self.browser.click("#drain")
        await self.browser.reads("#question-text", "the daemon accepts no jobs")
        await self.browser.click("#question-check")
        await self.browser.click("#question-yes")
        sentence = "^The daemon accepts no jobs: .*, also after a restart; all jobs have ended"
        await self.browser.reads("#pauses .pause", sentence)
        await self.browser.click("#reference")
        await self.browser.type(reference + ENTER)
        await self.browser.reads("#pull-error", "drain")
        await self.browser.click("#drain")
        await self.browser.gone("#pauses")
        await self.browser.click("#begin")
        await self.browser.reads("#ended-jobs .name", f"^{reference}$")


class LimitTests(PageCase):
    """
    The limits of one registry and of one client.
    """

    async def limits(self) -> Any:
        """
        The limits of the daemon.
        """
        return await self.api("GET", "limits")

    async def test_host(self) -> None:
        """
        A registry gets a limit of its own, which is shown again and removed.
        """
        _, reference = self.add(1)
        await self.state(await self.api.pull(reference), "done")
        await self.browser.reads("#registries .name", f"^{self.registry.host}$")
        await self.browser.click("#registries .limit")
        await self.browser.reads("#limits", "Downloads at once Uploads at once Download MB/s Upload MB/s")
        await self.browser.run("document.querySelector('#limits [name=download_rate]').value = '0.5'")
        await self.browser.run("document.querySelector('#limits [name=downloads]').value = '2'")
        await self.browser.click("#limits .act button")
        await self.browser.gone("#limits")
        entry = (await self.limits())["hosts"][self.registry.host]
        self.assertEqual((entry["downloads"], entry["download_rate"]), (2, 500_000))
        await self.browser.click("#registries .limit")
        await self.browser.reads("#limits-remove", "^Remove$")
        rate = "return document.querySelector('#limits [name=download_rate]').value"
        self.assertEqual(await self.browser.run(rate), "0.5")
        await self.browser.click("#limits-remove")
        await self.browser.gone("#limits")
        self.assertEqual((await self.limits())["hosts"], {})
        await self.assert_quiet()

    async def test_timetable(self) -> None:
        """
        A rate by time of day is set, shown beside the rate of now, and shown again; what is no
        rate is refused with the daemon's words.
        """
        image, reference = self.add(1)
        self.stall(image, 0)
        await self.api.pull(reference)
        await self.browser.click("#limits-open")
        await self.browser.reads("#limits", "Download MB/s")
        field = "document.querySelector('#limits [name=download_rate]').value"
        await self.browser.run(f"{field} = '08:00-18:00 x, else 5'")
        await self.browser.click("#limits .act button")
        await self.browser.reads(
            "#limits-error", "download_rate.* has for 08:00-18:00 a rate that must be bytes"
        )
        await self.browser.run(f"{field} = '00:00-12:00 0.05, 12:00-24:00 0.05, else 5'")
        await self.browser.click("#limits .act button")
        await self.browser.gone("#limits")
        table = {"00:00-12:00": 50_000, "12:00-24:00": 50_000, "else": 5_000_000}
        self.assertEqual((await self.limits())["timetables"]["download_rate"], table)
        spans = "00:00-12:00 0.05, 12:00-24:00 0.05, else 5"
        await self.browser.reads("#limit-in", rf"^at most 50.0 kB/s · by time of day: {spans} MB/s")
        self.registry.resume()
        await self.browser.reads("#limit-in", "limited now by this$")
        await self.browser.click("#limits-open")
        await self.browser.reads("#limits", "Download MB/s")
        self.assertEqual(await self.browser.run(f"return {field}"), spans)
        await self.browser.run(f"{field} = '0'")
        await self.browser.click("#limits .act button")
        await self.browser.gone("#limits")
        self.assertEqual((await self.limits())["timetables"], {})
        (complaint,) = await self.browser.complaints()
        self.assertIn("status of 400", complaint)

    async def test_client(self) -> None:
        """
        A client gets a weight and a rate, for the next daemon, too; its row shows them.
        """
        image, reference = self.add(1)
        self.stall(image, 0)
        await self.api.pull(reference)
        name = await self.browser.reads("#clients .name", ".")
        await self.browser.click("#clients .limit")
        await self.browser.reads("#limits", "Weight Download MB/s Upload MB/s after a restart, too")
        await self.browser.run("document.querySelector('#limits [name=weight]').value = '3'")
        await self.browser.run("document.querySelector('#limits [name=upload_rate]').value = '2'")
        await self.browser.click("#limits [name=keep]")
        await self.browser.click("#limits .act button")
        await self.browser.gone("#limits")
        limits = await self.limits()
        entry = limits["clients"][name]
        self.assertEqual((entry["weight"], entry["upload_rate"]), (3, 2_000_000))
        self.assertIn(name, str(limits["kept"]))
        await self.browser.reads("#clients .weight", "^weight 3$")
        await self.browser.reads("#clients .facts", r"at most 2\.00 MB/s up$")
        await self.assert_quiet()

    async def test_job(self) -> None:
        """
        A job that runs gets a rate, which its page shows.
        """
        image, reference = self.add(1)
        self.stall(image, 0)
        job_id = await self.api.pull(reference)
        await self.browser.go(f"{self.daemon.page}#/jobs/{job_id}")
        await self.browser.reads("#job-page .limit", "^Limit$")
        await self.browser.click("#job-page .limit")
        await self.browser.reads("#limits", f"the pull of {reference}.* Download MB/s Upload MB/s Set Close")
        await self.browser.run("document.querySelector('#limits [name=download_rate]').value = '1.5'")
        await self.browser.click("#limits .act button")
        await self.browser.gone("#limits")
        self.assertEqual((await self.api("GET", f"jobs/{job_id}"))["download_rate"], 1_500_000)
        await self.browser.reads("#job-page .facts", r"Download limit 1\.50 MB/s")
        await self.assert_quiet()
