# -*- test-case-name: tests.web.test_app -*-
"""
A fleet of which everything is known.
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xferd.interfaces.fleet_status import NO_FLEET, FleetCounts, FleetJSON, IFleet, PeerPrefetchJSON


@implementer(IFleet)
@define(eq=False)
class FakeFleet:
    """
    A fleet in whatever state a test needs.

    @ivar state: what it reports.
    @ivar counted: its counters.
    @ivar begun: the result of C{prefetch}.
    @ivar calls: the arguments of C{prefetch}.
    """

    state: FleetJSON = field(factory=NO_FLEET.copy)
    counted: FleetCounts = field(factory=FleetCounts)
    begun: Deferred[list[PeerPrefetchJSON]] = field(factory=Deferred)
    calls: list[object] = field(factory=list)

    def describe(self) -> Deferred[FleetJSON]:
        return succeed(self.state)

    def prefetch(self, reference: str, platform: str | None, nodes: int) -> Deferred[list[PeerPrefetchJSON]]:
        self.calls.append((reference, platform, nodes))
        return self.begun

    def counts(self) -> FleetCounts:
        return self.counted
