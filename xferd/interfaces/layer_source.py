# -*- test-case-name: tests.test_interfaces -*-
"""
Layers that the daemon provides for the snapshots of engines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from attrs import field, frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.credentials import Credentials
from xferd.names import Digest, Reference

STORED: Final = "stored"
PULLED: Final = "pulled"
DECLINED: Final = "declined"


class NotProvided(Exception):
    """
    xferd does not provide a layer; the text is the reason.
    """


@frozen
class WantedLayer:
    """
    A layer that an engine asks for.

    @ivar chain_id: its chain ID.
    @ivar image: the image to pull it with, by digest; L{None} if the engine has not
        named one.
    @ivar named: the reference as the engine has it.
    """

    chain_id: Digest
    image: Reference | None = None
    named: str = ""


@frozen
class Promise:
    """
    A layer that is in the store, and stays there until a snapshot of it is recorded or
    can no longer be.

    @ivar number: to be passed to
        L{ISnapshotTable.put<xferd.interfaces.snapshots.ISnapshotTable.put>}.
    @ivar size: the bytes in the layer's tree.
    @ivar how: C{stored} or C{pulled}.
    @ivar release: to be called once the snapshot is recorded, or is not going to be.
    """

    number: int
    size: int
    how: str
    release: Callable[[], object] = field(eq=False)


class ILayerSource(Interface):
    """
    Provides layers to engines.
    """

    away: bool = Attribute("Whether it answers only after a while, if at all.")

    def obtain(
        engine: str,
        wanted: WantedLayer,
        below: Digest | None,
        credentials: Mapping[str, Credentials],
    ) -> Deferred[Promise]:
        """
        Obtain a layer: from the store, or by a pull.  It can be repeated.

        @param engine: the name of the engine.
        @param below: the layer of the store that it has to stand on.
        @param credentials: those that a client has sent, by registry host.
        @return: cancelling ends the wait.
        @raise NotProvided: the engine has to unpack the layer itself.
        """
