"""
Tests for a fleet whose nodes know one another by certificates, with real TLS.
"""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.integration.etcds import Etcd
from tests.integration.peers import DockerRegistry, push, require
from tests.integration.places import free_port
from tests.integration.programs import Xferd
from xferd.errors import SourceError
from xferd.fleet.fleet import KNOWN_TO_ALL
from xferd.fleet.peer_client import PeerClient
from xferd.fleet.peer_requests import PeerRequests
from xferd.fleet.proofs import Prover, Secrets
from xferd.interfaces.fleet import Peer
from xferd.registry.transport.networks import Networks
from xferd.server_certificate import CertificateFiles, ServerCertificate
from xferd.testing.certificates import Authority
from xferd.testing.images import sample_image

reactor: Any = installed


class CertificatesCase(TestCase):
    """
    An authority, and a directory for files.
    """

    def setUp(self) -> None:
        """
        Make them.
        """
        self.place = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, self.place)
        self.authority = Authority(lifetime=timedelta(days=60))
        self.ca = self.write("ca.pem", self.authority.pem)

    def write(self, name: str, content: bytes) -> str:
        """
        Write a file.
        """
        path = Path(self.place, name)
        path.write_bytes(content)
        path.chmod(0o600)
        return str(path)

    def client(
        self, pair: tuple[bytes, bytes] | None, *, certified: bool = True, name: str = "n9"
    ) -> PeerClient:
        """
        A node that asks with a certificate.
        """
        prover = Prover(Secrets(KNOWN_TO_ALL), Peer("n9", "https://127.0.0.1:1"), reactor.seconds)
        requests = PeerRequests(
            prover,
            Networks.parse(["127.0.0.0/8"]),
            clock=reactor,
            ca=(self.authority.pem,),
            client=pair,
            certified=certified,
        )
        client = PeerClient(requests)
        self.addCleanup(client.close)
        return client

    async def refused(self, client: PeerClient, url: str, name: str = "n1") -> str:
        """
        The reason why a request fails.
        """
        try:
            await client.prefetch(Peer(name, url), "docker.io/library/a", None)
        except SourceError as e:
            return str(e)
        raise AssertionError("the request succeeds")


class DaemonTests(CertificatesCase):
    """
    Daemons with C{peer_listen} and without a secret.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start etcd and the registry, and push an image.
        """
        require("etcd")
        super().setUp()
        self.etcd = Etcd(reactor, f"{self.place}/etcd")
        self.addCleanup(self.etcd.kill)
        await self.etcd.start()
        self.registry = DockerRegistry(reactor, self.mktemp())
        self.addCleanup(self.registry.stop)
        await self.registry.start()
        self.image = sample_image(1, 3_000_000)
        self.reference = f"{self.registry.host}/app:1"
        await push(reactor, self.image, self.reference, self.mktemp())
        self.ports: list[tuple[int, int]] = []

    async def start(self, pair: tuple[bytes, bytes] | None = None) -> Xferd:
        """
        Start one more node.

        @param pair: its certificate and key.
        """
        number = len(self.ports) + 1
        registry, port = free_port(), free_port()
        self.ports.append((registry, port))
        certificate, key = pair or self.authority.issue("127.0.0.1")
        place = f"{self.place}/n{number}"
        os.mkdir(place)
        config = self.write(
            f"n{number}/xferd.toml",
            (
                f'[registry]\nlisten = ["tcp:{registry}:interface=127.0.0.1"]\n'
                f'default = "{self.registry.host}"\n'
                f'[registry.upstreams."{self.registry.host}"]\nalias = "up"\n'
                f'[fleet]\netcd = ["{self.etcd.url}"]\nname = "n{number}"\nurl = "https://127.0.0.1:{port}"\n'
                f'peer_networks = ["127.0.0.0/8"]\npeer_listen = "ssl:{port}:interface=127.0.0.1"\n'
                f'peer_ca = "{self.ca}"\n'
                f'peer_certificate = "{self.write(f"n{number}/cert.pem", certificate)}"\n'
                f'peer_key = "{self.write(f"n{number}/key.pem", key)}"\n'
            ).encode(),
        )
        daemon = Xferd(reactor, place, "--config", config)
        self.addCleanup(daemon.stop)
        await daemon.start()
        return daemon

    async def logged(self, node: Xferd, text: str) -> None:
        """
        Wait until a node has logged something.
        """
        deadline = reactor.seconds() + 60.0
        while text not in node.output:
            self.assertLess(reactor.seconds(), deadline, node.output)
            await deferLater(reactor, 0.1)

    async def test_shared(self) -> None:
        """
        Nodes send one another blobs, and prefetch at one another's word.  The doctor has
        nothing to say.  After SIGHUP, a node uses its new certificate.
        """
        one, two = await self.start(), await self.start()
        await one.ctl("pull", self.reference)
        await deferLater(reactor, 3.0)
        await two.ctl("pull", self.reference)
        (fleet,) = await two.show("fleet")
        size = len(self.image.layers[0].blob.read())
        self.assertEqual((fleet["bytes"]["peer"], fleet["bytes"]["upstream"]), (size, 0))
        _, errors, _ = await two.try_ctl("prefetch", "--nodes", "2", self.reference)
        self.assertIn("also fetched by n1\n", errors)
        doctor, _, _ = await one.try_ctl("doctor")
        self.assertRegex(doctor, "fleet: +ok")
        certificate, key = Authority().issue("127.0.0.1")
        for name, content in (("cert", certificate), ("key", key)):
            self.write(f"n2/{name}.pem", content)
        two.signal("HUP")
        await self.logged(two, "reloaded the settings")
        _, errors, _ = await one.try_ctl("prefetch", "--nodes", "2", self.reference)
        self.assertNotIn("also fetched", errors)
        await self.logged(one, "the TLS certificate of 127.0.0.1")

    async def test_clients(self) -> None:
        """
        A peer with a certificate that is missing, of another authority, expired or for
        another host is refused, with one sentence on both sides.  So is one at the
        listener for all clients.
        """
        one = await self.start()
        registry, port = self.ports[0]
        url = f"https://127.0.0.1:{port}"
        other, old = Authority("another authority"), self.authority.issue("127.0.0.1", expired=True)
        for pair, sentence, logged in (
            (None, "it wants one", "it shows no certificate"),
            (other.issue("127.0.0.1"), "another authority has signed it", "another authority has signed"),
            (Authority().issue("127.0.0.1"), "another authority has signed it", "another authority has"),
            (old, "it has expired", "its certificate has expired"),
        ):
            problem = await self.refused(self.client(pair), url)
            self.assertIn(f"refuses the certificate of this daemon: {sentence}", problem)
            await self.logged(one, f"a peer at 127.0.0.1 is refused: {logged}")
        elsewhere = self.client(self.authority.issue("127.0.0.8"))
        problem = await self.refused(elsewhere, url)
        self.assertIn("n1 refuses this node: peer_certificate must be for the host in url", problem)
        await self.logged(one, "the certificate of its sender is not for the host of the sender's URL")
        right = self.authority.issue("127.0.0.1")
        plain = self.client(right, certified=False)
        self.assertIn("n1 refuses this node", await self.refused(plain, f"http://127.0.0.1:{registry}"))
        await self.logged(one, "it did not come to peer_listen, with a certificate")
        answer = await self.client(right).prefetch(Peer("n1", url), self.reference, None)
        self.assertTrue(answer)

    async def test_own(self) -> None:
        """
        A node whose own certificate is for another host says so, and works alone.
        """
        one = await self.start(self.authority.issue("127.0.0.8"))
        await one.ctl("pull", self.reference)
        (fleet,) = await one.show("fleet")
        self.assertEqual(fleet["state"], "alone")
        self.assertIn("is not for 127.0.0.1, the host in fleet.url", fleet["problem"])


class ServerTests(CertificatesCase):
    """
    What etcd leads to, in the place of a peer.
    """

    def listen(self, pair: tuple[bytes, bytes], name: str) -> str:
        """
        Serve with a certificate, and return the URL.
        """
        files = CertificateFiles(self.write(f"{name}.key", pair[1]), self.write(f"{name}.pem", pair[0]))
        factory = TLSMemoryBIOFactory(ServerCertificate(files), False, Site(Resource()))
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"https://127.0.0.1:{port.getHost().port}"

    async def test_refused(self) -> None:
        """
        A server without the right certificate gets no request, and no proof; each gives
        one sentence.
        """
        client = self.client(self.authority.issue("127.0.0.1"))
        for name, pair, sentence in (
            ("other", Authority().issue("127.0.0.1"), "is not signed by a trusted authority"),
            ("expired", self.authority.issue("127.0.0.1", expired=True), "or is not valid now"),
            ("named", self.authority.issue("peer.example"), "is for another host"),
        ):
            problem = await self.refused(client, self.listen(pair, name), name)
            self.assertIn("the TLS certificate of 127.0.0.1", problem)
            self.assertIn(sentence, problem)
        url = self.listen(self.authority.issue("127.0.0.1"), "none").replace("https", "http")
        self.assertIn("is not https, and peers are known by certificates", await self.refused(client, url))
