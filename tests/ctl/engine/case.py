# -*- test-case-name: tests.ctl.engine -*-
"""
A test case with a machine whose tools and configuration files a test sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.engine.test_served import NODE, STORAGE
from xferd.ctl.config_file import ConfigFile
from xferd.ctl.engine.files import TOOLS
from xferd.ctl.engine.machine import Machine, parse_version
from xferd.ctl.engine.served import CONTAINERD

PLATFORM = "linux/amd64"


class ToolCase(SynchronousTestCase):
    """
    Makes machines, and the files of a tool on them.
    """

    def machine(
        self,
        versions: Mapping[str, str],
        files: Mapping[str, str] | None = None,
        uid: int = 0,
        environ: Mapping[str, str] | None = None,
    ) -> Machine:
        """
        A machine.

        @param versions: by tool.
        @param files: the configuration files that it has, by their paths.
        @param environ: further variables of the environment.
        """
        root = self.mktemp()
        for path, text in (files or {}).items():
            place = Path(root, path.lstrip("/"))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        named = {tool: parse_version(version) for tool, version in versions.items()}
        variables = {"HOME": "/home/me", **(environ or {})}
        return Machine(variables, uid, {t: v for t, v in named.items() if v}, root)

    def files(self, tool: str, machine: Machine) -> dict[str, ConfigFile]:
        """
        The files of a tool, by their paths.
        """
        kind, make = TOOLS[tool]
        made = make(NODE if kind == CONTAINERD else STORAGE, machine, PLATFORM)
        return {file.path: file for file in made}
