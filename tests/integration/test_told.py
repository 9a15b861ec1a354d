"""
Jobs and events after a restart of the daemon, and after clients have
disconnected.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.integration.test_daemon import DaemonCase, reactor


class ToldTests(DaemonCase):
    """
    Clients that disconnect, reconnect, or connect late.
    """

    def send(self, method: str, path: str, **headers: str) -> socket.socket:
        """
        Send a request without a body, and do not read the response.
        """
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(self.daemon.socket)
        lines = [f"{method} /api/v1/{path} HTTP/1.0", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        connection.sendall("\r\n".join(lines).encode())
        return connection

    def images_told(self, last: str, until: str) -> dict[str, Any]:
        """
        Follow the events of images after an earlier one.  Blocking.

        @param last: the ID of that event.
        @param until: the name whose event ends the wait.
        @return: the last event of each name, and the ID after it.
        """
        found: dict[str, Any] = {}
        headers = {"Accept": "application/x-ndjson", "Last-Event-ID": last}
        with self.send("GET", "events", **headers) as connection, connection.makefile("rb") as file:
            for line in file:
                event = json.loads(line) if line.startswith(b"{") else {}
                found[""] = event.get("id", "")
                if event.get("kind") == "image":
                    name = event["data"]["reference"].rpartition("/")[2]
                    found[name] = "removed" in event["data"]
                # Only the last event of a batch has an ID from which a client can resume.
                if until in found and found[""]:
                    return found
        raise AssertionError("the stream has ended")

    async def test_client_leaves(self) -> None:
        """
        Each name that is removed for a client that disconnects has its event.
        """
        _, reference = self.add(1)
        await self.state(await self.api.pull(reference), "done")
        names = [f"name{n}:1" for n in range(10)]
        for name in names:
            await self.api("POST", f"images/{reference}/tags", {"reference": name})
        told = await deferToThread(self.images_told, "", names[-1])
        for n, name in enumerate(names):
            connection = self.send("DELETE", f"images/{name}")
            await deferLater(reactor, n / 1000)
            connection.close()
        # This event follows those of all removals that have begun.
        await self.api("POST", f"images/{reference}/tags", {"reference": "last:1"})
        told = await deferToThread(self.images_told, told[""], "last:1")
        left = {image["reference"].rpartition("/")[2] for image in await self.api("GET", "images")}
        self.assertEqual({name for name, gone in told.items() if gone is True}, set(names) - left)
        self.assertNotEqual(left & set(names), set(names))

    async def test_after_a_kill(self) -> None:
        """
        A daemon that was killed leaves its ended jobs, their attempts and their
        idempotency keys to the next one.
        """
        _, reference = self.add(1)
        done = await self.state(await self.api.pull(reference), "done")
        attempts = await self.api("GET", f"jobs/{done['id']}/attempts")
        for n in range(210):
            await self.api.pull(f"{self.registry.host}/nothing{n}")
        await self.until(self.quiet)
        await self.daemon.stop("KILL")
        await self.start()
        self.assertEqual(await self.api("GET", f"jobs/{done['id']}"), done)
        self.assertEqual(await self.api("GET", f"jobs/{done['id']}/attempts"), attempts)
        self.assertEqual((await self.api("DELETE", f"jobs/{done['id']}"))["state"], "done")
        self.assertIn(done["id"], await self.daemon.ctl("jobs", "--all"))
        self.assertIn("done", await self.daemon.ctl("job", done["id"]))

    async def quiet(self) -> bool:
        """
        Whether no job runs.
        """
        states = (await self.api("GET", "status"))["jobs"]
        return not states.get("running") and not states.get("queued")
