# -*- test-case-name: tests.fleet.test_guide -*-
"""
Guidance for nodes that the coordination does not answer: which node has a blob, or
fetches it.

Such a node asks the peer that all nodes would ask about this blob.  That one looks it
up for it, and where no node has the blob and none fetches it, remembers the node that
asked, which fetches it then, and sends all others on to that one.  While the
coordination answers, nodes that fetch a blob let that peer know, so that it can name
them later.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from xferd.errors import CoordinationUnavailable
from xferd.expiring import ExpiringDict
from xferd.interfaces.fleet import Claim, ICoordination, Peer
from xferd.names import Digest

KEPT_SECONDS: Final = 60.0
"""Seconds for which a blob is claimed in the place of a node that cannot, at most."""


MOST_BLOBS: Final = 10_000
"""The blobs of which a node remembers for an hour which node fetches them, at most."""


class Guide:
    """
    Sends nodes on to those that have a blob, or fetch it.
    """

    def __init__(self, coordination: ICoordination, own: str, clock: IReactorTime) -> None:
        """
        @param own: the name of this node.
        """
        self._coordination = coordination
        self._own = own
        self._clock = clock
        self._fetching: ExpiringDict[Digest, Peer] = ExpiringDict(clock.seconds, most=MOST_BLOBS)
        self._claims: dict[Digest, tuple[Claim, IDelayedCall]] = {}

    def known(self, digest: Digest, asker: str, avoided: Collection[str] = ()) -> Peer | None:
        """
        The node that fetches a blob, as far as this one knows, unless it is the one that asks.

        @param avoided: the names of nodes to which the asking one is not to be sent.
        """
        peer = self._fetching.get(digest)
        return None if peer is None or peer.name == asker or peer.name in avoided else peer

    def note(self, digest: Digest, peer: Peer) -> None:
        """
        Remember that a node fetches a blob.
        """
        self._fetching[digest] = peer

    def appoint(self, digest: Digest, asker: Peer, avoided: Collection[str] = ()) -> Peer | None:
        """
        The node that fetches a blob.

        @return: L{None} if it is the asking one from now on.
        """
        peer = self.known(digest, asker.name, avoided)
        if peer is None:
            self._fetching[digest] = asker
        return peer

    async def find(self, digest: Digest, size: int, asker: Peer, avoided: Collection[str]) -> Peer | None:
        """
        The node that has a blob, or fetches it, for a peer that the coordination does
        not answer.

        @param size: the blob's size in bytes.
        @return: L{None} if the peer has to fetch it.
        """
        unwanted = {asker.name, self._own, *avoided}
        try:
            if self._coordination.available:
                found = (await self._coordination.look([digest]))[digest]
                owners = [] if found.claim is None or found.claim.mine else [found.claim.owner]
                for peer in (*found.holders, *owners):
                    if peer.name not in unwanted:
                        return peer
            appointed = self.appoint(digest, asker, avoided)
            if appointed is None and self._coordination.available:
                claim = await self._coordination.claim(digest, size, f"{asker.name}, without etcd")
                if claim.mine:
                    self._keep(claim)
                elif claim.owner.name not in unwanted:
                    self._fetching.pop(digest)
                    return claim.owner
        except CoordinationUnavailable:
            appointed = self.appoint(digest, asker, avoided)
        return appointed

    def stop(self) -> None:
        """
        Release all claims.  Idempotent.
        """
        for digest in list(self._claims):
            self._release(digest)

    def _keep(self, claim: Claim) -> None:
        """
        Keep a claim for a while.
        """
        digest = claim.digest
        if digest in self._claims:
            self._claims.pop(digest)[1].cancel()
        self._claims[digest] = claim, self._clock.callLater(KEPT_SECONDS, self._release, digest)

    def _release(self, digest: Digest) -> None:
        claim, timer = self._claims.pop(digest)
        if timer.active():
            timer.cancel()
        self._coordination.release(claim)
