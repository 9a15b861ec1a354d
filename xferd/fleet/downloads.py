# -*- test-case-name: tests.fleet.test_downloads -*-
"""
Downloads in a fleet: which peer to ask for a blob, and who asks the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from random import Random
from typing import Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import BlobUnknown, ContentMismatch, CoordinationUnavailable, SourceError
from xferd.fleet.frames import Damaged
from xferd.fleet.guide import Guide
from xferd.fleet.known import KnownNodes
from xferd.fleet.left_out import LeftOut
from xferd.fleet.notices import Notices
from xferd.fleet.peer_client import PeerBusy, PeerClient
from xferd.fleet.peer_messages import peer_of
from xferd.fleet.peer_source import PeerSource
from xferd.fleet.places import Places
from xferd.fleet.reach import Reach
from xferd.interfaces.fleet import MIN_SHARED, Claim, Found, ICoordination, Peer
from xferd.interfaces.peers import FleetFigures, IFleetDownload, IFleetDownloads, IPeerSource
from xferd.interfaces.registry import IBlobSource
from xferd.jobs.deferreds import gather
from xferd.names import Digest
from xferd.oci import Descriptor
from xferd.registry.transport.timeouts import within

T = TypeVar("T")

DOUBT: Final = 10.0
"""Seconds without a byte, after which a node asks the registry without regard to its
peers: a client's progress comes before saving bytes."""

GUIDES: Final = 2
"""The peers that are asked in turn where a blob is, when the coordination does not answer."""

AGAIN: Final = 0.5
"""Seconds between two looks while all peers are busy."""


class _Doubt(Exception):
    """
    No peer has sent a byte for too long.
    """


@implementer(IFleetDownloads)
class FleetDownloads:
    """
    The downloads of one node.

    @ivar known: the nodes of the fleet.
    @ivar guide: guides nodes that the coordination does not answer.
    @ivar figures: the counters of this node; those of sent bytes are not its.
    @ivar notices: what peers learn from this node.
    @ivar reach: whether this node is cut off.
    @ivar places: what a download holds while peers send it.
    @ivar depths: how many peers the bytes of a running download pass, by digest.
    """

    def __init__(
        self,
        coordination: ICoordination,
        client: PeerClient,
        own: Peer,
        *,
        clock: IReactorTime,
        random: Random | None = None,
        smallest: int = MIN_SHARED,
    ) -> None:
        """
        @param own: this node.
        @param random: chooses among peers.
        @param smallest: bytes of the smallest blob that is shared.
        """
        self.coordination = coordination
        self.client = client
        self.own = own
        self.clock = clock
        self.smallest = smallest
        self.random = Random() if random is None else random  # noqa: S311
        self.left_out = LeftOut(clock.seconds)
        self.depths: dict[Digest, int] = {}
        self.places = Places(clock, lambda: self._received)
        self.known = KnownNodes(coordination, own, clock)
        self.guide = Guide(coordination, own.name, clock)
        self.reach = Reach(self.known, client, clock.seconds, self.random)
        self._running: dict[Digest, FleetDownload] = {}
        self.notices = Notices(self.known, self.guide, client, own)
        self._received = 0
        self._takeovers = 0

    def begin(self, blob: Descriptor) -> IFleetDownload | None:
        if blob.size < self.smallest:
            return None
        download = self._running[blob.digest] = FleetDownload(self, blob)
        return download

    def start(self) -> None:
        """
        Get to know the other nodes.
        """
        self.known.start()

    def stop(self) -> Deferred[None]:
        """
        End that, and release all claims for others.
        """
        self.guide.stop()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await gather([self.known.stop(), self.notices.stop()])

    @property
    def figures(self) -> FleetFigures:
        """
        The counters so far.
        """
        return FleetFigures(
            received=self._received, takeovers=self._takeovers, distrusted=self.left_out.distrusted()
        )

    def received(self, size: int) -> None:
        """
        Count bytes from peers.
        """
        self._received += size
        self.reach.heard()

    def took_over(self, claim: Claim, offset: int) -> None:
        """
        Count a claim that was taken over, and let its owner know.

        @param claim: that of the owner.
        @param offset: from where on the blob is fetched here.
        """
        self._takeovers += 1
        self.notices.taken(claim, offset)

    def taken(self, digest: Digest, offset: int) -> None:
        """
        A peer has taken a claim over; see L{IPeerDoor<xferd.interfaces.peers.IPeerDoor>}.
        """
        download = self._running.get(digest)
        if download is not None:
            download.taken(offset)

    def ended(self, download: FleetDownload, digest: Digest) -> None:
        """
        A download has ended.
        """
        if self._running.get(digest) is download:
            del self._running[digest]


@implementer(IFleetDownload)
class FleetDownload:
    """
    One download.

    States: I{sharing}; I{alone}, when peers did not deliver for too long; I{ended}.
    """

    _log = Logger()

    def __init__(self, fleet: FleetDownloads, blob: Descriptor) -> None:
        self._fleet = fleet
        self._blob = blob
        self._digest = blob.digest
        self._claim: Claim | None = None
        self._alone = False
        self._ended = False
        self._failed: set[str] = set()
        self._moved = fleet.clock.seconds()
        self._left: float | None = None
        self._placed = False
        self._appointed = ""
        self.withdrawn: Callable[[int], object] = lambda _: None
        self._relays: set[str] = set()

    # -------------------------------------------------------- IFleetDownload

    @property
    def patience(self) -> float:
        """
        See L{IFleetDownload}.
        """
        return self._moved + DOUBT - self._fleet.clock.seconds()

    def peer(self, registry: IBlobSource) -> Deferred[IPeerSource | None]:
        return Deferred.fromCoroutine(self._peer(registry))

    def failed(self, source: IPeerSource, error: SourceError) -> bool:
        # The store, which verifies the digest, names no host.
        name = peer_of(error.host or source.host)
        if not name:
            return False
        if isinstance(error, BlobUnknown) and isinstance(source, PeerSource) and source.appoints(name):
            self._appointed = name
            return True
        self._failed.add(name)
        if isinstance(error, Damaged):
            self.wrong(name)
        if isinstance(error, PeerBusy) or self._is_excused(source, error, name):
            self._fleet.left_out.busy(name, self._digest)
        else:
            self._fleet.left_out.failed(name, self._digest, str(error))
        self._log.info("{peer} does not send {digest}: {why}", peer=name, digest=self._digest, why=str(error))
        return True

    def claim(self, registry: IBlobSource, here: int) -> Deferred[bool]:
        began = self._fleet.clock.seconds()

        def ended(result: T) -> T:
            if self._left is not None:
                # This is no turn of the registry.
                self._left += self._fleet.clock.seconds() - began
            return result

        return Deferred.fromCoroutine(self._may_ask(registry, here)).addBoth(ended)

    def keep(self, registry: IBlobSource) -> Deferred[bool]:
        if self._claim is not None or self._alone or not self._fleet.coordination.available:
            return succeed(True)
        return Deferred.fromCoroutine(self._keep(registry))

    def taken(self, offset: int) -> None:
        """
        A peer has taken the claim over.
        """
        claim, self._claim = self._claim, None
        if claim is not None:
            # It is not to be made again.
            self._fleet.coordination.release(claim)
            self.withdrawn(offset)

    def end(self, whole: bool) -> None:
        if self._ended:
            return
        self._ended = True
        self._fleet.ended(self, self._digest)
        self._leave_place()
        self._fleet.depths.pop(self._digest, None)
        coordination = self._fleet.coordination
        if whole:
            coordination.announce([self._digest])
        if self._claim is not None:
            coordination.release(self._claim)

    # ------------------------------------------------------- for the sources

    def avoided(self) -> Collection[str]:
        """
        See L{PeerUser<xferd.fleet.peer_source.PeerUser>}.
        """
        return {name for name in self._failed if self._fleet.left_out.is_out(name, self._digest)}

    def began(self, depth: int) -> None:
        """
        A peer has begun to answer.
        """
        self._fleet.depths[self._digest] = depth
        self._fleet.reach.heard()

    def moved(self, size: int) -> None:
        """
        A peer has sent bytes.
        """
        self._moved = self._fleet.clock.seconds()
        self._fleet.received(size)

    def wrong(self, name: str) -> None:
        """
        A peer has sent wrong bytes.
        """
        self._fleet.left_out.wrong(name)
        self._log.error(
            "{peer} sent wrong bytes for {digest}: nothing is requested from it for an hour",
            peer=name,
            digest=self._digest,
        )

    # --------------------------------------------------------------- inside

    def _is_excused(self, source: IPeerSource, error: SourceError, name: str) -> bool:
        """
        Whether a peer may be asked again soon that sent wrong bytes, once: it passed on
        what it received from another peer, and drops it as this node does.
        """
        passed_on = isinstance(error, ContentMismatch) and isinstance(source, PeerSource) and source.depth > 1
        if not passed_on or name in self._relays:
            return False
        self._relays.add(name)
        return True

    async def _peer(self, registry: IBlobSource) -> IPeerSource | None:
        if self._left is not None:
            # The registry's turn is no time without an answer of a peer.
            self._moved += self._fleet.clock.seconds() - self._left
            self._left = None
        if self.patience <= 0:
            self._go_alone()
        source = None
        try:
            if not self._placed:
                began = self._fleet.clock.seconds()
                self._placed = await self._fleet.places.acquire(DOUBT)
                self._moved += self._fleet.clock.seconds() - began
                if not self._placed:
                    self._go_alone()
            if self._placed and not self._ended:
                finding = Deferred.fromCoroutine(self._find(registry))
                source = await within(self._fleet.clock, max(self.patience, 0.0), finding, _Doubt)
        except _Doubt:
            self._go_alone()
        finally:
            if source is None:
                self._left = self._fleet.clock.seconds()
                self._leave_place()
        return source

    def _go_alone(self) -> None:
        """
        Ask the registry, whatever peers have.
        """
        if not self._alone:
            self._alone = True
            self._log.warn(
                "no peer sends {digest}: this node requests it from the registry", digest=self._digest
            )

    def _leave_place(self) -> None:
        if self._placed:
            self._placed = False
            self._fleet.places.release()

    async def _find(self, registry: IBlobSource) -> IPeerSource | None:
        while not self._alone:
            found = await self._look()
            if found is None:
                return self._ask_guide(registry)
            known = [peer for peer in self._peers(found) if self._is_usable(peer)]
            ready = [p for p in known if not self._fleet.left_out.is_busy(p.name, self._digest)]
            if ready:
                return PeerSource(self, self._fleet.client, self._fleet.random.choice(ready), registry)
            if not known:
                break
            await deferLater(self._fleet.clock, AGAIN)
        return None

    def _ask_guide(self, registry: IBlobSource) -> IPeerSource | None:
        """
        The peer to ask without the coordination: one that knows which node has the blob
        or fetches it.

        @return: L{None} if this node fetches it.
        """
        fleet, digest = self._fleet, self._digest
        if self._appointed:
            return None
        is_first = False
        for guide in fleet.known.order(digest)[:GUIDES]:
            if guide.name == fleet.own.name:
                peer = fleet.guide.appoint(digest, fleet.own, self.avoided())
                if peer is not None and self._is_usable(peer):
                    return PeerSource(self, fleet.client, peer, registry)
                # The next one may reach the coordination, and may follow this node otherwise.
                is_first = True
            elif self._is_usable(guide):
                return PeerSource(
                    self, fleet.client, guide, registry, size=self._blob.size, is_first=is_first
                )
        self._appointed = fleet.own.name
        return None

    async def _keep(self, registry: IBlobSource) -> bool:
        """
        See L{IFleetDownload.keep}.
        """
        coordination = self._fleet.coordination
        try:
            claim = await coordination.claim(self._digest, self._blob.size, registry.label)
            if claim.owner.name == self._appointed:
                # That node has claimed the blob in our place.
                claim = await coordination.take_over(claim)
        except CoordinationUnavailable:
            return True
        if claim.mine and self._ended:
            coordination.release(claim)
        elif claim.mine:
            self._claim = claim
        return claim.mine or not self._is_followed(claim.owner)

    async def _may_ask(self, registry: IBlobSource, here: int) -> bool:
        """
        See L{IFleetDownload.claim}.
        """
        fleet, digest = self._fleet, self._digest
        if not fleet.coordination.available:
            return self._go_ahead()
        try:
            claim = await fleet.coordination.claim(digest, self._blob.size, registry.label)
            if claim.owner.name == self._appointed:
                # That node has claimed the blob in our place.
                claim = await fleet.coordination.take_over(claim)
            if not claim.mine:
                if self._is_followed(claim.owner):
                    return False
                if not self._is_usable(claim.owner):
                    if await fleet.reach.is_cut_off(claim.owner, digest):
                        # Others get the blob from the owner, and cannot get it from here.
                        self._go_alone()
                        return self._go_ahead()
                    before, claim = claim, await fleet.coordination.take_over(claim)
                    if claim.mine:
                        fleet.took_over(before, here)
                        self._log.info("{digest} is fetched here from now on", digest=digest)
                if not claim.mine and self._is_followed(claim.owner):
                    return False
            if claim.mine:
                self._claim = claim
                if self._ended:
                    fleet.coordination.release(claim)
                elif not self._alone and await self._is_held():
                    fleet.coordination.release(claim)
                    return False
                else:
                    fleet.notices.fetching(digest)
        except CancelledError:
            raise
        except CoordinationUnavailable:
            pass
        return self._go_ahead()

    async def _is_held(self) -> bool:
        """
        Whether a peer has the whole blob.  It may have got it since the last look, and
        released its claim: what it announced before is known by then.
        """
        found = await self._look()
        return found is not None and any(self._is_usable(peer) for peer in found.holders)

    def _is_followed(self, owner: Peer) -> bool:
        """
        Whether this node follows the owner of a claim, instead of asking the registry.
        """
        return not self._alone and self._is_usable(owner)

    def _go_ahead(self) -> bool:
        self._fleet.depths[self._digest] = 0
        return True

    async def _look(self) -> Found | None:
        """
        Look up the blob.

        @return: L{None} if there is no answer.
        """
        coordination = self._fleet.coordination
        if not coordination.available:
            return None
        try:
            return (await coordination.look([self._digest])).get(self._digest)
        except CoordinationUnavailable:
            return None

    def _peers(self, found: Found) -> list[Peer]:
        """
        The peers that may have bytes: those with the whole blob, else the one that
        fetches it.
        """
        holders = [peer for peer in found.holders if self._is_usable(peer)]
        if holders or found.claim is None:
            return holders
        if not found.claim.mine:
            return [found.claim.owner]
        # This node may have claimed it for one that the coordination does not answer.
        peer = None if self._claim else self._fleet.guide.known(self._digest, self._fleet.own.name)
        return [] if peer is None else [peer]

    def _is_usable(self, peer: Peer) -> bool:
        if peer.name == self._fleet.own.name or self._fleet.left_out.is_out(peer.name, self._digest):
            return False
        why = self._fleet.client.usable(peer)
        if why:
            self._log.warn("{why}", why=why)
            self._fleet.left_out.failed(peer.name, self._digest, why)
        return not why
