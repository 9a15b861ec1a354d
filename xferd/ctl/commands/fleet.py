# -*- test-case-name: tests.ctl.commands.test_fleet -*-
"""
C{xferctl fleet}: the nodes that share downloads with the daemon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xferd.ctl.commands.arguments import Command, add_json
from xferd.ctl.display.job_view import count
from xferd.ctl.text import clean, short, size

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from xferd.ctl.session import Session

_MOST_CLAIMS: Final = 3
"""The downloads of one node that are shown."""


def fleet(_: Namespace, session: Session) -> None:
    """
    Run C{xferctl fleet}.
    """
    found = session.daemon.fleet()
    moved, left_out = found.get("bytes"), found.get("left_out")
    sizes = moved if isinstance(moved, dict) else {}
    state = clean(found.get("state"))
    facts = [("fleet", state if state != "off" else "none: the settings have no [fleet]")]
    if state != "off":
        facts += [
            ("problem", clean(found.get("problem") or "")),
            ("this node", clean(found.get("name"))),
            ("from registries", size(count(sizes, "upstream"))),
            ("from peers", size(count(sizes, "peer"))),
            ("saved by all nodes", size(sum(count(each, "saved") for each in _objects(found, "nodes")))),
            ("from the store", size(count(sizes, "store"))),
            ("to peers", size(count(sizes, "sent"))),
            ("taken over", str(count(found, "takeovers"))),
            *(
                (f"trouble with {clean(each.get('node'))}", clean(each.get("why")))
                for each in _objects(found, "troubles")
            ),
            ("left out", ", ".join(map(clean, left_out)) if isinstance(left_out, list) else ""),
        ]
    nodes = _objects(found, "nodes")
    if session.printer.facts(found, facts, width=max(len(name) for name, _ in facts) + 2) and nodes:
        print(file=session.stdout)
        claims = _objects(found, "claims")
        rows = [
            _row(node, session, [each for each in claims if each.get("node") == node.get("name")])
            for node in nodes
        ]
        heads = ("NODE", "URL", "VERSION", "UP SINCE", "SAVED", "TRANSFERS", "FETCHES FOR ALL")
        session.printer.rows(nodes, heads, rows, ("SAVED", "TRANSFERS"))


def _row(node: dict[str, Any], session: Session, claims: list[dict[str, Any]]) -> tuple[str, ...]:
    fetched = [
        f"{short(each.get('digest'))} of {clean(each.get('source'))}" for each in claims[:_MOST_CLAIMS]
    ]
    if len(claims) > _MOST_CLAIMS:
        fetched.append(f"{len(claims) - _MOST_CLAIMS} more")
    return (
        clean(node.get("name")),
        clean(node.get("url")),
        clean(node.get("version")),
        session.printer.ago(node.get("since")),
        size(count(node, "saved")),
        str(count(node, "load")),
        ", ".join(fetched),
    )


def _objects(found: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """
    The objects in a list; none if it is missing.
    """
    items = found.get(name)
    return [each for each in items if isinstance(each, dict)] if isinstance(items, list) else []


COMMANDS: Final[Mapping[str, Command]] = {
    "fleet": Command(
        "Show the nodes that share downloads with the daemon",
        "",
        add_json,
        fleet,
        "The bytes are those of this node since its start.  SAVED counts those that a node got from "
        "peers instead of a registry.  FETCHES FOR ALL lists the blobs that a node fetches from a registry "
        "for the others.",
    )
}
