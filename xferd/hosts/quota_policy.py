# -*- test-case-name: tests.hosts.test_quota_policy -*-
"""
The policy for a registry's quota: which requests are made while it is low, and
how far apart.

Pure: it has no clock.
"""

from __future__ import annotations

from attrs import evolve, field, frozen
from attrs.validators import and_, ge, le

from xferd.interfaces.hosts import Quota


@frozen
class QuotaPolicy:
    """
    A quota is low when what is left reaches the I{floor}.  Then

      - requests that their callers can do without, such as the check whether a
        tag has moved, are refused, but for one in C{recheck} seconds: at Docker
        Hub such a check costs nothing, and its response shows the current quota;
      - requests that a client waits for start at intervals, so that what is left
        lasts for the rest of the window; the interval has a limit, because a
        person may wait.  Where the quota is used up, the next one waits
        for its reset, if that is near.

    All ages are seconds since the response that named the quota.

    @ivar floor: the share of the limit that is kept for requests that a client
        waits for.
    @ivar least: the floor in requests where the limit is not known.
    @ivar longest: the longest interval between two starts, in seconds.
    @ivar patience: the longest wait for the reset of a used-up quota, in
        seconds.
    @ivar recheck: see above.
    @ivar unknown: seconds for which a quota is believed whose response names
        neither its window nor its reset.
    """

    floor: float = field(default=0.1, validator=and_(ge(0.0), le(1.0)))
    least: int = field(default=5, validator=ge(0))
    longest: float = field(default=10.0, validator=ge(0.0))
    patience: float = field(default=60.0, validator=ge(0.0))
    recheck: float = field(default=900.0, validator=ge(0.0))
    unknown: float = field(default=60.0, validator=ge(0.0))

    def left(self, quota: Quota, age: float) -> float:
        """
        The seconds until a quota is whole again; 0 if it is.

        Windows without a reset, such as Docker Hub's, slide.  The last response
        is as old as the window when the quota is whole for sure.
        """
        lasts = quota.reset if quota.reset is not None else quota.window
        return max((self.unknown if lasts is None else lasts) - age, 0.0)

    def at(self, quota: Quota, age: float) -> Quota | None:
        """
        The quota as it is at an age; L{None} if it is whole again.
        """
        if not self.left(quota, age):
            return None
        return quota if quota.reset is None else evolve(quota, reset=quota.reset - age)

    def is_low(self, quota: Quota, age: float) -> bool:
        """
        Whether what is left has reached the floor.
        """
        floor = self.least if quota.limit is None else self.floor * quota.limit
        return quota.remaining <= floor and self.left(quota, age) > 0

    def rechecks(self, quota: Quota, age: float) -> bool:
        """
        Whether one request that its caller can do without may be made, though
        the quota is low.

        @param age: seconds since the last such request, or since the response.
        """
        return quota.remaining > 0 and age >= self.recheck

    def interval(self, quota: Quota, age: float) -> float:
        """
        The seconds between two starts of requests that a client waits for; 0
        for no interval.
        """
        if not self.is_low(quota, age):
            return 0.0
        left = self.left(quota, age)
        if not quota.remaining and quota.reset is not None and left <= self.patience:
            return left
        return min(left / max(quota.remaining, 1), self.longest)
