"""
How the status page looks and is used: nothing overlaps, axe finds nothing, the keyboard suffices,
and an idle page does nothing.

The package axe-core-python is used for its copy of axe.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from twisted.internet.task import deferLater

from tests.integration.browser import AXE, ENTER, ESCAPE, TAB
from tests.integration.test_daemon import reactor
from tests.integration.test_page import PageCase
from xferd.testing.faults import Flip, too_many_requests
from xferd.testing.images import sample_image

WIDTHS = (1300, 800, 400)

_CROWDED = """
const width = document.documentElement.clientWidth;
const texts = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
    const node = walker.currentNode;
    const element = node.parentElement;
    const how = {visibilityProperty: true, contentVisibilityAuto: true};
    if (!node.data.trim() || !element.checkVisibility(how)) continue;
    if (element.closest(".unseen, dialog, svg, option")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    let clip = {left: 0, right: Infinity, top: -Infinity, bottom: Infinity};
    for (let at = element; at; at = at.parentElement) {
        if (getComputedStyle(at).overflow === "visible") continue;
        const box = at.getBoundingClientRect();
        clip = {left: Math.max(clip.left, box.left), right: Math.min(clip.right, box.right),
                top: Math.max(clip.top, box.top), bottom: Math.min(clip.bottom, box.bottom)};
    }
    for (const box of range.getClientRects()) {
        const seen = {left: Math.max(box.left, clip.left), right: Math.min(box.right, clip.right),
                      top: Math.max(box.top, clip.top), bottom: Math.min(box.bottom, clip.bottom)};
        // The lines of a font are higher than its letters.
        if (seen.right - seen.left > 1 && seen.bottom - seen.top > 4) texts.push({node, ...seen});
    }
}
const outside = texts.filter(({right, left}) => right > width + 1 || left < -1);
const wrong = outside.map(({node}) => "outside: " + node.data);
for (let i = 0; i < texts.length; i++) {
    for (let j = i + 1; j < texts.length; j++) {
        const [a, b] = [texts[i], texts[j]];
        if (a.node === b.node) continue;
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 1 && down > 5) wrong.push(`overlap: ${a.node.data} | ${b.node.data}`);
    }
}
if (document.documentElement.scrollWidth > width) wrong.push("it scrolls sideways");
return wrong;
"""

_REASONS = """
// A reason of many lines, in each list that has one.
for (const list of document.querySelectorAll("#jobs, #transfers, #ended-jobs, #registries, #job-page")) {
    const node = list.querySelector(".why:not(:empty), .reason .message:not(:empty)");
    if (node && !node.textContent.includes(arguments[0])) node.append(arguments[0]);
}
const kinds = ".why, .speed, .message, .bound, .reason, .attempt .digest";
const shown = [...document.querySelectorAll(kinds)].filter(
    (node) => node.textContent.trim() && node.checkVisibility({contentVisibilityAuto: true}));
// What scrolls crops nothing.
const crops = (overflow) => overflow === "hidden" || overflow === "clip";
const cropped = [];
for (const node of shown) {
    const range = document.createRange();
    range.selectNodeContents(node);
    const text = range.getBoundingClientRect();
    for (let at = node; at; at = at.parentElement) {
        const {overflowX, overflowY} = getComputedStyle(at);
        const box = at.getBoundingClientRect();
        const wide = text.left < box.left - 1 || text.right > box.right + 1;
        const high = text.top < box.top - 4 || text.bottom > box.bottom + 4;
        if (crops(overflowX) && wide || crops(overflowY) && high) {
            cropped.push(node.textContent);
            break;
        }
    }
}
return {number: shown.length, cropped};
"""


class DesignCase(PageCase):
    """
    A page with a bit of everything.
    """

    async def fill(self) -> tuple[str, str]:
        """
        Have jobs that move, wait, have failed and are done, with long names and reasons.

        @return: the IDs of a job that runs, and of one that has failed.
        """
        host, faults = self.registry.host, self.registry.faults
        done, failing, waiting = (sample_image(2, 200_000, seed=n) for n in ("done", "failing", "waiting"))
        self.registry.add(done, "team/done", "1")
        self.registry.add(failing, "team/failing", "1")
        self.registry.add(waiting, "team/a-name-that-is-much-longer-than-others/frontend", "2026.12.1-rc1")
        await self.state(await self.api.pull(f"{host}/team/done:1"), "done")
        faults.plant(Flip(), str(failing.layers[1].blob.digest), times=None)
        failed = await self.api.pull(f"{host}/team/failing:1")
        await self.state(failed, "failed")
        image, reference = self.add(3)
        self.stall(image, 1)
        running = await self.api.pull(reference)
        await self.fetched(running, 1000)
        faults.plant(too_many_requests("300"), str(waiting.layers[0].blob.digest), times=None)
        await self.api.pull(f"{host}/team/a-name-that-is-much-longer-than-others/frontend:2026.12.1-rc1")
        await self.browser.reads(".job .layer .why", "asks to wait")
        await self.browser.reads("#registries .trouble", "^paused$")
        return running, failed

    async def size(self, width: int, *, dark: bool = False) -> None:
        """
        Set the size of the window and the preferred colours.
        """
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        await self.browser.devtools("Emulation.setDeviceMetricsOverride", screen)
        await self.prefer("prefers-color-scheme", "dark" if dark else "light")

    async def prefer(self, feature: str, value: str) -> None:
        """
        Set a preference of the user.
        """
        await self.browser.devtools(
            "Emulation.setEmulatedMedia", {"features": [{"name": feature, "value": value}]}
        )
        # Two frames draw it.
        await self.browser.run_async(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done(true)));"
        )

    async def visit(self, job_id: str = "") -> None:
        """
        Go to the page of a job, or to the lists.
        """
        await self.browser.run("location.hash = arguments[0]", f"#/jobs/{job_id}" if job_id else "#/")
        await self.browser.reads("#job-page .facts" if job_id else "#pull", job_id or "Image")


class LayoutTests(DesignCase):
    """
    The layout at three widths.
    """

    async def test_no_overlap(self) -> None:
        """
        No text is outside of the page or overlaps another one, and nothing scrolls sideways.
        """
        running, failed = await self.fill()
        await self.browser.click("#limits-open")
        await self.browser.click("#images .fold")
        await self.browser.reads("#images .platform", "linux")
        for job_id in ("", running, failed):
            await self.visit(job_id)
            for width in WIDTHS:
                await self.size(width)
                self.assertEqual(await self.browser.run(_CROWDED), [], (job_id, width))

    async def test_reasons_whole(self) -> None:
        """
        No reason is cropped: in the lists of jobs, transfers and registries, and on the pages of jobs,
        where attempts have whole tags, too.
        """
        running, failed = await self.fill()
        tag = "2026.12.1-rc1-linux-amd64-with-debug-symbols"
        image, _ = self.add(1)
        self.registry.add(image, "team/tagged", tag)
        self.stall(image, 0)
        tagged = await self.api.pull(f"{self.registry.host}/team/tagged:{tag}")
        await self.fetched(tagged, 1000)
        # More lines than any other reason has.
        await self.browser.reads("#transfers .why", "asks to wait")
        for job_id in ("", running, failed, tagged):
            await self.visit(job_id)
            if job_id == tagged:
                await self.browser.reads(".attempt .digest", f"^{tag}$")
            for width in WIDTHS:
                await self.size(width)
                found = await self.browser.run(_REASONS, " such a reason" * 12)
                self.assertGreater(found["number"], 0, (job_id, width))
                self.assertEqual(found["cropped"], [], (job_id, width))

    async def test_motion(self) -> None:
        """
        Nothing glides for those who prefer that.
        """
        await self.fill()
        script = "return getComputedStyle(document.querySelector('.strip .bar i')).transitionDuration"
        self.assertEqual(await self.browser.run(script), "0.12s")
        await self.prefer("prefers-reduced-motion", "reduce")
        self.assertEqual(await self.browser.run(script), "0s")


class AxeTests(DesignCase):
    """
    WCAG 2.1 at level AA, as axe checks it: contrast, names, roles and landmarks.
    """

    async def axe(self, *where: object) -> None:
        """
        Axe finds nothing.
        """
        self.assertEqual(await self.browser.run_async(AXE), [], where)

    async def test_axe(self) -> None:
        """
        Axe finds nothing on the lists, on the pages of jobs and in a question: in light and dark, on a
        desktop and on a phone.
        """
        running, failed = await self.fill()
        # The policy of the page permits no script of other sites, but that of a driver.
        await self.browser.run(files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
        await self.browser.click("#limits-open")
        await self.browser.click("#images .fold")
        await self.browser.reads("#images .platform", "linux")
        for width, dark in ((1300, False), (1300, True), (400, False), (400, True)):
            await self.size(width, dark=dark)
            for job_id in ("", running, failed):
                await self.visit(job_id)
                await self.axe(width, dark, job_id)
            await self.visit()
            await self.browser.click("#images [data-open=true] .remove")
            await self.browser.reads("#question-text", "The name is removed")
            await self.axe(width, dark, "question")
            await self.browser.type(ESCAPE)
            await self.browser.gone("#question")

    async def test_finds(self) -> None:
        """
        Axe would find a text without contrast and a button without a name.
        """
        await self.browser.run(files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
        await self.browser.run(
            "document.querySelector('#begin').textContent = '';"
            "document.querySelector('#no-jobs').style.color = '#aaa';"
        )
        found = " ".join(await self.browser.run_async(AXE))
        self.assertIn("button-name", found)
        self.assertIn("color-contrast", found)


class KeyboardTests(DesignCase):
    """
    The page without a mouse.
    """

    async def focused(self) -> str:
        """
        The element that has the focus.
        """
        script = "const e = document.activeElement; return e.id || e.classList[0] || e.name || e.tagName"
        return str(await self.browser.run(script))

    async def tab(self, wanted: str) -> None:
        """
        Press the tabulator until an element has the focus, which shows it.
        """
        passed = []
        for _ in range(60):
            await self.browser.type(TAB)
            passed.append(await self.focused())
            if passed[-1] == wanted:
                outline = "return getComputedStyle(document.activeElement).outlineStyle"
                self.assertNotEqual(await self.browser.run(outline), "none", wanted)
                return
        self.fail(f"{wanted} is not reached: {passed}")

    async def test_job(self) -> None:
        """
        A job is opened, cancelled after a question, and left again.
        """
        image, reference = self.add(1)
        self.stall(image, 0)
        job_id = await self.api.pull(reference)
        await self.browser.reads(".job .name", f"^{reference}$")
        await self.browser.click("#reference")
        await self.tab("name")
        await self.browser.type(ENTER)
        await self.browser.reads("#job-page .facts", job_id)
        self.assertEqual(await self.focused(), "job-page")
        await self.tab("cancel")
        await self.browser.type(ENTER)
        await self.browser.reads("#question-title", "^Cancel the pull")
        # What hurts needs another key than the one that asked.
        self.assertEqual(await self.focused(), "question-no")
        await self.tab("question-yes")
        await self.browser.type(ENTER)
        await self.browser.reads("#job-page .state", "^cancelled$")
        await self.assert_quiet()


class IdleTests(DesignCase):
    """
    A page of a daemon that has nothing to do.
    """

    async def metrics(self) -> dict[str, Any]:
        """
        Chromium's metrics of the page.
        """
        found = await self.browser.devtools("Performance.getMetrics", {})
        return {metric["name"]: metric["value"] for metric in found["metrics"]}

    async def test_idle(self) -> None:
        """
        In twelve seconds it makes no request, computes no style and draws nothing.
        """
        count, drawn = (
            "return performance.getEntriesByType('resource').length",
            ("LayoutCount", "RecalcStyleCount"),
        )
        await self.browser.reads("#chart-text", "^Nothing moved")
        await self.browser.devtools("Performance.enable", {})
        before = await self.metrics()
        while True:
            # A busy machine takes longer to draw the page.
            await deferLater(reactor, 2)
            earlier, before = before, await self.metrics()
            if all(before[name] == earlier[name] for name in drawn):
                break
        while True:
            free, requests = await self.browser.read("#free"), await self.browser.run(count)
            before = await self.metrics()
            await deferLater(reactor, 12)
            after = await self.metrics()
            if await self.browser.read("#free") == free:
                break
            # Another program has changed the free space that the page shows.
        for name in drawn:
            self.assertEqual(after[name], before[name], name)
        self.assertLess(after["TaskDuration"] - before["TaskDuration"], 0.12)
        self.assertEqual(await self.browser.run(count), requests)
        # It still follows.
        _, reference = self.add(1)
        await self.api.pull(reference)
        await self.browser.reads("#ended-jobs .name", f"^{reference}$")
