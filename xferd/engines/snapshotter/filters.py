# -*- test-case-name: tests.engines.snapshotter.test_filters -*-
"""
Filters of snapshots, in containerd's grammar (its package C{filters}): conditions such
as C{parent=="P"}, C{labels."K"!=V} or C{labels."K"}, separated by commas, all of which a
snapshot has to meet.

Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Final

from xferd.interfaces.snapshots import Snapshot

Matches = Callable[[Snapshot], bool]

_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_CONDITION: Final = re.compile(
    rf'(name|parent|kind|labels\.(?:{_QUOTED}|[\w./-]+))(?:(==|!=)({_QUOTED}|[^\s,"]+))?(?:,|$)'
)


def parse_filters(filters: Sequence[str]) -> Matches:
    """
    Parse filters, once for all snapshots that they are for.

    A condition of another form, as by a regular expression, counts as met, with what
    follows it: containerd looks at what it gets.

    @return: whether a snapshot matches one of the filters; any does if there is none.
    """
    parsed = [_conditions(text) for text in filters]
    if not filters or not all(parsed):
        return lambda _: True
    return lambda snapshot: any(all(meets(snapshot) for meets in each) for each in parsed)


def _conditions(text: str) -> list[Matches]:
    """
    The conditions of one filter.
    """
    found: list[Matches] = []
    at = 0
    while at < len(text):
        condition = _CONDITION.match(text, at)
        if condition is None:
            break
        try:
            found.append(_condition(condition[1], condition[2], condition[3]))
        except ValueError:
            break
        at = condition.end()
    return found


def _condition(field: str, operator: str | None, text: str | None) -> Matches:
    """
    One condition.  Without an operator, that is to have a value; a label that a snapshot
    does not have equals the empty string.

    @raise ValueError: it has an escape of Go's that JSON does not have.
    """
    value = _value_of(field)
    if operator is None or text is None:
        return lambda snapshot: value(snapshot) != ""
    wanted = _unquoted(text)
    if operator == "==":
        return lambda snapshot: value(snapshot) == wanted
    return lambda snapshot: value(snapshot) != wanted


def _value_of(field: str) -> Callable[[Snapshot], str]:
    """
    The value of a field.
    """
    if field == "name":
        return lambda snapshot: snapshot.key
    if field == "parent":
        return lambda snapshot: snapshot.parent
    if field == "kind":
        return lambda snapshot: snapshot.kind.name.lower()
    label = _unquoted(field.removeprefix("labels."))
    return lambda snapshot: snapshot.labels.get(label, "")


def _unquoted(text: str) -> str:
    """
    A value without its quotes, which are those of Go.
    """
    return str(json.loads(text)) if text.startswith('"') else text
