"""
Container tools that pull through the daemon's registry while its upstream or the daemon itself
dies.  In each test, all tools pull one image at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from tests.integration.engines import DEBIAN, Docker, Engine
from tests.integration.other_engines import OTHERS, ByName, Crane, found
from tests.integration.peers import PeerFailed
from tests.integration.tap import Tap
from tests.integration.test_v2_clients import MirrorCase, reactor
from xferd.testing.faults import Stall
from xferd.testing.images import sample_image
from xferd.testing.registry import Registry

SIZE = 1024 * 1024
"""Bytes of the image's only layer."""

CHUNK = 256 * 1024
"""Bytes that an upstream may send twice when the daemon is killed."""

SETTINGS = """
[limits]
ranges = 1
[timeouts]
silence = 150
floor = 1
"""
"""The upstream is silent until all tools are there."""


@frozen
class Tool:
    """
    One tool that pulls.

    @ivar reference: the image's name for it.
    @ivar tap: what records its requests.
    """

    engine: Engine
    reference: str
    tap: Tap

    @property
    def name(self) -> str:
        """
        The tool's name.
        """
        return type(self.engine).__name__

    async def pull(self) -> str:
        """
        Pull the image.

        @return: its content, or the error.
        """
        try:
            return await self.engine.pull(self.reference)
        except PeerFailed as e:
            return f"failed: {e}"


class FaultCase(MirrorCase):
    """
    A registry that the daemon reaches at an address that can fail, and its clients at another one.
    """

    settings = SETTINGS

    async def start_upstreams(self) -> None:
        """
        Serve one registry at two addresses.
        """
        self.origin = Registry(reactor)
        self.failing = Registry(reactor, storage=self.origin.storage)
        self.image = sample_image(1, SIZE, "layer", compression="tar")
        self.layer = self.image.layers[0].blob
        for registry in (self.origin, self.failing):
            await registry.listen(reactor)
            self.addCleanup(registry.stop)
        for repository in ("library/app", "team/app"):
            self.origin.add(self.image, repository, "1")
        self.lan = self.origin.host
        for host in ("docker.io", "other.test", self.lan):
            self.lead(host, self.failing.host)

    async def tools(self, *, allow: bool = False) -> Sequence[Tool]:
        """
        Start all tools.

        @param allow: whether they may use the registry itself.  Otherwise they cannot reach it.
        """
        tools: list[Tool] = []
        for kind in (*DEBIAN, *filter(found, OTHERS)):
            tap = self.tap()
            host = self.lan if allow else "other.test"
            reference = "docker.io/library/app:1" if kind.hub_alone else f"{host}/team/app:1"
            if issubclass(kind, ByName):
                reference = reference.replace(self.lan, "lan")
            place = f"e{len(tools)}"
            engine = await self.engine(kind, place, tap=tap, allow=self.lan if allow else "")
            tools.append(Tool(engine, reference, tap))
        return tools

    async def half(self, tools: Sequence[Tool]) -> Deferred[list[str]]:
        """
        Let all tools pull until each has some of the layer, and the upstream has sent half of it.

        @return: waits for all tools, and has what each of them pulled.
        """
        self.failing.faults.plant(Stall(SIZE // 2), self.layer.digest, method="GET")
        pulls = [Deferred.fromCoroutine(tool.pull()) for tool in tools]
        for tool, pull in zip(tools, pulls, strict=True):
            while not self.is_half(tool):
                self.assertFalse(pull.called, (tool.name, pull, tool.tap.exchanges(1)))
                await deferLater(reactor, 0.1)
        done: Deferred[list[str]] = DeferredList(pulls).addCallback(
            lambda results: [text for _, text in results]
        )
        return done

    def is_half(self, tool: Tool) -> bool:
        """
        Whether the break of the layer's response is all that a tool would notice.
        """
        # docker requests the config at the same time, others before or after the layer.
        config = tool.tap.exchanges(self.image.config.digest)
        done = all(each.whole for each in config) and (bool(config) or not isinstance(tool.engine, Docker))
        return done and tool.tap.received(self.layer.digest) >= SIZE // 4

    def assert_pulled(self, tools: Sequence[Tool], pulled: Sequence[str]) -> None:
        """
        All tools have the image.
        """
        wanted = {tool.name: tool.engine.content(self.image) for tool in tools}
        self.assertEqual({tool.name: text for tool, text in zip(tools, pulled, strict=True)}, wanted)

    @property
    def port(self) -> int:
        """
        The port of the address that fails.
        """
        return int(self.failing.host.rpartition(":")[2])


class AwayTests(FaultCase):
    """
    The upstream is away for some time.
    """

    async def test_away(self) -> None:
        """
        If it is killed at half of a layer and comes back after three seconds, no tool notices: each has
        made one request for the layer, whose response was whole.
        """
        tools = await self.tools()
        pulling = await self.half(tools)
        port = self.port
        await self.failing.stop()
        await deferLater(reactor, 3)
        await self.failing.listen(reactor, port)
        self.assert_pulled(tools, await pulling)
        for tool in tools:
            requests = [
                (e.status, e.whole) for e in tool.tap.exchanges(self.layer.digest) if e.method == "GET"
            ]
            self.assertEqual(requests, [(200, True)], tool.name)
        self.assertEqual(self.origin.bytes_sent, 0)
        self.assertLess(self.failing.bytes_sent, SIZE + CHUNK)


class GoneTests(FaultCase):
    """
    The upstream is gone for the daemon; the tools reach it.
    """

    settings = f"{SETTINGS}[retry]\nattempts = 2\nbase = 0.2\n"

    async def test_before(self) -> None:
        """
        If it was gone before, the mirror answers with an error, and each tool that knows the
        registry itself continues there; the others fail with the reason.
        """
        await self.failing.stop()
        tools = await self.tools(allow=True)
        pulled = await DeferredList([Deferred.fromCoroutine(tool.pull()) for tool in tools])
        for tool, (_, text) in zip(tools, pulled, strict=True):
            self.assertIn(502, [e.status for e in tool.tap.exchanges(1)], tool.name)
            if tool.engine.falls_back:
                self.assertEqual(text, tool.engine.content(self.image), tool.name)
            else:
                self.assertIn("failed: ", text, tool.name)
            if isinstance(tool.engine, Crane):
                # The others ask by HEAD, whose answer has no text.
                self.assertIn(f"no answer from {self.failing.host}", text)
        output, errors, code = await self.daemon.try_ctl(
            *("mirror", "check", "containerd", "--image", f"{self.lan}/team/app:1")
        )
        self.assertEqual(code, 1, output)
        self.assertIn("containerd cannot use the mirror", errors)

    async def test_half(self) -> None:
        """
        If it goes at half of a layer, containerd and its relatives get the rest from the
        registry itself, docker gets the image there, and the others fail.
        """
        tools = await self.tools(allow=True)
        pulling = await self.half(tools)
        await self.failing.stop()
        for tool, text in zip(tools, await pulling, strict=True):
            if tool.engine.replaces:
                self.assertEqual(text, tool.engine.content(self.image), tool.name)
            else:
                self.assertIn("failed: ", text, tool.name)


class KilledTests(FaultCase):
    """
    The daemon is killed.
    """

    async def test_killed(self) -> None:
        """
        After C{kill -9} at half of a layer, docker's own retry completes its pull; the other tools complete
        theirs by themselves or when they are started again.  The upstream has sent at most a chunk
        twice.
        """
        tools = await self.tools()
        pulling = await self.half(tools)
        for tool in tools:
            await tool.tap.stop()
        await self.daemon.stop("KILL")
        self.daemon = await self.run_daemon()
        for tool in tools:
            tool.tap.listen()
        pulled = []
        for tool, text in zip(tools, await pulling, strict=True):
            failed = text.startswith("failed: ")
            self.assertFalse(failed and type(tool.engine) is Docker, text)
            pulled.append(await tool.pull() if failed else text)
        self.assert_pulled(tools, pulled)
        self.assertEqual(self.origin.bytes_sent, 0)
        self.assertLess(self.failing.bytes_sent, SIZE + CHUNK)
