"""
Pauses, slots, drain and retries, with figures from the wire: a real daemon, and a registry
behind a slow proxy that counts bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.integration.slow_proxy import SlowProxy
from tests.integration.test_daemon import DaemonCase, reactor
from xferd.jobs.job import ENDED
from xferd.testing.images import sample_image
from xferd.testing.registry import Registry

RATE = 300_000.0
"""Bytes per second of each connection."""

SIZE = 900_000
"""Bytes of a layer."""

SPARE = 256 * 1024
"""Bytes of a stream that the sockets have when it is closed; heads and documents count, too."""

SOON = 1.0
"""Seconds within which a pause takes effect."""


class SteeringCase(DaemonCase):
    """
    A daemon, and a slow registry.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Put the proxy before the registry.
        """
        await super().setUp()
        self.proxy = self.proxied()

    def proxied(self) -> SlowProxy:
        """
        A slow way to the registry, which is another host to the daemon.
        """
        proxy = SlowProxy(self.registry.host, RATE)
        self.addCleanup(proxy.stop)
        return proxy

    def image(self, name: str, layers: int = 1, size: int = SIZE) -> str:
        """
        Put an image into the registry.

        @return: its reference at the proxy.
        """
        self.registry.add(sample_image(layers, size, seed=name, compression="tar"), f"team/{name}", "1")
        return f"{self.proxy.address}/team/{name}:1"

    async def wait(self, seconds: float) -> None:
        """
        Let time pass.
        """
        await deferLater(reactor, seconds)

    async def moves(self, name: str, least: int = 100_000, *, up: bool = False) -> None:
        """
        Wait until bytes of a repository have passed.
        """
        counter = self.proxy.sent if up else self.proxy.received
        before = counter[f"team/{name}"]
        await self.until(lambda: counter[f"team/{name}"] >= before + least)

    def passed(self, name: str) -> int:
        """
        The bytes of a repository that have passed, in both directions.
        """
        return self.proxy.received[f"team/{name}"] + self.proxy.sent[f"team/{name}"]

    async def silent(self, *names: str, seconds: float = 1.5) -> None:
        """
        Check that L{SOON} seconds from now nothing of some repositories passes any more.
        """
        await self.wait(SOON)
        before = [self.passed(name) for name in names]
        await self.wait(seconds)
        self.assertEqual([self.passed(name) for name in names], before)

    async def change(self, job_id: str, **changes: Any) -> Mapping[str, Any]:
        """
        Change a job.
        """
        job: Mapping[str, Any] = await self.api("PATCH", f"jobs/{job_id}", changes)
        return job

    async def done(self, job_id: str) -> Mapping[str, Any]:
        """
        Wait until a job is done.
        """
        job = await self.state(job_id, *ENDED)
        self.assertEqual((job["state"], job["error"]), ("done", None))
        return job


class PausedJobTests(SteeringCase):
    """
    Jobs that are paused and continue.
    """

    async def test_pull(self) -> None:
        """
        A pull that is paused is silent within a second, says why, and continues by Range
        with no byte twice; the time of the pause is a phase of it.
        """
        job_id = await self.api.pull(self.image("app"))
        await self.moves("app")
        paused = await self.change(job_id, paused=True)
        self.assertEqual((paused["state"], paused["paused"]), ("running", True))
        await self.silent("app")
        job = await self.api("GET", f"jobs/{job_id}")
        self.assertRegex(job["why"], r"^paused by .*local")
        self.assertEqual((job["reason"]["what"], job["layers"][0]["reason"]["what"]), ("paused", "paused"))
        self.assertEqual(job["layers"][0]["why"], job["why"])
        slots = (await self.api("GET", "status"))["slots"]["small_download"]
        self.assertEqual(slots["in_use"], 0)
        await self.change(job_id, paused=False)
        job = await self.done(job_id)
        blob = job["layers"][0]["digest"]
        first, second = self.registry.exchanges("GET", blob)
        self.assertIsNone(first.range)
        self.assertRegex(str(second.range), r"bytes=[1-9][0-9]{4,}-")
        self.assertLess(self.proxy.received["team/app"], SIZE + SPARE)
        self.assertGreater(job["timing"]["phases"]["waiting"], 2)
        self.assertRegex(self.daemon.output, rf'PATCH /api/v1/jobs/{job_id}: 200.*"paused": true')

    async def test_shown(self) -> None:
        """
        C{xferctl pull} in a pipe names the person who paused its job, reports no stall, and
        ends well when the job continues; C{job} shows that it waited.
        """
        reference = self.image("app")
        client = Deferred.fromCoroutine(self.daemon.ctl("pull", reference))
        await self.moves("app")
        (job,) = await self.api("GET", "jobs")
        await self.daemon.ctl("pause", job["id"])
        await self.silent("app", seconds=4)
        self.assertIn("paused by", await self.daemon.ctl("job", job["id"]))
        self.assertIn("paused by", await self.daemon.ctl("transfers"))
        self.assertIn("waits: paused by", self.daemon.output)
        await self.daemon.ctl("resume", job["id"])
        output = await client
        self.assertRegex(output, "paused by user ")
        self.assertNotIn("no bytes for", output)
        self.assertRegex(await self.daemon.ctl("job", job["id"]), "waiting")


class PausedPushTests(SteeringCase):
    """
    Pushes and copies that are paused.
    """

    async def test_push(self) -> None:
        """
        A push that is paused is silent within a second, and continues where its upload
        session is: the registry receives hardly more than the blob has.
        """
        source = self.image("app", size=3_000_000).replace(self.proxy.address, self.registry.host)
        await self.done(await self.api.pull(source))
        other = Registry(reactor)
        await other.listen(reactor)
        self.addCleanup(other.stop)
        self.proxy = SlowProxy(other.host, RATE)
        self.addCleanup(self.proxy.stop)
        target = f"{self.proxy.address}/team/copy:1"
        job = await self.api("POST", "jobs", {"kind": "push", "reference": source, "target": target})
        await self.moves("copy", 800_000, up=True)
        await self.change(job["id"], paused=True)
        await self.silent("copy")
        shown = await self.api("GET", f"jobs/{job['id']}")
        self.assertRegex(shown["why"], "^paused by ")
        received = other.bytes_received
        self.assertGreater(received, 700_000)
        await self.change(job["id"], paused=False)
        await self.done(job["id"])
        self.assertLess(self.proxy.sent["team/copy"], 3_050_000 + SPARE)
        self.assertLess(other.bytes_received, 3_050_000 + SPARE)

    async def test_one_of_two(self) -> None:
        """
        While one of two pulls of an image is paused, the wire carries on for the other one.
        """
        reference = self.image("app")
        job_id, other = await self.api.pull(reference), await self.api.pull(reference)
        await self.moves("app")
        await self.change(job_id, paused=True)
        await self.wait(SOON)
        await self.moves("app")
        job = await self.done(other)
        self.assertEqual(self.registry.count("GET", job["layers"][0]["digest"]), 1)


class PausedMoreTests(SteeringCase):
    """
    Pauses of registries, directions and everything.
    """

    async def test_host(self) -> None:
        """
        A registry that is paused is silent within a second; another one is not.
        """
        other = self.proxied()
        one = self.image("one", size=2_000_000)
        two = self.image("two", size=2_000_000).replace(self.proxy.address, other.address)
        jobs = [await self.api.pull(one), await self.api.pull(two)]
        await self.moves("one")
        await self.daemon.ctl("pause", "--host", self.proxy.address)
        before = other.received["team/two"]
        await self.silent("one")
        self.assertGreater(other.received["team/two"], before + 100_000)
        (pause,) = (await self.api("GET", "status"))["pauses"]
        self.assertEqual((pause["what"], pause["host"]), ("host", self.proxy.address))
        self.assertRegex(await self.daemon.ctl("status"), rf"paused: +{self.proxy.address} by ")
        job = await self.api("GET", f"jobs/{jobs[0]}")
        self.assertRegex(job["why"], rf"^{self.proxy.address} is paused by ")
        self.assertIn(job["why"], await self.daemon.ctl("transfers"))
        await self.daemon.ctl("resume", "--host", self.proxy.address)
        for job_id in jobs:
            await self.done(job_id)
        self.assertLess(self.proxy.received["team/one"], 2_050_000 + SPARE)

    async def test_directions(self) -> None:
        """
        Downloads that are paused are silent within a second, while an upload moves; and the
        other way round.
        """
        await self.api("PATCH", "limits", {"ranges": 1})
        source = self.image("up", size=8_000_000).replace(self.proxy.address, self.registry.host)
        await self.done(await self.api.pull(source))
        other = Registry(reactor)
        await other.listen(reactor)
        self.addCleanup(other.stop)
        up = SlowProxy(other.host, RATE)
        self.addCleanup(up.stop)
        target = f"{up.address}/team/copy:1"
        push = await self.api("POST", "jobs", {"kind": "push", "reference": source, "target": target})
        jobs = [push["id"], await self.api.pull(self.image("down", size=8_000_000))]

        def downloaded() -> int:
            return self.proxy.received["team/down"]

        def uploaded() -> int:
            return up.sent["team/copy"]

        def has_more(counter: Callable[[], int], least: int) -> bool:
            return counter() > least

        for what, quiet, busy in (("downloads", downloaded, uploaded), ("uploads", uploaded, downloaded)):
            await self.until(lambda: downloaded() > 100_000 and uploaded() > 100_000)
            await self.daemon.ctl("pause", f"--{what}")
            await self.wait(SOON)
            before = quiet(), busy()
            await self.wait(2)
            self.assertEqual(quiet(), before[0])
            self.assertGreater(busy() - before[1], RATE)
            await self.daemon.ctl("resume", f"--{what}")
            await self.until(partial(has_more, quiet, before[0] + 100_000))
        for job_id in jobs:
            await self.api("DELETE", f"jobs/{job_id}")

    async def test_kept(self) -> None:
        """
        A pause of everything that is kept holds after a restart of the daemon: nothing
        passes until it ends.
        """
        reference = self.image("app")
        job = await self.api("POST", "jobs", {"kind": "pull", "reference": reference, "restart": "always"})
        await self.moves("app")
        await self.daemon.ctl("pause", "--all", "--keep")
        await self.silent("app")
        began = reactor.seconds()
        await self.daemon.stop()
        self.assertLess(reactor.seconds() - began, 5)
        await self.start()
        await self.silent("app")
        shown = await self.state(job["id"], "running")
        self.assertRegex(shown["why"], "^everything is paused by ")
        await self.daemon.ctl("resume", "--all")
        await self.done(job["id"])
        self.assertLess(self.proxy.received["team/app"], SIZE + SPARE)

    async def test_paused_job_of_an_earlier_daemon(self) -> None:
        """
        A job that is paused stays so after C{kill -9}.
        """
        reference = self.image("app")
        job = await self.api("POST", "jobs", {"kind": "pull", "reference": reference, "restart": "always"})
        await self.moves("app")
        await self.daemon.ctl("pause", job["id"][:6])
        await self.silent("app")
        await self.daemon.stop("KILL")
        await self.start()
        await self.silent("app")
        shown = await self.state(job["id"], "running")
        self.assertEqual((shown["paused"], shown["why"].partition(" by ")[0]), (True, "paused"))
        await self.daemon.ctl("resume", job["id"])
        await self.done(job["id"])
        self.assertLess(self.proxy.received["team/app"], SIZE + SPARE)


class QueueTests(SteeringCase):
    """
    Slots of a registry, drain and retries.
    """

    async def test_host_slots(self) -> None:
        """
        A registry has as many connections with bytes as its own limit permits, from the second
        after a change: the wire carries the rate of so many.
        """
        await self.api("PATCH", "limits", {"downloads": 8, "ranges": 1})
        await self.daemon.ctl("limits", "--host", self.proxy.address, "downloads=1")
        job_id = await self.api.pull(self.image("app", layers=4, size=6_000_000))
        await self.moves("app")
        for number in (1, 3):
            await self.daemon.ctl("limits", "--host", self.proxy.address, f"downloads={number}")
            await self.wait(SOON)
            before, began = self.proxy.received["team/app"], reactor.seconds()
            await self.wait(4)
            rate = (self.proxy.received["team/app"] - before) / (reactor.seconds() - began)
            self.assertApproximates(rate, number * RATE, 0.2 * number * RATE, f"with {number}")
            layers = (await self.api("GET", f"jobs/{job_id}"))["layers"]
            states = [layer["state"] for layer in layers]
            self.assertEqual((states.count("downloading"), len(states)), (number, 4), states)
            whys = {layer["why"] for layer in layers if layer["state"] != "downloading"}
            self.assertEqual(
                whys, {f"{self.proxy.address} has its {number} download slot{'s' * (number > 1)} in use"}
            )
        await self.api("DELETE", f"jobs/{job_id}")

    async def test_drain(self) -> None:
        """
        A daemon that is drained refuses jobs, ends what runs, and is not ready; C{--wait}
        returns then.
        """
        job_id = await self.api.pull(self.image("app"))
        await self.moves("app")
        waiting = Deferred.fromCoroutine(self.daemon.ctl("drain", "--wait"))
        await self.until(lambda: self.proxy.received["team/app"] > 0)

        async def draining() -> bool:
            return bool((await self.api("GET", "status"))["drain"]["draining"])

        await self.until(draining)
        refused = await self.api("POST", "jobs", {"kind": "pull", "reference": self.image("other")})
        self.assertEqual(refused["error"]["code"], "DRAINING")
        self.assertFalse(waiting.called)
        self.assertRegex(await waiting, "jobs left: +0")
        await self.done(job_id)
        _, errors, code = await self.daemon.try_ctl("pull", self.image("third"))
        self.assertEqual(code, 1)
        self.assertIn("(DRAINING)", errors)
        await self.daemon.ctl("drain", "--end")
        await self.daemon.ctl("pull", self.image("third"))

    async def test_retry(self) -> None:
        """
        A pull that was cancelled is retried, and fetches only what is missing.
        """
        job_id = await self.api.pull(self.image("app"))
        await self.moves("app", 300_000)
        await self.api("DELETE", f"jobs/{job_id}")
        output = await self.daemon.ctl("retry", "--follow", job_id)
        self.assertIn("team/app", output)
        self.assertLess(self.proxy.received["team/app"], SIZE + SPARE)
        self.assertGreater(self.proxy.received["team/app"], SIZE)
