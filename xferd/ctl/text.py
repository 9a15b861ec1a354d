# -*- test-case-name: tests.ctl.test_text -*-
"""
Sizes, times, names and tables as text for a terminal.

The daemon's answers contain text from registries, images and other clients.
L{clean} makes it safe to print.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

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
_GAP = "  "
_NARROWEST = 8


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


def ago(moment: object, now: datetime) -> str:
    """
    The time since a moment: C{3 hours ago}.

    @param moment: RFC 3339; any other text is returned as it is.
    @param now: the present time, with a time zone.
    """
    then = _moment(moment)
    return clean(moment) if then is None else f"{span((now - then).total_seconds())} ago"


def time_of_day(moment: object) -> str:
    """
    The local time of day of a moment: C{14:03:20}.

    @param moment: RFC 3339; any other text is returned as it is.
    """
    then = _moment(moment)
    return clean(moment) if then is None else f"{then.astimezone():%H:%M:%S}"


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
    A digest's first twelve hexadecimal digits.
    """
    return clean(digest).rpartition(":")[2][:12]


def cut(text: str, width: int) -> str:
    """
    C{text} in at most C{width} characters, with an ellipsis if it was cut.
    """
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, right: Sequence[str] = ()
) -> list[str]:
    """
    Lay out rows in columns, two spaces apart.

    @param width: the terminal's columns: the widest columns are cut to fit;
        L{None} cuts none.
    @param right: the headings of the columns to align right.
    """
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    if width is not None:
        excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
        while excess > 0 and max(widths) > _NARROWEST:
            widest = widths.index(max(widths))
            # Down to the next widest column, so that columns of equal width shrink together.
            floor = max([w for w in widths if w < widths[widest]] + [_NARROWEST])
            loss = min(excess, max(1, widths[widest] - floor))
            widths[widest] -= loss
            excess -= loss
    lines = []
    for row in (heads, *rows):
        cells = [
            cut(cell, w).rjust(w) if head in right else cut(cell, w).ljust(w)
            for head, cell, w in zip(heads, row, widths, strict=True)
        ]
        line = _GAP.join(cells).rstrip()
        lines.append(line if width is None else line[:width])
    return lines
