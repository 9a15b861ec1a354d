# -*- test-case-name: tests.test_rates -*-
"""
Bandwidths as people write them: a number of bytes per second, a text with a unit, or a timetable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from attrs import frozen

MOST: Final = 10**15
"""The largest number of bytes a second."""

ELSE: Final = "else"
"""The key of a timetable with the rate at all other times."""

MOST_SPANS: Final = 48
"""The most spans of one timetable."""

_DAY: Final = 24 * 60
_UNITS: Final = {
    prefix: factor
    for exponent, letter in enumerate(("", "k", "m", "g", "t"))
    for prefix, factor in ((letter, 1000**exponent), (f"{letter}i" if letter else "", 1024**exponent))
}
# "20Mb/s" would be bits in other places, so a small b is refused.
_TEXT: Final = re.compile(
    r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,3})?) ?(?P<unit>[kKMGT]i?|)(?P<byte>B?)(?P<second>/s|)"
)
_SPAN: Final = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")


def parse_rate(value: object) -> int:
    """
    Read a number of bytes per second, or a text with a unit: C{20MB/s}, C{1.5Gi}, C{0}.

    @raise ValueError: the value is neither; the message follows the name of the value.
    """
    if type(value) is int and 0 <= value <= MOST:
        return value
    if isinstance(value, str):
        match = _TEXT.fullmatch(value.strip())
        if match is not None:
            number = float(match["number"]) * _UNITS[match["unit"].lower()]
            if number == int(number) and number <= MOST:
                return int(number)
        raise ValueError(f"must be bytes per second, such as 20MB/s, 500kB/s or 0, not {_shown(value)}")
    # A boolean is an int, too.
    raise ValueError(f"must be a whole number from 0 to {MOST}, not {_shown(value)}")


@frozen
class Span:
    """
    A time of day with its rate.

    @ivar begin: minutes since midnight, local time.
    @ivar end: the exclusive end; before C{begin} if it is on the next day.
    """

    begin: int
    end: int
    rate: int

    def __str__(self) -> str:
        return "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in (self.begin, self.end))

    @classmethod
    def parse(cls, text: str, rate: object) -> Span:
        """
        Read C{08:00-18:00}, or C{22:00-06:00}, over midnight.

        @raise ValueError: the text is not a span, or the value not a rate.
        """
        match = _SPAN.fullmatch(text)
        numbers = [] if match is None else [int(number) for number in match.groups()]
        if not numbers or max(numbers[1], numbers[3]) > 59:
            raise ValueError(f"has {_shown(text)}: write times of day as 08:00-18:00, or {ELSE}")
        begin, end = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]
        if begin >= _DAY or end > _DAY:
            raise ValueError(f"has {_shown(text)}: a day is from 00:00 to 24:00")
        if begin == end:
            raise ValueError(f"has {_shown(text)}, which has no length: for a whole day write {ELSE}")
        try:
            return cls(begin, end, parse_rate(rate))
        except ValueError as e:
            raise ValueError(f"has for {text} a rate that {e}") from e

    def parts(self) -> tuple[range, ...]:
        """
        Its minutes within one day.
        """
        if self.begin < self.end:
            return (range(self.begin, self.end),)
        return range(self.begin, _DAY), range(self.end)


@frozen
class Rate:
    """
    A bandwidth, which may depend on the time of day.

    Only the time of day counts: when summer time skips an hour, its rate does not apply;
    when an hour occurs twice, its rate applies both times.

    @ivar usual: bytes per second; 0 for no limit.
    @ivar spans: the times of day with another rate.
    """

    usual: int = 0
    spans: tuple[Span, ...] = ()

    @classmethod
    def of(cls, value: object) -> Rate:
        """
        Read a rate: see L{parse_rate}; or C{{"08:00-18:00": "20MB/s", "else": 0}}.

        @raise ValueError: the value is not a rate; the message follows the name of the value.
        """
        if isinstance(value, Rate):
            return value
        if not isinstance(value, Mapping):
            return cls(parse_rate(value))
        if len(value) > MOST_SPANS:
            raise ValueError(f"has more than {MOST_SPANS} times of day")
        spans = [Span.parse(text, rate) for text, rate in value.items() if text != ELSE]
        taken: dict[int, Span] = {}
        for span in spans:
            for part in span.parts():
                for minute in part:
                    other = taken.setdefault(minute, span)
                    if other is not span:
                        raise ValueError(f"has {other} and {span}, which overlap: each time has one rate")
        try:
            return cls(parse_rate(value.get(ELSE, 0)), tuple(spans))
        except ValueError as e:
            raise ValueError(f"has for {ELSE} a rate that {e}") from e

    def at(self, minute: int) -> int:
        """
        The bytes per second at a minute of the day, local time.
        """
        for span in self.spans:
            if any(minute in part for part in span.parts()):
                return span.rate
        return self.usual

    def setting(self) -> int | dict[str, int]:
        """
        The value that L{of} accepts, for JSON.
        """
        if not self.spans:
            return self.usual
        return {**{str(span): span.rate for span in self.spans}, ELSE: self.usual}

    def __bool__(self) -> bool:
        return bool(self.usual or self.spans)


NO_LIMIT: Final = Rate()
"""The rate without a limit."""


def local_minute(seconds: float) -> int:
    """
    The minute of the day, in the local time zone, of a time since the epoch.
    """
    now = datetime.fromtimestamp(seconds).astimezone()
    return now.hour * 60 + now.minute


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
