# -*- test-case-name: tests.engines.snapshotter.test_filters -*-
"""
Filters of snapshots: C{parent=="P",labels."K"==V}, the form in which containerd itself
asks.  Each filter is a list of conditions, all of which a snapshot has to meet.

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
    rf'(name|parent|kind|labels\.(?:{_QUOTED}|[\w./-]+))==({_QUOTED}|[^\s,"]+)(?:,|$)'
)


def matches(snapshot: Snapshot, filters: Sequence[str]) -> bool:
    """
    Whether a snapshot may match one of some filters; any does if there is none.  A
    condition of another form counts as met: containerd looks at what it gets.
    """
    return not filters or any(_matches(snapshot, text) for text in filters)


def _matches(snapshot: Snapshot, text: str) -> bool:
    """
    Whether a snapshot meets the conditions of one filter, up to the first one of another
    form.
    """
    at = 0
    while at < len(text):
        found = _CONDITION.match(text, at)
        try:
            if found is None or _value(snapshot, found[1]) == _unquoted(found[2]):
                at = len(text) if found is None else found.end()
                continue
        except ValueError:
            return True
        return False
    return True


def _value(snapshot: Snapshot, field: str) -> str | None:
    """
    The value of a field.
    """
    if field == "name":
        return snapshot.key
    if field == "parent":
        return snapshot.parent
    if field == "kind":
        return snapshot.kind.name.lower()
    return snapshot.labels.get(_unquoted(field.removeprefix("labels.")))


def _unquoted(text: str) -> str:
    """
    A value without its quotes, which are those of Go.

    @raise ValueError: it has an escape that JSON does not have.
    """
    return str(json.loads(text)) if text.startswith('"') else text
