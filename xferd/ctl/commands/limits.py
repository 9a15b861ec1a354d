# -*- test-case-name: tests.ctl.commands.test_limits -*-
"""
C{xferctl limits}: the daemon's limits on concurrency and bandwidth, and those on single hosts,
clients and jobs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from xferd.ctl.commands.arguments import Command, add_printing
from xferd.ctl.commands.filters import add_registries
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

_CHANGE = re.compile(
    r"(?P<number>[0-9]{1,12}(?:\.[0-9]{1,3})?)(?P<unit>[kmg]i?|)(?P<rate>b?(?:/s)?)", re.IGNORECASE
)
_TIMETABLE = re.compile(r"[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}=.+")
_NOTHING = re.compile(r"none", re.IGNORECASE)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "changes",
        metavar="NAME=VALUE",
        nargs="*",
        help="set this limit; k, M, G, Ki, Mi and Gi multiply a number, and 0 removes the limit; a rate may "
        "depend on the time of day: 08:00-18:00=20MB/s,else=0; none restores the configured value",
    )
    scope = parser.add_argument_group("scope of the limits; without any of these options, all jobs together")
    add_registries(scope, "show or set the limits of this registry")
    scope.add_argument(
        "--job", metavar="ID", help="show or set the rates of this job, which hold until it ends"
    )
    scope.add_argument(
        "--client", metavar="NAME", help="show or set the limits and the weight of this client"
    )
    parser.add_argument("--remove", action="store_true", help="remove all limits of this registry or client")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the change after restarts of the daemon; it overrides the configuration",
    )
    add_printing(parser)


def limits(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl limits}.
    """
    if args.job:
        _job_limits(args, session)
        return
    changes = _changes(args)
    found = session.daemon.change_limits(changes) if changes else session.daemon.limits()
    facts = _facts(found)
    session.printer.facts(found, facts, width=max((len(name) for name, _ in facts), default=0) + 2)


def _job_limits(args: Namespace, session: Session) -> None:
    """
    Show or set the rates of one job.
    """
    if getattr(args, "registries", ()) or args.client or args.keep or args.remove:
        raise UsageError("--job cannot be combined with --host, --client, --keep or --remove")
    changes = {name: 0 if value is None else value for name, value in read_changes(args.changes).items()}
    daemon = session.daemon
    job = daemon.job_named(
        args.job, lambda found: daemon.change_job(found, changes) if changes else daemon.job(found)
    )
    found = {name: job.get(name) for name in ("download_rate", "upload_rate")}
    session.printer.facts(found, [(name, _words(name, value)) for name, value in found.items()], width=15)


def _changes(args: Namespace) -> dict[str, Any]:
    """
    The changes that the arguments request, as the API has them.

    @raise UsageError: the arguments do not fit together.
    """
    hosts = list(getattr(args, "registries", ()))
    if len(hosts) + bool(args.client) > 1:
        raise UsageError("name one registry or one client, not several")
    values: Any = read_changes(args.changes)
    if args.remove and (values or not (hosts or args.client)):
        raise UsageError("--remove needs --host or --client, and no NAME=VALUE")
    if args.remove:
        values = None
    elif not values:
        if args.keep:
            raise UsageError("--keep needs a change: NAME=VALUE or --remove")
        return {}
    if hosts:
        values = {"hosts": {hosts[0]: values}}
    elif args.client:
        values = {"clients": {args.client: values}}
    return {**values, "keep": True} if args.keep else values


def read_changes(words: Sequence[str]) -> dict[str, Any]:
    """
    Parse C{downloads=5}, C{download_rate=2M}, C{upload_rate=1.5Gi},
    C{download_rate=08:00-18:00=20MB/s,else=0}, C{uploads=none}.

    @raise UsageError: a word does not have this form.
    """
    changes: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not re.fullmatch("[a-z_]+", name):
            raise _wrong(word)
        changes[name] = _value(word, name, value)
    return changes


def _value(word: str, name: str, value: str) -> Any:
    if _NOTHING.fullmatch(value):
        return None
    if _TIMETABLE.match(value):
        # The daemon checks the times and the rates.
        return dict(_part(word, part) for part in value.split(","))
    match = _CHANGE.fullmatch(value)
    number = None if match is None else float(match["number"]) * _UNITS[match["unit"].lower()]
    if match is None or number != int(number or 0) or (match["rate"].endswith("s") and "rate" not in name):
        raise _wrong(word)
    return int(number)


def _part(word: str, part: str) -> tuple[str, str]:
    when, equals, rate = part.strip().partition("=")
    if not equals:
        raise _wrong(word)
    return when, rate


def _wrong(word: str) -> UsageError:
    return UsageError(
        f"{word!r} sets no limit: use NAME=VALUE, for example downloads=5, download_rate=2M or "
        "download_rate=08:00-18:00=20MB/s,else=0"
    )


def _facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """
    The limits in words, those of all first.
    """
    facts = _rows("", found)
    for noun, member in (("host", "hosts"), ("client", "clients")):
        for name, entry in _table(found, member).items():
            facts += [fact for fact in _rows(f"{noun} {clean(name)} ", _table({"": entry}, "")) if fact[1]]
    whose = [
        f"{clean(direction)}s by {clean(each)}"
        for direction, owners in _table(found, "binding").items()
        if isinstance(owners, list)
        for each in owners
    ]
    return [*facts, *([("limited now", ", ".join(whose))] if whose else [])]


def _rows(prefix: str, limits: Mapping[str, Any]) -> list[tuple[str, str]]:
    timetables = _table(limits, "timetables")
    rows = []
    for name, value in limits.items():
        if isinstance(value, int) and (value or not prefix or name in timetables):
            text = _words(name, value)
            if name in timetables:
                spans = ", ".join(
                    f"{clean(when)} {_words(name, rate)}" for when, rate in _table(timetables, name).items()
                )
                text = f"{text} now: {spans}"
            rows.append((f"{prefix}{clean(name)}", text))
    return rows


def _table(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = found.get(name)
    return value if isinstance(value, dict) else {}


def _words(name: str, value: object) -> str:
    if not isinstance(value, int):
        return clean(value)
    if not value:
        return "no limit"
    return f"{size(value)}/s" if name.endswith("_rate") else str(value)


COMMANDS: Final[Mapping[str, Command]] = {
    "limits": Command(
        "[NAME=VALUE]...",
        _arguments,
        limits,
        "A change takes effect at once, for running transfers too, and lasts until the daemon stops or reads "
        "its configuration again, or with --keep.  Rates are in bytes per second.  A client of weight 3 has "
        "three times the share of one of weight 1 in slots and bandwidth, while both have work.",
        (
            "xferctl limits",
            "xferctl limits downloads=5 download_rate=2M",
            "xferctl limits --host docker.io downloads=2 download_rate=08:00-18:00=5MB/s,else=0 --keep",
            "xferctl limits --client ci weight=3",
        ),
    )
}
