# -*- test-case-name: tests.ctl.engine.test_served -*-
"""
The engines that a daemon serves.

The daemon's answer ends up in configuration files of other programs, so that every
part of it is checked.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from xferd.ctl.errors import ClientError, NotXferd, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONTAINERD: Final = "containerd"
VIEW: Final = "containers-storage"

_PATH: Final = re.compile(r"/[^\x00-\x1f\x7f\"'\\{}]*")
"""A path that is the same in TOML, JSON, YAML and a template of Go."""

_NAME: Final = re.compile(r"[a-z0-9-]*")

_TABLES: Final[Mapping[str, str]] = {
    CONTAINERD: "[engines.containerd.node]",
    VIEW: "path in [engines.containers-storage]",
}


class Engine(NamedTuple):
    """
    An engine that the daemon serves.

    @ivar kind: L{CONTAINERD} or L{VIEW}.
    @ivar name: its name in the daemon's settings; empty for the view.
    @ivar path: its unix socket, or the directory of the view.
    @ivar data_dir: the daemon's data directory.
    @ivar problem: why it is not served; empty if it is.
    @ivar cri: whether the socket has CRI's image service, too.
    """

    kind: str
    name: str
    path: str
    data_dir: str
    problem: str = ""
    cri: bool = False


def read_engines(found: Sequence[Mapping[str, Any]], status: Mapping[str, Any]) -> list[Engine]:
    """
    Read the daemon's list of engines.

    @param found: the answer to C{GET /api/v1/engines}.
    @param status: the answer to C{GET /api/v1/status}.
    @raise NotXferd: the list is malformed.
    """
    disk = status.get("disk")
    data_dir = disk.get("path") if isinstance(disk, dict) else None
    engines = []
    for item in found:
        kind, name, path = item.get("kind"), item.get("name"), item.get("path")
        if path == "":
            continue  # The settings do not name it any more.
        is_named = isinstance(name, str) and _NAME.fullmatch(name) is not None
        if kind not in _TABLES or not is_named or not _is_path(path) or not _is_path(data_dir):
            raise NotXferd("the daemon's list of engines is not one of xferd's")
        problem = "" if item.get("state") == "serving" else str(item.get("problem") or item.get("state"))
        engines.append(
            Engine(str(kind), str(name), str(path), str(data_dir), problem, item.get("cri") is True)
        )
    return engines


def choose(engines: Sequence[Engine], kind: str, name: str | None) -> Engine:
    """
    The engine of a kind that the user named, or the only one.

    @raise ClientError: there is none, or several.
    """
    known = [each for each in engines if each.kind == kind]
    if not known:
        raise ClientError(
            f"the daemon serves no {kind}; add {_TABLES[kind]} to its configuration file, and restart it"
        )
    names = ", ".join(each.name for each in known)
    if name is None or kind == VIEW:
        if len(known) > 1:
            raise UsageError(f"the daemon serves several engines; choose one with --engine: {names}")
        return known[0]
    chosen = next((each for each in known if each.name == name), None)
    if chosen is None:
        raise ClientError(f"the daemon serves no {kind} {name!r}; the names are: {names}")
    return chosen


def _is_path(value: object) -> bool:
    return isinstance(value, str) and _PATH.fullmatch(value) is not None
