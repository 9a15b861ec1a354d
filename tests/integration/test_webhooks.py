"""
Webhooks of a daemon: a receiver on real sockets, which refuses, or has a wrong certificate, and a
daemon that is killed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

from twisted.web.client import readBody
from twisted.web.server import Site

from tests.integration.test_daemon import DaemonCase, reactor
from tests.webhooks.case import SECRET, Receiver
from tests.webhooks.test_signature import verifier
from xferd.jobs.job import ENDED
from xferd.testing.certificates import Authority


class WebhookTests(DaemonCase):
    """
    Messages about pulls.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start a receiver, too.
        """
        await super().setUp()
        self.receiver = Receiver()
        self.site = Site(self.receiver)
        # Twisted's types take a site for another kind of factory.
        port: Any = reactor.listenTCP(0, cast("Any", self.site), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.host = f"127.0.0.1:{port.getHost().port}"
        self.secret = self.place / "secret"
        with open(os.open(self.secret, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(SECRET)

    async def restart(self, url: str = "", more: str = "", signal: str = "TERM") -> None:
        """
        Start the daemon again, with a webhook.
        """
        await self.daemon.stop(signal)
        url = url or f"http://{self.host}/hook"
        config = self.place / "xferd.toml"
        config.write_text(f'[[webhooks]]\nurl = "{url}"\nsecret_file = "{self.secret}"\n{more}\n')
        await self.start("--config", str(config))

    def check(self, number: int) -> dict[str, Any]:
        """
        Check the signature of a message.

        @return: its body.
        """
        headers, body = self.receiver.messages[number]
        named = {name.title(): value for name, value in headers.items()}
        self.assertTrue(verifier()(SECRET, named, body, int(named["Webhook-Timestamp"])))
        self.assertTrue(named["User-Agent"].startswith("xferd/"))
        decoded: dict[str, Any] = json.loads(body)
        return decoded

    async def metrics(self) -> str:
        """
        The metrics of webhooks.
        """
        text = await self.scrape()
        return "\n".join(line for line in text.splitlines() if line.startswith("xferd_webhooks"))

    async def scrape(self) -> str:
        """
        All metrics.
        """
        response = await self.api.agent.request(b"GET", b"http://localhost/metrics")
        return bytes(await readBody(response)).decode()

    async def test_sent(self) -> None:
        """
        The end of a pull, and of one that fails, is sent; after a 500 once more.
        """
        await self.restart()
        image, reference = self.add(1)
        job = await self.state(await self.api.pull(reference), *ENDED)
        await self.until(lambda: self.receiver.messages)
        body = self.check(0)
        self.assertEqual((body["type"], body["data"]["id"]), ("job.done", job["id"]))
        self.assertEqual(body["data"]["result"]["digest"], str(image.digest))
        self.assertEqual(body["data"]["timing"], job["timing"])
        self.receiver.answers = [500]
        failed = await self.state(await self.api.pull(f"{self.registry.host}/team/none:1"), *ENDED)
        await self.until(lambda: len(self.receiver.messages) == 3)
        self.assertEqual(self.check(1), self.check(2))
        self.assertEqual(self.check(2)["data"]["error"]["code"], failed["error"]["code"])
        ids = [headers["webhook-id"] for headers, _ in self.receiver.messages]
        self.assertEqual((len(set(ids)), ids[1]), (2, ids[2]))

        async def counted() -> bool:
            text = await self.metrics()
            return f'xferd_webhooks_total{{host="{self.host}",result="delivered"}} 2.0' in text

        await self.until(counted)
        text = await self.metrics()
        self.assertIn(f'xferd_webhooks_total{{host="{self.host}",result="failed"}} 1.0', text)
        self.assertIn(f'xferd_webhooks_waiting{{host="{self.host}"}} 0.0', text)
        self.assertIn("answers 500; attempt 1, the next in", self.daemon.output)

    async def test_killed(self) -> None:
        """
        A daemon that is killed before its message was accepted sends it after its restart, with
        the same ID.
        """
        await self.restart()
        self.receiver.answers = [0]
        _, reference = self.add(1)
        await self.api.pull(reference)
        await self.until(lambda: self.receiver.messages)
        await self.restart(signal="KILL")
        await self.until(lambda: len(self.receiver.messages) == 2)
        self.assertEqual(self.check(0), self.check(1))
        self.assertEqual(len({headers["webhook-id"] for headers, _ in self.receiver.messages}), 1)

    async def test_stopped(self) -> None:
        """
        A receiver that does not answer does not delay the stop of the daemon; the next one
        sends the message again.
        """
        await self.restart()
        self.receiver.answers = [0]
        _, reference = self.add(1)
        await self.api.pull(reference)
        await self.until(lambda: self.receiver.messages)
        stopped = self.daemon
        await self.restart()
        self.assertIn("Server Shut Down", stopped.output)
        self.assertNotIn("did not stop within", stopped.output)
        await self.until(lambda: len(self.receiver.messages) == 2)
        self.assertEqual(self.check(0), self.check(1))

    async def test_certificate(self) -> None:
        """
        A receiver whose certificate is not trusted gets nothing, on loopback, too; C{ca_file}
        trusts it.
        """
        authority = Authority()
        port: Any = reactor.listenSSL(0, self.site, authority.options("127.0.0.1"), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"https://127.0.0.1:{port.getHost().port}/hook"
        await self.restart(url)
        _, reference = self.add(1)
        await self.state(await self.api.pull(reference), *ENDED)
        await self.until(lambda: "was not accepted: " in self.daemon.output)
        self.assertIn("certificate", self.daemon.output.partition("was not accepted: ")[2])
        self.assertEqual(self.receiver.messages, [])
        authorities = Path(self.place, "ca.pem")
        authorities.write_bytes(authority.pem)
        await self.restart(url, f'ca_file = "{authorities}"')
        await self.until(lambda: self.receiver.messages)
        self.assertEqual(self.check(0)["type"], "job.done")
