"""
Tests for L{xferd.jobs.blobs.fleet_attempts}: the attempts of downloads in a fleet, of
which a test decides what it answers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.jobs.case import HOST, JobsCase
from xferd.errors import ConnectionFailed, DiskFull, SourceError
from xferd.interfaces.peers import IFleetDownload, IFleetDownloads, IPeerBody, IPeerSource
from xferd.interfaces.registry import IBlobBody, IBlobSource
from xferd.jobs.blobs.fleet_attempts import STALL
from xferd.jobs.manager import Jobs
from xferd.names import Digest
from xferd.oci import Descriptor
from xferd.realms import PUBLIC
from xferd.testing.fake_body import FakeBody
from xferd.testing.fakes import FakeUnpacker
from xferd.testing.images import sample_image
from xferd.transfer.retry import RetryPolicy

LAYER = 200_000


@implementer(IPeerBody)
class FakePeerBody(FakeBody):
    """
    A body from a peer.
    """

    origin = PUBLIC


@implementer(IPeerSource)
class FakePeer:
    """
    A peer that sends what a test says.
    """

    account: Hashable = None
    origin = ""

    def __init__(self, case: FleetAttemptsCase, name: str, data: bytes | Exception) -> None:
        self.registry: IBlobSource = case.registry.repository("app")
        self.host = self.label = f"peer {name}"
        self.identity: Hashable = self.host
        self._case = case
        self._data = data
        self.offsets: list[int] = []
        self.wrong = 0

    def open(self, digest: Digest, offset: int, end: int | None = None) -> Deferred[IBlobBody]:
        """
        Send it.
        """
        self.offsets.append(offset)
        if isinstance(self._data, Exception):
            return fail(self._data)
        body = FakePeerBody(digest, self._data, offset, self._case.clock, end)
        body.total = len(self._case.data)
        return succeed(body)

    def confirm(self, digest: Digest) -> Deferred[int | None]:
        """
        Ask the registry.
        """
        return self.registry.confirm(digest)

    def distrust(self, digest: Digest) -> None:
        """
        Note it.
        """
        self.wrong += 1


@implementer(IFleetDownload, IFleetDownloads)
class FakeFleet:
    """
    A fleet with one download.

    @ivar peers: the peers that it names, in turn; L{None} for the registry's turn.
    @ivar kept: what it answers to C{keep}.
    @ivar claims: what it answers to claims, in turn; then always L{True}.
    """

    def __init__(self) -> None:
        self.peers: list[FakePeer | None] = []
        self.claims: list[bool] = []
        self.kept = True
        self.failures: list[str] = []
        self.calls: list[str] = []
        self.least = LAYER
        self.patience = 10.0
        self.withdrawn: Callable[[int], object] = lambda _: None

    def begin(self, blob: Descriptor) -> IFleetDownload | None:
        """
        Share the layer, not the config.
        """
        return self if blob.size >= self.least else None

    def peer(self, registry: IBlobSource) -> Deferred[IPeerSource | None]:
        """
        Name the next one.
        """
        self.calls.append(f"peer for {registry.label}")
        return succeed(self.peers.pop(0) if self.peers else None)

    def failed(self, source: IPeerSource, error: SourceError) -> bool:
        """
        Note it.
        """
        self.failures.append(f"{source.label}: {error.code}")
        return error.host in ("", source.host)

    def claim(self, registry: IBlobSource, here: int) -> Deferred[bool]:
        """
        Answer.
        """
        self.calls.append(f"claim for {registry.label}")
        return succeed(self.claims.pop(0) if self.claims else True)

    def keep(self, registry: IBlobSource) -> Deferred[bool]:
        """
        Answer.
        """
        return succeed(self.kept)

    def end(self, whole: bool) -> None:
        """
        Note it.
        """
        self.calls.append(f"end {whole}")


class FleetAttemptsCase(JobsCase):
    """
    An image with one layer that the fleet shares.
    """

    def setUp(self) -> None:
        """
        Add it.
        """
        self.fleet = FakeFleet()
        super().setUp()
        layer = sample_image(1, size=LAYER)
        self.image = self.add(layer)
        self.digest = self.image.layers[0].blob.digest
        self.data = self.image.layers[0].blob.read()
        self.fleet.least = len(self.data)

    def make_jobs(self) -> Jobs:
        """
        The jobs of a node.
        """
        jobs = Jobs(
            self.store,
            self.all_registries(),
            FakeUnpacker(self.clock, self.store.blobs.open_path),
            clock=self.clock,
            wall_clock=self.wall_clock,
            small_blob=0,
            sharing=self.sharing,
            retry=RetryPolicy(attempts=3, jitter=0.0),
            fleet=self.fleet,
        )
        self.addCleanup(self.stop, jobs)
        return jobs

    def peer(self, name: str, data: bytes | Exception | None = None) -> FakePeer:
        """
        One more peer; it sends the layer by default.
        """
        peer = FakePeer(self, name, self.data if data is None else data)
        self.fleet.peers.append(peer)
        return peer

    def sources(self, job: str | Mapping[str, Any]) -> list[tuple[str, str | None]]:
        """
        The sources and the codes of the layer's attempts.
        """
        asking = self.jobs.attempts(job if isinstance(job, str) else job["id"])
        self.settle()
        return [
            (each["source"], each["code"])
            for each in self.successResultOf(asking)
            if each["digest"] == str(self.digest)
        ]


class FleetAttemptsTests(FleetAttemptsCase):
    """
    Tests for L{FleetAttempts<xferd.jobs.blobs.fleet_attempts.FleetAttempts>}.
    """

    def test_interfaces(self) -> None:
        """
        The fakes provide the Interfaces.
        """
        self.assertTrue(verifyObject(IFleetDownload, self.fleet))
        self.assertTrue(verifyObject(IFleetDownloads, self.fleet))
        self.assertTrue(verifyObject(IPeerSource, self.peer("a")))

    def test_peer(self) -> None:
        """
        A peer sends the blob: no request is made, none of its bytes counts for the
        registry, and no slot is used.
        """
        self.peer("a")
        pull = self.pulled()
        self.assertEqual(self.gets(self.digest), 0)
        self.assertEqual(self.sources(pull), [("peer a", None)])
        self.assertEqual(self.fleet.calls, [f"peer for {HOST}/app", "end True"])
        self.assertNotIn("peer a", self.jobs.figures().fetched)

    def test_origin(self) -> None:
        """
        The origin of the bytes is the one that the peer names.
        """
        self.peer("a")
        self.pulled()
        self.assertEqual(self.store.catalog.origins(self.digest), {PUBLIC})

    def test_nobody(self) -> None:
        """
        Without a peer, the blob is claimed in a slot, and fetched.
        """
        pull = self.pulled()
        self.assertEqual(self.sources(pull), [(f"{HOST}/app", None)])
        self.assertEqual(self.fleet.calls, [f"peer for {HOST}/app", f"claim for {HOST}/app", "end True"])

    def test_claimed_elsewhere(self) -> None:
        """
        Where another node has claimed it meanwhile, that one is asked, and nothing is
        recorded of the registry.
        """
        self.fleet.peers.append(None)
        self.fleet.claims = [False]
        self.peer("a")
        pull = self.pulled()
        self.assertEqual(self.gets(self.digest), 0)
        self.assertEqual(self.sources(pull), [("peer a", None)])

    def test_breaks(self) -> None:
        """
        A peer that breaks is followed by the next, and by the registry, each of which
        goes on where the one before ended.
        """
        self.peer("a", ConnectionFailed("no answer", host="peer a"))
        self.peer("b", self.data[:100_000])
        self.peer("c", self.data[:150_000])
        pull = self.pulled()
        self.assertEqual(
            self.sources(pull),
            [
                ("peer a", "CONNECTION_FAILED"),
                ("peer b", "TRUNCATED"),
                ("peer c", "TRUNCATED"),
                (f"{HOST}/app", None),
            ],
        )
        (offset,) = [r.offset for r in self.registry.requests if r.wanted == str(self.digest)]
        self.assertEqual(offset, 150_000)

    def test_wrong_bytes(self) -> None:
        """
        A peer that sends wrong bytes is reported, and the next one sends all of them.
        """
        liar = self.peer("a", bytes(len(self.data)))
        honest = self.peer("b")
        pull = self.pulled()
        self.assertEqual(self.sources(pull), [("peer a", "DIGEST_MISMATCH"), ("peer b", None)])
        self.assertEqual((liar.wrong, honest.offsets), (1, [0]))

    def test_not_its_fault(self) -> None:
        """
        Where the registry fails while it has to prove something, it is its own turn.
        """
        self.peer("a", SourceError("the registry refuses", host=HOST))
        self.peer("b")
        pull = self.pulled()
        self.assertEqual(self.sources(pull)[-1], (f"{HOST}/app", None))

    def test_disk_full(self) -> None:
        """
        A full disk is no peer's fault.
        """
        self.store.gate.fail("partial.write", DiskFull("no space is left"), self.digest)
        self.peer("a")
        self.peer("b")
        pull = self.pull()
        self.wait(120)
        self.assert_done(pull)
        self.assertEqual(self.fleet.failures, [])

    def test_registry_retries(self) -> None:
        """
        The registry's attempts have their delays, and each claims the blob.
        """
        self.registry.stall(self.digest)
        pull = self.pull()
        self.settle()
        self.registry.fail(self.digest, ConnectionFailed("the connection broke", host=HOST))
        self.registry.finish(self.digest)
        self.wait(30)
        self.assert_done(pull)
        self.assertEqual(self.fleet.calls.count(f"claim for {HOST}/app"), 2)
        self.assertEqual(self.fleet.calls[-1], "end True")

    def test_silent(self) -> None:
        """
        A peer that sends nothing for too long is left, and named with the reason.
        """
        self.registry.stall(self.digest)
        peer = self.peer("a")
        never: Deferred[IBlobBody] = Deferred()
        peer.open = lambda *_: never  # type: ignore[method-assign]
        pull = self.pull()
        self.wait(9)
        self.assertEqual(self.fleet.failures, [])
        self.fleet.patience = 0.0
        self.registry.finish(self.digest)
        self.wait(9)
        self.assert_done(pull)
        self.assertEqual(self.fleet.failures, ["peer a: TIMED_OUT"])
        self.assertEqual(self.sources(pull), [("peer a", "TIMED_OUT"), (f"{HOST}/app", None)])

    def test_taken(self) -> None:
        """
        Where another node has taken the claim over, it is followed at once from the
        bytes that are here, but not if it is too far behind.
        """
        self.registry.stall(self.digest)
        pull = self.pull()
        self.settle()
        self.registry.feed(self.digest, 120_000)
        self.settle()
        peer = self.peer("b")
        self.fleet.withdrawn(20_000)
        self.wait(1)
        self.assertEqual(peer.offsets, [])
        self.fleet.withdrawn(50_000)
        self.wait(1)
        self.assertEqual(peer.offsets, [120_000])
        self.assert_done(pull)

    def test_not_kept(self) -> None:
        """
        Where another node has claimed the blob since the coordination is back, that one
        is followed.
        """
        self.registry.stall(self.digest)
        pull = self.pull()
        self.settle()
        self.registry.feed(self.digest, 100_000)
        self.settle()
        self.fleet.kept = False
        peer = self.peer("b")
        self.wait(6)
        self.assertEqual(peer.offsets, [100_000])
        self.assert_done(pull)

    def test_registry_stalls(self) -> None:
        """
        Where the registry sends nothing for a while, a peer that has the blob by now
        sends the rest; without one, the registry's attempt goes on.
        """
        self.registry.stall(self.digest)
        pull = self.pull()
        self.settle()
        self.registry.feed(self.digest, 100_000)
        self.wait(STALL * 2)
        self.assertEqual(len(self.registry.open_bodies(self.digest)), 1)
        peer = self.peer("a")
        self.wait(STALL + 2)
        self.assert_done(pull)
        self.assertEqual(peer.offsets, [100_000])
        self.assertEqual(self.gets(self.digest), 1)

    def test_frozen(self) -> None:
        """
        After a time in which the process was frozen, a peer is looked for at once,
        though bytes of the registry arrived just before.
        """
        self.registry.stall(self.digest)
        pull = self.pull()
        self.settle()
        self.wait(1)
        self.registry.feed(self.digest, 100_000)
        peer = self.peer("a")
        self.clock.advance(4)
        self.settle()
        self.assert_done(pull)
        self.assertEqual(peer.offsets, [100_000])

    def test_moving(self) -> None:
        """
        While the registry sends, no peer is looked for.
        """
        self.registry.stall(self.digest)
        pull = self.pull()
        self.settle()
        self.peer("a")
        for _ in range(20):
            self.registry.feed(self.digest, 1000)
            self.wait(1)
        self.registry.finish(self.digest)
        self.wait(1)
        self.assert_done(pull)
        self.assertEqual(len(self.fleet.peers), 1)

    def test_cancelled(self) -> None:
        """
        A pull that is cancelled releases the claim, whatever it waits for.
        """
        self.registry.stall(self.digest)
        pull = self.pull()
        self.settle()
        self.jobs.cancel(pull)
        self.settle()
        self.assertEqual(self.fleet.calls[-1], "end False")
        self.assert_idle()

    def test_slots(self) -> None:
        """
        A peer is asked while all slots are held.
        """
        for number in range(5):
            other = self.add(sample_image(1, 50_000, seed=number + 1), f"other{number}")
            self.registry.stall(other.layers[0].blob.digest)
            self.pull(f"other{number}")
        self.settle()
        self.peer("a")
        self.pulled()
        self.assertEqual(self.gets(self.digest), 0)
        for number in range(5):
            self.registry.finish(sample_image(1, 50_000, seed=number + 1).layers[0].blob.digest)
        self.settle()


class IsolatedTests(FleetAttemptsCase):
    """
    In isolated mode.
    """

    sharing = "isolated"

    def test_not_asked(self) -> None:
        """
        No blob is taken from a peer.
        """
        self.peer("a")
        self.pulled()
        self.assertEqual(self.gets(self.digest), 1)
        self.assertEqual(self.fleet.calls, [])
