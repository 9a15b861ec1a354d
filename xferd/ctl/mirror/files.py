# -*- test-case-name: tests.ctl.mirror.test_files -*-
"""
The configuration files by which other container tools use the daemon's registry as
a mirror.

Each tool asks the registry itself where the mirror cannot serve an image.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from xferd.ctl.config_file import ConfigFile
from xferd.ctl.errors import ClientError
from xferd.names import DOCKER_HUB, is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from xferd.ctl.mirror.served import Served, Upstream


def docker(served: Served) -> list[ConfigFile]:
    """
    C{registry-mirrors} for the classic image store, which mirrors Docker Hub
    alone, and C{hosts.toml} for the containerd image store.
    """
    files = []
    note = "With the containerd image store, the default of Docker Engine 29."
    if not served.serves_classic_docker:
        # Many versions of docker refuse to start with a path in the mirror's URL.
        note += (
            f'  The classic one needs registry.default = "{DOCKER_HUB}" in the daemon\'s configuration file.'
        )
    elif served.hub is not None:
        settings: dict[str, list[str]] = {"registry-mirrors": [served.url]}
        if served.is_plain and not is_loopback(served.authority):
            settings["insecure-registries"] = [served.authority]
        classic = "With the classic image store, which mirrors Docker Hub alone; restart docker."
        text = json.dumps(settings, indent=2) + "\n"
        files.append(ConfigFile("/etc/docker/daemon.json", text, is_whole=False, note=classic))
    if served.authorities:
        path = f"/etc/docker/certs.d/{served.authority}/ca.crt"
        files.append(ConfigFile(path, _read(served.authorities)))
    return [*files, *_hosts_files(served, "/etc/docker/certs.d", note)]


def containerd(served: Served) -> list[ConfigFile]:
    """
    C{hosts.toml} for containerd, and the lines that name its directory.
    """
    directory = "/etc/containerd/certs.d"
    lines = f'config_path = "{directory}"\n'
    config, note = "/etc/containerd/config.toml", "For Kubernetes, with containerd {}; restart containerd."
    return [
        *_hosts_files(served, directory),
        ConfigFile(
            config,
            f'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n  {lines}',
            is_whole=False,
            note=note.format("1.x"),
        ),
        ConfigFile(
            config,
            f"version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n  {lines}",
            is_whole=False,
            note=note.format("2.x"),
        ),
    ]


def podman(served: Served) -> list[ConfigFile]:
    """
    A drop-in of C{registries.conf} for podman, CRI-O, skopeo and buildah.
    """
    parts = []
    for upstream in served.upstreams:
        location = f"{served.authority}/{_component(upstream)}"
        lines = [
            "[[registry]]",
            f'prefix = "{upstream.host}"',
            f'location = "{upstream.host}"',
            "",
            "[[registry.mirror]]",
            f'location = "{location}"',
        ]
        if served.is_plain:
            lines.append("insecure = true")
        parts.append("\n".join([*lines, ""]))
    note = "For podman, CRI-O, skopeo and buildah."
    files = [ConfigFile("/etc/containers/registries.conf.d/50-xferd.conf", "\n".join(parts), note=note)]
    if served.authorities:
        path = f"/etc/containers/certs.d/{served.authority}/ca.crt"
        files.append(ConfigFile(path, _read(served.authorities)))
    return files


def buildkit(served: Served) -> list[ConfigFile]:
    """
    C{buildkitd.toml}.
    """
    parts = [
        f'[registry."{upstream.host}"]\n  mirrors = ["{served.authority}"]\n' for upstream in served.upstreams
    ]
    own = ["  http = true\n"] if served.is_plain else []
    if served.authorities:
        own.append(f"  ca = [{json.dumps(served.authorities)}]\n")
    if own:
        parts.append(f'[registry."{served.authority}"]\n{"".join(own)}')
    note = "Restart buildkitd."
    return [ConfigFile("/etc/buildkit/buildkitd.toml", "\n".join(parts), is_whole=False, note=note)]


def k3s(served: Served) -> list[ConfigFile]:
    """
    C{registries.yaml} of k3s and RKE2.
    """
    # Quoted, as a host with a port would end a key.
    lines = ["mirrors:"]
    for upstream in served.upstreams:
        lines += [f'  "{upstream.host}":', "    endpoint:", f'      - "{served.url}"']
    if served.authorities:
        lines += [
            "configs:",
            f'  "{served.authority}":',
            "    tls:",
            f"      ca_file: {json.dumps(served.authorities)}",
        ]
    note = "For RKE2, the path is /etc/rancher/rke2/registries.yaml; restart k3s or RKE2 on the node."
    path, text = "/etc/rancher/k3s/registries.yaml", "\n".join([*lines, ""])
    return [ConfigFile(path, text, is_whole=False, note=note)]


FILES: Final[Mapping[str, Callable[[Served], list[ConfigFile]]]] = {
    "docker": docker,
    "containerd": containerd,
    "podman": podman,
    "buildkit": buildkit,
    "k3s": k3s,
}
"""The files of each client."""


def _hosts_files(served: Served, directory: str, note: str = "") -> list[ConfigFile]:
    """
    A C{hosts.toml} for each upstream.

    None has a C{server}: containerd then asks the registry itself behind the mirror,
    which for Docker Hub has another name.
    """
    lines = [f'[host."{served.url}"]', '  capabilities = ["pull", "resolve"]']
    if served.authorities:
        lines.append(f"  ca = {json.dumps(served.authorities)}")
    text = "\n".join([*lines, ""])
    return [
        ConfigFile(f"{directory}/{upstream.host}/hosts.toml", text, note=note)
        for upstream in served.upstreams
    ]


def _component(upstream: Upstream) -> str:
    """
    The path component that stands for an upstream.

    @raise ClientError: it has none.
    """
    if upstream.component is None:
        raise ClientError(
            f"podman needs an alias for {upstream.host}: "
            f'set alias in [registry.upstreams."{upstream.host}"] of the daemon\'s configuration file'
        )
    return upstream.component


def _read(path: str) -> str:
    """
    The certificates in a file.

    @raise ClientError: it cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError) as e:
        raise ClientError(f"cannot read the certificates in {path}: {e}") from e
