# -*- test-case-name: tests.fleet.test_peer_client -*-
"""
The body of a peer's answer.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from xferd.fleet.frames import FrameReader
from xferd.interfaces.peers import IPeerBody
from xferd.interfaces.registry import IBlobBody


@implementer(IPeerBody)
@define(eq=False)
class PeerBody:
    """
    A body, and who sends it.

    @ivar origin: see L{IPeerBody}.
    @ivar name: the peer that sends it, which may be another one than the one asked.
    @ivar depth: how many peers the bytes pass before this node.
    @ivar verified: whether the peer has verified them.
    """

    _body: IBlobBody
    total: int | None
    origin: str
    name: str
    depth: int
    verified: bool
    _moved: Callable[[int], None]
    _frames: FrameReader | None = None
    start: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.start = self._body.start

    def deliver(self, sink: Callable[[bytes], Deferred[None] | None]) -> Deferred[None]:
        def counted(data: bytes) -> Deferred[None] | None:
            if self._frames is not None:
                # Also the bytes of a frame that is not complete are a sign of life.
                self._moved(0)
                data = b"".join(self._frames.read(data))
            self._moved(len(data))
            return sink(data) if data else None

        return self._body.deliver(counted)

    def abandon(self) -> None:
        self._body.abandon()
