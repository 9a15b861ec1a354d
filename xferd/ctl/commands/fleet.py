# -*- test-case-name: tests.ctl.commands.test_fleet -*-
"""
C{xferctl fleet}: the nodes that share downloads with the daemon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xferd.ctl.columns import Column
from xferd.ctl.commands.arguments import Command, add_printing
from xferd.ctl.display.job_view import count
from xferd.ctl.text import clean, cut, short, size

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
        session.printer.rows(
            nodes,
            (
                Column("NODE", lambda node: clean(node.get("name"))),
                Column("URL", lambda node: clean(node.get("url")), crop=cut, spare=True),
                Column("VERSION", lambda node: clean(node.get("version")), spare=True),
                Column("UP SINCE", lambda node: session.printer.ago(node.get("since"))),
                Column("SAVED", lambda node: size(count(node, "saved")), right=True),
                Column("TRANSFERS", lambda node: str(count(node, "load")), right=True),
                Column("FETCHES FOR ALL", lambda node: _fetched(node, claims), reason=True),
            ),
        )


def _fetched(node: dict[str, Any], claims: list[dict[str, Any]]) -> str:
    """
    What a node fetches for the others.

    @param claims: the claims of all nodes.
    """
    own = [each for each in claims if each.get("node") == node.get("name")]
    fetched = [f"{short(each.get('digest'))} of {clean(each.get('source'))}" for each in own[:_MOST_CLAIMS]]
    if len(own) > _MOST_CLAIMS:
        fetched.append(f"{len(own) - _MOST_CLAIMS} more")
    return ", ".join(fetched)


def _objects(found: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """
    The objects in a list; none if it is missing.
    """
    items = found.get(name)
    return [each for each in items if isinstance(each, dict)] if isinstance(items, list) else []


COMMANDS: Final[Mapping[str, Command]] = {
    "fleet": Command(
        "",
        lambda parser: add_printing(parser, table=True),
        fleet,
        "The bytes are those of this node since its start.  SAVED counts those that a node got from "
        "peers instead of a registry.  FETCHES FOR ALL lists the blobs that a node fetches from a registry "
        "for the others.",
        ("xferctl fleet", "xferctl fleet --json"),
    )
}
