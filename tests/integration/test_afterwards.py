"""
Why a pull took as long as it did: read afterwards from C{xferctl job}, from the end of
C{xferctl pull}, from the API after a restart, and from the page.
"""

from __future__ import annotations

import json
import os
import re

from twisted.internet.task import deferLater

from tests.integration.programs import Xferd
from tests.integration.test_daemon import DaemonCase, reactor
from tests.integration.test_page import PageCase
from xferd.testing.faults import Drop, Fault, Stall, too_many_requests
from xferd.testing.images import sample_image
from xferd.testing.registry import Registry

LARGE = 1_500_000
"""Bytes of a layer that has no slots of its own."""


async def read(daemon: Xferd, job_id: str) -> dict[str, str]:
    """
    The facts that C{xferctl job} prints of a job.
    """
    head = (await daemon.ctl("job", job_id)).partition("\n\n")[0]
    pairs = [line.split(":", 1) for line in head.splitlines()]
    return {name: fact.strip() for name, fact in pairs}


class AfterwardsTests(DaemonCase):
    """
    A daemon, a registry, and a person who was not there.
    """

    async def last_job(self) -> str:
        """
        The ID of the only job.
        """
        (job,) = await self.api("GET", "jobs?limit=10")
        return str(job["id"])

    async def test_limit(self) -> None:
        """
        The bandwidth limit: the last lines of the pull say so, and C{xferctl job}, also
        after a restart of the daemon.
        """
        image, reference = self.add(2, 500_000, compression="tar")
        await self.api("PATCH", "limits", {"download_rate": 300_000})
        output = await self.daemon.ctl("pull", reference)
        verdict = r"^moving (\d\d|100) % of \d+(\.\d)? s: the limit download_rate, \d+\.\d kB/s$"
        *_, line, name = output.splitlines()
        self.assertRegex(line, verdict)
        self.assertTrue(name.startswith(f"{reference}@sha256:"), name)
        job_id = await self.last_job()
        before = await read(self.daemon, job_id)
        self.assertRegex(before["bounded by"], verdict)
        size = sum(layer.blob.descriptor.size for layer in image.layers)
        self.assertEqual(before["moved"].partition(" received")[0], f"{size / 1e6:.1f} MB")
        self.assertRegex(before["phases"], r"\bmoving \d")
        await self.daemon.stop()
        await self.start()
        after = await read(self.daemon, job_id)
        self.assertEqual(
            [after[name] for name in ("took", "phases", "moved", "bounded by")],
            [before[name] for name in ("took", "phases", "moved", "bounded by")],
        )

    async def test_attempts(self) -> None:
        """
        Each attempt counts the bytes that it has moved itself.
        """
        image, reference = self.add(1)
        blob = image.layers[0].blob
        self.registry.faults.plant(Drop(50_000), str(blob.digest))
        job_id = await self.api.pull(reference)
        await self.state(job_id, "done")
        attempts = await self.api("GET", f"jobs/{job_id}/attempts")
        moved = [one["bytes_moved"] for one in attempts if one["kind"] == "download"]
        self.assertEqual(moved, [50_000, blob.descriptor.size - 50_000])


class LogTests(DaemonCase):
    """
    The log as lines of JSON.
    """

    async def test_json(self) -> None:
        """
        Each line is an object; that of a job has its user and how the request came, and so
        has that of a request to cancel one.
        """
        config = self.place / "xferd.toml"
        config.write_text('[log]\nformat = "json"\n')
        await self.daemon.stop()
        await self.start("--config", str(config))
        image, reference = self.add(1)
        await self.daemon.ctl("pull", reference)
        other = sample_image(1, 200_000, seed=2)
        self.registry.faults.plant(Stall(1000), str(other.layers[0].blob.digest))
        self.registry.add(other, "team/other", "1")
        job_id = await self.api.pull(f"{self.registry.host}/team/other:1")
        await self.daemon.ctl("cancel", job_id)
        await self.daemon.stop()
        events = [json.loads(line) for line in self.daemon.output.splitlines()]
        done, cancelled = [each for each in events if each.get("event") == "job-ended"]
        user = f"user {os.geteuid()}"
        self.assertEqual(
            [done[name] for name in ("state", "user", "door", "digest", "code")],
            ["done", user, "socket", str(image.digest), None],
        )
        self.assertEqual((cancelled["job"], cancelled["state"]), (job_id, "cancelled"))
        self.assertRegex(cancelled["cancelled_by"], rf"^{user} \(.+\)$")
        (request,) = [each for each in events if each.get("method") == "DELETE"]
        self.assertEqual(
            [request[name] for name in ("event", "action", "user", "uid", "door", "path", "status", "job")],
            ["audit", "cancel_job", user, os.geteuid(), "socket", f"/api/v1/jobs/{job_id}", 200, job_id],
        )
        self.assertEqual({each["level"] for each in events} - {"info", "warn", "debug"}, set())


class SixTests(PageCase):
    """
    Six pulls, each slow for another reason, which C{xferctl job} and the page show afterwards.
    """

    async def other(self, rate: float | None = None) -> Registry:
        """
        Start a registry, which the daemon knows as another host.
        """
        other = Registry(reactor, rate=rate)
        await other.listen(reactor)
        self.addCleanup(other.stop)
        return other

    async def pull(
        self, registry: Registry, name: str, *faults: Fault, size: int = 200_000, on: str = ""
    ) -> str:
        """
        Begin to pull an image with one layer.

        @param faults: of the registry, at the layer, or where C{on} says.
        @return: the job's ID.
        """
        image = sample_image(1, size, seed=name)
        registry.add(image, f"team/{name}", "1")
        for fault in faults:
            registry.faults.plant(fault, on or str(image.layers[0].blob.digest))
        return await self.api.pull(f"{registry.host}/team/{name}:1")

    async def shows(self, job_id: str, phase: str, cause: str) -> None:
        """
        Assert that a job was slow in a phase for a cause, in the words of xferctl and of the page.
        """
        await self.state(job_id, "done")
        facts = await read(self.daemon, job_id)
        bound = facts["bounded by"]
        self.assertRegex(bound, rf"^{phase} \d+ % of \d.*: {cause}$")
        self.assertRegex(facts["phases"], rf"\b{phase} \d")
        await self.browser.go(f"{self.daemon.page}#/jobs/{job_id}")
        await self.browser.reads("#job-page .bound", f"^{re.escape(bound)}$")
        await self.browser.reads("#job-page .keys", rf"\b{phase} \d")
        await self.browser.go(f"{self.daemon.page}#/")
        await self.browser.reads("#ended-jobs .bound", re.escape(bound))

    async def test_registries(self) -> None:
        """
        A registry that is slower than another one, one that limits requests, and one that was
        mute; and a person who paused the pull.
        """
        await self.state(await self.pull(self.registry, "fast", size=4_000_000), "done")
        slow, limiting = await self.other(rate=60_000), await self.other()
        jobs = {
            "slow": await self.pull(slow, "slow"),
            "limited": await self.pull(limiting, "limited", too_many_requests("3"), on="manifests/1"),
            "mute": await self.pull(self.registry, "mute", Stall(1000)),
            "paused": await self.pull(await self.other(rate=200_000), "paused"),
        }
        await self.daemon.ctl("pause", jobs["paused"])
        await self.fetched(jobs["mute"], 1000)
        # The registry really sends nothing meanwhile.
        await deferLater(reactor, 5)
        self.registry.resume()
        await self.daemon.ctl("resume", jobs["paused"])
        mute, fast = self.registry.host, rf"{self.registry.host} alone \d.* MB/s"
        await self.shows(jobs["slow"], "moving", rf"{slow.host} sent \d\d\.\d kB/s, and {fast}")
        await self.shows(jobs["limited"], "resolving", f"{limiting.host} limits requests")
        await self.shows(jobs["mute"], "waiting", f"{mute} sent no bytes")
        await self.shows(jobs["paused"], "waiting", "it was paused by user .*")
        await self.assert_quiet()

    async def test_limits(self) -> None:
        """
        A bandwidth limit, and slots that another job had.
        """
        await self.api("PATCH", "limits", {"download_rate": 100_000})
        limited = await self.pull(self.registry, "limited", size=300_000)
        await self.shows(limited, "moving", r"the limit download_rate, \d+\.\d kB/s")
        await self.api("PATCH", "limits", {"download_rate": 0, "downloads": 1})
        await self.fetched(await self.pull(self.registry, "first", Stall(1000), size=LARGE), 1000)
        second = await self.pull(self.registry, "second", size=LARGE)
        await deferLater(reactor, 4)
        self.registry.resume()
        await self.shows(second, "waiting", "1 download at a time, which others had")
        await self.assert_quiet()
