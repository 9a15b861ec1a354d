# -*- test-case-name: tests.transfer.test_retry -*-
"""
Retry policies: how often a failed attempt is followed by another, and when.
"""

from __future__ import annotations

from random import Random

from attrs import field, frozen
from attrs.validators import and_, ge, instance_of, le

_MAX_DOUBLINGS = 60
"""More would overflow a float long after any cap has been reached."""


@frozen
class RetryPolicy:
    """
    When a failed attempt is followed by another.

    @ivar attempts: how many attempts a source gets in all; 1 for no second one.
    @ivar base: seconds before the second attempt; doubled for each further one.
    @ivar cap: the most seconds between two attempts, unless the source asks
        for more.
    @ivar jitter: the random part of each delay, 0 to 1, so that many transfers
        do not return at the same time.
    @ivar reset_on_progress: whether
        L{real progress <xferd.real_progress.is_real_progress>} gives the source
        all its attempts back.  A large blob over a bad line needs it.
    @ivar patience: the longest C{Retry-After} of a source, in seconds, that is
        waited for.  A source that asks for more has failed.
    """

    attempts: int = field(default=5, validator=and_(instance_of(int), ge(1)))
    base: float = field(default=1.0, converter=float, validator=ge(0))
    cap: float = field(default=60.0, converter=float, validator=ge(0))
    jitter: float = field(default=0.2, converter=float, validator=and_(ge(0), le(1)))
    reset_on_progress: bool = True
    patience: float = field(default=600.0, converter=float, validator=ge(0))

    def delay(self, attempt: int, random: Random) -> float:
        """
        The seconds to wait after the C{attempt}th failure in a row.

        Jitter only shortens the delay: C{cap} holds, and transfers that have
        reached it still return at different times.
        """
        longest = min(self.cap, self.base * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS))
        return longest * (1 - self.jitter * random.random())
