# -*- test-case-name: tests.test_benchmarks -*-
"""
The measurements, as numbers and as a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from statistics import median
from typing import Any

from attrs import field, frozen
from attrs.validators import min_len

from xferd.ctl.columns import Column, lay_out


@frozen
class Series:
    """
    One thing measured several times.

    @ivar values: at least one, in the order of the rounds.
    """

    values: Sequence[float] = field(validator=min_len(1))

    @property
    def median(self) -> float:
        """
        The middle one, or the mean of the two in the middle.
        """
        return median(self.values)

    @property
    def least(self) -> float:
        """
        The smallest one.
        """
        return min(self.values)

    @property
    def most(self) -> float:
        """
        The largest one.
        """
        return max(self.values)


@frozen
class Row:
    """
    The measurements of one program, or of one part of it.

    @ivar who: the program, and the part if there are several.
    @ivar unit: the unit of the values: C{s}, C{ms}, C{us}.
    @ivar facts: further numbers, one for each column.
    """

    who: str
    unit: str
    series: Series
    facts: Mapping[str, float] = field(factory=dict)

    def to_json(self) -> dict[str, Any]:
        """
        The row for programs.
        """
        series = self.series
        return {
            "who": self.who,
            "unit": self.unit,
            "median": series.median,
            "min": series.least,
            "max": series.most,
            "values": list(series.values),
            **self.facts,
        }


@frozen
class Outcome:
    """
    The results of one benchmark.

    @ivar benchmark: its name.
    @ivar subject: the image, or the number of clients.
    @ivar missing: the programs that could not be run and the reasons, one
        sentence each.
    """

    benchmark: str
    subject: str
    rows: Sequence[Row]
    missing: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """
        The outcome for programs.
        """
        return {
            "benchmark": self.benchmark,
            "subject": self.subject,
            "rows": [row.to_json() for row in self.rows],
            "missing": list(self.missing),
        }

    def lines(self) -> list[str]:
        """
        The outcome as text: a title, a table, and the missing programs.
        """
        columns = list(dict.fromkeys(name for row in self.rows for name in row.facts))
        heads = ["", "MEDIAN", "MIN", "MAX", "", *(name.upper() for name in columns)]
        cells = [
            [
                row.who,
                *(digits(n) for n in (row.series.median, row.series.least, row.series.most)),
                row.unit,
                *(digits(row.facts[name]) if name in row.facts else "" for name in columns),
            ]
            for row in self.rows
        ]
        return [
            f"{self.benchmark}: {self.subject}",
            *(_laid_out(heads, cells) if cells else ()),
            *(f"not run: {why}" for why in self.missing),
        ]


def digits(number: float) -> str:
    """
    A number with three significant digits.
    """
    for decimals, limit in ((3, 0.9995), (2, 9.995), (1, 99.95)):
        if abs(number) < limit:
            return f"{number:.{decimals}f}"
    return f"{number:.0f}"


def with_ratios(rows: Sequence[Row], ours: str) -> list[Row]:
    """
    Add the ratio of our median to each other one: C{0.25} is a quarter.

    @param ours: whose row is compared with the others; without one, there is no
        ratio.
    """
    mine = next((row.series.median for row in rows if row.who == ours), None)
    if mine is None:
        return list(rows)
    return [
        Row(row.who, row.unit, row.series, {f"{ours} / it": mine / row.series.median, **row.facts})
        for row in rows
    ]


def _laid_out(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """
    The table; every column but the names and the units is of numbers.
    """
    columns = [Column[Sequence[str]](head, itemgetter(at), right=bool(head)) for at, head in enumerate(heads)]
    found = lay_out(columns, cells, None)
    return [found.head, *(line for row in found.rows for line in row)]
