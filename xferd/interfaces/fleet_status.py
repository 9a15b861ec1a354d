# -*- test-case-name: tests.web.test_app, tests.test_interfaces -*-
"""
What people see of a fleet: its nodes, which fetches what, and the bytes that it saves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypedDict

from attrs import field, frozen
from twisted.internet.defer import Deferred
from zope.interface import Interface

OFF: Final = "off"
"""The settings name no fleet."""

SHARING: Final = "sharing"
"""This node and others share downloads."""

ALONE: Final = "alone"
"""This node works without the others, until the problem is solved."""

UPSTREAM: Final = "upstream"
PEER: Final = "peer"
STORE: Final = "store"


class FleetNodeJSON(TypedDict):
    """
    A node: its name, its URL, its version of xferd, when it started by its own clock, and,
    at most some minutes ago, the number of its running transfers and the bytes that it got
    from peers since its start.
    """

    name: str
    url: str
    version: str
    since: str
    load: int
    saved: int


class FleetClaimJSON(TypedDict):
    """
    A blob that a node fetches from a registry for all: its digest and size, the node's
    name, and the registry with the repository.
    """

    digest: str
    size: int
    node: str
    source: str


class PeerTroubleJSON(TypedDict):
    """
    A peer that did not deliver in the last ten minutes, and the reason, a sentence.
    """

    node: str
    why: str


class PeerPrefetchJSON(TypedDict):
    """
    A node that has begun to prefetch an image, and the ID of its job.
    """

    node: str
    job: str


class FleetJSON(TypedDict):
    """
    The fleet, as this node sees it.

    C{state} is L{OFF}, L{SHARING} or L{ALONE}; C{problem} is a sentence, or L{None}.
    C{name} and C{url} are those of this node, empty without a fleet.  C{bytes} are those
    of this node since its start: by source, and C{sent} to peers.  C{left_out} are the
    peers that sent wrong bytes in the last hour.
    """

    state: str
    problem: str | None
    name: str
    url: str
    nodes: list[FleetNodeJSON]
    claims: list[FleetClaimJSON]
    bytes: dict[str, int]
    takeovers: int
    left_out: list[str]
    troubles: list[PeerTroubleJSON]


NO_FLEET: Final[FleetJSON] = {
    "state": OFF,
    "problem": None,
    "name": "",
    "url": "",
    "nodes": [],
    "claims": [],
    "bytes": {UPSTREAM: 0, PEER: 0, STORE: 0, "sent": 0},
    "takeovers": 0,
    "left_out": [],
    "troubles": [],
}
"""What a daemon without a fleet reports."""


@frozen
class FleetCounts:
    """
    Counters of this node, since the start of the daemon.

    @ivar received: bytes of blobs by source: L{UPSTREAM}, L{PEER} or L{STORE}.
    @ivar sent: bytes that peers got.
    @ivar takeovers: claims that this node took over from nodes that did not deliver.
    @ivar available: whether etcd answers.
    @ivar left_out: the peers that sent wrong bytes.
    """

    received: Mapping[str, int] = field(factory=dict)
    sent: int = 0
    takeovers: int = 0
    available: bool = False
    left_out: int = 0


class IFleet(Interface):
    """
    The fleet of this node, for people.
    """

    def describe() -> Deferred[FleetJSON]:
        """
        The state of the fleet.

        @return: fires within seconds, and without an error: where the nodes cannot be
            listed, the reason is in C{problem}.  Cancelling ends the wait.
        """

    def prefetch(reference: str, platform: str | None, nodes: int) -> Deferred[list[PeerPrefetchJSON]]:
        """
        Have other nodes fetch an image for the clients of their registries.

        @param platform: as for L{IJobs.prefetch<xferd.interfaces.jobs.IJobs.prefetch>}.
        @param nodes: their number, without this one.
        @return: fires with those that have begun; fewer if there are not so many.
            Cancelling ends it; nodes that have begun continue.
        @raise BadInput: this node is in no fleet.
        @raise BadReference: C{reference} is not a reference.
        @raise CoordinationUnavailable: the nodes cannot be listed.
        """

    def counts() -> FleetCounts:
        """
        The counters, at once.
        """
