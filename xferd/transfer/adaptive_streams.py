# -*- test-case-name: tests.transfer.test_adaptive_streams -*-
"""
Whether one more stream makes a transfer faster: tried where there is enough
left to gain, kept where it does, remembered where it does not.

Pure: told the time and what has moved, it gives advice.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import define, field, frozen
from attrs.validators import ge

from xferd.transfer.pauses import ROUNDING

_MEBI: Final = 1024 * 1024


@frozen
class RangePolicy:
    """
    When a blob is fetched by several streams.

    @ivar most: streams for one blob; 1 for no further ones.
    @ivar window: seconds over which a rate is taken.
    @ivar gain: how much faster, as a share of the rate before, a further
        stream must make it all.  Of many streams, one more cannot bring so
        much: half of its fair share will do.
    @ivar fast: bytes a second from which on nothing is tried.
    @ivar least: bytes that must be left.
    @ivar lasting: seconds that these must take at the present rate.
    @ivar part: the fewest bytes that are worth a request.
    @ivar memory: seconds for which a host that gave no more is left alone.
    """

    most: int = field(default=4, validator=ge(1))
    window: float = 1.0
    gain: float = 0.2
    fast: float = 100e6
    least: int = 16 * _MEBI
    lasting: float = 2.0
    part: int = 4 * _MEBI
    memory: float = 600.0


@define
class StreamTrials:
    """
    What further streams taught about each host, for all transfers together.
    """

    _until: dict[str, float] = field(factory=dict, init=False)
    _trying: set[str] = field(factory=set, init=False)

    def may_try(self, host: str, now: float) -> bool:
        """
        Whether a further stream may be tried: one at a time, or each would
        take the other's bytes for its own.
        """
        self._until = {h: until for h, until in self._until.items() if until > now}
        return host not in self._until and host not in self._trying

    def begin(self, host: str) -> None:
        """
        A trial begins.
        """
        self._trying.add(host)

    def end(self, host: str) -> None:
        """
        A trial is over.
        """
        self._trying.discard(host)

    def avoid(self, host: str, until: float) -> None:
        """
        Further streams bring nothing at a host.
        """
        self._until[host] = until


class Advice(Enum):
    """
    What to do now.
    """

    STAY = "stay"
    WIDEN = "widen"
    NARROW = "narrow"


class AdaptiveStreams:
    """
    The measuring of one transfer.

    States: I{measuring} the streams that there are; I{opening} a further one;
    I{trying} it, from its first byte on.
    """

    def __init__(self, policy: RangePolicy, lessons: StreamTrials, host: str) -> None:
        self._policy = policy
        self._lessons = lessons
        self._host = host
        self._state = "measuring"
        self._since = 0.0
        self._moved = 0
        self._rate: float | None = None
        self._before = 0.0
        self._windows = 0

    @property
    def in_trial(self) -> bool:
        """
        Whether a further stream has still to show what it brings.
        """
        return self._state != "measuring"

    def begin(self, now: float, moved: int) -> None:
        """
        Measure from now on, as the streams are others than before.

        @param moved: the bytes that have come up to now.
        """
        self._end_trial()
        self._mark(now, moved)
        self._rate = None

    def look(self, now: float, moved: int, left: int, streams: int) -> Advice:
        """
        Look how fast it goes, at the end of each window.

        @param left: the bytes that are still to come.
        @param streams: how many bring them.
        @return: C{WIDEN}: open a further stream, if that can be, and say so
            by L{opening}.  C{NARROW}: close the one that is being tried.
        """
        elapsed = now - self._since
        if self._state == "opening" or elapsed < self._policy.window - ROUNDING:
            return Advice.STAY
        rate, before = (moved - self._moved) / elapsed, self._rate
        self._rate = rate
        self._mark(now, moved)
        if self._state == "trying":
            return self._judge(rate, now, streams)
        # A rate that still grows by itself would speak for the new stream.
        if not before or rate > before * (1 + self._policy.gain) or streams >= self._policy.most:
            return Advice.STAY
        if rate >= self._policy.fast or left < max(self._policy.least, rate * self._policy.lasting):
            return Advice.STAY
        if not self._lessons.may_try(self._host, now):
            return Advice.STAY
        self._before = max(rate, before)
        return Advice.WIDEN

    def opening(self) -> None:
        """
        A further stream is being opened.
        """
        self._state = "opening"
        self._lessons.begin(self._host)

    def flowing(self, now: float, moved: int) -> None:
        """
        The further stream brings its first bytes.
        """
        if self._state == "opening":
            self._state = "trying"
            self._windows = 0
            self._mark(now, moved)

    def refused(self, now: float, moved: int) -> None:
        """
        The host would not give a further stream, or broke it: it is left
        alone for a while.
        """
        self._lessons.avoid(self._host, now + self._policy.memory)
        self.begin(now, moved)

    def end(self) -> None:
        """
        Measure no more.
        """
        self._end_trial()

    def _judge(self, rate: float, now: float, streams: int) -> Advice:
        """
        See what the further stream has brought.
        """
        self._windows += 1
        if self._windows < 2:
            # In the first window it has come up to speed.
            return Advice.STAY
        self._end_trial()
        gain = min(self._policy.gain, 0.5 / max(1, streams - 1))
        if rate >= self._before * (1 + gain):
            return Advice.STAY
        self._lessons.avoid(self._host, now + self._policy.memory)
        self._rate = None
        return Advice.NARROW

    def _mark(self, now: float, moved: int) -> None:
        self._since, self._moved = now, moved

    def _end_trial(self) -> None:
        if self.in_trial:
            self._state = "measuring"
            self._lessons.end(self._host)
