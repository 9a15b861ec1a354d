"""
The programs that pull, push and copy: xferd, and those that it is held
against.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from benchmarks.processes import Failed, Program, find, output
from xferd.ctl.address import Address
from xferd.ctl.client import Daemon

ROOT = str(Path(__file__).resolve().parents[1])
"""Where the packages C{xferd} and C{benchmarks} are."""

TWISTD = ("-c", "from twisted.scripts.twistd import run; run()")
_COPY = (
    "skopeo",
    "--insecure-policy",
    "copy",
    "--quiet",
    "--src-tls-verify=false",
    "--dest-tls-verify=false",
)
_CRI = '["io.containerd.grpc.v1.cri"]'
_XFERCTL = ("-c", "from xferd.ctl.main import console; raise SystemExit(console())")


class Peer(ABC):
    """
    A program with an empty store.

    Life cycle: made; started; pulls, pushes and copies one after the other;
    stopped.

    @cvar name: its name in the tables.
    @cvar programs: the programs that must be installed.
    @cvar version_of: the command that prints its version.
    @cvar root: the directory with the Python packages that it runs.
    @ivar daemon: its daemon while it runs; always L{None} for a program without
        a daemon.
    """

    name: ClassVar[str]
    programs: ClassVar[Sequence[str]]
    version_of: ClassVar[Sequence[str]]
    root: ClassVar[str] = ROOT

    def __init__(self, place: Path, registry: str, within: Sequence[str] = ()) -> None:
        """
        @param place: where its store goes.
        @param registry: the registry's host, which speaks plain HTTP.
        @param within: the command that runs a command in the network.
        """
        self.daemon: Program | None = None
        self._place = place
        self._registry = registry
        self._within = tuple(within)
        self._runs = 0
        # Podman requires a config.json in DOCKER_CONFIG.
        (place / "config.json").write_text("{}")

    @classmethod
    def check(cls) -> str:
        """
        See whether it can be run here.

        @return: its version.
        @raise Failed: it cannot.
        """
        find(*cls.programs)
        return output(cls.version_of).strip()

    def start(self) -> None:
        """
        Have it ready to pull.

        @raise Failed: it is not.
        """
        return

    def pull(self, reference: str) -> Program:
        """
        Begin to pull.

        @raise Failed: that is not possible.
        """
        return self._run(self.command(reference))

    def push(self, reference: str, target: str) -> Program:
        """
        Begin to push an image that was pulled.

        @raise Failed: that is not possible.
        """
        return self._run(self.push_command(reference, target))

    def copy(self, reference: str, target: str) -> Program:
        """
        Begin to copy an image from registry to registry.

        @raise Failed: that is not possible.
        """
        return self._run(self.copy_command(reference, target))

    @abstractmethod
    def command(self, reference: str) -> Sequence[str]:
        """
        The command that pulls.
        """

    @abstractmethod
    def push_command(self, reference: str, target: str) -> Sequence[str]:
        """
        The command that pushes.
        """

    def copy_command(self, reference: str, target: str) -> Sequence[str]:  # noqa: ARG002 - others can
        """
        The command that copies.

        @raise Failed: the program cannot copy.
        """
        raise Failed("does not copy from registry to registry")

    def stop(self) -> float:
        """
        End its daemon, if it has one.

        @return: seconds that it took.
        """
        return 0.0 if self.daemon is None else self.daemon.stop()

    def _run(self, command: Sequence[str]) -> Program:
        """
        Start its client.
        """
        self._runs += 1
        return self._program(command, f"run-{self._runs}")

    def _program(self, argv: Sequence[str], log: str) -> Program:
        """
        Start one of its programs, without the user's settings in the
        environment.
        """
        environ = {
            "PYTHONPATH": self.root,
            "PYTHONSAFEPATH": "1",
            "DOCKER_CONFIG": str(self._place),
            "XFERD_HOST": "",
            "TMPDIR": str(self._place),
        }
        return Program([*self._within, *argv], self._place / f"{log}.log", environ)


class Xferd(Peer):
    """
    C{twistd xferd} and C{xferctl}.
    """

    name = "xferd"
    programs = ()
    version_of = (sys.executable, *TWISTD, "xferd", "--version")
    twistd: Sequence[str] = (sys.executable, *TWISTD)
    """The command that is twistd."""
    settings = ""
    """More of its settings, as TOML."""
    upstream = "plain_http = true"
    """Its settings for the registry, as TOML."""

    @property
    def socket(self) -> str:
        """
        Where its API is.
        """
        return str(self._place / "s")

    @property
    def api(self) -> Daemon:
        """
        Its API.
        """
        return Daemon([Address("unix", self.socket)], client="benchmark")

    def start(self) -> None:
        """
        Start the daemon.
        """
        settings = self._place / "xferd.toml"
        settings.write_text(
            f'data_dir = "{self._place}/data"\nsocket = "{self.socket}"\nlisten = []\n'
            f'[hosts."{self._registry}"]\n{self.upstream}\n{self.settings}'
        )
        argv = [*self.twistd, "--nodaemon", "--pidfile=", "xferd", "--config", str(settings)]
        self.daemon = self._program(argv, "daemon")
        self.daemon.ready(" is ready;")

    def command(self, reference: str) -> Sequence[str]:
        """
        C{xferctl pull}.
        """
        return self._xferctl("pull", reference)

    def prefetch(self, reference: str) -> Program:
        """
        Begin to fetch an image without unpacking it.
        """
        return self._run(self._xferctl("prefetch", reference))

    def push_command(self, reference: str, target: str) -> Sequence[str]:
        """
        C{xferctl push}.
        """
        return self._xferctl("push", reference, target)

    def copy_command(self, reference: str, target: str) -> Sequence[str]:
        """
        C{xferctl copy}.
        """
        return self._xferctl("copy", reference, target)

    def _xferctl(self, command: str, *references: str) -> Sequence[str]:
        return (
            sys.executable,
            *_XFERCTL,
            "--host",
            f"unix:{self.socket}",
            command,
            "--quiet",
            *references,
        )


class Docker(Peer):
    """
    C{dockerd} and C{docker pull}, with the storage driver overlay2.
    """

    name = "docker"
    programs = ("dockerd", "docker", "containerd", "runc")
    version_of = ("dockerd", "--version")

    @classmethod
    def check(cls) -> str:
        """
        See whether it can be run here.
        """
        need_root()
        return super().check()

    def start(self) -> None:
        """
        Start the daemon.
        """
        argv = [
            "dockerd",
            "--iptables=false",
            "--bridge=none",
            "--storage-driver=overlay2",
            f"--data-root={self._place}/data",
            f"--exec-root={self._place}/exec",
            f"--pidfile={self._place}/pid",
            f"--host={self._host}",
            f"--insecure-registry={self._registry}",
            *self._options(),
        ]
        self.daemon = self._program(argv, "daemon")
        self.daemon.ready("API listen on")

    def _options(self) -> Sequence[str]:
        """
        More options of the daemon.
        """
        return ()

    @property
    def _host(self) -> str:
        return f"unix://{self._place}/s"

    def command(self, reference: str) -> Sequence[str]:
        """
        C{docker pull}.
        """
        return ("docker", "--host", self._host, "pull", "--quiet", reference)

    def push_command(self, reference: str, target: str) -> Sequence[str]:
        """
        C{docker push}, of an image that was tagged for it.
        """
        output(["docker", "--host", self._host, "tag", reference, target])
        return ("docker", "--host", self._host, "push", "--quiet", target)


class Containerd(Peer):
    """
    C{containerd} and C{ctr images pull} of version 1, with the overlayfs
    snapshotter.

    @cvar major: the major version.
    @cvar with_cri: whether it serves Kubernetes.
    """

    name = "containerd"
    programs = ("containerd", "ctr")
    version_of = ("containerd", "--version")
    major: ClassVar[int] = 1
    with_cri: ClassVar[bool] = False

    @classmethod
    def check(cls) -> str:
        """
        See whether it can be run here.
        """
        need_root()
        find(*map(cls.path, cls.programs))
        version = output([cls.path("containerd"), "--version"]).strip()
        if not re.search(rf"\bv?{cls.major}\.\d+\.\d+", version):
            raise Failed(f"has another major version than {cls.major}: {version}")
        return version

    @classmethod
    def path(cls, program: str) -> str:
        """
        The path of one of its programs.
        """
        return program

    def start(self) -> None:
        """
        Start the daemon.
        """
        settings = self._place / "containerd.toml"
        settings.write_text(
            f'version = 2\nroot = "{self._place}/root"\nstate = "{self._place}/state"\n'
            f"disabled_plugins = {'[]' if self.with_cri else _CRI}\n"
            f'[grpc]\naddress = "{self._place}/s"\n{self._tables()}'
        )
        self.daemon = self._program([self.path("containerd"), "--config", str(settings)], "daemon")
        self.daemon.ready("containerd successfully booted")

    def command(self, reference: str) -> Sequence[str]:
        """
        C{ctr images pull}.
        """
        return self._ctr("pull", "--plain-http", "--snapshotter", "overlayfs", reference)

    def push_command(self, reference: str, target: str) -> Sequence[str]:
        """
        C{ctr images push}.
        """
        return self._ctr("push", "--plain-http", target, reference)

    def _tables(self) -> str:
        """
        More of its settings.
        """
        return ""

    def _ctr(self, *arguments: str) -> Sequence[str]:
        return (self.path("ctr"), "--address", f"{self._place}/s", "images", *arguments)


class Containerd2(Containerd):
    """
    The same of version 2, from the directory in C{XFERD_CONTAINERD} or from the
    C{PATH}.  It inflates layers with C{igzip}, of Debian's package C{isal}, if
    that is in the C{PATH}, which takes much less time than its own gzip reader.
    """

    name = "containerd-2"
    major = 2

    @classmethod
    def check(cls) -> str:
        """
        See whether it can be run here.

        @return: its version, and whether it uses C{igzip}.
        """
        return f"{super().check()}, {'with' if shutil.which('igzip') else 'without'} igzip"

    @classmethod
    def path(cls, program: str) -> str:
        """
        The path of one of its programs.
        """
        return os.path.join(os.environ.get("XFERD_CONTAINERD", ""), program)


class Podman(Peer):
    """
    C{podman pull}, with the storage driver overlay.
    """

    name = "podman"
    programs = ("podman",)
    version_of = ("podman", "--version")

    def command(self, reference: str) -> Sequence[str]:
        """
        C{podman pull}.
        """
        return (*self._podman, "pull", "--quiet", "--tls-verify=false", reference)

    def push_command(self, reference: str, target: str) -> Sequence[str]:
        """
        C{podman push}.
        """
        return (*self._podman, "push", "--quiet", "--tls-verify=false", reference, target)

    @property
    def _podman(self) -> Sequence[str]:
        return (
            "podman",
            "--root",
            f"{self._place}/root",
            "--runroot",
            f"{self._place}/run",
            "--storage-driver",
            "overlay",
        )


class Skopeo(Peer):
    """
    C{skopeo copy} to an OCI image layout: it fetches and checks, and unpacks
    nothing.
    """

    name = "skopeo"
    programs = ("skopeo",)
    version_of = ("skopeo", "--version")

    def command(self, reference: str) -> Sequence[str]:
        """
        C{skopeo copy}.
        """
        return (*_COPY, f"docker://{reference}", self._layout)

    def push_command(self, reference: str, target: str) -> Sequence[str]:  # noqa: ARG002 - it holds one
        """
        C{skopeo copy} from the layout.
        """
        return (*_COPY, self._layout, f"docker://{target}")

    def copy_command(self, reference: str, target: str) -> Sequence[str]:
        """
        C{skopeo copy}.
        """
        return (*_COPY, f"docker://{reference}", f"docker://{target}")

    @property
    def _layout(self) -> str:
        return f"oci:{self._place}/layout:pulled"


PEERS: Sequence[type[Peer]] = (Xferd, Docker, Podman, Containerd, Containerd2, Skopeo)
"""All of them, ours first."""


def need_root() -> None:
    """
    Be root.

    @raise Failed: we are not.
    """
    if os.geteuid() != 0:
        raise Failed("needs root")
