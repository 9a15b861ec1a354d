# -*- test-case-name: tests.fleet.test_downloads -*-
"""
Whether a node is cut off from its peers.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from twisted.internet.defer import gatherResults

from xferd.fleet.known import KnownNodes
from xferd.fleet.peer_client import PeerClient
from xferd.interfaces.fleet import Peer
from xferd.names import Digest

SIGNS: Final = 3
"""The other peers that are asked for a sign of life when the owner of a claim gives none:
where none of them gives one, this node is cut off, and not the owner."""

HEARD: Final = 3.0
"""Seconds since the last byte of any peer in which this node is not cut off."""


class Reach:
    """
    What one node knows of its connections to the others.
    """

    def __init__(
        self, known: KnownNodes, client: PeerClient, clock: Callable[[], float], random: Random
    ) -> None:
        """
        @param clock: returns monotonic seconds.
        @param random: chooses among nodes.
        """
        self._known = known
        self._client = client
        self._clock = clock
        self._random = random
        self._heard = clock() - HEARD

    def heard(self) -> None:
        """
        A peer has answered.
        """
        self._heard = self._clock()

    async def is_cut_off(self, owner: Peer, digest: Digest) -> bool:
        """
        Whether no peer answers, as C{owner} does not.  With two nodes this cannot be known.
        """
        others = [peer for peer in self._known.others() if peer.name != owner.name]
        if not others or self._clock() - self._heard < HEARD:
            return False
        some = self._random.sample(others, min(SIGNS, len(others)))
        signs = await gatherResults([self._client.reaches(peer, digest) for peer in some], consumeErrors=True)
        return not any(signs)
