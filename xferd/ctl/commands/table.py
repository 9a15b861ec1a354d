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

GROUPS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "move images": {
        "pull": ("pull_push_copy", "Pull an image from a registry into the store"),
        "push": ("pull_push_copy", "Push an image from the store to a registry"),
        "copy": ("pull_push_copy", "Copy an image from one registry to another"),
        "import": ("archives", "Import images from an archive into the store"),
        "export": ("archives", "Export an image from the store to an archive"),
    },
    "use images in the store": {
        "images": ("store", "List the images in the store"),
        "inspect": ("store", "Show one image in the store"),
        "tag": ("store", "Add a name to an image in the store"),
        "unpack": ("unpack", "Create a root file system from an image in the store"),
        "bundle": ("unpack", "Create a runtime bundle from an image in the store"),
    },
    "free disk space": {
        "rm": ("store", "Remove images from the store"),
        "pin": ("store", "Keep images when the store needs disk space"),
        "unpin": ("store", "Undo 'xferctl pin'"),
        "gc": ("store", "Remove content that no image, job, mount or engine uses"),
    },
    "follow jobs": {
        "jobs": ("jobs", "List the jobs that are queued or running"),
        "job": ("jobs", "Show one job, its layers and their attempts"),
        "cancel": ("jobs", "Cancel a job"),
        "pause": ("steering", "Pause jobs, registries, downloads, uploads or everything"),
        "resume": ("steering", "End pauses of jobs, registries, downloads, uploads or everything"),
        "priority": ("steering", "Change the priority of a job that has not ended"),
        "retry": ("steering", "Retry jobs that failed or were cancelled"),
        "transfers": ("status", "List the transfers of all jobs and the reasons why they wait"),
        "watch": ("watch", "Show all jobs and transfers as they change"),
    },
    "serve other tools": {
        "mirror": ("mirror", "Configure other tools to use the daemon's registry"),
        "engine": ("engine", "Configure container engines to run images from the store"),
        "prefetch": ("pull_push_copy", "Fetch an image for clients of the daemon's registry"),
    },
    "log in to registries": {
        "login": ("login", "Log in to a registry"),
        "logout": ("login", "Remove the credentials for a registry"),
    },
    "manage the daemon": {
        "status": ("status", "Show the daemon's version, jobs, slots, disk space and sandbox"),
        "hosts": ("hosts", "Show or clear the record of registries: back-offs, quotas and failures"),
        "fleet": ("fleet", "Show the nodes that share downloads with the daemon"),
        "limits": ("limits", "Show or set the limits on concurrency and bandwidth"),
        "drain": ("steering", "Accept no new jobs, before maintenance"),
        "page": ("page", "Open the status page in a browser"),
        "doctor": ("doctor", "Check the installation and suggest remedies"),
        "verify": ("verify", "Check content of the store, and replace what is damaged"),
        "export-journal": ("export_journal", "Copy the daemon's journal while it runs"),
    },
    "more": {
        "completion": ("completion", "Print the completion script of a shell"),
        "demo": ("demo", "Pull one image with three clients, on this machine alone"),
    },
}
"""
For each heading of C{xferctl --help}, its commands, the module that has each one's L{Command}, and what
it does: one sentence without a full stop, verb and object.
"""

MODULES: Final[Mapping[str, str]] = {
    name: module for group in GROUPS.values() for name, (module, _) in group.items()
}

SUMMARIES: Final[Mapping[str, str]] = {
    name: summary for group in GROUPS.values() for name, (_, summary) in group.items()
}


def load_command(name: str) -> Command:
    """
    Import a command.

    @raise KeyError: there is no such command.
    """
    commands: Mapping[str, Command] = import_module(f"xferd.ctl.commands.{MODULES[name]}").COMMANDS
    return commands[name]._replace(summary=SUMMARIES[name])
