# -*- test-case-name: tests.ctl.test_text -*-
"""
Sizes, times and names as text for a terminal.

The daemon's answers contain text from registries, images and other clients.
L{clean} makes it safe to print.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_SPANS = (
    (60, "second"),
    (60, "minute"),
    (24, "hour"),
    (7, "day"),
    (4.345, "week"),
    (12, "month"),
    (float("inf"), "year"),
)
_ARROW = " -> "
_SECONDS = re.compile(r"\b([0-9]+) s\b")
_LASTING = timedelta(seconds=3)
"""The time from which a wait is worth the moment at which it began."""

_NARROWEST = 8
"""Characters of two names, at least, for a text with both."""


def clean(value: object) -> str:
    """
    A text that is safe to print: control characters, line breaks and
    bidirectional overrides are escaped as C{\\x1b}; L{None} is empty.
    """
    text = "" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def json_line(value: object) -> str:
    """
    A value as one line of JSON, in ASCII.
    """
    return json.dumps(value, separators=(",", ":"))


def size(count: float) -> str:
    """
    A number of bytes in decimal units, as docker prints it: C{41.2 MB}.
    """
    value, unit = float(count), 0
    # 999.5 would be rounded to four digits.
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.{1 if unit and value < 99.95 else 0}f} {_UNITS[unit]}"


def portion(done: float, total: float | None) -> str:
    """
    A part of a size: C{12.3 MB of 41.2 MB}, or C{12.3 MB} while the total is
    unknown.
    """
    return size(done) if not total else f"{size(done)} of {size(total)}"


def amount(done: float, total: float | None) -> str:
    """
    A part of a size for a column: C{12.3/41.2 MB}, or C{12.3 MB} while the total is
    unknown.
    """
    if not total:
        return size(done)
    part, whole = size(done), size(total)
    number, _, unit = part.partition(" ")
    return f"{number}/{whole}" if whole.endswith(f" {unit}") else f"{part}/{whole}"


def span(seconds: float) -> str:
    """
    A length of time in its largest unit: C{5 minutes}.
    """
    value, units = max(0.0, seconds), iter(_SPANS)
    step, unit = next(units)
    while value >= step:
        value /= step
        step, unit = next(units)
    return plural(int(value), unit)


def plural(number: int, noun: str) -> str:
    """
    A number with its noun: C{1 layer}, C{2 layers}.
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def clock(seconds: float) -> str:
    """
    A duration in minutes and seconds: C{0:07}, C{12:30}, C{3:02:01}.
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def counted(text: str, step: int, elapsed: float) -> str:
    """
    A text some seconds later: C{trying again in 40 s} becomes C{trying again in 37 s}.

    @param step: how its first number of seconds changes each second; 0 if it does not.
    """
    if not step:
        return text
    return _SECONDS.sub(lambda found: f"{max(1, int(found[1]) + step * int(elapsed))} s", text, count=1)


def ago(moment: object, now: datetime) -> str:
    """
    The time since a moment: C{3 hours ago}.

    @param moment: RFC 3339; any other text is returned as it is.
    @param now: the present time, with a time zone.
    """
    then = _moment(moment)
    return clean(moment) if then is None else f"{span((now - then).total_seconds())} ago"


def age(moment: object, now: datetime) -> str:
    """
    The time since a moment, in short: C{45s}, C{12m}, C{3h}, C{9d}.

    @param moment: RFC 3339; any other text is returned as it is.
    @param now: the present time, with a time zone.
    """
    then = _moment(moment)
    if then is None:
        return clean(moment)
    value = max(0, int((now - then).total_seconds()))
    for step, unit in ((60, "s"), (60, "m"), (24, "h")):
        if value < step:
            return f"{value}{unit}"
        value //= step
    return f"{value}d"


def time_of_day(moment: object) -> str:
    """
    The local time of day of a moment: C{14:03:20}.

    @param moment: RFC 3339; any other text is returned as it is.
    """
    then = _moment(moment)
    return clean(moment) if then is None else f"{then.astimezone():%H:%M:%S}"


def lasting(why: str, since: object, now: datetime) -> str:
    """
    A reason with the local time at which its wait began, once that has lasted some seconds:
    C{paused by ci (since 14:03:20)}.

    @param since: RFC 3339; any other value stands for no wait.
    @param now: the present time, with a time zone.
    """
    then = _moment(since)
    if not why or then is None or now - then < _LASTING:
        return why
    local, today = then.astimezone(), now.astimezone()
    day = "" if local.date() == today.date() else f"{local:%Y-%m-%d} "
    return f"{why} (since {day}{local:%H:%M:%S})"


def seconds(start: object, end: object) -> str:
    """
    The seconds from one moment to another: C{1.5 s}; empty if one is missing.
    """
    first, last = _moment(start), _moment(end)
    return "" if first is None or last is None else f"{(last - first).total_seconds():.1f} s"


def _moment(text: object) -> datetime | None:
    """
    Parse RFC 3339; a time without a zone is UTC.
    """
    try:
        then = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return then.replace(tzinfo=UTC) if then.tzinfo is None else then


def short(digest: object) -> str:
    """
    A digest's first twelve hexadecimal digits; a tag as it is, if it is not very long.
    """
    text = clean(digest)
    return text.rpartition(":")[2][:12] if ":" in text else cut(text, 24)


def cut(text: str, width: int) -> str:
    """
    C{text} in at most C{width} characters, with an ellipsis if it was cut.
    """
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def cut_front(text: str, width: int) -> str:
    """
    The end of C{text} in at most C{width} characters, after an ellipsis if it was cut.
    """
    return text if len(text) <= width else ("…" + text[len(text) - width + 1 :])[:width]


def cut_reference(text: str, width: int) -> str:
    """
    A reference, or C{source -> target}, in at most C{width} characters.  Digests become
    short, and the front of a name is cut: its end distinguishes it from other names.
    """
    if len(text) <= width:
        return text
    text = re.sub(r"(?<=@sha256:)[0-9a-f]{64}", lambda match: match[0][:12], text)
    source, arrow, target = text.partition(_ARROW)
    room = width - len(arrow)
    if not arrow or room < _NARROWEST:
        return cut_front(text, width)
    source = cut_front(source, max(room // 2, room - len(target)))
    return f"{source}{arrow}{cut_front(target, room - len(source))}"
