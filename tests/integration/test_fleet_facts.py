"""
Tests for what the daemons of a fleet share besides blobs, and show, with Debian's etcd.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.etcds import Etcd
from tests.integration.http_client import Client
from tests.integration.peers import DockerRegistry, push, require
from tests.integration.places import free_port
from tests.integration.programs import Xferd
from tests.integration.test_rate_limits import Limit
from xferd.fleet.etcd.client import EtcdClient
from xferd.fleet.etcd.settings import EtcdSettings
from xferd.interfaces.fleet import MIN_SHARED
from xferd.media_types import ACCEPT
from xferd.testing.faults import too_many_requests
from xferd.testing.images import SampleImage, sample_image
from xferd.testing.registry import Registry
from xferd.testing.tokens import TokenServer

reactor: Any = installed

PATIENCE = 60.0
"""Seconds after which a test that waits fails."""


class FactsCase(TestCase):
    """
    etcd, and daemons on the loopback.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start etcd.
        """
        require("etcd")
        self.place = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, self.place)
        self.etcd = Etcd(reactor, f"{self.place}/etcd")
        self.addCleanup(self.etcd.kill)
        await self.etcd.start()
        secret = Path(self.place, "secret")
        secret.write_text("the secret of all nodes of the fleet")
        secret.chmod(0o600)
        self.ports: list[int] = []

    def write(self, number: int, upstream: str, more: str = "") -> str:
        """
        Write the settings of a node.

        @param more: further tables.
        """
        secret = Path(self.place, f"secret{number}")
        if not secret.exists():
            shutil.copy(Path(self.place, "secret"), secret)
        path = Path(self.place, f"n{number}.toml")
        port = self.ports[number - 1]
        path.write_text(
            f'[registry]\nlisten = ["tcp:{port}:interface=127.0.0.1"]\ndefault = "{upstream}"\n'
            f'[registry.upstreams."{upstream}"]\ntag_ttl = 4\n'
            f'[fleet]\netcd = ["{self.etcd.url}"]\nname = "n{number}"\nurl = "http://127.0.0.1:{port}"\n'
            f'secret_file = "{secret}"\npeer_networks = ["127.0.0.0/8"]\nkeep_copies = 1\n{more}'
        )
        return str(path)

    async def start(self, upstream: str, more: str = "", *options: str) -> Xferd:
        """
        Start one more node.
        """
        self.ports.append(free_port())
        number = len(self.ports)
        config = self.write(number, upstream, more)
        daemon = Xferd(reactor, f"{self.place}/n{number}", "--config", config, *options)
        self.addCleanup(daemon.stop)
        await daemon.start()
        await self.until(lambda: self.is_sharing(daemon))
        return daemon

    async def fleet(self, node: Xferd) -> dict[str, Any]:
        """
        The fleet, as a node sees it.
        """
        found: dict[str, Any] = json.loads(await node.ctl("fleet", "--json"))
        return found

    async def is_sharing(self, node: Xferd) -> bool:
        """
        Whether a node works with the others.
        """
        return bool((await self.fleet(node))["state"] == "sharing")

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """
        Wait for a condition.
        """
        deadline = reactor.seconds() + PATIENCE
        while not await condition():
            self.assertLess(reactor.seconds(), deadline)
            await deferLater(reactor, 0.1)


class RegistryTests(FactsCase):
    """
    Nodes that mirror Debian's registry.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start the registry.
        """
        await super().setUp()
        self.registry = DockerRegistry(reactor, self.mktemp())
        self.addCleanup(self.registry.stop)
        await self.registry.start()

    async def push(self, name: str) -> SampleImage:
        """
        Have an image of one large layer in the registry.
        """
        image = sample_image(1, 2 * MIN_SHARED, seed=name)
        await push(reactor, image, f"{self.registry.host}/{name}:1", self.mktemp())
        return image

    async def manifest(self, number: int) -> int:
        """
        Request the manifest of a tag as a client does.
        """
        url = f"http://127.0.0.1:{self.ports[number - 1]}/v2/app/manifests/1"
        return (await Client(reactor, url).get("", Accept=", ".join(ACCEPT))).status

    async def announced(self, *names: str) -> None:
        """
        Wait until these nodes have announced a blob, each as often as it is named.
        """

        async def are() -> bool:
            keys = await self.etcd.ctl("get", "--prefix", "/xferd/1/blobs/", "--keys-only")
            return sorted(key.rpartition("/")[2] for key in keys.split()) == sorted(names)

        await self.until(are)

    async def test_tags(self) -> None:
        """
        Once a tag has to be checked, one node does it for all.
        """
        await self.push("app")
        for _ in range(3):
            await self.start(self.registry.host)
        for number in (1, 2, 3):
            self.assertEqual(await self.manifest(number), 200)
        self.assertEqual(self.registry.count("GET", "1"), 3)
        await deferLater(reactor, 5)
        for number in (1, 2, 3, 2):
            self.assertEqual(await self.manifest(number), 200)
        await self.registry.stop()
        self.assertEqual((self.registry.count("HEAD", "1"), self.registry.count("GET", "1")), (1, 3))

    async def test_prefetch(self) -> None:
        """
        Nodes prefetch an image at the word of another one; its blob comes from upstream
        once, and all that is shown.
        """
        image = await self.push("app")
        one, two = await self.start(self.registry.host), await self.start(self.registry.host)
        _, errors, code = await one.try_ctl("prefetch", "--nodes", "3", f"{self.registry.host}/app:1")
        self.assertEqual(code, 0)
        self.assertIn("also fetched by n2\n", errors)
        self.assertIn("other nodes of the fleet that fetch it: 1, not 2", errors)

        async def is_done() -> bool:
            return [job["state"] for job in await two.show("jobs", "--all")] == ["done"]

        await self.until(is_done)
        found = [await self.fleet(node) for node in (one, two)]
        self.assertEqual([node["name"] for node in found[0]["nodes"]], ["n1", "n2"])
        size = len(image.layers[0].blob.read())
        self.assertEqual(sorted(each["bytes"]["peer"] for each in found), [0, size])
        self.assertEqual(sorted(each["bytes"]["sent"] for each in found), [0, size])
        await self.registry.stop()
        self.assertEqual(self.registry.count("GET", image.layers[0].blob.digest), 1)

    async def test_secret_replaced(self) -> None:
        """
        The secret of three nodes is replaced in three steps, each on one node after the
        other: at no moment does a node refuse another one.
        """
        image = f"{self.registry.host}/app:1"
        await self.push("app")
        nodes = [await self.start(self.registry.host) for _ in range(3)]
        secrets = [Path(self.place, f"secret{number}") for number in (1, 2, 3)]
        old, new = Path(self.place, "secret").read_text(), "another secret of all nodes"
        for step in (f"{old}\n{new}\n", f"{new}\n{old}\n", f"{new}\n"):
            for node, secret in zip(nodes, secrets, strict=True):
                secret.write_text(step)
                told = node.output.count("reloaded the settings")
                node.signal("HUP")

                async def is_reloaded(node: Xferd = node, told: int = told) -> bool:
                    return node.output.count("reloaded the settings") > told

                await self.until(is_reloaded)
                for asking in nodes:
                    _, errors, _ = await asking.try_ctl("prefetch", "--nodes", "3", image)
                    self.assertRegex(errors, "also fetched by n[1-3], n[1-3]\n")
        secrets[0].write_text("short")
        nodes[0].signal("HUP")

        async def is_refused() -> bool:
            return "the previous secrets and certificates of the fleet remain in use" in nodes[0].output

        await self.until(is_refused)
        for node in nodes:
            self.assertNotIn("proves nothing", node.output)
            self.assertNotIn("refuses this node", node.output)

    async def test_etcd_lost(self) -> None:
        """
        While etcd is away, a node works alone and says why; then it is back by itself, also
        with what it has.
        """
        image = await self.push("app")
        node = await self.start(self.registry.host)
        await node.ctl("prefetch", f"{self.registry.host}/app:1")
        await self.etcd.kill()

        async def is_alone() -> bool:
            return bool((await self.fleet(node))["state"] == "alone")

        await self.until(is_alone)
        self.assertIn("etcd", (await self.fleet(node))["problem"])
        doctor, _, code = await node.try_ctl("doctor")
        self.assertEqual(code, 1)
        self.assertIn("this node works without its fleet: etcd", doctor)
        await self.push("other")
        await node.ctl("prefetch", f"{self.registry.host}/other:1")
        self.etcd.forget()
        await self.etcd.start()
        await self.until(lambda: self.is_sharing(node))

        await self.announced("n1", "n1")
        keys = await self.etcd.ctl("get", "--prefix", "/xferd/1/blobs/", "--keys-only")
        self.assertIn(image.layers[0].blob.digest.hex, keys)

    async def test_etcd_full(self) -> None:
        """
        While etcd is read-only, a node pulls alone and says why; then all that it has is
        known.
        """
        await self.push("app")
        await self.push("other")
        node = await self.start(self.registry.host)
        client = EtcdClient(reactor, EtcdSettings.read((self.etcd.url,)))
        self.addCleanup(client.close)
        header = (await client.call("/v3/maintenance/status", {}))["header"]
        alarm = {"action": "ACTIVATE", "memberID": header["member_id"], "alarm": "NOSPACE"}
        await client.call("/v3/maintenance/alarm", alarm)
        await node.ctl("prefetch", f"{self.registry.host}/app:1")

        async def is_alone() -> bool:
            return "is full and read-only" in ((await self.fleet(node))["problem"] or "")

        await self.until(is_alone)
        began = reactor.seconds()
        await node.ctl("prefetch", f"{self.registry.host}/other:1")
        self.assertLess(reactor.seconds() - began, 10.0)
        self.assertEqual((await self.fleet(node))["state"], "alone")
        await self.etcd.ctl("alarm", "disarm")
        await self.until(lambda: self.is_sharing(node))
        await self.announced("n1", "n1")

    async def test_hostile_records(self) -> None:
        """
        Whatever another program writes in etcd, no request goes to an address outside of the
        peers' networks, and the pull goes on.
        """
        image = await self.push("app")
        connections: list[object] = []
        trap = Factory.forProtocol(Protocol)
        trap.noisy = False
        trap.buildProtocol = connections.append  # type: ignore[method-assign, assignment]
        listening = reactor.listenTCP(0, trap, interface="::1")
        self.addCleanup(listening.stopListening)
        port = listening.getHost().port
        node = await self.start(self.registry.host)
        digest = image.layers[0].blob.digest
        blob = f"/xferd/1/blobs/{digest.algorithm}-{digest.hex}"
        for n, value in enumerate(
            (
                json.dumps({"url": f"http://[::1]:{port}"}),
                json.dumps({"url": f"http://localhost.:{port}/v2/"}),
                json.dumps({"url": f"http://[::ffff:127.0.0.1]:{port}"}),
                json.dumps({"url": f"http://n1@[::1]:{port}"}),
                json.dumps({"url": "file:///etc/passwd"}),
                json.dumps({"url": "http://" + "a" * 100_000}),
                json.dumps({"url": [f"http://[::1]:{port}"]}),
                "[" * 50_000,
                "",
            )
        ):
            await self.etcd.ctl("put", "--", f"{blob}/n{n + 2}", value)
        claim = {"node": "n9", "url": f"http://[::1]:{port}", "source": "x" * 9000, "size": 1 << 40}
        key = f"/xferd/1/claims/{digest.algorithm}-{digest.hex}"
        await self.etcd.ctl("put", "--", key, json.dumps(claim))
        await self.etcd.ctl("put", "--", "/xferd/1/nodes/n9", json.dumps({"url": 7, "load": -1}))
        began = reactor.seconds()
        await node.ctl("prefetch", "--nodes", "3", f"{self.registry.host}/app:1")
        self.assertLess(reactor.seconds() - began, 25.0)
        path = Path(node.data, "content/blobs", digest.algorithm, digest.hex)
        self.assertTrue(path.read_bytes() == image.layers[0].blob.read())
        self.assertEqual(connections, [])

        async def is_alone() -> bool:
            return [each["name"] for each in (await self.fleet(node))["nodes"]] == ["n1"]

        # Beside the hostile records etcd may answer late.
        await self.until(is_alone)
        self.assertIn("is not in peer_networks", json.dumps((await self.fleet(node))["troubles"]))

    async def test_eviction(self) -> None:
        """
        Where space is needed, that goes first which another node has, although it was used
        later.
        """
        images = {name: await self.push(name) for name in ("app", "other")}
        one, two = await self.start(self.registry.host), await self.start(self.registry.host)
        for name in images:
            await one.ctl("prefetch", f"{self.registry.host}/{name}:1")
        await two.ctl("prefetch", f"{self.registry.host}/other:1")
        await self.announced("n1", "n1", "n2")
        self.write(1, self.registry.host, f"[store]\nquota = {3 * MIN_SHARED}\n")
        one.signal("HUP")

        def has(name: str) -> bool:
            digest = images[name].layers[0].blob.digest
            return Path(one.data, "content/blobs", digest.algorithm, digest.hex).exists()

        async def is_gone() -> bool:
            return not (has("app") and has("other"))

        await self.until(is_gone)
        self.assertEqual((has("app"), has("other")), (True, False))
        await self.announced("n1", "n2")


class PausesTests(FactsCase):
    """
    Nodes that share an account at a registry that limits requests.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start the registry, and two nodes that have pulled from it.
        """
        await super().setUp()
        tokens = TokenServer(reactor, users={"ann": "of ann"}, anonymous=False)
        await tokens.listen(reactor)
        self.addCleanup(tokens.stop)
        self.registry = registry = Registry(reactor, guard=tokens)
        await registry.listen(reactor)
        self.addCleanup(registry.stop)
        registry.add(sample_image(1, 1000), "team/app", "1")
        self.auth = auth = Path(self.place, "auth.json")
        auth.write_text(json.dumps({"auths": {registry.host: {"auth": "YW5uOm9mIGFubg=="}}}))
        auth.chmod(0o600)
        self.nodes = [await self.start(registry.host, "", "--auth-file", str(auth)) for _ in range(2)]
        self.pull = ("pull", "--no-credentials", f"{registry.host}/team/app:1")
        for node in self.nodes:
            await node.ctl(*self.pull)

    async def is_second(self, state: str) -> bool:
        """
        Whether the account has a state at the second node.
        """
        (host,) = await self.nodes[1].show("hosts")
        return [account["state"] for account in host["accounts"]] == [state]

    async def test_pause(self) -> None:
        """
        What the registry asks of one node, the other one obeys.
        """
        self.registry.faults.plant(too_many_requests("60"), "/manifests/")
        await self.nodes[0].ctl(*self.pull, "--detach")
        await self.until(lambda: self.is_second("paused"))
        self.assertEqual([entry.status for entry in self.registry.log].count(429), 1)
        self.assertNotIn("ann", await self.etcd.ctl("get", "--prefix", "/xferd/"))
        self.assertEqual(os.stat(self.auth).st_mode & 0o777, 0o600)

    async def test_quota(self) -> None:
        """
        When one node learns that few requests are left, the other one slows down, and
        returns with it when they are whole again.
        """
        limit = Limit(11, 100)
        self.registry.faults.plant(limit, "/manifests/", times=1000)
        await self.nodes[0].ctl(*self.pull)
        await self.until(lambda: self.is_second("quota-low"))
        self.assertNotIn("ann", await self.etcd.ctl("get", "--prefix", "/xferd/"))
        limit.left = 90
        await deferLater(reactor, 6)
        await self.nodes[0].ctl(*self.pull)
        await self.until(lambda: self.is_second("ok"))
