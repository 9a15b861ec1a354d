"""
Tests for L{xferd.fleet.fleet}.
"""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import run
from typing import Any, cast

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.web.fakes import FakeJobs
from xferd.config import Config
from xferd.errors import BadInput, BadReference, ConfigError
from xferd.fleet.fleet import ISOLATED, Fleet, FleetContext, coordinate, shareable
from xferd.fleet.memory import MemoryCluster, MemoryCoordination
from xferd.fleet_settings import FleetSettings
from xferd.hosts.memory import HostMemory
from xferd.interfaces.catalog import CatalogManifest
from xferd.interfaces.fleet import MIN_SHARED, Node, Peer
from xferd.interfaces.fleet_status import ALONE, SHARING, FleetJSON, IFleet
from xferd.interfaces.peers import IHeldBlobs
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest, Repository
from xferd.oci import Descriptor
from xferd.service import Daemon
from xferd.testing.certificates import Authority
from xferd.testing.fake_keychain import FakeKeychain
from xferd.testing.fakes import FakeStore, FakeWallClock

LARGE = Digest.of(b"large")


class FleetCase(SynchronousTestCase):
    """
    A node, and another one of its fleet.
    """

    def setUp(self) -> None:
        """
        Make the other one.
        """
        self.reactor: Any = MemoryReactorClock()
        self.cluster = MemoryCluster(self.reactor)
        self.other = self.cluster.join("other", "http://10.0.0.2:5000", version="2")
        self.other.start()
        self.secret = Path(self.mktemp())
        self.secret.write_bytes(b"0123456789abcdef")
        self.secret.chmod(0o600)
        self.settings = FleetSettings(
            etcd=("http://127.0.0.1:2379",),
            name="node",
            url="http://10.0.0.1:5000",
            secret_file=str(self.secret),
            peer_networks=("10.0.0.0/24",),
        )
        self.jobs = FakeJobs()
        self.store = FakeStore(self.reactor)
        self.members: list[MemoryCoordination] = []

    def coordinate(self, _: FleetSettings, __: IReactorTime, node: Node) -> MemoryCoordination:
        """
        Make the coordination of the node.
        """
        member = self.cluster.join(node.peer.name, node.peer.url, version=node.version)
        self.members.append(member)
        return member

    def make(self, *, isolated: bool = False) -> Fleet:
        """
        Make the fleet of the node, and connect it.
        """
        wall_clock = FakeWallClock(self.reactor)
        memory = HostMemory(self.reactor, wall_clock=wall_clock)
        context = FleetContext(self.reactor, wall_clock, "1", FakeKeychain(), memory, isolated)
        self.fleet = Fleet(self.settings, context, self.coordinate)
        self.door = self.fleet.connect(self.jobs, cast("IHeldBlobs", None))
        return self.fleet

    def start(self, *, isolated: bool = False) -> Fleet:
        """
        Start it as well.
        """
        fleet = self.make(isolated=isolated)
        fleet.start(self.store)
        self.reactor.advance(2)
        return fleet

    def describe(self) -> FleetJSON:
        """
        What it reports.
        """
        asking = self.fleet.describe()
        self.reactor.advance(3)
        return self.successResultOf(asking)

    def stop(self) -> None:
        """
        Stop it.
        """
        stopping = Deferred.fromCoroutine(self.fleet.stop())
        self.reactor.advance(3)
        self.successResultOf(stopping)


class FleetTests(FleetCase):
    """
    The life of a fleet.
    """

    def test_describe(self) -> None:
        """
        The nodes are listed, with what they fetch for all, and the bytes by source.
        """
        verifyObject(IFleet, self.start())
        self.other.claim(LARGE, 5_000_000, "docker.io/library/golang")  # type: ignore[unused-awaitable]
        self.other.report_load(3, 7)
        self.reactor.advance(61)
        found = self.describe()
        self.assertEqual((found["state"], found["problem"], found["name"]), (SHARING, None, "node"))
        self.assertEqual([node["name"] for node in found["nodes"]], ["node", "other"])
        self.assertEqual((found["nodes"][1]["load"], found["nodes"][1]["saved"]), (3, 7))
        claim = {
            "digest": str(LARGE),
            "size": 5_000_000,
            "node": "other",
            "source": "docker.io/library/golang",
        }
        self.assertEqual(found["claims"], [claim])
        self.assertEqual(found["bytes"], {"upstream": 1000, "peer": 0, "store": 0, "sent": 0})
        self.assertTrue(self.fleet.counts().available)
        self.assertEqual(self.fleet.trouble, "")

    def test_lost(self) -> None:
        """
        Without coordination the node is alone, says why, and is back by itself.
        """
        self.start()
        self.cluster.lose()
        self.reactor.advance(3)
        found = self.describe()
        self.assertEqual((found["state"], found["nodes"]), (ALONE, []))
        self.assertTrue(found["problem"])
        self.assertEqual(self.fleet.trouble, found["problem"])
        self.assertFalse(self.fleet.counts().available)
        self.cluster.regain()
        self.reactor.advance(5)
        self.assertEqual(self.describe()["state"], SHARING)

    def test_announced(self) -> None:
        """
        What is in the store is known to others once the node has started, and vanishes when
        it stops.
        """
        name = Repository("docker.io", "library/app")
        put = self.store.blobs.put(LARGE, b"large")
        self.reactor.advance(1)
        self.successResultOf(put)
        layer = Descriptor("application/x-layer", LARGE, MIN_SHARED)
        missing = Descriptor("application/x-layer", Digest.of(b"missing"), MIN_SHARED)
        small = Descriptor("application/x-layer", Digest.of(b"small"), 5)
        manifest = Descriptor(OCI_MANIFEST, Digest.of(b"manifest"), 300)
        entry = CatalogManifest(manifest, (layer, missing, small))
        keeping = self.store.catalog.put_manifest(name, entry, ["1"], 0.0)
        self.reactor.advance(1)
        self.successResultOf(keeping)
        self.assertEqual(shareable(self.store), {LARGE})
        self.start()
        looking = self.other.look([LARGE])
        self.reactor.advance(1)
        (peer,) = self.successResultOf(looking)[LARGE].holders
        self.assertEqual((peer.name, peer.url), ("node", "http://10.0.0.1:5000"))
        self.stop()
        looking = self.other.look([LARGE])
        self.reactor.advance(1)
        self.assertEqual(self.successResultOf(looking)[LARGE].holders, ())

    def test_prefetch(self) -> None:
        """
        A peer's prefetch is a job of this node; those of peers need a reference.
        """
        fleet = self.start()
        assert self.door is not None
        self.assertEqual(self.door.prefetch("alpine", None, Peer("other", "http://10.0.0.2:5000")), "j1")
        self.failureResultOf(fleet.prefetch("UPPER", None, 1), BadReference)
        self.successResultOf(self.other.stop())
        self.assertEqual(self.successResultOf(fleet.prefetch("alpine", None, 1)), [])

    def test_reload(self) -> None:
        """
        The secret is read again; where the file cannot be used, the previous one remains.
        """
        fleet = self.start()
        assert fleet._parts is not None
        assert fleet._parts.secrets is not None
        self.secret.write_bytes(b"0123456789abcdef\nfedcba9876543210\n")
        fleet.reload()
        self.assertEqual(len(fleet._parts.secrets.all), 2)
        self.secret.write_bytes(b"short")
        self.assertRaises(ConfigError, fleet.reload)
        self.assertEqual(len(fleet._parts.secrets.all), 2)

    def test_stop(self) -> None:
        """
        It stops once, also without a start, and leaves no timer.
        """
        self.start()
        self.stop()
        self.stop()
        self.make()
        self.stop()
        self.successResultOf(self.other.stop())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_isolated(self) -> None:
        """
        Where clients share nothing, nodes share no blobs and no tags.
        """
        fleet = self.start(isolated=True)
        self.assertIsNone(fleet.downloads)
        self.assertIsNone(fleet.tags)
        self.assertIsNone(self.door)
        found = self.describe()
        self.assertEqual((found["state"], found["problem"]), (ALONE, ISOLATED))


class ProblemsTests(FleetCase):
    """
    Settings that cannot be used.
    """

    def test_secret(self) -> None:
        """
        A file that cannot be used leaves the node alone, with the reason; it starts and
        stops as others do.
        """
        self.secret.chmod(0o644)
        fleet = self.start()
        self.assertIsNone(fleet.downloads)
        self.assertIsNone(self.door)
        found = self.describe()
        self.assertEqual((found["state"], found["nodes"]), (ALONE, []))
        self.assertIn("is open to other users", found["problem"] or "")
        self.assertEqual(fleet.trouble, found["problem"])
        self.assertFalse(fleet.counts().available)
        self.failureResultOf(fleet.prefetch("alpine", None, 1), BadInput)
        self.stop()

    def test_files(self) -> None:
        """
        So do those for etcd and for peers.
        """
        usual = self.settings
        for changes, reason in (
            ({"etcd_ca": "/nonexistent/ca"}, "/nonexistent/ca"),
            ({"peer_ca": "/nonexistent/peers"}, "/nonexistent/peers"),
            ({"peer_certificate": "/nonexistent/c", "peer_key": "/nonexistent/k"}, "/nonexistent/c"),
        ):
            self.settings = evolve(usual, etcd=("https://127.0.0.1:2379",), **cast("Any", changes))
            self.coordinate = coordinate  # type: ignore[assignment,method-assign]
            self.assertIn(reason, self.make().problem)

    def test_certificates(self) -> None:
        """
        Certificates that can be used are read.
        """
        authority = Authority()
        paths = []
        for data in (authority.pem, *authority.issue("10.0.0.1")):
            path = Path(self.mktemp())
            path.write_bytes(data)
            paths.append(str(path))
        ca, certificate, key = paths
        self.settings = evolve(
            self.settings,
            etcd=("https://127.0.0.1:2379",),
            etcd_ca=ca,
            etcd_certificate=certificate,
            etcd_key=key,
            peer_ca=ca,
            peer_certificate=certificate,
            peer_key=key,
        )
        self.coordinate = coordinate  # type: ignore[assignment,method-assign]
        self.assertEqual(self.make().problem, "")


class DaemonTests(FleetCase):
    """
    The daemon.
    """

    def test_registry(self) -> None:
        """
        A fleet needs the registry.
        """
        config = evolve(Config.default({}, 0), data_dir=self.mktemp(), socket="", fleet=self.settings)
        error = self.assertRaises(ConfigError, Daemon, config, self.reactor, wall_clock=lambda: 0.0)
        self.assertIn("[fleet] needs the registry", str(error))

    def test_not_imported(self) -> None:
        """
        A daemon without a fleet imports nothing of it.
        """
        program = (
            "import sys\n"
            "from xferd.tap import Options, makeService\n"
            "options = Options()\n"
            "options.parseOptions(['-d', sys.argv[1], '-s', '', '-r', 'tcp:0:interface=127.0.0.1'])\n"
            "makeService(options)\n"
            "print([name for name in sys.modules if name.split('.')[:2] == ['xferd', 'fleet']])\n"
        )
        place = self.mktemp()
        done = run([sys.executable, "-c", program, place], capture_output=True, text=True, check=False)
        self.assertEqual((done.stdout, done.stderr), ("[]\n", ""))
