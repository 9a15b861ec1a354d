"""
containerd with xferd as its snapshotter: a daemon of its own, and C{ctr} and C{crictl} for
it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from twisted.internet.interfaces import IReactorProcess

from tests.integration.peers import PeerFailed, require, run
from tests.integration.programs import Program

NEWEST: Final = os.environ.get("XFERD_CONTAINERD", "/nowhere")
"""The directory of containerd's programs of version 2."""

_VERSION_3: Final = """\
version = 3
root = "{place}/root"
state = "{place}/state"
[grpc]
  address = "{place}/s"
[proxy_plugins.xferd]
  type = "snapshot"
  address = "{socket}"
  capabilities = ["remap-ids"]
  [proxy_plugins.xferd.exports]
    root = "{data}"
    enable_remote_snapshot_annotations = "true"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/amd64"
  snapshotter = "xferd"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/amd64"
  snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "xferd"
  disable_snapshot_annotations = false
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{hosts}"
# Containers in which tests run may not lower it.
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "{place}/cni"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
"""

_VERSION_2: Final = """\
version = 2
root = "{place}/root"
state = "{place}/state"
[grpc]
  address = "{place}/s"
[proxy_plugins.xferd]
  type = "snapshot"
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{place}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "xferd"
  disable_snapshot_annotations = false
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{hosts}"
"""


class SnapshottingContainerd(Program):
    """
    A containerd.

    @ivar hosts: the directory of its C{hosts.toml} files.
    @ivar networks: the directory of CNI's configuration, which is empty: without it, pods
        use the network of the host.
    """

    def __init__(
        self,
        reactor: IReactorProcess,
        place: Path,
        socket: str,
        data: str,
        *,
        newest: bool,
        pause: str = "pause:1",
        directory: str = "",
    ) -> None:
        """
        @param place: its directory, which is created if it is missing, with a short path.
        @param socket: that of xferd's engine.
        @param data: xferd's data directory.
        @param newest: whether it is version 2; else Debian's.
        @param pause: the image of pods' own containers.
        @param directory: that of its programs; by default that of version 2, or Debian's.
        """
        place.mkdir(parents=True, exist_ok=True)
        self.networks = place / "cni"
        self.networks.mkdir(exist_ok=True)
        self.hosts = place / "certs.d"
        self.hosts.mkdir(exist_ok=True)
        self._place = place
        self._reactor = reactor
        if newest and not directory:
            directory = NEWEST
        self._bin = f"{directory}/" if directory else ""
        config = place / "config.toml"
        text = _VERSION_3 if newest else _VERSION_2
        config.write_text(text.format(place=place, socket=socket, data=data, hosts=self.hosts, pause=pause))
        argv = [f"{self._bin}containerd", "--config", str(config), "--log-level", "debug"]
        super().__init__(reactor, argv, "containerd successfully booted", str(place))
        if directory:
            # It finds its own shim.
            self.environment["PATH"] = f"{directory}:{os.environ['PATH']}"

    async def stop(self, signal: str = "TERM") -> None:
        """
        Stop it, with the containers that a test that has failed left: their processes and
        mounts would outlive it.
        """
        for task in self._place.glob("state/io.containerd.runtime.v2.task/*/*"):
            with contextlib.suppress(PeerFailed):
                await self.ctr("tasks", "rm", "--force", task.name, namespace=task.parent.name)
        await super().stop(signal)

    def plain(self, host: str) -> None:
        """
        Let CRI use plain HTTP for a host.
        """
        (self.hosts / host).mkdir(exist_ok=True)
        (self.hosts / host / "hosts.toml").write_text(f'server = "http://{host}"\n')

    async def ctr(self, *arguments: str, namespace: str = "default") -> str:
        """
        Run ctr.
        """
        return await run(
            self._reactor,
            [f"{self._bin}ctr", "--address", f"{self._place}/s", "--namespace", namespace, *arguments],
        )

    async def pull(self, reference: str, *options: str, namespace: str = "default") -> str:
        """
        Pull an image with xferd's snapshotter.
        """
        return await self.ctr(
            "images", "pull", "--plain-http", "--snapshotter=xferd", *options, reference, namespace=namespace
        )

    def pulling(self, reference: str) -> Program:
        """
        The command that pulls an image, to be started.
        """
        argv = [f"{self._bin}ctr", "--address", f"{self._place}/s", "images", "pull", "--plain-http"]
        return Program(self._reactor, [*argv, "--snapshotter=xferd", reference], "", str(self._place))

    async def run_in(
        self,
        reference: str,
        name: str,
        *command: str,
        options: Sequence[str] = ("--rm",),
        namespace: str = "default",
    ) -> str:
        """
        Run a container to its end.
        """
        own = ("--snapshotter=xferd", f"--runc-root={self._place}/runc", *options)
        return await self.ctr("run", *own, reference, name, *command, namespace=namespace)

    async def crictl(self, *arguments: str, images: str = "") -> str:
        """
        Run crictl.

        @param images: the socket of the C{ImageService}; containerd's own by default.
        """
        endpoint = f"unix://{self._place}/s"
        images = f"unix://{images}" if images else endpoint
        return await run(
            self._reactor,
            [
                require(f"{NEWEST}/crictl"),
                *("--runtime-endpoint", endpoint, "--image-endpoint", images, "--timeout", "60s"),
                *arguments,
            ],
        )
