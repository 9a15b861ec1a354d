# -*- test-case-name: tests.fleet.test_followers -*-
"""
The peers that follow a blob here, and which of them can send it to others.

A node sends one blob to few peers at a time.  It sends further ones on to those, so
that a tree forms: no node's uplink is used for more than its share.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from attrs import define

from xferd.interfaces.fleet import Peer
from xferd.names import Digest

STALLED: Final = 4.0
"""Seconds after which a follower that takes none of the bytes that are here holds no
place any more.  Those that wait for it leave it a second later."""


@define(eq=False)
class Follower:
    """
    One answer that is being sent.

    @ivar peer: the peer that gets it.
    @ivar position: the offset of the next byte that it will take.
    @ivar moved: when it took the last one, by the clock.
    @ivar own: how many peers were sent on to this one.
    """

    peer: Peer
    position: int
    moved: float
    own: int = 0


class Followers:
    """
    The answers that are being sent, by blob.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        """
        @param most: the peers that get one blob at the same time.
        @param clock: returns monotonic seconds.
        """
        self.most = most
        self._clock = clock
        self._by_digest: dict[Digest, list[Follower]] = {}

    def is_full(self, digest: Digest, here: int) -> bool:
        """
        Whether no further peer can get a blob here.

        @param here: the bytes of it that are here.
        """
        return len(self._active(digest, here)) >= self.most

    def add(self, digest: Digest, peer: Peer, start: int) -> Follower:
        """
        A peer begins to get a blob.

        @param start: the offset of its first byte.
        """
        follower = Follower(peer, start, self._clock())
        self._by_digest.setdefault(digest, []).append(follower)
        return follower

    def moved(self, follower: Follower, size: int) -> None:
        """
        A follower has taken bytes.
        """
        follower.position += size
        follower.moved = self._clock()

    def remove(self, digest: Digest, follower: Follower) -> None:
        """
        An answer is over.  Idempotent.
        """
        left = self._by_digest.get(digest, [])
        if follower in left:
            left.remove(follower)
            if not left:
                del self._by_digest[digest]

    def choose(
        self, digest: Digest, here: int, name: str, offset: int, avoided: Collection[str]
    ) -> Peer | None:
        """
        The follower that a further peer is sent on to: of those that have what it
        wants the one with the fewest of its own, then the one that is farthest.

        @param here: the bytes of the blob that are here.
        @param name: the further peer, which is not sent on to itself.
        @param offset: the first byte that it wants.
        @param avoided: names that it does not want.
        @return: L{None} if there is none.
        """
        usable = [
            follower
            for follower in self._active(digest, here)
            if follower.peer.name != name
            and follower.peer.name not in avoided
            and follower.position >= offset
        ]
        if not usable:
            return None
        chosen = min(usable, key=lambda follower: (follower.own, -follower.position))
        chosen.own += 1
        return chosen.peer

    def counts(self) -> dict[Digest, int]:
        """
        The peers that get each blob.
        """
        return {digest: len(followers) for digest, followers in self._by_digest.items()}

    def _active(self, digest: Digest, here: int) -> list[Follower]:
        """
        The followers that take bytes, or have taken all that are here.
        """
        since = self._clock() - STALLED
        return [f for f in self._by_digest.get(digest, ()) if f.moved > since or f.position >= here]
