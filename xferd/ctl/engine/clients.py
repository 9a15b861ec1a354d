# -*- test-case-name: tests.ctl.engine.test_clients -*-
"""
The clients of container engines, by which an image is pulled for a check.
"""

from __future__ import annotations

import os
import subprocess
from shutil import which
from typing import TYPE_CHECKING, Final, NamedTuple

from xferd.ctl.engine.containerd_config import SNAPSHOTTER
from xferd.ctl.engine.files import has_containerd_2
from xferd.ctl.engine.machine import PATHS
from xferd.ctl.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from xferd.ctl.engine.machine import Machine

TIME_LIMIT: Final = 600.0
"""Seconds that a client may take."""

_NO_CRI: Final = "unknown service runtime.v1.ImageService"
"""The error of crictl for a containerd without CRI, such as docker's."""

_CRICTL_CONFIG: Final = "/etc/crictl.yaml"

_REMEDIES: Final[Sequence[tuple[str, str]]] = (
    ("snapshotter not loaded", "show"),
    ("snapshotter xferd was not found", "show"),
    ("unable to initialize unpacker", "show"),
    ("no unpack platforms", "show"),
    ("cannot access socket", "start"),
    ("dial unix", "start"),
    ("Cannot connect to the Docker daemon", "start"),
    ("server gave HTTP response to HTTPS client", "image"),
)
"""Parts of error messages, and the remedy for each."""


class Unavailable(ClientError):
    """
    A client cannot be used on this machine.
    """


class Client(NamedTuple):
    """
    A client of an engine.

    @ivar pull: the command that pulls; the reference follows.
    @ivar remove: the command that removes the image.
    @ivar environ: variables that it needs where they are not set.
    @ivar is_optional: whether the engine is served without it.
    @ivar removed: a part of the error with which C{remove} removes the image nevertheless.
    """

    pull: tuple[str, ...]
    remove: tuple[str, ...]
    environ: tuple[tuple[str, str], ...] = ()
    is_optional: bool = False
    removed: str = ""

    @property
    def name(self) -> str:
        """
        The name of the program.
        """
        return self.pull[0]

    def run(self, command: Sequence[str], reference: str, environ: Mapping[str, str]) -> None:
        """
        Run one of the commands.

        @raise Unavailable: the program is missing, or the engine does not serve it.
        @raise ClientError: it failed, or took too long.
        """
        variables = {**dict(self.environ), **environ}
        path = which(self.name, path=":".join(filter(None, (environ.get("PATH"), PATHS))))
        if path is None:
            raise Unavailable(f"{self.name} is not installed; the check needs it to pull an image")
        try:
            done = subprocess.run(  # noqa: S603 - the commands are constants
                [path, *command[1:], reference],
                env=variables,
                capture_output=True,
                timeout=TIME_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired as e:
            raise ClientError(f"{self.name} took longer than {TIME_LIMIT:.0f} s") from e
        except OSError as e:
            raise ClientError(f"cannot run {path}: {e.strerror}") from e
        if done.returncode:
            output = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace")
            last = output.splitlines()[-1] if output else f"it ended with {done.returncode}"
            if command == self.remove and self.removed and self.removed in output:
                return
            kind = Unavailable if _NO_CRI in output else ClientError
            raise kind(f"{self.name} failed: {last}")


def remedy(message: str, tool: str) -> str:
    """
    What to do about the error of a client.
    """
    found = next((kind for part, kind in _REMEDIES if part in message), "")
    if found == "show":
        return f"add what 'xferctl engine show {tool}' prints to its configuration, and restart it"
    if found == "image":
        return f"name an image that {tool} can pull: --image REF"
    return f"start {tool}" if found == "start" else "see the engine's log"


def _containerd(machine: Machine) -> list[Client]:
    """
    C{ctr} of containerd 2, by the transfer service, and Kubernetes' C{crictl}; this alone
    for containerd 1, whose C{ctr} fetches all layers itself.
    """
    crictl = _crictl("/run/containerd/containerd.sock")
    if machine.version("containerd").major < 2:
        return [crictl]
    return [_ctr(), crictl._replace(is_optional=True)]


def _k3s(machine: Machine) -> list[Client]:
    """
    The same of k3s.
    """
    crictl = Client(("k3s", "crictl", "pull"), ("k3s", "crictl", "rmi"))
    return [_ctr("k3s"), crictl] if has_containerd_2(machine.version("k3s")) else [crictl]


def _ctr(*before: str) -> Client:
    """
    C{ctr}, in a namespace of its own, so that the image is no other's.
    """
    ctr = (*before, "ctr", "--namespace", "xferd-check", "images")
    return Client((*ctr, "pull", "--plain-http", "--snapshotter", SNAPSHOTTER), (*ctr, "remove", "--sync"))


def _crictl(socket: str) -> Client:
    """
    C{crictl}, with the socket of an engine unless its configuration has one.
    """
    names = () if os.path.exists(_CRICTL_CONFIG) else ("CONTAINER_RUNTIME_ENDPOINT", "IMAGE_SERVICE_ENDPOINT")
    environ = tuple((name, f"unix://{socket}") for name in names)
    return Client(("crictl", "pull"), ("crictl", "rmi"), environ)


CLIENTS: Final[Mapping[str, Callable[[Machine], Sequence[Client]]]] = {
    "containerd": _containerd,
    "k3s": _k3s,
    "docker": lambda _: [Client(("docker", "pull", "--quiet"), ("docker", "rmi"))],
    "podman": lambda _: [
        Client(("podman", "pull", "--quiet", "--tls-verify=false"), ("podman", "rmi", "--force"))
    ],
    # By default, it would use the image of the view itself, without any request.
    "buildah": lambda _: [
        Client(
            ("buildah", "pull", "--quiet", "--policy=always", "--tls-verify=false"),
            ("buildah", "rmi", "--force"),
        )
    ],
    # CRI-O has removed the image when it fails to remove its layers, which are the view's.
    "cri-o": lambda _: [_crictl("/var/run/crio/crio.sock")._replace(removed="layer not known")],
    "nerdctl": lambda _: [
        Client(("nerdctl", "--snapshotter", SNAPSHOTTER, "pull", "--quiet"), ("nerdctl", "rmi", "--force"))
    ],
}
"""The clients of each tool."""
