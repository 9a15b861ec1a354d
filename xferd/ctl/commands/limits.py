# -*- test-case-name: tests.ctl.commands.test_limits -*-
"""
C{xferctl limits}: how much happens at once, and how fast.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from xferd.ctl.text import clean, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xferd.ctl.session import Session

_UNITS: Final = {
    "": 1,
    "k": 1000,
    "m": 1000**2,
    "g": 1000**3,
    "ki": 1024,
    "mi": 1024**2,
    "gi": 1024**3,
}

_CHANGE = re.compile(r"(?P<name>[a-z_]+)=(?P<number>[0-9]{1,12}(?:\.[0-9]{1,3})?)(?P<unit>[kmg]i?|)b?", re.I)


def read_changes(words: Sequence[str]) -> dict[str, int]:
    """
    Read C{downloads=5}, C{download_rate=2M}, C{upload_rate=1.5Gi}.

    @raise ValueError: a word is nothing of the kind.
    """
    changes = {}
    for word in words:
        match = _CHANGE.fullmatch(word)
        number = None if match is None else float(match["number"]) * _UNITS[match["unit"].lower()]
        if match is None or number != int(number or 0):
            raise ValueError(
                f"{word!r} sets no limit: say NAME=NUMBER, for example downloads=5 or download_rate=2M"
            )
        changes[match["name"]] = int(number)
    return changes


def limits(changes: Mapping[str, int], session: Session) -> None:
    """
    Set limits, if some are to be set, and show them all.
    """
    found = session.daemon.change_limits(changes) if changes else session.daemon.limits()
    facts = [(clean(name), _words(name, value)) for name, value in found.items()]
    session.printer.facts(found, facts, width=max(map(len, found), default=0) + 2)


def _words(name: str, value: object) -> str:
    """
    A limit as people read it.
    """
    if not isinstance(value, int):
        return clean(value)
    if not value:
        return "no limit"
    return f"{size(value)}/s" if name.endswith("_rate") else str(value)
