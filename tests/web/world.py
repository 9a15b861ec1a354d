"""
The API with fakes of the packages below it, and its clients.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.task import Clock

from tests.web.conformance import conforms
from tests.web.connection import Answer, Connection
from tests.web.fake_store import FakeStore
from tests.web.fakes import FakeJobs
from xferd.access_tokens import AccessTokens, Right
from xferd.engines.engines import Engines
from xferd.engines.former import FormerEngines
from xferd.hosts.memory import HostMemory
from xferd.interfaces.engines import IEngine
from xferd.interfaces.fleet_status import IFleet
from xferd.interfaces.job_json import NO_REGISTRY, RegistryJSON, RepositoryJSON
from xferd.testing.fake_journal import FakeJournal
from xferd.testing.fakes import FakeRegistries, FakeWallClock
from xferd.testing.gate import Gate
from xferd.web.app import Web
from xferd.web.peer_trust import Trust


class World:
    """
    A L{Web} with fakes.
    """

    TCP = IPv4Address("TCP", "127.0.0.1", 9337)
    PEER = IPv4Address("TCP", "127.0.0.1", 40000)
    SOCKET = UNIXAddress(b"/run/xferd.sock")

    def __init__(
        self,
        *,
        trusted: bool = True,
        token: str | None = None,
        hosts: Sequence[str] = (),
        journal: FakeJournal | None = None,
        public_metrics: bool = False,
        connections: int = 4096,
        engines: Sequence[IEngine] = (),
        former: FormerEngines | None = None,
        fleet: IFleet | None = None,
    ) -> None:
        """
        @param connections: how many connections may be open.
        @param journal: the journal of an earlier daemon.
        @param engines: the engines that are served.
        @param former: those that the settings do not name any more.
        @param fleet: the fleet, if there is one.
        """
        self.jobs = FakeJobs()
        self.registry: RegistryJSON = NO_REGISTRY
        self.repositories: list[RepositoryJSON] = []
        self.clock = Clock()
        self.wall_clock = FakeWallClock(self.clock)
        gate = Gate(self.clock)
        if journal is None:
            journal = FakeJournal(gate)
        else:
            journal._gate = gate
        self.store = FakeStore(journal)
        self.registries = FakeRegistries(self.clock)
        self.memory = HostMemory(self.clock, wall_clock=self.wall_clock)
        self.engines = Engines(engines, former)
        self.tokens = AccessTokens([(token, Right.ACT)] if token else [])
        self.authentications: dict[tuple[str, str], int] = {}
        self.web = Web(
            jobs=self.jobs,
            store=self.store,
            registries=self.registries,
            memory=self.memory,
            engines=self.engines,
            clock=self.clock,
            wall_clock=self.wall_clock,
            version="1.2.3",
            started="2026-01-02T00:00:00Z",
            tokens=self.tokens,
            hosts=frozenset(hosts),
            public_metrics=public_metrics,
            fleet=fleet,
            registry=lambda: self.registry,
            repositories=lambda: self.repositories,
            connections=lambda: connections,
            authentications=lambda: self.authentications,
        )
        self.web.start()  # type: ignore[unused-awaitable]
        self.clock.advance(0)
        self.site = self.web.site(Trust.ALL if trusted else Trust.NONE)
        self.connections: list[Connection] = []

    def connect(self, *, unix: bool = False, peer: str = "127.0.0.1") -> Connection:
        """
        Open a connection.

        @param peer: the client's address, unless it is C{unix}.
        """
        connection = (
            Connection(self.site, UNIXAddress(None), self.SOCKET)
            if unix
            else Connection(self.site, IPv4Address("TCP", peer, 40000), self.TCP)
        )
        self.connections.append(connection)
        return connection

    def close(self) -> None:
        """
        Close every connection from the client's side.
        """
        for connection in self.connections:
            connection.lose()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str | None] | None = None,
        *,
        unix: bool = False,
        documented: bool = True,
    ) -> Answer:
        """
        Send one request and read its response, which has to conform to the
        OpenAPI document.

        @param headers: beside the default ones; None removes one.
        @param documented: false for a response that only a fake causes.
        """
        fields: dict[str, str | None] = {"Host": "localhost:9337"}
        if body is not None:
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        fields |= headers or {}
        connection = self.connect(unix=unix)
        connection.send(method, path, {k: v for k, v in fields.items() if v is not None}, body or b"")
        # The journal answers in another reactor turn.
        self.clock.advance(0)
        answer = connection.answer()
        if documented:
            conforms(method, path, answer.status, dict(answer.headers), answer.body)
        return answer

    def post(self, value: object, **headers: str | None) -> Answer:
        """
        Request a job.
        """
        return self.ask("POST", "/api/v1/jobs", json.dumps(value).encode(), headers)
