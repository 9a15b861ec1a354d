"""
The daemon on a full disk: a small file system in memory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.integration.browser import Browser
from tests.integration.programs import Xferd
from tests.integration.test_daemon import DaemonCase, reactor
from tests.store.small_disk import SmallDisk
from xferd.testing.faults import Stall
from xferd.testing.images import sample_image

MIB = 1024 * 1024


class FullDiskCase(DaemonCase):
    """
    A daemon whose data is on a disk of 60 MiB.
    """

    async def start(self, *options: str) -> Xferd:
        """
        Start a daemon there.
        """
        if not hasattr(self, "disk"):
            self.disk = SmallDisk(str(self.place / "x"), 60 * MIB)
            self.addCleanup(self.disk.unmount)
        return await super().start(*options)


class FullDiskTests(FullDiskCase):
    """
    Operations on a disk without a free byte.
    """

    async def test_without_a_byte(self) -> None:
        """
        Images are tagged, removed and collected; the daemon starts, reports on
        the page that the disk is full, and keeps all changes.
        """
        names = []
        for name in ("one", "two"):
            self.registry.add(sample_image(2, 300_000, seed=name), name, "1")
            names.append(f"{self.registry.host}/{name}:1")
            await self.daemon.ctl("pull", names[-1])
        self.assertEqual((await self.api("GET", "status"))["disk"]["why"], "")
        self.disk.fill()
        await self.daemon.ctl("tag", names[0], "mine:1")
        self.assertLess(self.disk.free, 65536)
        for signal in ("TERM", "KILL"):
            await self.daemon.stop(signal)
            self.disk.fill()
            await self.start()
            self.assertIn("is full", (await self.api("GET", "status"))["disk"]["why"])
        found = [image["reference"] for image in await self.api("GET", "images")]
        self.assertEqual(sorted(found), sorted([*names, "docker.io/library/mine:1"]))
        self.assertIn("nothing", await self.daemon.ctl("gc"))
        self.disk.fill()
        (shown,) = await self.daemon.show("rm", names[1])
        self.assertEqual((shown["freed"]["trees"], shown["freed"]["layers"]), (2, 2))
        await self.daemon.ctl("rm", "mine:1")
        (shown,) = await self.daemon.show("rm", names[0])
        self.assertEqual(shown["freed"]["trees"], 2)
        await self.daemon.stop("KILL")
        self.disk.drain()
        await self.start()
        self.assertEqual(await self.api("GET", "images"), [])
        self.assertEqual((await self.api("GET", "status"))["disk"]["why"], "")

    async def test_pause(self) -> None:
        """
        Pulls that fill the disk pause with the reason, and complete when there
        is free space, with each byte fetched once; documents and trees are
        among the data that does not fit.
        """
        image = sample_image(4, 5_000_000, compression="gzip")
        self.registry.add(image, "app", "1")
        # The compressed layers fit, but only half of their unpacked trees.
        self.disk.fill(leaving=30 * MIB)
        job_id = await self.api.pull(f"{self.registry.host}/app:1")

        async def waits() -> Any:
            job = await self.api("GET", f"jobs/{job_id}")
            return any("is full" in layer["why"] for layer in job["layers"]) and job

        job = await self.until(waits)
        self.assertEqual(job["state"], "running")
        shown = await self.daemon.ctl("transfers")
        self.assertIn("is full", shown)
        self.assertIn("continue when space is free again", (await self.api("GET", "status"))["disk"]["why"])
        self.disk.drain()
        job = await self.state(job_id, "done", "failed")
        self.assertEqual((job["state"], job["error"]), ("done", None))
        self.assertEqual((await self.api("GET", "status"))["disk"]["why"], "")
        fetched = (await self.api("GET", "status"))["bytes_fetched"]
        self.assertLess(fetched, 1.05 * image.size)

    async def test_too_large(self) -> None:
        """
        A pull that does not fit is refused before a download, and the store
        accepts others.
        """
        names = []
        for name, size in (("large", 23_000_000), ("small", 500_000)):
            self.registry.add(sample_image(2, size, seed=name), name, "1")
            names.append(f"{self.registry.host}/{name}:1")
        _, errors, code = await self.daemon.try_ctl("pull", names[0])
        self.assertEqual(code, 1)
        self.assertIn("large:1 needs 46", errors)
        self.assertIn("(DISK_FULL)", errors)
        self.assertEqual((await self.api("GET", "status"))["bytes_fetched"], 0)
        await self.daemon.ctl("pull", names[1])

    async def test_copy(self) -> None:
        """
        A copy within one registry needs no free space.
        """
        self.registry.add(sample_image(2, 300_000), "app", "1")
        host = self.registry.host
        self.disk.fill()
        await self.daemon.ctl("copy", f"{host}/app:1", f"{host}/other:1")
        self.assertEqual((await self.api("GET", "status"))["bytes_fetched"], 0)

    async def test_interrupted(self) -> None:
        """
        The partial blobs of a killed daemon are removed with the image's name once
        their job is cancelled, although no image was complete, also on a full disk.
        """
        image = sample_image(1, 2_000_000)
        self.registry.add(image, "app", "1")
        name = f"{self.registry.host}/app:1"
        self.registry.faults.plant(Stall(1_000_000), str(image.layers[0].blob.digest))
        job_id = await self.api.pull(name)
        await self.fetched(job_id, 1_000_000)
        await self.daemon.stop("KILL")
        self.disk.fill()
        await self.start()
        (shown,) = await self.daemon.show("gc")
        self.assertEqual(shown["freed"]["partials"], 0)
        _, errors, code = await self.daemon.try_ctl("rm", name)
        self.assertEqual((code, f"'xferctl cancel {job_id}'" in errors), (1, True), errors)
        await self.daemon.ctl("cancel", job_id)
        (shown,) = await self.daemon.show("rm", name)
        self.assertEqual(shown["freed"]["partials"], 1)
        self.assertGreater(shown["freed"]["bytes"], 900_000)
        _, errors, code = await self.daemon.try_ctl("rm", name)
        self.assertEqual((code, "the store has no image" in errors), (1, True))


class PageTests(FullDiskCase):
    """
    The status page in a browser.
    """

    async def test_page(self) -> None:
        """
        The page reports that the disk is full while it is, and shows which
        images are pinned.
        """
        self.registry.add(sample_image(1, 300_000), "app", "1")
        name = f"{self.registry.host}/app:1"
        await self.daemon.ctl("pull", name)
        browser = Browser(reactor, str(self.place / "browser"))
        await browser.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(browser.quit()))
        await browser.open(self.daemon.page)
        await browser.reads("#link", "^live$")
        await browser.gone("#images .pinned")
        await browser.gone("#disk-full")
        await self.daemon.ctl("pin", name)
        await browser.reads("#images .pinned", "^pinned$")
        self.disk.fill()
        await browser.reads("#disk-full", "is full$")
        self.disk.drain()
        await browser.gone("#disk-full")
        self.assertEqual(await browser.complaints(), [])
