"""
Tests for L{xferd.doctor.fleet}.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from time import time

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from xferd.config import Config
from xferd.doctor.fleet import check_fleet
from xferd.doctor.problem import Problem, Running
from xferd.fleet_settings import FleetSettings
from xferd.testing.certificates import Authority


class _Node(Resource):
    """
    Demands a proof, or does not.
    """

    isLeaf = True

    def __init__(self, demand: bytes) -> None:
        super().__init__()
        self._demand = demand

    def render_GET(self, request: Request) -> bytes:
        """
        Answer a peer.
        """
        request.setResponseCode(401)
        request.setHeader(b"WWW-Authenticate", self._demand)
        return b""


class FleetTests(TestCase):
    """
    The check of a node that answers.
    """

    def setUp(self) -> None:
        """
        Start it.
        """
        self.secret = Path(self.mktemp()).absolute()
        self.secret.write_bytes(b"0123456789abcdef")
        self.secret.chmod(0o600)
        fleet = FleetSettings(
            etcd=("http://127.0.0.1:2379",),
            url=self.listen(b'Xferd-Peer nonce="n"'),
            secret_file=str(self.secret),
            peer_networks=("127.0.0.0/8",),
        )
        self.running = Running(
            config=evolve(Config.default({}, 0), fleet=fleet),
            config_file="",
            reread=None,
            sockets=(),
            exposed=(),
            sandbox=None,
            is_root=True,
            skews={},
            now=0.0,
        )

    def listen(self, demand: bytes) -> str:
        """
        Serve, and return the URL.
        """
        site = Site(_Node(demand))
        port = IReactorTCP(reactor).listenTCP(0, site, interface="127.0.0.1")  # type: ignore[arg-type]
        self.addCleanup(port.stopListening)
        address = port.getHost()
        assert isinstance(address, IPv4Address)
        return f"http://127.0.0.1:{address.port}"

    async def problems(self, running: Running) -> list[Problem]:
        """
        Make the check, in a thread as the doctor does.
        """
        return await deferToThread(lambda: list(check_fleet(running)))

    def with_fleet(self, **changes: object) -> Running:
        """
        The state with other settings.
        """
        fleet = evolve(self.running.config.fleet, **changes)  # type: ignore[arg-type]
        return evolve(self.running, config=evolve(self.running.config, fleet=fleet))

    async def test_good(self) -> None:
        """
        There is no problem, and none without a fleet.
        """
        self.assertEqual(await self.problems(self.running), [])
        alone = evolve(self.running, config=Config.default({}, 0), fleet="lost")
        self.assertEqual(await self.problems(alone), [])

    async def test_secret(self) -> None:
        """
        A secret that cannot be used is one problem, not two.
        """
        self.secret.chmod(0o644)
        (problem,) = await self.problems(evolve(self.running, fleet="the secret is open"))
        self.assertIn("is open to other users: run chmod 0600", problem.message)

    async def test_files(self) -> None:
        """
        Keys that others can read are a problem.
        """
        key = Path(self.mktemp()).absolute()
        key.write_bytes(b"key")
        key.chmod(0o644)
        running = evolve(self.with_fleet(peer_certificate=self.certificate(), peer_key=str(key)), now=time())
        (problem,) = await self.problems(running)
        self.assertIn(str(key), problem.message)

    async def test_certificate(self) -> None:
        """
        A certificate that has expired, or cannot be read, is a problem.
        """
        for path, words in ((self.certificate(expired=True), "expired on"), ("/nonexistent", "cannot read")):
            running = evolve(self.with_fleet(etcd_certificate=path, etcd_key=str(self.secret)), now=time())
            (problem,) = await self.problems(running)
            self.assertIn(path, problem.message)
            self.assertIn(words, problem.message)

    def certificate(self, *, expired: bool = False) -> str:
        """
        Write a certificate of a month, or one that has expired.
        """
        path = Path(self.mktemp()).absolute()
        path.write_bytes(Authority(lifetime=timedelta(days=30)).issue(expired=expired)[0])
        return str(path)

    async def test_etcd(self) -> None:
        """
        An etcd that does not answer is a problem.
        """
        (problem,) = await self.problems(evolve(self.running, fleet="etcd did not answer"))
        self.assertEqual(problem.message, "this node works without its fleet: etcd did not answer")

    async def test_url(self) -> None:
        """
        So is a URL at which nothing answers, or something else.
        """
        (problem,) = await self.problems(self.with_fleet(url="http://127.0.0.1:1"))
        self.assertIn("this node does not answer at http://127.0.0.1:1: ", problem.message)
        (problem,) = await self.problems(self.with_fleet(url="https://127.0.0.1:1"))
        self.assertIn("this node does not answer at https://127.0.0.1:1: ", problem.message)
        other = self.listen(b"Basic realm=x")
        (problem,) = await self.problems(self.with_fleet(url=other))
        self.assertEqual(problem.message, f"what answers at {other} is not a node of a fleet")
