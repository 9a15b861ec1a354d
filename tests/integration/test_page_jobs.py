"""
The status page in Chromium: the addresses of jobs, filters, older jobs, the chart of the last hour,
and the requests that begin at the page.
"""

from __future__ import annotations

import re

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.integration.browser import ENTER, SINCE
from tests.integration.test_daemon import reactor
from tests.integration.test_page import PageCase
from xferd.testing.faults import Flip
from xferd.testing.images import sample_image


class AddressTests(PageCase):
    """
    The page of one job.
    """

    async def test_running(self) -> None:
        """
        A click leads to the page of a job that runs, with its layers and transfers; its address
        survives a reload, and the back button leads back.
        """
        image, reference = self.add(2)
        self.stall(image, 0)
        job_id = await self.api.pull(reference)
        await self.browser.reads(".job .name", ".")
        await self.browser.click(".job .name")
        await self.browser.reads("#job-page .name", f"^{reference}$")
        address = await self.browser.run("return location.href")
        self.assertEqual(address, f"{self.daemon.page}#/jobs/{job_id}")
        await self.browser.gone("#lists")
        await self.browser.run("location.reload()")
        await self.browser.reads("#job-page .state", "^running$")
        await self.browser.reads("#job-page .layer:nth-child(1) .size", "^1.00 / 201 kB$")
        await self.browser.reads(
            "#job-page .layer:nth-child(2) .why", f"^waiting for the parent layer{SINCE}"
        )
        await self.browser.reads(
            "#job-page .its-transfers .digest", f"^{image.layers[0].blob.digest.hex[:12]}$"
        )
        await self.browser.reads("#job-page .facts", f"ID {job_id} Client ")
        self.registry.resume()
        await self.browser.reads("#job-page .state", "^done$")
        await self.browser.reads("#job-page .attempts .attempt", "document .* done$")
        await self.browser.gone("#job-page .cancel")
        await self.browser.run("history.back()")
        await self.browser.reads("#ended-jobs .name", f"^{reference}$")
        await self.browser.gone("#job-page")
        await self.assert_quiet()

    async def test_shared(self) -> None:
        """
        The transfers of a job link to the other jobs that need them.
        """
        image, reference = self.add(1)
        self.stall(image, 0)
        first = await self.api.pull(reference)
        second = await self.api.pull(reference)
        await self.browser.run("location.hash = arguments[0]", f"#/jobs/{first}")
        await self.browser.reads("#job-page .its-transfers .shared", "^for 2 jobs$")
        await self.browser.click("#job-page .others .name")
        await self.browser.reads("#job-page .facts", f"^ID {second} ")
        await self.assert_quiet()

    async def test_unknown(self) -> None:
        """
        The page of a job that does not exist says so.
        """
        await self.browser.go(f"{self.daemon.page}#/jobs/nothing")
        await self.browser.reads("#job-page .missing", "no job.*nothing")

    async def test_phases(self) -> None:
        """
        A job that has ended shows where its time went, and what bounded it.
        """
        _, reference = self.add(1, 300_000, compression="tar")
        await self.api("PATCH", "limits", {"download_rate": 150_000})
        job_id = await self.api.pull(reference)
        await self.state(job_id, "done")
        await self.browser.go(f"{self.daemon.page}#/jobs/{job_id}")
        await self.browser.reads("#job-page .bound", "^moving .* % of .* s: the limit download_rate, ")
        await self.browser.reads("#job-page .keys", r"moving \d")
        whole, parts = await self.browser.run(
            "return [document.querySelector('.phases').clientWidth,"
            " [...document.querySelectorAll('.phases i')].reduce((s, i) => s + i.offsetWidth + 2, -2)]"
        )
        self.assertApproximates(whole, parts, 3)


class FilterTests(PageCase):
    """
    Search and filters.
    """

    async def test_filters(self) -> None:
        """
        Filters are in the address, hold for running and ended jobs, survive a reload, and are
        cleared by a button.
        """
        image, reference = self.add(1)
        broken = sample_image(1, seed=8)
        self.registry.add(broken, "team/broken", "1")
        self.registry.faults.plant(Flip(), str(broken.layers[0].blob.digest), times=None)
        await self.state(await self.api.pull(f"{self.registry.host}/team/broken:1"), "failed")
        self.stall(image, 0)
        await self.api.pull(reference)
        await self.browser.reads(".job .name", f"^{reference}$")
        await self.browser.click("#filter [type=search]")
        await self.browser.type("BROKEN")
        await self.browser.reads("#jobs-count", "^0 of 1$")
        await self.browser.gone(".job")
        await self.browser.reads("#ended-jobs .name", "/team/broken:1$")
        self.assertEqual(await self.browser.run("return location.hash"), "#/?text=BROKEN")
        await self.browser.run("location.reload()")
        await self.browser.reads("#ended-jobs .name", "/team/broken:1$")
        await self.browser.gone(".job")
        await self.browser.click("#filter-clear")
        await self.browser.reads(".job .name", f"^{reference}$")
        await self.browser.run("location.hash = '#/?state=failed&client=nobody'")
        await self.browser.reads("#no-matches", "^No recent job matches; older ones may.$")
        await self.browser.click("#ended-more")
        await self.browser.reads("#no-matches", "^No job matches.$")
        await self.browser.run(f"location.hash = '#/?state=failed&host={self.registry.host}'")
        await self.browser.reads("#ended-jobs .name", "/team/broken:1$")
        await self.assert_quiet()

    async def test_older(self) -> None:
        """
        Jobs beyond the last 200 are read from the journal, page by page, also for a filter.
        """
        _, reference = self.add(1)
        first = await self.api.pull(reference)
        await self.state(first, "done")
        for _ in range(5):
            pulls = [Deferred.fromCoroutine(self.api.pull(reference)) for _ in range(45)]
            for job_id in await gatherResults(pulls):
                await self.state(job_id, "done")
        await self.browser.run("location.reload()")
        await self.browser.reads("#ended-count", r"^20\d\+$")
        self.assertEqual(len(await self.browser.read("#ended-jobs .name")), 50)
        # An event of the last job may come after the list, which makes it one longer.
        while await self.browser.read("#ended-count") != ["226"]:
            # Nothing follows the last page, which may not be drawn yet.
            await self.browser.run("document.getElementById('ended-more').click()")
            await deferLater(reactor, 0.1)
        await self.browser.reads("#ended-count", "^226$")
        self.assertEqual(await self.browser.run("return document.querySelectorAll('.ended').length"), 226)
        await self.browser.gone("#ended-more")
        await self.browser.run(f"location.hash = '#/?text={first}'")
        await self.browser.reads("#ended-more", "older")
        await self.browser.click("#ended-more")
        await self.browser.reads("#ended-count", "^1$")
        await self.browser.click("#ended-jobs .name")
        await self.browser.reads("#job-page .facts", f"^ID {first} ")
        await self.assert_quiet()


class ChartTests(PageCase):
    """
    The chart of the last hour.
    """

    async def test_chart(self) -> None:
        """
        What moved is in the chart, with labelled axes, after a reload, too; before, it says that
        nothing moved.
        """
        await self.browser.reads("#chart-text", "^Nothing moved in the last hour.$")
        _, reference = self.add(2, 3_000_000)
        await self.api.pull(reference)
        await self.api.pull(reference)
        for _ in range(2):
            text = await self.browser.reads(
                "#chart-text", r"^[56]\.\d\d MB received · [56]\.\d\d MB saved · 0 B sent$"
            )
            labels = await self.browser.run(
                "return [...document.querySelectorAll('#chart text')].map(t => t.textContent)"
            )
            self.assertGreater(len([each for each in labels if re.search(r"\d:\d\d", each)]), 3, labels)
            self.assertIn("0 B", labels)
            self.assertIn("20.0 MB", labels)
            label = await self.browser.run(
                "return document.querySelector('#chart').getAttribute('aria-label')"
            )
            self.assertIn(text, label)
            await self.browser.run("location.reload()")
        await self.assert_quiet()


class BeginTests(PageCase):
    """
    Pushes, copies, tags and removals.
    """

    async def choose(self, kind: str) -> None:
        """
        Choose what to do.
        """
        await self.browser.click(f"#pull [value={kind}]")

    async def test_copy(self) -> None:
        """
        A copy is begun with its target; the error of a bad target is shown beside the form.
        """
        _, reference = self.add(1)
        await self.choose("copy")
        await self.browser.click("#reference")
        await self.browser.type(reference)
        await self.browser.click("#target")
        await self.browser.type("Not A Target" + ENTER)
        await self.browser.reads("#pull-error", "^'Not A Target' is not")
        await self.browser.run("document.querySelector('#target').value = ''")
        await self.browser.click("#target")
        target = f"{self.registry.host}/mine/copy:2"
        await self.browser.type(target + ENTER)
        await self.browser.reads("#ended-jobs .name", f"^{reference} → {target}$")

    async def test_image(self) -> None:
        """
        From the row of an image: its platform, a push, a tag, and its removal after a question.
        """
        _, reference = self.add(1)
        await self.state(await self.api.pull(reference), "done")
        await self.browser.reads("#images .name", f"^{reference}$")
        await self.browser.click("#images .fold")
        await self.browser.reads("#images .platform", "^linux/amd64$")
        await self.browser.click("#images .push")
        target = f"{self.registry.host}/mine/pushed:1"
        await self.browser.type(target + ENTER)
        await self.browser.reads("#ended-jobs .name", f"^{reference} → {target}$")
        await self.browser.click("#images .tag")
        await self.browser.type("example.com/other:1" + ENTER)
        await self.browser.reads("#images .name", "^example.com/other:1$")
        await self.browser.click("#images [data-open=true] .remove")
        await self.browser.reads("#question-title", f"^Remove {reference}\\?$")
        await self.browser.reads("#question-text", "^The name is removed. ")
        await self.browser.click("#question-no")
        await self.browser.gone("#question")
        self.assertEqual(len(await self.api("GET", "images")), 2)
        await self.browser.click("#images [data-open=true] .remove")
        await self.browser.click("#question-yes")

        async def removed() -> bool:
            return len(await self.api("GET", "images")) == 1

        await self.until(removed)
        await self.browser.reads("#images-count", "^1$")
        self.assertEqual(await self.browser.read("#images .name"), ["example.com/other:1"])
        await self.assert_quiet()


class ClientTests(PageCase):
    """
    The shares of clients.
    """

    async def test_shares(self) -> None:
        """
        A client is shown with its jobs, what waits for it, and its bytes of the last minute.
        """
        await self.api("PATCH", "limits", {"downloads": 1})
        image, reference = self.add(2, 1_500_000)
        self.stall(image, 0)
        await self.api.pull(reference)
        await self.browser.reads("#clients .facts", r"^1 job · 1 moving · 1 waiting · .* in the last minute$")
        self.registry.resume()
        await self.browser.reads("#clients .facts", r"^3\.\d\d MB in the last minute$")
        await self.assert_quiet()
