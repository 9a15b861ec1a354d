# -*- test-case-name: tests.ctl.commands.test_status -*-
"""
The daemon's present state: C{xferctl status} and C{transfers}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xferd.ctl.commands.arguments import Command, add_json
from xferd.ctl.display.job_view import count
from xferd.ctl.text import clean, portion, short, size

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from xferd.ctl.session import Session


def transfers(_: Namespace, session: Session) -> None:
    """
    Run C{xferctl transfers}.
    """
    found = session.daemon.transfers()
    rows = []
    for item in found:
        rate = item.get("rate")
        rows.append(
            (
                clean(item.get("id")),
                clean(item.get("kind")),
                short(item.get("digest")),
                clean(item.get("state")),
                str(count(item, "watchers")),
                portion(count(item, "bytes_done"), count(item, "bytes_total")),
                f"{size(rate)}/s" if isinstance(rate, int | float) and rate > 0 else "",
                clean(item.get("source")),
                clean(item.get("why")),
            )
        )
    heads = ("ID", "KIND", "DIGEST", "STATE", "WATCHERS", "PROGRESS", "RATE", "SOURCE", "WHY")
    session.printer.rows(found, heads, rows, ("WATCHERS", "RATE"))


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
        ("disk", f"{size(free)} free in {clean(disk.get('path'))}" if isinstance(free, int) else "unknown"),
        ("disk is full", clean(disk.get("why") or "")),
        ("sandbox", ", ".join(map(clean, in_force)) if isinstance(in_force, list) else "not known yet"),
    ]
    missing = _member(sandbox, "missing")
    facts += [(f"without {clean(measure)}", clean(why)) for measure, why in missing.items()]
    session.printer.facts(found, facts, width=max(len(name) for name, _ in facts) + 2)


def _member(value: dict[str, Any], name: str) -> dict[str, Any]:
    """
    A member that is an object; an empty one if it is missing.
    """
    member = value.get(name)
    return member if isinstance(member, dict) else {}


COMMANDS: Final[Mapping[str, Command]] = {
    "status": Command("Show the daemon's version, disk space, jobs and sandbox", "", add_json, status),
    "transfers": Command(
        "List the transfers of all jobs and the reasons why they wait",
        "",
        add_json,
        transfers,
        "A transfer is the download, upload, unpacking or registration of one layer or blob.  The jobs that "
        "need it share it.",
    ),
}
