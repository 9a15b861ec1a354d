"""
Bandwidth limits on the wire: how soon a change acts, how exactly a limit holds, and the shares of
clients.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.task import deferLater

from tests.integration.test_daemon import DaemonCase, reactor
from xferd.testing.images import SampleImage, image_of, sample_layer
from xferd.testing.registry import Registry

MB: Final = 1_000_000
ACTS: Final = 1.0
"""Seconds within which a change acts."""
WINDOW: Final = 10.0
"""Seconds over which a limit holds within 5 %."""


class CountingRegistry(Registry):
    """
    A registry that counts the bytes of bodies as they arrive.
    """

    arrived = 0

    def received(self, connection: object, size: int) -> None:
        """
        Count them, also of requests that have not ended.
        """
        self.arrived += size
        super().received(connection, size)


class RateTests(DaemonCase):
    """
    Two pulls and a push of large blobs, all at the same time.
    """

    def put(self, name: str, size: int) -> SampleImage:
        """
        Put an image with one large layer into the registry.
        """
        image = image_of([sample_layer(size, f"rates-{name}", compression="tar")])
        self.registry.add(image, f"team/{name}", "1")
        return image

    async def begin(self, client: str, **asked: str) -> str:
        """
        Begin a job of a client.
        """
        return str((await self.api("POST", "jobs", asked, client=client))["id"])

    def sent(self, image: SampleImage) -> int:
        """
        The bytes of an image's layer that the registry has sent.
        """
        return sum(each.bytes_sent for each in self.registry.exchanges("GET", image.layers[0].blob.digest))

    async def done(self, job_id: str) -> None:
        """
        Wait for a job's end, for a minute on a machine that is loaded.
        """
        job = await self.api("GET", f"jobs/{job_id}")
        deadline = reactor.seconds() + 60
        while job["state"] not in ("done", "failed") and reactor.seconds() < deadline:
            await deferLater(reactor, 0.1)
            job = await self.api("GET", f"jobs/{job_id}")
        self.assertEqual((job["state"], job["error"]), ("done", None))

    def assert_near(self, found: float, expected: float, what: str) -> None:
        """
        Assert a rate within 5 %.
        """
        self.assertApproximates(
            found, expected, 0.05 * expected, f"{what}: {found:,.0f} B/s, and the limit is {expected:,.0f}"
        )

    async def test_wire(self) -> None:
        """
        A limit of all, and one of a host, act within a second and hold within 5 % over ten;
        a client of weight 3 has three times the bytes of another one.
        """
        other = CountingRegistry(reactor)
        await other.listen(reactor)
        self.addCleanup(other.stop)
        heavy, light = self.put("heavy", 90 * MB), self.put("light", 40 * MB)
        self.put("pushed", 50 * MB)
        source = f"{self.registry.host}/team/pushed:1"
        await self.done(await self.begin("ci", kind="pull", reference=source))
        await self.api("PATCH", "limits", {"download_rate": "1MB/s", "upload_rate": "300kB/s", "ranges": 1})
        for client, name in (("ci", "heavy"), ("bob", "light")):
            await self.begin(client, kind="pull", reference=f"{self.registry.host}/team/{name}:1")
        await self.begin("bob", kind="push", reference=source, target=f"{other.host}/team/pushed:1")
        await self.until(lambda: self.sent(heavy) and self.sent(light) and other.arrived)

        async def measure(changes: dict[str, Any]) -> tuple[float, ...]:
            await self.api("PATCH", "limits", changes)
            await deferLater(reactor, ACTS)
            began, before = reactor.seconds(), (self.sent(heavy), self.sent(light), other.arrived)
            await deferLater(reactor, WINDOW)
            seconds = reactor.seconds() - began
            after = self.sent(heavy), self.sent(light), other.arrived
            return tuple((b - a) / seconds for a, b in zip(before, after, strict=True))

        changes = {"download_rate": "2MB/s", "upload_rate": "1MB/s", "clients": {"ci": {"weight": 3}}}
        ci, bob, up = await measure(changes)
        self.assert_near(ci + bob, 2 * MB, "downloads")
        self.assert_near(ci, 1.5 * MB, "downloads of the client of weight 3")
        self.assert_near(bob, 0.5 * MB, "downloads of the client of weight 1")
        self.assert_near(up, 1 * MB, "uploads")
        hosts = {self.registry.host: {"download_rate": "3MB/s"}, other.host: {"upload_rate": "1500kB/s"}}
        ci, bob, up = await measure({"download_rate": 0, "upload_rate": 0, "hosts": hosts})
        self.assert_near(ci + bob, 3 * MB, "downloads from one host")
        self.assert_near(ci, 2.25 * MB, "downloads of the client of weight 3 from one host")
        self.assert_near(up, 1.5 * MB, "uploads to one host")
        binding = (await self.api("GET", "limits"))["binding"]
        whose = {"download": [f"host {self.registry.host}"], "upload": [f"host {other.host}"]}
        self.assertEqual(binding, whose)
        whys = {each["why"] for each in await self.api("GET", "transfers") if each["state"] == "running"}
        self.assertLessEqual({f"slowed by the download limit of {self.registry.host}"}, whys)

    async def test_doors(self) -> None:
        """
        xferctl sets the limits of a job, a host and a client, and keeps them over a restart.
        """
        limits = "limits", "download_rate=00:00-24:00=900kB/s,else=1", "--keep"
        await self.daemon.ctl(*limits)
        await self.daemon.ctl("limits", "--host", "ghcr.io", "downloads=2", "--keep")
        await self.daemon.ctl("limits", "--client", "ci", "weight=3")
        _, reference = self.add(1, 3_000_000, compression="tar")
        job_id = await self.api.pull(reference)
        await self.daemon.ctl("limits", "--job", job_id, "download_rate=200k")
        await self.fetched(job_id, 1)

        async def why() -> bool:
            whys = {each["why"] for each in await self.api("GET", "transfers")}
            return f"slowed by the download limit of job {job_id}" in whys

        await self.until(why)
        status = await self.daemon.ctl("status")
        self.assertRegex(status, rf"downloads limited by: +.*\bjob {job_id}\n")
        await self.daemon.ctl("limits", "--job", job_id, "download_rate=0")
        await self.state(job_id, "done")
        await self.daemon.stop()
        await self.start()
        found = await self.api("GET", "limits")
        self.assertEqual(found["timetables"], {"download_rate": {"00:00-24:00": 900_000, "else": 1}})
        self.assertEqual((found["download_rate"], found["hosts"]["ghcr.io"]["downloads"]), (900_000, 2))
        self.assertEqual(found["clients"], {})
