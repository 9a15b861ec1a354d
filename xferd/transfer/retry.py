# -*- test-case-name: tests.transfer.test_retry -*-
"""
How often to try again, and after how long: data, not code.
"""

from __future__ import annotations

from random import Random
from typing import Final

from attrs import field, frozen
from attrs.validators import and_, ge, instance_of, le

REAL_PROGRESS: Final = 64 * 1024
"""
How many new bytes, of one attempt or several, reset the count of attempts; or
all that is missing, where that is less.
"""

_MAX_DOUBLINGS = 60
"""More would overflow a float long after any cap has been reached."""


@frozen
class RetryPolicy:
    """
    When a failed attempt is followed by another.

    @ivar attempts: how many attempts a source gets in all; 1 is never again.
    @ivar base: seconds before the second attempt; doubled for each further.
    @ivar cap: the most seconds between two attempts, where the source itself
        does not ask for more.
    @ivar jitter: the part of each delay, 0 to 1, that is left to chance, so
        that many transfers do not come back in step.
    @ivar reset_on_progress: whether L{REAL_PROGRESS} gives the source all its
        attempts back.  A large blob over a bad line needs it.
    @ivar patience: the most seconds that a source's own Retry-After is waited
        for.  One that asks for more has failed.
    """

    attempts: int = field(default=5, validator=and_(instance_of(int), ge(1)))
    base: float = field(default=1.0, converter=float, validator=ge(0))
    cap: float = field(default=60.0, converter=float, validator=ge(0))
    jitter: float = field(default=0.2, converter=float, validator=and_(ge(0), le(1)))
    reset_on_progress: bool = True
    patience: float = field(default=600.0, converter=float, validator=ge(0))

    def delay(self, attempt: int, random: Random) -> float:
        """
        How long to wait after the C{attempt}th failure in a row, in seconds.

        Chance only shortens it: C{cap} holds, and those who have reached it
        still come back apart.
        """
        longest = min(self.cap, self.base * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS))
        return longest * (1 - self.jitter * random.random())
