"""
Ten reasons why a pull waits.  For each, one sentence is read from the page, from C{xferctl pull}
on a terminal and in a pipe, from C{xferctl job} and C{transfers}, from the events and from the log.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred, gatherResults

from tests.integration.browser import Browser
from tests.integration.programs import Xferd
from tests.integration.test_daemon import DaemonCase, reactor
from tests.integration.test_processes import children
from tests.integration.tmux import Tmux
from tests.store.small_disk import SmallDisk
from xferd.testing.faults import Stall, too_many_requests, unavailable
from xferd.testing.images import SampleImage, sample_image

MIB = 1024 * 1024

LARGE = 1_500_000
"""Bytes of a layer that has no slots of its own."""

LAYER, JOB = ".job .layer .why", ".job .speed"


class ReasonsCase(DaemonCase):
    """
    A daemon on a disk of 60 MiB, a registry, a browser with the page, and terminals.

    @ivar n: counts images.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Open the page, and follow all events.
        """
        self.n = 0
        await super().setUp()
        self.browser = browser = Browser(reactor, str(self.place / "browser"))
        await browser.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(browser.quit()))
        self.tmux = tmux = Tmux(reactor, str(self.place))
        self.addCleanup(lambda: Deferred.fromCoroutine(tmux.quit()))
        self.events = self.place / "events"
        await tmux.open(self.daemon.url, "watch", "--json", into=str(self.events))
        await browser.open(self.daemon.page)
        await browser.reads("#link", "^live$")

    async def start(self, *options: str) -> Xferd:
        """
        Start a daemon on the small disk.
        """
        if not hasattr(self, "disk"):
            self.disk = SmallDisk(str(self.place / "x"), 60 * MIB)
            self.addCleanup(self.disk.unmount)
        return await super().start(*options)

    def image(self, layers: int = 2, size: int = LARGE) -> tuple[SampleImage, str]:
        """
        Put another image into the registry.

        @return: the image and its reference.
        """
        self.n += 1
        image = sample_image(layers, size, seed=str(self.n))
        self.registry.add(image, f"team/app{self.n}", "1")
        return image, f"{self.registry.host}/team/app{self.n}:1"

    async def pull(self, reference: str) -> tuple[str, Path]:
        """
        Pull an image twice: on a terminal and in a pipe.

        @return: the terminal's window, and the file with the output of the pipe.
        """
        pipe = self.place / f"pipe{self.n}"
        window = await self.tmux.open(self.daemon.url, "pull", reference)
        await self.tmux.open(self.daemon.url, "pull", reference, into=str(pipe))
        return window, pipe

    async def job(self) -> Mapping[str, Any]:
        """
        A job that pulls the newest image.
        """

        async def look() -> Any:
            jobs = await self.api("GET", "jobs?state=running&limit=100")
            return next((job for job in jobs if job["reference"].endswith(f"/app{self.n}:1")), None)

        return cast("Mapping[str, Any]", await self.until(look))

    async def shows(self, sentence: str, window: str, pipe: Path) -> None:
        """
        A sentence is shown everywhere.

        @param sentence: with C{N} for each number of seconds.
        """
        pattern = re.escape(sentence).replace("N\\ s", r"[0-9]+\ s")
        job = await self.job()

        # A silence has its duration in its sentence; "xferctl job" has a line of its own.
        since = "" if "for N s" in sentence else r"(?s:.{0,300}?)(\(since|\nsince:)\s+[0-9]"

        async def ctl(*arguments: str) -> bool:
            return re.search(pattern + since, await self.daemon.ctl(*arguments)) is not None

        async def terminal() -> bool:
            return re.search(pattern + since, await self.tmux.read(window)) is not None

        def reads(path: Path, before: str = "") -> bool:
            return path.exists() and re.search(before + pattern, path.read_text()) is not None

        await self.browser.reads(f"{LAYER}, {JOB}", pattern + since.replace("(?s:.{0,300}?)", ".*"))
        await self.until(terminal)
        await self.until(lambda: reads(pipe))
        await self.until(lambda: ctl("job", job["id"]))
        await self.until(lambda: ctl("transfers"))
        await self.until(lambda: reads(self.events, '"why":"'))
        await self.until(lambda: re.search(f"pull of .* waits: {pattern}.*\\(since ", self.daemon.output))

    async def end(self) -> None:
        """
        Cancel all jobs, and let the registry answer again.
        """
        self.registry.faults.clear()
        for job in await self.api("GET", "jobs?state=running&limit=100"):
            await self.api("DELETE", f"jobs/{job['id']}")
        await self.browser.gone(".job")
        self.registry.resume()


class ReasonsTests(ReasonsCase):
    """
    The ten reasons.
    """

    async def test_queues(self) -> None:
        """
        A slot, the share of a host, the layer below, and an unpacking that does not go on.
        """
        await self.api("PATCH", "limits", {"downloads": 1})
        image, reference = self.image()
        self.registry.faults.plant(Stall(1000), str(image.layers[0].blob.digest))
        await self.shows("waiting for a download slot, 1st in line", *await self.pull(reference))
        await self.end()

        await self.api("PATCH", "limits", {"downloads": 3, "downloads_per_host": 1})
        image, reference = self.image()
        self.registry.faults.plant(Stall(1000), str(image.layers[0].blob.digest))
        sentence = f"{self.registry.host} has its 1 download slot in use"
        await self.shows(sentence, *await self.pull(reference))
        await self.end()

        await self.api("PATCH", "limits", {"downloads_per_host": 3})
        image, reference = self.image()
        self.registry.faults.plant(Stall(1000), str(image.layers[0].blob.digest))
        await self.shows("waiting for the parent layer", *await self.pull(reference))
        await self.end()

        image, reference = self.image(1, 5_000_000)
        self.registry.faults.plant(Stall(3_000_000), str(image.layers[0].blob.digest))
        shown = await self.pull(reference)

        def processes() -> list[int]:
            return [child for worker in children(self.daemon.pid) for child in children(worker)]

        (process,) = await self.until(processes)
        os.kill(process, signal.SIGSTOP)
        self.registry.resume()
        await self.shows("no bytes unpacked for N s", *shown)
        os.kill(process, signal.SIGCONT)
        await self.browser.reads("#images .name", reference)

    async def test_registry(self) -> None:
        """
        A rate limit before the manifest, a pause for another image, a delay before the next
        attempt, and a registry that does not answer.
        """
        _, reference = self.image()
        host = self.registry.host
        self.registry.faults.plant(too_many_requests("40"), "/manifests/")
        shown = await self.pull(reference)
        sentence = f"trying again in N s: {host} limits requests (429"
        await self.shows(sentence, *shown)
        _, other = self.image()
        shown = await self.pull(other)
        await self.shows(f"{host} asked to wait N s", *shown)
        await self.end()

        await self.api("DELETE", f"hosts/{host}")
        image, reference = self.image(1)
        self.registry.faults.plant(unavailable(503, "40"), str(image.layers[0].blob.digest))
        await self.shows(
            f"trying again in N s: {host} reports a server error (503", *await self.pull(reference)
        )
        await self.end()

        await self.api("DELETE", f"hosts/{host}")
        _, reference = self.image()
        self.registry.faults.plant(Stall(), "/manifests/")
        await self.shows(f"no answer for N s from {host}", *await self.pull(reference))
        await self.end()

    async def test_paused(self) -> None:
        """
        A pause of all downloads by a person, and one of the jobs themselves.
        """
        image, reference = self.image(1)
        self.registry.faults.plant(Stall(1000), str(image.layers[0].blob.digest))
        shown = await self.pull(reference)
        await self.browser.reads(LAYER, "^no bytes for [0-9]+ s from ")
        await self.daemon.ctl("pause", "--downloads")
        await self.shows("downloads are paused by user ", *shown)
        await self.daemon.ctl("pause", *[job["id"] for job in await self.api("GET", "jobs?state=running")])
        await self.daemon.ctl("resume", "--downloads")
        await self.shows("paused by user ", *shown)
        await self.browser.reads(LAYER, "^paused by user ")
        await self.daemon.ctl("resume", *[job["id"] for job in await self.api("GET", "jobs?state=running")])
        await self.browser.reads("#images .name", reference)

    async def test_disk(self) -> None:
        """
        A disk that is full: the pull ends when there is room.
        """
        image, reference = self.image(4, 5_000_000)
        self.registry.faults.plant(Stall(1000), str(image.layers[3].blob.digest))
        shown = await self.pull(reference)
        job_id = (await self.job())["id"]

        async def others_are_here() -> bool:
            return bool((await self.api("GET", f"jobs/{job_id}"))["layers_done"] == 3)

        def full() -> bool:
            try:
                self.disk.fill()
            except OSError:
                # The daemon has written meanwhile.
                return False
            return True

        await self.until(others_are_here)
        await self.until(full)
        self.registry.resume()
        path = self.daemon.data
        await self.shows(f"the disk of {path} is full; transfers continue when space is free again", *shown)
        self.disk.drain()
        await self.state(job_id, "done")

    async def test_gone(self) -> None:
        """
        A daemon that is killed: all that follow say so at once, and follow the next one; lists
        say so, too.  It has no log any more.
        """
        image, reference = self.image(1)
        self.registry.faults.plant(Stall(1000), str(image.layers[0].blob.digest), times=None)
        window, pipe = await self.pull(reference)
        watching = await self.tmux.open(self.daemon.url, "watch")
        await self.browser.reads(LAYER, "^no bytes for [0-9]+ s from ")
        page, job_id = self.daemon.page, (await self.job())["id"]
        await self.daemon.stop("KILL")
        sentence = "the daemon does not answer"

        async def shown(where: str) -> bool:
            return sentence in await self.tmux.read(where)

        await gatherResults(
            [
                Deferred.fromCoroutine(self.until(lambda: shown(window))),
                Deferred.fromCoroutine(self.until(lambda: shown(watching))),
                Deferred.fromCoroutine(self.until(lambda: sentence in pipe.read_text())),
                Deferred.fromCoroutine(self.until(lambda: sentence in self.events.read_text())),
                Deferred.fromCoroutine(self.browser.reads("#notice", f"(?i)^{sentence}")),
            ]
        )
        for command in (("transfers",), ("jobs",), ("job", job_id)):
            _, errors, status = await self.daemon.try_ctl(*command)
            self.assertIn(f"{sentence} at unix:", errors)
            self.assertEqual(status, 1)
        self.registry.faults.clear()
        port = page.rstrip("/").rpartition(":")[2]
        await self.start("--listen", f"tcp:{port}:interface=127.0.0.1")
        await self.until(lambda: reference in pipe.read_text().splitlines()[-1])
        await self.browser.reads("#link", "^live$")
        await self.browser.reads("#images .name", reference)
