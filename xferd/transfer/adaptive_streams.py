# -*- test-case-name: tests.transfer.test_adaptive_streams -*-
"""
Adaptive streams: whether one more stream makes a transfer faster.

It is tried where enough is left to gain, kept where it gains, and remembered
for a while where it does not.  Pure: it is passed the time and the bytes.
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

    @ivar most: the most streams for one blob; 1 for no further ones.
    @ivar window: seconds over which a rate is measured.
    @ivar gain: the part of the rate before by which a further stream must raise
        it.  One more of many streams cannot gain as much: half of its fair
        share is enough.
    @ivar fast: bytes per second from which on no further stream is tried.
    @ivar least: bytes that must be left.
    @ivar lasting: seconds that these must take at the present rate.
    @ivar part: the fewest bytes that are worth a request.
    @ivar memory: seconds for which none is tried at a host where one gained
        nothing.
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
    The trials of further streams at each host, of all transfers together.
    """

    _until: dict[str, float] = field(factory=dict, init=False)
    _trying: set[str] = field(factory=set, init=False)

    def may_try(self, host: str, now: float) -> bool:
        """
        Whether a further stream may be tried.  One at a time: two trials would
        measure each other's bytes.
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
        Try none at a host until then, as one gained nothing.
        """
        self._until[host] = until


class Advice(Enum):
    """
    What L{AdaptiveStreams.look} advises.
    """

    STAY = "stay"
    WIDEN = "widen"
    NARROW = "narrow"


class AdaptiveStreams:
    """
    Measures the streams of one transfer.

    States::

        measuring --opening--> opening --flowing--> trying --look--> measuring
        opening, trying --begin, refused, end--> measuring

      - C{measuring}: the present streams are measured.
      - C{opening}: a further one was requested.
      - C{trying}: it has had its first byte, and is measured.
    """

    def __init__(self, policy: RangePolicy, trials: StreamTrials, host: str) -> None:
        self._policy = policy
        self._trials = trials
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
        Whether a further stream is opening or being tried.
        """
        return self._state != "measuring"

    def begin(self, now: float, moved: int) -> None:
        """
        Measure from now on, as the streams have changed.

        @param moved: the bytes that have arrived up to now.
        """
        self._end_trial()
        self._mark(now, moved)
        self._rate = None

    def look(self, now: float, moved: int, left: int, streams: int) -> Advice:
        """
        Measure the rate, at the end of each window.

        @param left: the bytes that have not arrived.
        @param streams: the number of streams.
        @return: C{WIDEN}: open a further stream, if that is possible, and call
            L{opening}.  C{NARROW}: close the one that is being tried.
        """
        elapsed = now - self._since
        if self._state == "opening" or elapsed < self._policy.window - ROUNDING:
            return Advice.STAY
        rate, before = (moved - self._moved) / elapsed, self._rate
        self._rate = rate
        self._mark(now, moved)
        if self._state == "trying":
            return self._judge(rate, now, streams)
        # A rate that still grows by itself would count as the new stream's gain.
        if not before or rate > before * (1 + self._policy.gain) or streams >= self._policy.most:
            return Advice.STAY
        if rate >= self._policy.fast or left < max(self._policy.least, rate * self._policy.lasting):
            return Advice.STAY
        if not self._trials.may_try(self._host, now):
            return Advice.STAY
        self._before = max(rate, before)
        return Advice.WIDEN

    def opening(self) -> None:
        """
        A further stream was requested.
        """
        self._state = "opening"
        self._trials.begin(self._host)

    def flowing(self, now: float, moved: int) -> None:
        """
        The first bytes of the further stream have arrived.
        """
        if self._state == "opening":
            self._state = "trying"
            self._windows = 0
            self._mark(now, moved)

    def refused(self, now: float, moved: int) -> None:
        """
        The host refused the further stream, or broke it off: none is tried
        there for a while.
        """
        self._trials.avoid(self._host, now + self._policy.memory)
        self.begin(now, moved)

    def end(self) -> None:
        """
        Stop measuring.
        """
        self._end_trial()

    def _judge(self, rate: float, now: float, streams: int) -> Advice:
        """
        Decide whether the further stream has gained enough.
        """
        self._windows += 1
        if self._windows < 2:
            # In the first window it reaches its speed.
            return Advice.STAY
        self._end_trial()
        gain = min(self._policy.gain, 0.5 / max(1, streams - 1))
        if rate >= self._before * (1 + gain):
            return Advice.STAY
        self._trials.avoid(self._host, now + self._policy.memory)
        self._rate = None
        return Advice.NARROW

    def _mark(self, now: float, moved: int) -> None:
        self._since, self._moved = now, moved

    def _end_trial(self) -> None:
        if self.in_trial:
            self._state = "measuring"
            self._trials.end(self._host)
