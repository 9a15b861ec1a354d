# -*- test-case-name: tests.ctl.commands.test_limits -*-
"""
C{xferctl limits}: the daemon's limits on concurrency and bandwidth.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from xferd.ctl.commands.arguments import Command, add_printing
from xferd.ctl.errors import UsageError
from xferd.ctl.text import clean, size

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
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


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "changes",
        metavar="NAME=NUMBER",
        nargs="*",
        help="set this limit; k, M, G, Ki, Mi and Gi multiply the number, and 0 removes the limit",
    )
    add_printing(parser)


def limits(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl limits}.
    """
    changes = read_changes(args.changes)
    found = session.daemon.change_limits(changes) if changes else session.daemon.limits()
    facts = [(clean(name), _words(name, value)) for name, value in found.items()]
    session.printer.facts(found, facts, width=max(map(len, found), default=0) + 2)


def read_changes(words: Sequence[str]) -> dict[str, int]:
    """
    Parse C{downloads=5}, C{download_rate=2M}, C{upload_rate=1.5Gi}.

    @raise UsageError: a word does not have this form.
    """
    changes = {}
    for word in words:
        match = _CHANGE.fullmatch(word)
        number = None if match is None else float(match["number"]) * _UNITS[match["unit"].lower()]
        if match is None or number != int(number or 0):
            raise UsageError(
                f"{word!r} sets no limit: use NAME=NUMBER, for example downloads=5 or download_rate=2M"
            )
        changes[match["name"]] = int(number)
    return changes


def _words(name: str, value: object) -> str:
    if not isinstance(value, int):
        return clean(value)
    if not value:
        return "no limit"
    return f"{size(value)}/s" if name.endswith("_rate") else str(value)


COMMANDS: Final[Mapping[str, Command]] = {
    "limits": Command(
        "[NAME=NUMBER]...",
        _arguments,
        limits,
        "A change takes effect at once, for running transfers too, and lasts until the daemon stops or reads "
        "its configuration again.  Rates are in bytes per second.",
        ("xferctl limits", "xferctl limits downloads=5 download_rate=2M"),
    )
}
