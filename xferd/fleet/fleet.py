# -*- test-case-name: tests.fleet.test_fleet -*-
"""
The fleet of one node: assembled by the settings, started and stopped with the daemon.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from attrs import frozen
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import BadInput, BadReference, ConfigError, CoordinationUnavailable
from xferd.fleet.accounts import FleetAccounts
from xferd.fleet.copies import FleetCopies
from xferd.fleet.door import PeerDoor
from xferd.fleet.downloads import FleetDownloads
from xferd.fleet.etcd.client import EtcdClient
from xferd.fleet.etcd.coordination import EtcdCoordination
from xferd.fleet.etcd.settings import EtcdSettings
from xferd.fleet.pauses import FleetPauses
from xferd.fleet.peer_client import PeerClient
from xferd.fleet.peer_requests import PeerRequests
from xferd.fleet.prefetch import Prefetches
from xferd.fleet.proofs import Prover, Secrets
from xferd.fleet.tags import FleetTags
from xferd.fleet_settings import FleetSettings
from xferd.http_urls import split_url
from xferd.interfaces.catalog import LOCAL_HOST
from xferd.interfaces.fleet import MIN_SHARED, Claim, ICoordination, Node, Peer
from xferd.interfaces.fleet_status import (
    ALONE,
    NO_FLEET,
    PEER,
    SHARING,
    STORE,
    UPSTREAM,
    FleetClaimJSON,
    FleetCounts,
    FleetJSON,
    FleetNodeJSON,
    IFleet,
    PeerPrefetchJSON,
)
from xferd.interfaces.hosts import ISharedPauses
from xferd.interfaces.jobs import ALWAYS, IJobs
from xferd.interfaces.mirror import ISharedTags
from xferd.interfaces.peers import IFleetDownloads, IHeldBlobs, IPeerDoor
from xferd.interfaces.reactor import IReactor, WallClock
from xferd.interfaces.registry import IKeychain
from xferd.interfaces.store import IStore
from xferd.jobs.deferreds import gather
from xferd.json_encoding import rfc3339
from xferd.mutual_certificate import is_certified
from xferd.names import Digest, Reference
from xferd.oci import Descriptor
from xferd.registry.transport.networks import Networks
from xferd.registry.transport.tls import read_ca, read_client
from xferd.secret_files import read_secrets

LOAD_SECONDS: Final = 30.0
"""Seconds after which the number of running transfers is reported again."""

MOST_NODES: Final = 1000
"""The nodes that are listed at most."""

KNOWN_TO_ALL: Final = b"certificates tell"
"""In place of a secret, where peers are known by certificates: proofs then state who asks for
what, and TLS proves it."""

ISOLATED: Final = "'sharing' is 'isolated': this node shares no blobs and no tags with its peers"


@frozen
class FleetContext:
    """
    The parts of the daemon that the fleet uses.

    @ivar keychain: the credentials of the daemon's user.
    @ivar pauses: the pauses of registries.
    @ivar isolated: whether clients share nothing.
    """

    reactor: IReactor
    wall_clock: WallClock
    version: str
    keychain: IKeychain
    pauses: ISharedPauses
    isolated: bool


def coordinate(settings: FleetSettings, reactor: IReactorTime, node: Node) -> ICoordination:
    """
    Make the coordination of a node by etcd.

    @raise ConfigError: a file of the settings cannot be used.
    """
    etcd = EtcdSettings.read(
        settings.etcd,
        ca=settings.etcd_ca,
        certificate=settings.etcd_certificate,
        key=settings.etcd_key,
        user=settings.etcd_user,
        password_file=settings.etcd_password_file,
    )
    return EtcdCoordination(reactor, EtcdClient(reactor, etcd), node, Random())  # noqa: S311


@implementer(IFleet)
class Fleet:
    """
    The fleet, as this node takes part in it.

    What cannot be used, be it a file of the settings or etcd, leaves the daemon as it
    is without a fleet: the reason is in the log and in the description.

    Life cycle: made; C{connect}ed to the jobs that use it; C{start}ed once the store is
    open; C{stop}ped.

    @ivar downloads: for the jobs; L{None} if blobs are not shared.
    @ivar tags: for the jobs; L{None} if tags are not shared.
    @ivar problem: the reason why the settings cannot be used; empty if they can.
    """

    _log = Logger()

    def __init__(
        self,
        settings: FleetSettings,
        context: FleetContext,
        make_coordination: Callable[[FleetSettings, IReactorTime, Node], ICoordination] = coordinate,
    ) -> None:
        """
        @param make_coordination: makes the coordination of a node.
        """
        self._settings = settings
        self._context = context
        self.downloads: IFleetDownloads | None = None
        self.tags: ISharedTags | None = None
        self.problem = ""
        self._parts: _Parts | None = None
        self._door: PeerDoor | None = None
        self._jobs: IJobs | None = None
        self._timer: IDelayedCall | None = None
        try:
            parts = self._parts = _Parts.make(settings, context, make_coordination)
        except ConfigError as e:
            self.problem = str(e)
            self._log.error("this node is in no fleet: {why}", why=self.problem)
            return
        if context.isolated:
            self._log.warn("{why}", why=ISOLATED)
        else:
            self.downloads, self.tags = parts.downloads, parts.tags

    def connect(self, jobs: IJobs, held: IHeldBlobs) -> IPeerDoor | None:
        """
        Begin to use the jobs.

        @param held: the blobs that peers may get.
        @return: decides about the requests of peers; L{None} if there is nothing for
            them.
        """
        self._jobs = jobs
        if self._parts is not None and self.downloads is not None:
            self._door = self._parts.door(jobs, held, self._settings, self._context)
        return self._door

    def start(self, store: IStore) -> None:
        """
        Join the fleet, and make known what is in the store.  Returns at once.
        """
        if self._parts is None:
            return
        self._parts.coordination.start()
        self._parts.pauses.start()
        if self.downloads is not None:
            self._parts.downloads.start()
            self._parts.coordination.announce(shareable(store))
            store.gc.use_copies(FleetCopies(self._parts.coordination, self._settings.keep_copies))
        self._report_load()

    async def stop(self) -> None:
        """
        Leave the fleet.  Idempotent, also without L{start}.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._parts is not None:
            parts, self._parts = self._parts, None
            stopping = [
                parts.downloads.stop(),
                parts.tags.stop(),
                parts.pauses.stop(),
                parts.coordination.stop(),
            ]
            await gather([*stopping, parts.client.close()])

    def reload(self) -> None:
        """
        Read the secrets and the certificates for peers again.

        @raise ConfigError: a file cannot be used; the previous ones remain.
        """
        parts, settings = self._parts, self._settings
        if parts is None:
            return
        certificates = read_certificates(settings)
        if parts.secrets is not None:
            parts.secrets.replace(read_secrets(settings.secret_file, "the fleet"))
        parts.client.use_certificates(*certificates)

    @property
    def trouble(self) -> str:
        """
        The reason why this node works alone; empty if it does not.
        """
        return self.problem if self._parts is None else self._parts.coordination.problem

    def describe(self) -> Deferred[FleetJSON]:
        return Deferred.fromCoroutine(self._describe())

    def prefetch(self, reference: str, platform: str | None, nodes: int) -> Deferred[list[PeerPrefetchJSON]]:
        try:
            Reference.parse(reference)
        except BadReference:
            return fail()
        if self._parts is None:
            return fail(BadInput(f"this node is in no fleet: {self.problem}"))
        return Deferred.fromCoroutine(self._parts.prefetches.begin(reference, platform, nodes))

    def counts(self) -> FleetCounts:
        parts = self._parts
        if parts is None or self._jobs is None:
            return FleetCounts()
        figures, seen = parts.downloads.figures, self._jobs.figures()
        return FleetCounts(
            received={
                UPSTREAM: sum(seen.fetched.values()),
                PEER: figures.received,
                STORE: sum(each.found for each in seen.upstreams.values()),
            },
            sent=0 if self._door is None else self._door.sent,
            takeovers=figures.takeovers,
            available=parts.coordination.available,
            left_out=len(figures.distrusted),
        )

    async def _describe(self) -> FleetJSON:
        state = NO_FLEET.copy()
        state["state"], state["problem"], state["url"] = ALONE, self.problem or None, self._settings.url
        parts = self._parts
        if parts is None:
            return state
        counts = self.counts()
        state["name"] = parts.node.peer.name
        state["bytes"] = {UPSTREAM: 0, PEER: 0, STORE: 0, **counts.received, "sent": counts.sent}
        state["takeovers"] = counts.takeovers
        state["left_out"] = list(parts.downloads.figures.distrusted)
        reasons = parts.downloads.left_out.reasons()
        state["troubles"] = [{"node": name, "why": why} for name, why in reasons.items()]
        try:
            nodes, claims = await parts.coordination.nodes(), await parts.coordination.claims()
        except CancelledError:
            raise
        except CoordinationUnavailable as e:
            state["problem"] = parts.coordination.problem or str(e)
            return state
        state["nodes"] = [_node_json(node) for node in nodes[:MOST_NODES]]
        state["claims"] = [_claim_json(claim) for claim in claims]
        if self.downloads is None:
            state["problem"] = ISOLATED
        else:
            state["state"] = SHARING
        return state

    def _report_load(self) -> None:
        """
        Report the number of running transfers, and the bytes from peers, now and then.
        """
        if self._parts is not None and self._jobs is not None:
            running = self._jobs.figures().transfers
            load = sum(number for (_, state), number in running.items() if state == "running")
            self._parts.coordination.report_load(load, self._parts.downloads.figures.received)
        self._timer = self._context.reactor.callLater(LOAD_SECONDS, self._report_load)


@frozen
class _Parts:
    """
    What a fleet with usable settings consists of.
    """

    node: Node
    secrets: Secrets | None
    prover: Prover
    coordination: ICoordination
    client: PeerClient
    downloads: FleetDownloads
    tags: FleetTags
    pauses: FleetPauses
    prefetches: Prefetches

    @classmethod
    def make(
        cls,
        settings: FleetSettings,
        context: FleetContext,
        make_coordination: Callable[[FleetSettings, IReactorTime, Node], ICoordination],
    ) -> _Parts:
        """
        Make them.

        @raise ConfigError: a file of the settings cannot be used.
        """
        reactor = context.reactor
        secrets = Secrets(*read_secrets(settings.secret_file, "the fleet")) if settings.secret_file else None
        node = Node(Peer(settings.node_name, settings.url), context.version, context.wall_clock())
        prover = Prover(secrets or Secrets(KNOWN_TO_ALL), node.peer, reactor.seconds)
        ca, pair = read_certificates(settings)
        requests = PeerRequests(
            prover,
            Networks.parse(settings.peer_networks),
            clock=reactor,
            ca=ca,
            client=pair,
            certified=bool(settings.peer_listen),
        )
        client = PeerClient(requests)
        coordination = make_coordination(settings, reactor, node)
        accounts = FleetAccounts(secrets, context.keychain)
        return cls(
            node,
            secrets,
            prover,
            coordination,
            client,
            FleetDownloads(coordination, client, node.peer, clock=reactor),
            FleetTags(coordination, accounts),
            FleetPauses(coordination, accounts, context.pauses, reactor.seconds),
            Prefetches(coordination, client, node.peer.name),
        )

    def door(self, jobs: IJobs, held: IHeldBlobs, settings: FleetSettings, context: FleetContext) -> PeerDoor:
        """
        Make what decides about the requests of peers.
        """
        return PeerDoor(
            self.prover,
            held,
            self.coordination,
            self.downloads.depths,
            self.downloads.guide,
            clock=context.reactor,
            prefetch=lambda reference, platform, client: _prefetch(jobs, reference, platform, client),
            taken=self.downloads.taken,
            max_followers=settings.max_followers,
            upload_rate=settings.upload_rate,
            certified=bool(settings.peer_listen),
        )


def read_certificates(settings: FleetSettings) -> tuple[tuple[bytes, ...], tuple[bytes, bytes] | None]:
    """
    Read the certificates for peers.

    @return: those of the authorities, and our own with its key, if there is one.
    @raise ConfigError: a file cannot be used, or our certificate is not for our URL.
    """
    ca = (read_ca(settings.peer_ca, "peers"),) if settings.peer_ca else ()
    if not settings.peer_certificate:
        return ca, None
    pair = read_client(settings.peer_certificate, settings.peer_key, "peers")
    host = split_url(settings.url).hostname or ""
    own = load_pem_x509_certificates(pair[0])[0].public_bytes(Encoding.DER)
    if settings.peer_listen and not is_certified(own, host):
        raise ConfigError(f"{settings.peer_certificate} is not for {host}, the host in fleet.url")
    return ca, pair


def _prefetch(jobs: IJobs, reference: str, platform: str | None, client: str) -> str:
    """
    Begin a prefetch that outlives the daemon.

    @return: the job's ID.
    """
    job_id = jobs.prefetch(reference, platform, client, 0)["id"]
    jobs.persist(job_id, ALWAYS, "")
    return job_id


def shareable(store: IStore) -> set[Digest]:
    """
    The blobs of upstreams in the store that are large enough to be shared.
    """
    found: set[Digest] = set()

    def add(blobs: tuple[Descriptor, ...]) -> None:
        found.update(
            blob.digest for blob in blobs if blob.size >= MIN_SHARED and store.blobs.has(blob.digest)
        )

    for image in store.images.all():
        add(image.layers)
    for repository in store.catalog.repositories():
        if repository.host != LOCAL_HOST:
            for manifest in store.catalog.manifests(repository):
                add(manifest.blobs)
    return found


def _node_json(node: Node) -> FleetNodeJSON:
    try:
        since = rfc3339(node.since)
    except (OverflowError, OSError, ValueError):
        since = rfc3339(0.0)  # Its clock is wrong.
    return {
        "name": node.peer.name,
        "url": node.peer.url,
        "version": node.version,
        "since": since,
        "load": node.load,
        "saved": node.saved,
    }


def _claim_json(claim: Claim) -> FleetClaimJSON:
    return {
        "digest": str(claim.digest),
        "size": claim.size,
        "node": claim.owner.name,
        "source": claim.source,
    }
