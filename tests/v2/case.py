"""
A registry over the jobs on fakes, and a client of it in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.address import IPv4Address

from tests.jobs.case import HOST, JobsCase
from tests.web.connection import Answer, Connection
from xferd.credentials import Credentials
from xferd.interfaces.engines import ILateAnswers
from xferd.interfaces.registry import IRegistries
from xferd.jobs.local.manifests import LocalManifests
from xferd.jobs.local.registries import LocalRegistries
from xferd.store.threads import Threads
from xferd.testing.fake_keychain import FakeKeychain
from xferd.testing.inline_threads import InlinePool, InlineReactor
from xferd.v2.app import Registry
from xferd.v2.rights.rights import Rights
from xferd.v2.settings import RegistrySettings, UpstreamSettings
from xferd.web.peer_trust import Trust

HERE = IPv4Address("TCP", "127.0.0.1", 5000)
PEER = IPv4Address("TCP", "127.0.0.1", 40000)


class RegistryCase(JobsCase):
    """
    A registry whose default upstream is the first registry of the jobs.
    """

    connections = 1000
    late_answers: ILateAnswers | None = None
    settings = RegistrySettings(default=HOST, upstreams={HOST: UpstreamSettings(alias="up")})

    def setUp(self) -> None:
        """
        Make the registry.
        """
        super().setUp()
        reactor: Any = InlineReactor()
        self.keychain_credentials: Credentials | None = None
        self.keychain = FakeKeychain(lambda: self.keychain_credentials)
        self.rights = Rights(
            self.settings,
            self.registries,
            self.keychain,
            self.store.catalog,
            threads=Threads(reactor, InlinePool(), "closed"),
            clock=self.clock,
            wall_clock=self.wall_clock,
        )
        self.rights.start()
        self.v2 = Registry(
            store=self.store,
            mirror=self.jobs.mirror,
            rights=self.rights,
            registries=self.local,
            via="1234",
            manifests=self.manifests,
            settings=self.settings,
            clock=self.clock,
            late_answers=self.late_answers,
            connections=lambda: self.connections,
            check_open=self.jobs.steering.check_open,
        )

    def all_registries(self) -> IRegistries:
        """
        The registries in memory, and xferd's own repositories.
        """
        self.manifests = LocalManifests(self.store, self.wall_clock)
        self.local = LocalRegistries(
            self.registries, self.store, self.manifests, lambda: self.settings.local, self.clock
        )
        return self.local

    def connect(self, trust: Trust = Trust.ALL, peer: IPv4Address = PEER) -> Connection:
        """
        Open a connection.

        @param trust: L{Trust.ALL} for a client of root's, L{Trust.NONE} for a
            stranger.
        """
        connection = Connection(self.v2.site(trust), peer, HERE)
        self.addCleanup(connection.lose)
        return connection

    def request(
        self,
        path: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        trust: Trust = Trust.ALL,
    ) -> Answer:
        """
        Make a request, and return its whole answer.
        """
        connection = self.connect(trust)
        fields = {"Host": "localhost:5000", **(headers or {})}
        if body:
            fields.setdefault("Content-Length", str(len(body)))
        connection.send(method, path, fields, body)
        self.settle()
        return connection.answer()
