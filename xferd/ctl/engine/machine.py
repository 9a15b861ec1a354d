# -*- test-case-name: tests.ctl.engine.test_machine -*-
"""
The container tools on this machine, with their versions, and their present
configuration files.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Final, NamedTuple

from xferd.ctl.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAMS: Final[Mapping[str, str]] = {
    "containerd": "containerd",
    "k3s": "k3s",
    "docker": "dockerd",
    "podman": "podman",
    "buildah": "buildah",
    "cri-o": "crio",
    "nerdctl": "nerdctl",
}
"""The program that prints the version of each tool."""

TIME_LIMIT: Final = 10.0
"""Seconds that a program has to print its version."""

_ROOTLESS: Final[Mapping[str, str]] = {
    "containerd": "containerd-rootless/child_pid",
    "docker": "docker.sock",
    "nerdctl": "containerd-rootless/child_pid",
}
"""
The file that each tool has in the user's runtime directory while it runs without root: those of
C{containerd-rootless.sh} and C{dockerd-rootless.sh}.
"""

PATHS: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where daemons are looked for besides C{$PATH}, as a user's often has no C{sbin}."""

_VERSION: Final = re.compile(r"(?<![\w.])v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,6}))?")


class Version(NamedTuple):
    """
    The version of a program.
    """

    major: int
    minor: int
    patch: int = 0

    def __str__(self) -> str:
        return ".".join(map(str, self))


def parse_version(text: str) -> Version | None:
    """
    The first version in a text, such as the output of C{podman --version}.
    """
    found = _VERSION.search(text)
    return None if found is None else Version(int(found[1]), int(found[2]), int(found[3] or 0))


class Machine:
    """
    This machine, or another one whose versions the user names.

    @ivar root: the directory that the paths of files are below.
    """

    def __init__(
        self, environ: Mapping[str, str], uid: int, named: Mapping[str, Version], root: str = "/"
    ) -> None:
        """
        @param environ: the environment; C{PATH}, C{HOME}, C{XDG_CONFIG_HOME}, C{XDG_RUNTIME_DIR} and
            C{DOCKER_HOST} are read.
        @param uid: the user's number.
        @param named: the versions of tools that the user named.
        @param root: the directory that the paths of configuration files are below.
        """
        self._environ = environ
        self.uid = uid
        self._named = named
        self.root = root

    def version(self, tool: str) -> Version:
        """
        The version of a tool.

        @raise ClientError: the tool is not here and its version was not named.
        """
        if tool in self._named:
            return self._named[tool]
        program = PROGRAMS[tool]
        path = which(program, path=":".join(filter(None, (self._environ.get("PATH"), PATHS))))
        if path is None:
            raise ClientError(f"{program} is not installed here; name its version: --for {tool}=VERSION")
        try:
            done = subprocess.run(  # noqa: S603 - the argument is a constant
                [path, "--version"], capture_output=True, timeout=TIME_LIMIT, check=True
            )
        except (OSError, subprocess.SubprocessError) as e:
            raise ClientError(
                f"cannot run '{path} --version': {e}; name its version: --for {tool}=VERSION"
            ) from e
        found = parse_version(done.stdout.decode(errors="replace"))
        if found is None:
            raise ClientError(f"'{path} --version' prints no version; name it: --for {tool}=VERSION")
        return found

    def read(self, path: str) -> str | None:
        """
        The text of a file, or L{None} if it does not exist or cannot be read.
        """
        try:
            return Path(self.root, path.lstrip("/")).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def rootless(self, tool: str) -> str:
        """
        The file by which a tool of the user, which runs without root, is known; the empty
        string if the tool is root's.
        """
        if self.uid == 0:
            return ""
        own = f"{self._environ.get('XDG_RUNTIME_DIR') or f'/run/user/{self.uid}'}/{_ROOTLESS[tool]}"
        host = self._environ.get("DOCKER_HOST", "") if tool == "docker" else ""
        # Root's may run beside the user's: the variable decides.
        if host.removeprefix("unix://") == own or (not host and Path(self.root, own.lstrip("/")).exists()):
            return own
        return ""

    def owns(self, path: str) -> bool:
        """
        Whether a file belongs to the user.
        """
        try:
            return Path(self.root, path.lstrip("/")).stat().st_uid == self.uid
        except OSError:
            return False

    @property
    def config_home(self) -> str:
        """
        The directory of the user's own configuration files.
        """
        return self._environ.get("XDG_CONFIG_HOME") or f"{self._environ.get('HOME', '')}/.config"
