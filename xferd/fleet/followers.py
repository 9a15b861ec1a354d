# -*- test-case-name: tests.fleet.test_followers -*-
"""
The peers that follow a blob here, and which of them can send it to others.

A node sends one blob to few peers at a time.  It sends further ones on to those, so
that a tree forms: no node's uplink is used for more than its share.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from attrs import define

from xferd.interfaces.fleet import Peer
from xferd.names import Digest


@define(eq=False)
class Follower:
    """
    One answer that is being sent.

    @ivar peer: the peer that gets it.
    @ivar position: returns the offset of the next byte to be sent.
    @ivar own: how many peers were sent on to this one.
    """

    peer: Peer
    position: Callable[[], int]
    own: int = 0


class Followers:
    """
    The answers that are being sent, by blob.
    """

    def __init__(self, most: int) -> None:
        """
        @param most: the peers that get one blob at the same time.
        """
        self.most = most
        self._by_digest: dict[Digest, list[Follower]] = {}

    def is_full(self, digest: Digest) -> bool:
        """
        Whether no further peer can get a blob here.
        """
        return len(self._by_digest.get(digest, ())) >= self.most

    def add(self, digest: Digest, peer: Peer, position: Callable[[], int]) -> Callable[[], None]:
        """
        A peer begins to get a blob.

        @return: to be called when its answer is over.  Idempotent.
        """
        follower = Follower(peer, position)
        self._by_digest.setdefault(digest, []).append(follower)

        def leave() -> None:
            left = self._by_digest.get(digest, [])
            if follower in left:
                left.remove(follower)
                if not left:
                    del self._by_digest[digest]

        return leave

    def choose(self, digest: Digest, name: str, offset: int, avoided: Collection[str]) -> Peer | None:
        """
        The follower that a further peer is sent on to: of those that have what it
        wants the one with the fewest of its own, then the one that is farthest.

        @param name: the further peer, which is not sent on to itself.
        @param offset: the first byte that it wants.
        @param avoided: names that it does not want.
        @return: L{None} if there is none.
        """
        usable = [
            follower
            for follower in self._by_digest.get(digest, ())
            if follower.peer.name != name
            and follower.peer.name not in avoided
            and follower.position() >= offset
        ]
        if not usable:
            return None
        chosen = min(usable, key=lambda follower: (follower.own, -follower.position()))
        chosen.own += 1
        return chosen.peer

    def counts(self) -> dict[Digest, int]:
        """
        The peers that get each blob.
        """
        return {digest: len(followers) for digest, followers in self._by_digest.items()}
