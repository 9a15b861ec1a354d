# -*- test-case-name: tests.ctl.test_columns -*-
"""
Lists in columns, for a terminal of any width.

Where the terminal is too narrow, reasons move to lines of their own, columns
that are less important are left out, and names are shortened, in this order.
Nothing shortens a reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

_GAP = "  "
_INDENT = "    "
_NARROWEST = 8
"""Columns of characters that a shortened cell keeps, at least."""

_ROOMY = 24
"""The width of a terminal from which reasons are indented."""


class Column(NamedTuple, Generic[T]):
    """
    One column of a list.

    @ivar head: its heading.
    @ivar text: returns the cell of an item, safe to print.
    @ivar right: whether its cells are aligned right.
    @ivar crop: shortens a cell to a width; L{None} if its cells stay whole.
    @ivar short: the short form of a cell, shown unless the user wants whole cells.
    @ivar spare: whether it is left out where the terminal is too narrow.
    @ivar wide: whether it is shown in wide lists only.
    @ivar reason: whether its cells are sentences: they go to lines of their own where the
        terminal is too narrow.  The last column alone can be one.
    """

    head: str
    text: Callable[[T], str]
    right: bool = False
    crop: Callable[[str, int], str] | None = None
    short: Callable[[str], str] = str
    spare: bool = False
    wide: bool = False
    reason: bool = False


class Lines(NamedTuple):
    """
    A list as text.

    @ivar head: the line of headings.
    @ivar rows: the lines of each item.
    """

    head: str
    rows: list[list[str]]


def lay_out(
    columns: Sequence[Column[T]],
    items: Sequence[T],
    width: int | None,
    *,
    wide: bool = False,
    whole: bool = False,
) -> Lines:
    """
    Lay out items in columns, two spaces apart.

    @param width: the terminal's columns of characters; L{None} for one line for each item,
        whatever its length.
    @param wide: whether to show all columns, in one line for each item.
    @param whole: whether to show whole cells, in one line for each item.
    """
    shown = [column for column in columns if wide or not column.wide]
    cells = [[column.text(item) for item in items] for column in shown]
    if not whole:
        cells = [list(map(column.short, texts)) for column, texts in zip(shown, cells, strict=True)]
    widths = [max(map(len, (column.head, *texts))) for column, texts in zip(shown, cells, strict=True)]
    limit = None if wide or whole else width
    reasons: Sequence[str] = ()
    if limit is not None:
        if shown[-1].reason and _total(widths) > limit:
            reasons = cells.pop()
            del shown[-1], widths[-1]
        spare = [at for at, column in enumerate(shown) if column.spare]
        while spare and _total(widths) > limit:
            at = spare.pop()
            del shown[at], widths[at], cells[at]
        _shrink(shown, widths, limit)

    def line(texts: Sequence[str]) -> str:
        parts = []
        for column, size, text in zip(shown, widths, texts, strict=True):
            fitting = text if len(text) <= size or column.crop is None else column.crop(text, size)
            parts.append(fitting.rjust(size) if column.right else fitting.ljust(size))
        return _GAP.join(parts).rstrip()[:limit]

    rows = [[line([texts[at] for texts in cells])] for at in range(len(items))]
    for row, reason in zip(rows, reasons, strict=False):
        row.extend(wrapped(reason, limit or 0))
    return Lines(line([column.head for column in shown]), rows)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _shrink(columns: Sequence[Column[T]], widths: list[int], limit: int) -> None:
    """
    Narrow the widest of the columns that can be shortened, until all fit.
    """
    excess = _total(widths) - limit
    able = [at for at, column in enumerate(columns) if column.crop is not None]
    while excess > 0 and able:
        widest = max(able, key=widths.__getitem__)
        if widths[widest] <= _NARROWEST:
            break
        # Down to the next widest column, so that columns of equal width shrink together.
        floor = max([widths[at] for at in able if widths[at] < widths[widest]] + [_NARROWEST])
        loss = min(excess, max(1, widths[widest] - floor))
        widths[widest] -= loss
        excess -= loss


def wrapped(reason: str, width: int) -> list[str]:
    """
    A sentence in indented lines of at most C{width} characters; none for an empty one.
    """
    if not reason:
        return []
    from textwrap import wrap  # noqa: PLC0415 - slow to import, and rarely needed

    indent = _INDENT if width >= _ROOMY else ""
    return wrap(
        reason, max(1, width), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
