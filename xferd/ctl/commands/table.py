# -*- test-case-name: tests.ctl.test_main -*-
"""
The table of commands.  A module is imported when one of its commands is used,
so that no command waits for the imports of another.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xferd.ctl.commands.arguments import Command

GROUPS: Final[Mapping[str, Mapping[str, str]]] = {
    "move images": {
        "pull": "pull_push_copy",
        "push": "pull_push_copy",
        "copy": "pull_push_copy",
        "import": "archives",
        "export": "archives",
    },
    "use images in the store": {
        "images": "store",
        "inspect": "store",
        "tag": "store",
        "unpack": "unpack",
        "bundle": "unpack",
    },
    "free disk space": {"rm": "store", "pin": "store", "unpin": "store", "gc": "store"},
    "follow jobs": {
        "jobs": "jobs",
        "job": "jobs",
        "cancel": "jobs",
        "transfers": "status",
        "watch": "watch",
    },
    "serve other tools": {"mirror": "mirror", "engine": "engine", "prefetch": "pull_push_copy"},
    "log in to registries": {"login": "login", "logout": "login"},
    "manage the daemon": {
        "status": "status",
        "hosts": "hosts",
        "fleet": "fleet",
        "limits": "limits",
        "page": "page",
        "doctor": "doctor",
        "verify": "verify",
        "export-journal": "export_journal",
    },
    "more": {"completion": "completion", "demo": "demo"},
}
"""For each heading of C{xferctl --help}, its commands, and the module that has each one's L{Command}."""

MODULES: Final[Mapping[str, str]] = {
    name: module for group in GROUPS.values() for name, module in group.items()
}


def load_command(name: str) -> Command:
    """
    Import a command.

    @raise KeyError: there is no such command.
    """
    commands: Mapping[str, Command] = import_module(f"xferd.ctl.commands.{MODULES[name]}").COMMANDS
    return commands[name]
