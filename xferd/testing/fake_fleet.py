# -*- test-case-name: tests.web.test_app -*-
"""
A fleet of which everything is known.
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xferd.interfaces.fleet_status import NO_FLEET, FleetCounts, FleetJSON, IFleet


@implementer(IFleet)
@define(eq=False)
class FakeFleet:
    """
    A fleet in whatever state a test needs.

    @ivar state: what it reports.
    @ivar counted: its counters.
    """

    state: FleetJSON = field(factory=NO_FLEET.copy)
    counted: FleetCounts = field(factory=FleetCounts)

    def describe(self) -> Deferred[FleetJSON]:
        return succeed(self.state)

    def counts(self) -> FleetCounts:
        return self.counted
