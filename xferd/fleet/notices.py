# -*- test-case-name: tests.fleet.test_downloads -*-
"""
What a node lets its peers know of its downloads.  Nothing depends on it: a notice may be
lost.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from xferd.fleet.guide import Guide
from xferd.fleet.known import KnownNodes
from xferd.fleet.peer_client import PeerClient
from xferd.interfaces.fleet import Claim, Peer
from xferd.names import Digest
from xferd.transfer.eventual import Background


class Notices:
    """
    The notices of one node.

    Life cycle: made; any number of notices; L{stop}ped.
    """

    def __init__(self, known: KnownNodes, guide: Guide, client: PeerClient, own: Peer) -> None:
        self._known = known
        self._guide = guide
        self._client = client
        self._own = own
        self._background = Background()

    def taken(self, claim: Claim, offset: int) -> None:
        """
        Let the owner of a claim know that it was taken over.

        @param offset: from where on the blob is fetched here.
        """
        if not self._client.usable(claim.owner):
            telling = self._client.tell_taken(claim.owner, claim.digest, offset)
            self._background.spawn(telling, "while a notice of a claim is sent")

    def fetching(self, digest: Digest) -> None:
        """
        Let the node that others ask when the coordination does not answer them know that
        this one fetches a blob.
        """
        for guide in self._known.order(digest)[:1]:
            if guide.name == self._own.name:
                self._guide.note(digest, self._own)
            elif not self._client.usable(guide):
                telling = self._client.tell_fetching(guide, digest)
                self._background.spawn(telling, "while a notice of a blob is sent")

    def stop(self) -> Deferred[None]:
        """
        Cancel those that are being sent.

        @return: fires when they have ended.
        """
        return self._background.stop()
