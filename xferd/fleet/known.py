# -*- test-case-name: tests.fleet.test_known -*-
"""
The nodes that this one has heard of: which to ask when the coordination does not answer.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from xferd.errors import CoordinationUnavailable
from xferd.interfaces.fleet import ICoordination, Peer
from xferd.names import Digest
from xferd.transfer.eventual import Background

AGAIN: Final = 300.0
"""Seconds after which the nodes are listed again: etcd sends some hundred bytes for each."""

FIRST: Final = 0.5
"""Seconds after which they are listed first; while no other node is known, again after
twice the time."""


class KnownNodes:
    """
    The nodes of the fleet, this one among them, as they were listed last.

    Each node lists them alike, so that all ask the same one about a blob: the one
    with the lowest hash of its name and the blob ("rendezvous hashing", Thaler and
    Ravishankar, 1998).

    Life cycle: made; L{start}ed; L{stop}ped.
    """

    def __init__(self, coordination: ICoordination, own: Peer, clock: IReactorTime) -> None:
        self._coordination = coordination
        self._own = own
        self._clock = clock
        self._peers: tuple[Peer, ...] = ()
        self._timer: IDelayedCall | None = None
        self._background = Background()

    def start(self) -> None:
        """
        List the nodes from time to time.
        """
        self._timer = self._clock.callLater(FIRST, self._refresh, FIRST)

    def stop(self) -> Deferred[None]:
        """
        End that.  Idempotent.
        """
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        return self._background.stop()

    def others(self) -> list[Peer]:
        """
        The other nodes.
        """
        return [peer for peer in self._peers if peer.name != self._own.name]

    def order(self, digest: Digest) -> list[Peer]:
        """
        The nodes to ask about a blob, the first one first; empty if no other node is
        known.
        """
        others = self.others()
        if not others:
            return []
        return sorted(
            [self._own, *others], key=lambda peer: sha256(f"{digest} {peer.name}".encode()).digest()
        )

    def _refresh(self, after: float) -> None:
        self._background.spawn(Deferred.fromCoroutine(self._list(after)), "while nodes are listed")

    async def _list(self, after: float) -> None:
        again = min(after * 2, AGAIN)
        try:
            if not self._coordination.available:
                again = after
            else:
                self._peers = tuple(node.peer for node in await self._coordination.nodes())
                if self.others():
                    again = AGAIN
        except CoordinationUnavailable:
            pass
        self._timer = self._clock.callLater(again, self._refresh, again)
