"""
The status page in Chromium, with a real daemon and a real registry: clicks,
keys and the text of the page.
"""

from __future__ import annotations

import os

from twisted.internet.defer import Deferred

from tests.integration.browser import ENTER, ESCAPE, SINCE, TAB, Browser
from tests.integration.programs import Xferd
from tests.integration.test_daemon import DaemonCase, reactor
from xferd.testing.faults import Flip, Stall, too_many_requests, unavailable
from xferd.testing.images import SampleImage, sample_image

WHY = ".job .layer .why"


class PageCase(DaemonCase):
    """
    A daemon, a registry, and a browser with the page.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Open the page.
        """
        await super().setUp()
        self.browser = browser = Browser(reactor, str(self.place / "browser"))
        await browser.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(browser.quit()))
        await browser.open(self.daemon.page)
        await browser.reads("#link", "^live$")

    def stall(self, image: SampleImage, *layers: int) -> None:
        """
        Let some layers stall after their first bytes.
        """
        for layer in layers:
            self.registry.faults.plant(Stall(1000), str(image.layers[layer].blob.digest))

    async def assert_quiet(self) -> None:
        """
        The browser reports no violation of its policy and no error.
        """
        self.assertEqual(await self.browser.complaints(), [])


class SandboxTests(PageCase):
    """
    A daemon with a sandbox, and one of root's without it.
    """

    async def test_missing(self) -> None:
        """
        The page lists the missing parts of the sandbox, and nothing if it is
        complete.
        """
        if os.geteuid() != 0:
            self.skipTest("only root has a sandbox that lacks nothing")
        await self.browser.reads("#free", "free$")
        await self.browser.gone("#sandbox")
        await self.assert_quiet()
        await self.daemon.stop()
        before = ["setpriv", "--bounding-set=-all"]
        self.daemon = daemon = Xferd(reactor, str(self.place / "y"), before=before)
        await daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))
        await self.browser.go(daemon.page)
        await self.browser.reads("#sandbox", "without network, ipc, mounts")


class PullTests(PageCase):
    """
    Pulls from the form of the page.
    """

    async def test_keyboard(self) -> None:
        """
        After a reference and Enter, the page shows the layers with their sizes,
        then the job among the ended ones and the image in the store.
        """
        image, reference = self.add(3)
        self.stall(image, 0)
        await self.browser.click("#reference")
        await self.browser.type(reference + ENTER)
        await self.browser.reads(".job h3", f"^{reference}$")
        await self.browser.reads(".job .layer:nth-child(2)", "^2 [0-9a-f]{12} 201 kB")
        self.assertEqual(len(await self.browser.read(".job .layer")), 3)
        self.assertEqual(await self.browser.run("return document.querySelector('#reference').value"), "")
        await self.browser.reads(".job .layer:nth-child(1) .size", "^1.00 / 201 kB$")
        self.registry.resume()
        await self.browser.reads("#ended-jobs .name", f"^{reference}$")
        await self.browser.reads("#images .name", f"^{reference}$")
        await self.browser.gone(".job")
        await self.assert_quiet()

    async def test_refused(self) -> None:
        """
        The error of a refused reference is shown beside the field, which keeps
        focus and text; the next submission removes it.
        """
        _, reference = self.add(1)
        await self.browser.click("#reference")
        await self.browser.type("Not An Image" + TAB + "linux" + ENTER)
        await self.browser.reads("#pull-error", "^'Not An Image' is not an image reference")
        focus = "return [document.activeElement.id, document.activeElement.getAttribute('aria-invalid')]"
        self.assertEqual(await self.browser.run(focus), ["reference", "true"])
        await self.browser.run("document.querySelector('#reference').value = ''")
        await self.browser.type(reference + ENTER)
        await self.browser.reads("#pull-error", "'linux'")
        await self.browser.run("document.querySelector('#platform').value = ''")
        await self.browser.type(ENTER)
        await self.browser.reads("#ended-jobs .name", f"^{reference}$")
        await self.browser.gone("#pull-error")

    async def test_cancel(self) -> None:
        """
        A click asks for confirmation: Escape leaves the job, the button cancels it.
        """
        image, reference = self.add(1)
        self.stall(image, 0)
        job_id = await self.api.pull(reference)
        await self.browser.reads(".job h3", f"^{reference}$")
        await self.browser.click(".job .cancel")
        await self.browser.reads("#question-title", f"^Cancel the pull of {reference}\\?$")
        await self.browser.type(ESCAPE)
        await self.browser.gone("#question")
        self.assertEqual((await self.api("GET", f"jobs/{job_id}"))["state"], "running")
        await self.browser.click(".job .cancel")
        await self.browser.click("#question-yes")
        await self.browser.reads("#ended-jobs .facts", "^cancelled")
        self.assertEqual((await self.api("GET", f"jobs/{job_id}"))["state"], "cancelled")


class WhyTests(PageCase):
    """
    The reasons why a layer waits.
    """

    async def test_slot(self) -> None:
        """
        For a slot, with its position in the queue, which is updated.
        """
        await self.api("PATCH", "limits", {"downloads": 1})
        # Smaller layers have slots of their own.
        image, reference = self.add(4, 1_500_000)
        self.stall(image, 0, 1)
        await self.api.pull(reference)
        for layer, place in ((2, "1st"), (3, "2nd"), (4, "3rd")):
            await self.browser.reads(
                f".job .layer:nth-child({layer}) .why",
                f"^waiting for a download slot, {place} in line{SINCE}",
            )
        await self.browser.reads("#download-queued", "^3 waiting$")
        self.registry.resume()
        await self.browser.reads(
            ".job .layer:nth-child(4) .why", f"^waiting for a download slot, 2nd in line{SINCE}"
        )

    async def test_parent(self) -> None:
        """
        For the layer below, although its own bytes are downloaded and unpacked.
        """
        image, reference = self.add(2)
        self.stall(image, 0)
        await self.api.pull(reference)
        await self.browser.reads(".job .layer:nth-child(2) .why", f"^waiting for the parent layer{SINCE}")
        states = await self.browser.run(
            "return [...document.querySelectorAll('.layer')].map(l => l.dataset.state)"
        )
        self.assertEqual(states, ["downloading", "registering"])

    async def test_back_off(self) -> None:
        """
        For the next attempt, with the reason and the remaining seconds, which
        count down.
        """
        image, reference = self.add(1)
        blob = str(image.layers[0].blob.digest)
        self.registry.faults.plant(unavailable(503, "20"), blob, times=None)
        await self.api.pull(reference)
        read = await self.browser.reads(WHY, r"^trying again in (19|20) s: .*503")
        self.assertIn(self.registry.host, read)
        await self.browser.reads(WHY, r"^trying again in 1[78] s: ")

    async def test_rate_limit(self) -> None:
        """
        For a registry that sent C{Retry-After}, also if another transfer
        received it; a pause of minutes is shown with its end.
        """
        image, reference = self.add(1)
        self.registry.faults.plant(too_many_requests("300"), str(image.layers[0].blob.digest))
        await self.api.pull(reference)
        await self.browser.reads(WHY, r"^trying again in (300|29.) s, until \d+:\d+.*429")
        other = sample_image(1, seed=5)
        self.registry.add(other, "team/other", "1")
        await self.api.pull(f"{self.registry.host}/team/other:1")
        host = self.registry.host.replace(".", r"\.")
        await self.browser.reads(WHY, rf"^{host} asked to wait (300|29.) s, until \d+:\d+")

    async def test_bandwidth(self) -> None:
        """
        A transfer that the bandwidth limit slows down says so.
        """
        _, reference = self.add(1, compression="tar")
        await self.api("PATCH", "limits", {"download_rate": 20_000})
        await self.api.pull(reference)
        await self.browser.reads(WHY, f"kB/s · slowed by the download limit{SINCE}")


class LimitTests(PageCase):
    """
    The form for limits.
    """

    async def test_change(self) -> None:
        """
        The form shows the current limits, applies changes, and the page shows
        them.
        """
        await self.browser.reads("#download-slots", "^0 of 3$")
        await self.api("PATCH", "limits", {"uploads": 7})
        await self.browser.click("#limits-open")
        await self.browser.reads("#limits", "Downloads at once")
        value = "return document.querySelector('#limits [name=uploads]').value"
        self.assertEqual(await self.browser.run(value), "7")
        await self.browser.run("document.querySelector('#limits [name=downloads]').select()")
        await self.browser.type("0" + ENTER)
        await self.browser.reads("#limits-error", "^'downloads' must be a whole number from 1 to")
        await self.browser.run("document.querySelector('#limits [name=downloads]').select()")
        await self.browser.type("4" + TAB * 5)
        await self.browser.run("document.activeElement.select()")
        await self.browser.type("2.5" + ENTER)
        await self.browser.gone("#limits")
        await self.browser.reads("#download-slots", "^0 of 4$")
        await self.browser.reads("#limit-in", r"^at most 2\.50 MB/s$")
        limits = await self.api("GET", "limits")
        self.assertEqual((limits["downloads"], limits["download_rate"], limits["uploads"]), (4, 2_500_000, 7))


class EndedTests(PageCase):
    """
    The details of jobs that have ended.
    """

    async def test_failed(self) -> None:
        """
        A failed job can be opened, and shows its layers and each attempt: time,
        source, number, bytes and error.
        """
        image, reference = self.add(2)
        blob = image.layers[1].blob.digest
        self.registry.faults.plant(Flip(), str(blob), times=None)
        await self.state(await self.api.pull(reference), "failed")
        await self.browser.reads("#ended-jobs .reason", "^DIGEST_MISMATCH ")
        self.assertEqual(await self.browser.read(".attempt"), [])
        await self.browser.click("#ended-jobs .name")
        await self.browser.reads("#job-page .layer:nth-child(2)", f"^2 {blob.hex[:12]}")
        for number in (1, 2):
            read = await self.browser.reads(
                ".attempt", rf"^\d+:\d+:\d+.* try {number} {blob.hex[:12]} download .*DIGEST_MISMATCH "
            )
            self.assertIn(f"{self.registry.host}/team/app", read)
            self.assertRegex(read, r" 201 kB in [0-9.]+ s ")
        await self.browser.reads(".attempts-count", "^[0-9]+$")
        await self.browser.reads(".attempt", "document .* done$")
        await self.browser.click("#job-page .back a")
        await self.browser.gone(".attempt")
        await self.assert_quiet()
