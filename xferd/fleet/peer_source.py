# -*- test-case-name: tests.fleet.test_downloads -*-
"""
A peer as a source of one blob.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Protocol

from twisted.internet.defer import Deferred
from zope.interface import implementer

from xferd.errors import SourceError
from xferd.fleet.peer_client import PeerClient
from xferd.fleet.peer_messages import host_of, peer_of
from xferd.interfaces.fleet import Peer
from xferd.interfaces.peers import IPeerSource
from xferd.interfaces.registry import IBlobBody, IBlobSource
from xferd.names import Digest


class PeerUser(Protocol):
    """
    The download that a peer sends bytes for.
    """

    def avoided(self) -> Collection[str]:
        """
        The names of the peers to which a busy one should not send us on.
        """

    def began(self, depth: int) -> None:
        """
        A peer has begun to answer.

        @param depth: how many peers its bytes pass before this node.
        """

    def moved(self, size: int) -> None:
        """
        A peer has sent bytes.
        """

    def wrong(self, name: str) -> None:
        """
        A peer has sent wrong bytes.
        """


@implementer(IPeerSource)
class PeerSource:
    """
    A peer, or the one that a busy peer sends us on to.

    @ivar peer: the peer that is asked.
    @ivar sender: the name of the one that answers.
    @ivar depth: how many peers its bytes pass before this node; 0 before it
        answers.
    """

    def __init__(
        self,
        user: PeerUser,
        client: PeerClient,
        peer: Peer,
        registry: IBlobSource,
        *,
        size: int | None = None,
        is_first: bool = False,
    ) -> None:
        """
        @param size: see L{PeerClient.open}.
        @param is_first: whether all others ask this node first about the blob: then the
            peer may follow it, and is to send only what the coordination knows of.
        """
        self.peer = peer
        self.sender = peer.name
        self.registry = registry
        self.account: Hashable = None
        self.origin = ""
        self.depth = 0
        self._verified = False
        self._user = user
        self._client = client
        self._size = size
        self._is_first = is_first

    @property
    def host(self) -> str:
        """
        See L{ISource<xferd.interfaces.transfer.ISource>}.
        """
        return host_of(self.sender)

    @property
    def label(self) -> str:
        """
        See L{ISource<xferd.interfaces.transfer.ISource>}.
        """
        return host_of(self.sender)

    @property
    def identity(self) -> Hashable:
        """
        See L{ISource<xferd.interfaces.transfer.ISource>}.
        """
        return host_of(self.sender)

    def appoints(self, name: str) -> bool:
        """
        Whether an answer 404 of a peer means that this node fetches the blob.
        """
        return self._size is not None and name == self.peer.name

    def open(self, digest: Digest, offset: int, end: int | None = None) -> Deferred[IBlobBody]:
        return Deferred.fromCoroutine(self._open(digest, offset, end))

    def confirm(self, digest: Digest) -> Deferred[int | None]:
        return self.registry.confirm(digest)

    def distrust(self, digest: Digest) -> None:  # noqa: ARG002 - one wrong blob is enough
        # Others are to blame for bytes that the peer passed on before it could verify them.
        if self._verified:
            self._user.wrong(self.sender)

    async def _open(self, digest: Digest, offset: int, end: int | None) -> IBlobBody:
        user = self._user
        try:
            body = await self._client.open(
                self.peer,
                digest,
                offset,
                end,
                origin=self.registry.origin,
                avoided={*user.avoided(), self.peer.name} if self._is_first else user.avoided(),
                moved=user.moved,
                size=self._size,
            )
        except SourceError as e:
            self.sender = peer_of(e.host) or self.sender
            raise
        self.sender, self.depth, self._verified = body.name, body.depth, body.verified
        user.began(body.depth)
        return body
