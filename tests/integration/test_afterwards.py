"""
Why a pull took as long as it did: read afterwards from C{xferctl job}, from the end of
C{xferctl pull}, from the API after a restart, and from the page.
"""

from __future__ import annotations

import json
import os

from twisted.internet.task import deferLater

from tests.integration.test_daemon import DaemonCase, reactor
from tests.integration.test_page import PageCase
from xferd.testing.faults import Drop, Stall, too_many_requests
from xferd.testing.images import sample_image


class AfterwardsTests(DaemonCase):
    """
    A daemon, a registry, and a person who was not there.
    """

    async def read(self, job_id: str) -> dict[str, str]:
        """
        The facts that C{xferctl job} prints of a job.
        """
        output = await self.daemon.ctl("job", job_id)
        head = output.partition("\n\n")[0]
        pairs = [line.split(":", 1) for line in head.splitlines()]
        return {name: fact.strip() for name, fact in pairs}

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
        before = await self.read(job_id)
        self.assertRegex(before["bounded by"], verdict)
        size = sum(layer.blob.descriptor.size for layer in image.layers)
        self.assertEqual(before["moved"].partition(" received")[0], f"{size / 1e6:.1f} MB")
        self.assertRegex(before["phases"], r"\bmoving \d")
        await self.daemon.stop()
        await self.start()
        after = await self.read(job_id)
        self.assertEqual(
            [after[name] for name in ("took", "phases", "moved", "bounded by")],
            [before[name] for name in ("took", "phases", "moved", "bounded by")],
        )

    async def test_rate_limit(self) -> None:
        """
        A registry that asked to wait before it sent the manifest.
        """
        _, reference = self.add(1)
        self.registry.faults.plant(too_many_requests("3"), "manifests/1")
        await self.daemon.ctl("pull", reference)
        facts = await self.read(await self.last_job())
        self.assertRegex(
            facts["bounded by"], rf"^resolving \d\d % of \d\.\d s: {self.registry.host} limits requests$"
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


class PageTests(PageCase):
    """
    The same, on the page.
    """

    async def test_silence(self) -> None:
        """
        A registry that was mute: the page says so beside the job, with its phases.
        """
        image, reference = self.add(1)
        self.stall(image, 0)
        job_id = await self.api.pull(reference)
        await self.fetched(job_id, 1000)
        # The registry really sends nothing meanwhile.
        await deferLater(reactor, 5)
        self.registry.resume()
        await self.browser.reads(
            "#ended-jobs .bound", rf"^waiting \d\d % of \d.\d s: {self.registry.host} sent no bytes$"
        )
        await self.browser.click("#ended-jobs .name")
        await self.browser.reads("#job-page .keys", r"moving \d")
        await self.browser.reads("#job-page .timing", r"^201 kB received · ")
        await self.assert_quiet()
