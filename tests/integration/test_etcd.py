"""
The coordination of a fleet by real etcd.
"""

from __future__ import annotations

from random import Random
from typing import Any
from urllib.parse import urlsplit

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.fleet.conformance import CoordinationConformance
from tests.integration.etcds import Etcd, Line
from xferd.fleet.etcd.client import EtcdClient
from xferd.fleet.etcd.coordination import EtcdCoordination
from xferd.fleet.etcd.settings import EtcdSettings
from xferd.interfaces.fleet import Node, Peer


class EtcdCase(TestCase):
    """
    Nodes of a fleet, each with a line of its own to each member of etcd.

    @ivar members: the members.
    """

    timeout = 110
    lease = 3.0
    members: list[Etcd]
    options: dict[str, str]

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start etcd.
        """
        self.reactor: Any = installed
        self.options = {}
        self.lines: dict[Any, list[Line]] = {}
        self.members = []
        self.addCleanup(lambda: Deferred.fromCoroutine(self.end()))
        await self.start_etcd()

    async def start_etcd(self) -> None:
        """
        Start one member.
        """
        member = Etcd(self.reactor, self.mktemp())
        self.members = [member]
        await member.start()

    async def end(self) -> None:
        """
        Stop everything.
        """
        for node, lines in self.lines.items():
            await node.stop()
            for line in lines:
                await line.close()
        for member in self.members:
            await member.kill()

    def make(self, name: str, url: str = "") -> Any:
        """
        Make a node.
        """
        lines = [Line(self.reactor, member.port) for member in self.members]
        schemes = [urlsplit(member.url).scheme for member in self.members]
        urls = tuple(f"{s}://127.0.0.1:{line.own}" for s, line in zip(schemes, lines, strict=True))
        client = EtcdClient(self.reactor, EtcdSettings.read(urls, **self.options))
        peer = Peer(name, url or f"http://{name}.example:5000")
        node = EtcdCoordination(
            self.reactor, client, Node(peer, "1.0", 1e9), Random(1), lease_seconds=int(self.lease)
        )
        self.lines[node] = lines
        return node

    def cut(self, node: Any) -> None:
        """
        Cut a node's lines.
        """
        for line in self.lines[node]:
            line.cut()

    def heal(self, node: Any) -> None:
        """
        Mend them.
        """
        for line in self.lines[node]:
            line.heal()

    def lose(self) -> Deferred[None]:
        """
        Kill etcd.
        """
        return Deferred.fromCoroutine(self._lose())

    async def _lose(self) -> None:
        for member in self.members:
            await member.kill()

    def regain(self) -> Deferred[None]:
        """
        Start etcd again without its data.
        """
        return Deferred.fromCoroutine(self._regain())

    async def _regain(self) -> None:
        for member in self.members:
            member.forget()
        starting = [Deferred.fromCoroutine(each.start(self.members)) for each in self.members]
        await gatherResults(starting)

    def passes(self, seconds: float) -> Deferred[None]:
        """
        Wait.
        """
        return deferLater(self.reactor, seconds)


class OneMemberTests(CoordinationConformance, EtcdCase):
    """
    etcd with one member.
    """
