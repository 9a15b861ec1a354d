"""
Tests for the status page in a real browser.
"""

from __future__ import annotations

import re
from shutil import which
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IReactorTCP
from twisted.internet.utils import getProcessOutputAndValue
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import TestCase

from tests.web.fakes import image, job
from tests.web.world import World
from xferd.errors import ConfigError, ConnectionFailed
from xferd.interfaces.engines import CONTAINERS_STORAGE, EngineFigures, EngineImageJSON, LeftOutJSON
from xferd.interfaces.fleet_status import ALONE
from xferd.interfaces.hosts import Quota
from xferd.interfaces.job_json import NO_REGISTRY
from xferd.interfaces.jobs import Event
from xferd.interfaces.transfer import HostAccount
from xferd.jobs.events.broker import image_json
from xferd.testing.fake_engine import FakeEngine
from xferd.testing.fake_fleet import FakeFleet
from xferd.transfer.pauses import Pauses

HOSTILE = "<img src=x onerror=document.title='owned'>&amp;\"'"


class Connections(WrappingFactory):
    """
    Reports when the last connection is closed.
    """

    def __init__(self, wrapped: Any) -> None:
        super().__init__(wrapped)
        self.gone: Deferred[None] | None = None

    def unregisterProtocol(self, protocol: ProtocolWrapper) -> None:
        """
        Record the end of a connection.
        """
        super().unregisterProtocol(protocol)
        self.look()

    def look(self) -> None:
        """
        Report if no connection is left.
        """
        if self.gone is not None and not self.protocols:
            gone, self.gone = self.gone, None
            gone.callback(None)

    def close(self) -> Deferred[None]:
        """
        Close all connections.

        @return: fires when none is left.
        """
        gone: Deferred[None] = Deferred()
        self.gone = gone
        for protocol in list(self.protocols):
            protocol.abortConnection()
        self.look()
        return gone


class PageTests(TestCase):
    """
    The page, with Chromium.
    """

    browser = which("chromium") or which("chromium-browser")
    if browser is None:
        skip = "there is no chromium here"
    timeout = 60

    @staticmethod
    async def close(connections: Connections, port: IListeningPort) -> None:
        """
        Remove everything from the reactor.
        """
        await maybeDeferred(port.stopListening)
        await connections.close()

    async def load(self, world: World) -> str:
        """
        Load the page, and return its content after fifteen seconds of the
        browser's virtual time: only requests take real time.
        """
        connections = Connections(world.site)
        port = IReactorTCP(reactor).listenTCP(0, connections, interface="127.0.0.1")  # type: ignore[arg-type]
        self.addCleanup(self.close, connections, port)
        address = port.getHost()
        assert isinstance(address, IPv4Address)
        assert self.browser is not None
        output: bytes
        output, _, _ = await getProcessOutputAndValue(
            self.browser,
            [
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                f"--user-data-dir={self.mktemp()}",
                "--virtual-time-budget=15000",
                "--dump-dom",
                f"http://127.0.0.1:{address.port}/",
            ],
            env={"HOME": self.mktemp()},
        )
        return output.decode("utf-8")

    async def test_hostile(self) -> None:
        """
        Strings of registries and clients are shown as text everywhere.
        """
        world = World()
        digest = "sha256:" + "a" * 64
        layer = {
            "job": "j1",
            "index": 0,
            "digest": digest,
            "diff_id": digest,
            "size": 100,
            "state": "downloading",
            "bytes_done": 40,
            "unpacked": 20,
            "transfer": "t1",
            "why": HOSTILE,
        }
        transfer = {
            "id": "t1",
            "key": digest,
            "kind": "download",
            "digest": digest,
            "state": "backing-off",
            "watchers": 3,
            "bytes_done": 40,
            "bytes_total": 100,
            "rate": 0,
            "attempt": 2,
            "source": HOSTILE,
            "why": HOSTILE,
            "jobs": ["j1", "j2", "j3"],
        }
        failed = job(id="j2", state="failed", finished="2026-01-02T03:04:09Z")
        failed["error"] = {"code": "LAYER_INVALID", "message": HOSTILE}
        world.jobs.present = [
            Event("job", job(id="j1", reference=HOSTILE, client=HOSTILE, platform=HOSTILE)),
            Event("layer", layer),
            Event("transfer", transfer),
            Event("job", failed),
            Event("image", {**image_json(image(), [f"{HOSTILE}: a", f"{HOSTILE}: b"]), "reference": HOSTILE}),
        ]
        page = await self.load(world)
        self.assertNotIn("<img src=x", page)
        self.assertNotIn("<title>owned", page)
        self.assertGreaterEqual(page.count("&lt;img src=x onerror"), 7)
        self.assertEqual(len(re.findall(r'<li class="layer"[^>]*data-state="backing-off"', page)), 1)
        self.assertIn("for 3 jobs", page)
        self.assertRegex(page, r'title="(&lt;|<)img src=x onerror[^"]*">in use<')
        self.assertIn("try 2", page)
        self.assertIn("fetched 40 %, unpacked 20 %", page)
        self.assertIn("LAYER_INVALID", page)
        self.assertIn('data-link="live"', page)

    async def test_registries(self) -> None:
        """
        Registries are shown with quotas, pauses and failures, those with
        trouble first; their texts are shown as text.
        """
        world = World()
        pauses = Pauses(world.clock)
        world.memory.join("document", pauses)
        world.memory.answered("calm.example", "0123456789abcdef", Quota(76, 100, 21600.0))
        world.memory.answered("docker.io", None, Quota(3, 100, 21600.0))
        world.memory.answered("quay.io", None, None)
        pauses.pause(HostAccount("quay.io"), 600)
        world.memory.unreachable("mirror.lan", ConnectionFailed(HOSTILE))
        page = await self.load(world)
        *rows, template = re.findall(
            r'<li class="registry"(?: data-state="[a-z-]+")?>.*?</li>', page, re.DOTALL
        )
        self.assertIn('<span class="name"></span>', template)
        self.assertEqual(len(rows), 4)
        calm = rows.pop()
        for text in ("calm.example", "76 of 100 requests left", "0123456789ab"):
            self.assertIn(text, calm)
        self.assertRegex(calm, '<button class="clear"[^>]* hidden=""')
        for name, *texts in (
            ("docker.io", "quota low", "3 of 100 requests left", "documents are requested at intervals"),
            ("quay.io", "paused", "quay.io asked to wait, until "),
            ("mirror.lan", "down", "1 failure", "&lt;img src=x onerror"),
        ):
            (row,) = [row for row in rows if name in row]
            for text in texts:
                self.assertIn(text, row)
            self.assertNotIn("0123456789ab", row)
            self.assertNotIn('hidden="">Clear', row)
        self.assertNotIn("<title>owned", page)

    async def test_mirror(self) -> None:
        """
        The mirror is shown with what it saves, with the health and the quota of its upstreams,
        and its repositories with the reason why they are kept, those that were used last first;
        a daemon without a registry shows nothing.
        """
        world = World()
        self.assertIn('id="mirror-section" hidden', await self.load(world))
        counters = {"hits": 12, "misses": 3, "stale": 1, "sent": 900, "fetched": 300, "saved": 600_000_000}
        world.registry = {
            **NO_REGISTRY,
            "listen": ["tcp:5000"],
            "upstreams": [
                {"host": host, "alias": "", **counters}  # type: ignore[typeddict-item]
                for host in ("docker.io", "down.lan", "new.lan")
            ],
        }
        world.memory.answered("docker.io", None, Quota(76, 100, 21600.0))
        world.memory.answered("docker.io", "0123456789abcdef", Quota(3, 100, 21600.0))
        world.memory.unreachable("down.lan", ConnectionFailed(HOSTILE))
        world.repositories = [
            {
                "name": f"docker.io/library/{name}",
                "own": False,
                "policy": "public",
                "tags": 1,
                "manifests": 1,
                "size": 1_500_000,
                "used": f"2026-01-01T00:00:0{number}Z",
                "kept": [HOSTILE],
            }
            for number, name in enumerate("abcdefghij")
        ]
        page = await self.load(world)
        *rows, _ = re.findall(r'<li class="registry mirrored">.*?</li>', page, re.DOTALL)
        self.assertEqual(len(rows), 11)
        for number, *texts in (
            (0, "docker.io", "12 from the store · 3 fetched · 1 stale", "600 MB saved"),
            (0, ">quota low<", ">3 of 100 requests left<"),
            (1, "down.lan", ">down<", "&lt;img src=x onerror"),
            (3, "library/j", "1 tag · 1.50 MB · used ", "kept: &lt;img src=x onerror"),
        ):
            for text in texts:
                self.assertIn(text, rows[number])
        for row in rows[2:]:
            self.assertNotRegex(row, "requests left|>down<|>quota low<")
        self.assertIn(">Show 2 more<", page)

    async def test_engines(self) -> None:
        """
        Engines are shown with the images that they use, those of most containers first,
        and with their problems as text; without engines there is no section.
        """
        self.assertIn('id="engines-section" hidden', await self.load(World()))
        images = [
            EngineImageJSON(image=f"docker.io/library/{name}:1", layers=3, containers=number, by="")
            for number, name in enumerate("abcdefghij")
        ]
        figures = EngineFigures(snapshots=45, layers=30)
        broken = FakeEngine("k3s", started=fail(ConfigError(HOSTILE)))
        hidden = [LeftOutJSON(image=f"docker.io/library/{n}:1", reason=HOSTILE) for n in "xyz"]
        view = FakeEngine("", kind=CONTAINERS_STORAGE, left_out=hidden)
        world = World(engines=[FakeEngine("node", images=images, counted=figures), broken, view])
        await world.engines.start()
        page = await self.load(world)
        *rows, _ = re.findall(r'<li class="registry engine".*?</li>', page, re.DOTALL)
        self.assertEqual(len(rows), 11)
        for text in ("containerd node", "30 layers · 0 B · 45 snapshots", 'data-level="engine"'):
            self.assertIn(text, rows[0])
        for text in (">j:1<", "3 layers · 9 containers", 'data-level="image"'):
            self.assertIn(text, rows[1])
        for text in ("containerd k3s", ">failed<", "&lt;img src=x onerror"):
            self.assertIn(text, rows[9])
        for text in (">containers-storage<", "without x:1 and 2 other images: &lt;img src=x onerror"):
            self.assertIn(text, rows[10])
        self.assertIn("and 2 more images", page)

    async def test_fleet(self) -> None:
        """
        The nodes of a fleet are shown, this one first, with what each fetches for all and
        with what is wrong, as text; without a fleet there is no section.
        """
        self.assertIn('id="fleet-section" hidden', await self.load(World()))
        fleet = FakeFleet()
        fleet.state["state"], fleet.state["problem"], fleet.state["name"] = ALONE, HOSTILE, "node-b"
        fleet.state["takeovers"], fleet.state["left_out"] = 2, ["node-x"]
        fleet.state["troubles"] = [{"node": "node-d", "why": "it does not know this node"}]
        fleet.state["nodes"] = [
            {
                "name": f"node-{letter}",
                "url": f"http://10.0.0.{number}:5000",
                "version": HOSTILE,
                "since": "2026-01-01T00:00:00Z",
                "load": number,
                "saved": 1_000_000 * number,
            }
            for number, letter in enumerate("abcdefghijklmnopqrstuvw")
        ]
        source = "docker.io/library/golang"
        fleet.state["claims"] = [
            {"digest": f"sha256:{number:064x}", "size": 5_000_000, "node": "node-c", "source": source}
            for number in range(5)
        ]
        fleet.state["bytes"] = {"upstream": 1_000_000, "peer": 7_000_000, "store": 0, "sent": 3_000_000}
        page = await self.load(World(fleet=fleet))
        rows = re.findall(r'<li class="registry node".*?</li>', page, re.DOTALL)
        self.assertEqual(len(rows), 21)
        for text in (
            ">node-b<",
            ">this node<",
            "http://10.0.0.1:5000 · &lt;img src=x onerror",
            "1 transfer · 1.00 MB from peers<",
        ):
            self.assertIn(text, rows[0])
        for text in (">node-c<", "fetches docker.io/library/golang sha256:", "(5.00 MB)", "and 2 more"):
            self.assertIn(text, rows[1])
        for text in (
            "1.00 MB from registries · 7.00 MB from peers · 0 B from the store · 3.00 MB to peers",
            "253 MB from peers on all nodes",
            "2 downloads taken over",
            "and 3 more nodes",
            "left out for an hour: node-x; node-d: it does not know this node",
        ):
            self.assertIn(text, page)

    async def test_push(self) -> None:
        """
        A push is shown with its target and the layers that existed, were
        mounted and are sent; the rate of uploads is beside that of downloads.
        """
        world = World()
        target = "registry.example.com/me/alpine:3"
        digests = [f"sha256:{n:064x}" for n in range(3)]
        row = {"job": "j1", "diff_id": None, "size": 100, "unpacked": 0, "transfer": None, "why": ""}
        rows: list[dict[str, Any]] = [
            {**row, "index": 0, "digest": digests[0], "state": "exists", "bytes_done": 100},
            {**row, "index": 1, "digest": digests[1], "state": "mounted", "bytes_done": 100},
            {
                **row,
                "index": 2,
                "digest": digests[2],
                "state": "uploading",
                "bytes_done": 40,
                "transfer": "t1",
            },
        ]
        upload = {
            "id": "t1",
            "key": digests[2],
            "kind": "upload",
            "digest": digests[2],
            "state": "running",
            "watchers": 1,
            "bytes_done": 40,
            "bytes_total": 100,
            "rate": 1_500_000,
            "attempt": 1,
            "source": "registry.example.com/me/alpine",
            "why": "",
            "jobs": ["j1"],
        }
        copied = job(
            id="j2", kind="copy", state="done", finished="2026-01-02T03:04:09Z", target="quay.io/a/b:1"
        )
        back = job(id="j3", kind="push", target="docker.io/library/alpine:latest")
        world.jobs.present = [
            Event("job", job(id="j1", kind="push", target=target, bytes_done=240, bytes_total=300)),
            *(Event("layer", row) for row in rows),
            Event("transfer", upload),
            Event("job", copied),
            Event("job", back),
        ]
        world.jobs.more = {
            "slots": {"upload": {"limit": 5, "in_use": 2, "queued": 4}},
            "hosts": {"registry.example.com": {"bytes": 7_000_000, "sent": 3_400_000}},
            "bytes_sent": 3_400_000,
        }
        page = await self.load(world)
        for shown in (
            f'<span class="from">alpine:latest</span><span class="to"> → {target}</span>',
            '<span class="from">alpine:latest</span><span class="to"> → docker.io</span>',
            '<span class="from">alpine:latest</span><span class="to"> → quay.io/a/b:1</span>',
            '<span class="kind chip">push</span>',
            "copy · linux/amd64",
            'aria-valuetext="already there"',
            'aria-valuetext="mounted"',
            'aria-valuetext="sent 40 %"',
            "↑</span>",
            ">registry.example.com/me/alpine</bdi>",
            '<p class="figure" id="rate-in">0 B/s</p>',
            '<p class="figure" id="rate-out">1.50 MB/s</p>',
            '<p class="dim" id="sent">3.40 MB sent</p>',
            '<p class="figure" id="upload-slots">2 of 5</p>',
            '<span id="upload-queued">4 waiting</span>',
            "registry.example.com ↓&nbsp;7.00&nbsp;MB ↑&nbsp;3.40&nbsp;MB",
            "<title>↑ 1.50 MB/s · 2 jobs · xferd</title>",
        ):
            self.assertIn(shown, page)
        self.assertEqual(len(re.findall(r'<li class="transfer"[^>]*data-sending="true"', page)), 1)
        self.assertEqual(len(re.findall(r'<article class="card job"[^>]*data-sending="true"', page)), 2)

    async def test_import(self) -> None:
        """
        An import shows the received part of its archive until its layers are
        known.
        """
        world = World()
        known = {"kind": "import", "bytes_done": 0, "bytes_total": 0, "layers_total": 0, "platform": None}
        archive = {"received": 3_000_000, "size": 12_000_000}
        world.jobs.present = [
            Event("job", job(**known, id="j1", reference="", archive=archive)),
            Event("job", job(**known, id="j2", reference="", archive={"received": 7_000_000, "size": None})),
            Event("job", job(id="j3", kind="import", archive=archive)),
            Event("layer", {"job": "j3", "index": 0, "digest": "", "size": 100, "state": "unpacking"}),
        ]
        page = await self.load(world)
        for shown in (
            '<span class="from">an archive</span>',
            '<span class="from">alpine:latest</span>',
            '<span class="kind chip">import</span>',
            "25 %",
            "3.00 / 12.0 MB",
            "7.00 MB",
            "receiving its archive",
        ):
            self.assertIn(shown, page)
        self.assertEqual(len(re.findall(r'<span class="bar" data-state="downloading"', page)), 2)

    async def test_waits_for_its_client(self) -> None:
        """
        A job that waits for its client shows how long.
        """
        world = World()
        waiting = {"state": "queued", "why": "waits up to 60 s for its client"}
        reason = {
            "what": "client",
            "whom": "ci",
            "since": None,
            "until": "2026-01-02T03:04:05Z",
            "place": None,
        }
        world.jobs.present = [Event("job", job(**waiting, reason=reason))]
        page = await self.load(world)
        # That time has passed; a second is the least that is shown.
        self.assertIn("waits up to 1 s for its client", page)

    async def test_nothing(self) -> None:
        """
        An idle daemon shows the command to use.
        """
        page = await self.load(World())
        self.assertIn('<div id="no-jobs" class="empty">', page)
        self.assertIn("xferctl pull alpine", page)

    async def test_locked(self) -> None:
        """
        Without the token, the page prompts for it.
        """
        page = await self.load(World(trusted=False, token="s3cret"))
        self.assertIn('<form id="ask" class="notice">', page)
        self.assertNotIn('data-link="live"', page)
