# -*- test-case-name: tests.ctl.commands.test_status -*-
"""
The daemon's present state: C{xferctl status} and C{transfers}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xferd.ctl.commands.arguments import Command, add_printing
from xferd.ctl.commands.filters import TRANSFER_KINDS, TRANSFER_STATES, Filter, add_filters
from xferd.ctl.display.job_view import count
from xferd.ctl.display.lists import by_movement, transfer_columns
from xferd.ctl.text import clean, plural, size

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping

    from xferd.ctl.session import Session


def _transfers_arguments(parser: ArgumentParser) -> None:
    add_filters(parser, TRANSFER_STATES, TRANSFER_KINDS)
    add_printing(parser, table=True)


def transfers(args: Namespace, session: Session) -> None:
    """
    Run C{xferctl transfers}.
    """
    chosen = Filter.of(args, session)
    mine = None
    if chosen.client:
        mine = {str(job.get("id")) for job in session.daemon.jobs() if job.get("client") == chosen.client}
    found = [item for item in session.daemon.transfers() if chosen.selects_transfer(item, mine)]
    found = by_movement(found)
    session.printer.rows(found, transfer_columns(session.printer.now))


def status(_args: Namespace, session: Session) -> None:
    """
    Run C{xferctl status}.
    """
    found = session.daemon.status()
    disk, states = _member(found, "disk"), _member(found, "jobs")
    sandbox = _member(found, "sandbox")
    in_force = sandbox.get("in_force")
    free = disk.get("free")
    facts = [
        ("version", clean(found.get("version"))),
        ("started", session.printer.ago(found.get("started"))),
        ("images", str(count(found, "images"))),
        (
            "jobs",
            ", ".join(f"{count(states, state)} {clean(state)}" for state in states) or "none",
        ),
        *(
            (f"{clean(kind)} slots".replace("_", " "), _slots(slots))
            for kind, slots in _member(found, "slots").items()
        ),
        ("fetched", size(count(found, "bytes_fetched")) if "bytes_fetched" in found else ""),
        ("sent", size(count(found, "bytes_sent")) if "bytes_sent" in found else ""),
        *(
            (f"{clean(direction)}s limited by", ", ".join(map(clean, whose)))
            for direction, whose in _member(found, "binding").items()
            if whose
        ),
        ("disk", f"{size(free)} free in {clean(disk.get('path'))}" if isinstance(free, int) else "unknown"),
        ("disk is full", clean(disk.get("why") or "")),
        *_steering(found, session),
        ("sandbox", ", ".join(map(clean, in_force)) if isinstance(in_force, list) else "not known yet"),
    ]
    missing = _member(sandbox, "missing")
    facts += [(f"without {clean(measure)}", clean(why)) for measure, why in missing.items()]
    session.printer.facts(found, facts, width=max(len(name) for name, _ in facts) + 2)


def _steering(found: dict[str, Any], session: Session) -> list[tuple[str, str]]:
    """
    The pauses, and whether the daemon drains.
    """
    facts = []
    for pause in found.get("pauses") or []:
        if isinstance(pause, dict):
            what = clean(pause.get("host") or pause.get("what"))
            kept = ", kept after restarts" if pause.get("keep") else ""
            since = session.printer.ago(pause.get("since"))
            facts.append(("paused", f"{what} by {clean(pause.get('by'))}, {since}{kept}"))
    drain = _member(found, "drain")
    if drain.get("draining"):
        kept = ", kept after restarts" if drain.get("keep") else ""
        since = session.printer.ago(drain.get("since"))
        left = plural(count(drain, "jobs"), "job")
        facts.append(("drained", f"by {clean(drain.get('by'))}, {since}{kept}; {left} left"))
    return facts


def _slots(slots: object) -> str:
    """
    The slots of one kind: C{2 of 3 in use, 7 waiting}.
    """
    if not isinstance(slots, dict):
        return ""
    in_use, limit = count(slots, "in_use"), count(slots, "limit")
    used = f"{in_use} of {limit} in use" if limit else f"{in_use} in use"
    return f"{used}, {count(slots, 'queued')} waiting"


def _member(value: dict[str, Any], name: str) -> dict[str, Any]:
    """
    A member that is an object; an empty one if it is missing.
    """
    member = value.get(name)
    return member if isinstance(member, dict) else {}


COMMANDS: Final[Mapping[str, Command]] = {
    "status": Command(
        "",
        add_printing,
        status,
        examples=("xferctl status", "xferctl status --format '{{.version}}'"),
    ),
    "transfers": Command(
        "",
        _transfers_arguments,
        transfers,
        "A transfer is the download, upload, unpacking or registration of one layer or blob.  The jobs that "
        "need it share it.  Those that move come first.",
        (
            "xferctl transfers",
            "xferctl transfers --state waiting,queued --host docker.io",
            "xferctl transfers --mine -o wide",
        ),
    ),
}
