"""
An independent pull beside all kinds of failing transfers at once.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from io import BytesIO
from typing import Any

from twisted.web.client import FileBodyProducer, readBody
from twisted.web.http_headers import Headers

from tests.integration.test_daemon import DaemonCase, reactor
from tests.jobs.neighbours import BESIDE, broken_imports, image_of, of_neighbour, wrong_images
from xferd.testing.faults import Flip, Slow, Stall, too_many_requests
from xferd.testing.registry import Registry

TRICKLE = 2_000.0
"""Bytes per second of a slow layer."""


class NeighboursTests(DaemonCase):
    """
    A pull of 20 MB ends while all earlier transfers are still stuck.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Measure a pull of the same size without other transfers.
        """
        await super().setUp()
        self.stuck: list[str] = []
        await self.pull("alone")

    async def pull(self, name: str) -> None:
        """
        Pull 20 MB.
        """
        self.registry.add(image_of(name), name, "1")
        job = await self.state(await self.ask(f"{self.registry.host}/{name}:1"), "done", "failed")
        self.assertEqual((job["state"], job["error"]), ("done", None))

    async def serve(self) -> Registry:
        """
        Start another registry.
        """
        registry = Registry(reactor)
        await registry.listen(reactor)
        self.addCleanup(registry.stop)
        return registry

    async def ask(self, reference: str, **headers: str) -> str:
        """
        Start a pull.
        """
        job = {"kind": "pull", "reference": reference}
        return str((await self.send("POST", "jobs", json.dumps(job).encode(), **headers))["id"])

    async def send(self, method: str, path: str, data: bytes, **headers: str) -> Any:
        """
        Send a request to the API.
        """
        named = {name.replace("_", "-"): [value] for name, value in headers.items()}
        response = await self.api.agent.request(
            method.encode(),
            f"http://localhost/api/v1/{path}".encode(),
            Headers({"Content-Type": ["application/json"], **named}),
            FileBodyProducer(BytesIO(data)),
        )
        return json.loads(await readBody(response))

    # --------------------------------------------------------------- neighbours

    async def mute(self) -> None:
        """
        Three registries that accept the request for a layer and do not answer,
        and one that answers no request, used by twelve pulls.
        """
        for n in range(3):
            registry, image = await self.serve(), of_neighbour(f"mute {n}")
            registry.add(image, "app", "1")
            registry.faults.plant(Stall(), str(image.layers[0].blob.digest), times=None)
            self.stuck.append(await self.ask(f"{registry.host}/app:1"))
        registry = await self.serve()
        registry.faults.plant(Stall(), times=None)
        for n in range(12):
            self.stuck.append(await self.ask(f"{registry.host}/app{n}:1"))

    async def trickle(self) -> None:
        """
        A registry that sends four layers, slower than any limit on speed
        detects.
        """
        registry = await self.serve()
        for n in range(4):
            image = of_neighbour(f"trickle {n}")
            registry.add(image, f"app{n}", "1")
            registry.faults.plant(Slow(TRICKLE), str(image.layers[0].blob.digest), times=None)
            self.stuck.append(await self.ask(f"{registry.host}/app{n}:1"))

    async def limited(self) -> None:
        """
        A client of the healthy registry that has reached its rate limit.
        """
        image = of_neighbour("limited", 2)
        self.registry.add(image, "hers", "1")
        for layer in image.layers:
            self.registry.faults.plant(too_many_requests("500"), str(layer.blob.digest), times=None)
        user = {"username": "ann", "password": "hunter2", "serveraddress": self.registry.host}
        encoded = urlsafe_b64encode(json.dumps(user).encode()).decode()
        self.stuck.append(await self.ask(f"{self.registry.host}/hers:1", X_Registry_Auth=encoded))

    async def stalled(self) -> None:
        """
        Imports that stall within a blob: one of their own, and one that the
        pull needs as well.
        """
        for name, size, part in broken_imports():
            job = {"kind": "import", "reference": name, "size": size}
            job_id = (await self.send("POST", "jobs", json.dumps(job).encode()))["id"]
            await self.send(
                "PATCH",
                f"jobs/{job_id}/content",
                part,
                Content_Type="application/octet-stream",
                Content_Range=f"0-{len(part) - 1}",
            )
            self.stuck.append(job_id)

    async def wrong(self) -> None:
        """
        A registry that sends other bytes than the digest names, also for blobs
        of the pull.
        """
        registry = await self.serve()
        for name, image in wrong_images(3):
            registry.add(image, name, "1")
            for layer in image.layers:
                registry.faults.plant(Flip(), str(layer.blob.digest), times=None)
            await self.ask(f"{registry.host}/{name}:1")

    async def beside(self, *neighbours: Any) -> None:
        """
        Pull beside some transfers that hold all slots.
        """
        for neighbour in neighbours:
            await neighbour()

        async def held() -> bool:
            return int((await self.api("GET", "status"))["slots"]["download"]["in_use"]) >= 3

        await self.until(held)
        await self.pull(BESIDE)
        states = [(await self.api("GET", f"jobs/{job_id}"))["state"] for job_id in self.stuck]
        self.assertEqual(set(states), {"running"})

    async def test_mute_first(self) -> None:
        """
        Registries that do not answer hold the slots first.
        """
        await self.beside(self.mute, self.limited, self.stalled, self.wrong, self.trickle)

    async def test_trickles_first(self) -> None:
        """
        Slow layers hold the slots first.
        """
        await self.beside(self.trickle, self.limited, self.stalled, self.wrong, self.mute)
