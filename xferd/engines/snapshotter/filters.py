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
from collections.abc import Sequence
from typing import Final

from xferd.interfaces.snapshots import Snapshot

_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_CONDITION: Final = re.compile(
    rf'(name|parent|kind|labels\.(?:{_QUOTED}|[\w./-]+))(?:(==|!=)({_QUOTED}|[^\s,"]+))?(?:,|$)'
)


def matches(snapshot: Snapshot, filters: Sequence[str]) -> bool:
    """
    Whether a snapshot matches one of some filters; any does if there is none.

    A condition of another form, as by a regular expression, counts as met, with what
    follows it: containerd looks at what it gets.
    """
    return not filters or any(_matches(snapshot, text) for text in filters)


def _matches(snapshot: Snapshot, text: str) -> bool:
    """
    Whether a snapshot meets the conditions of one filter.
    """
    at = 0
    while at < len(text):
        found = _CONDITION.match(text, at)
        if found is None:
            return True
        try:
            if not _meets(snapshot, found[1], found[2], found[3]):
                return False
        except ValueError:
            return True
        at = found.end()
    return True


def _meets(snapshot: Snapshot, field: str, operator: str | None, text: str | None) -> bool:
    """
    Whether a snapshot meets a condition.  Without an operator, that is to have a value; a
    label that it does not have equals the empty string.

    @raise ValueError: the condition has an escape of Go's that JSON does not have.
    """
    value = _value(snapshot, field)
    if operator is None or text is None:
        return value != ""
    return (value == _unquoted(text)) is (operator == "==")


def _value(snapshot: Snapshot, field: str) -> str:
    """
    The value of a field.
    """
    if field == "name":
        return snapshot.key
    if field == "parent":
        return snapshot.parent
    if field == "kind":
        return snapshot.kind.name.lower()
    return snapshot.labels.get(_unquoted(field.removeprefix("labels.")), "")


def _unquoted(text: str) -> str:
    """
    A value without its quotes, which are those of Go.
    """
    return str(json.loads(text)) if text.startswith('"') else text
