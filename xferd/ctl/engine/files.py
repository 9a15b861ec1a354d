# -*- test-case-name: tests.ctl.engine.test_files -*-
"""
The configuration files by which container engines run images from the daemon's store.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from xferd.ctl.config_file import ConfigFile
from xferd.ctl.engine.containerd_config import (
    SNAPSHOTTER,
    containerd_config,
    proxy_plugin,
    transfer_service,
)
from xferd.ctl.engine.machine import Version
from xferd.ctl.engine.served import CONTAINERD, VIEW
from xferd.ctl.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from xferd.ctl.engine.machine import Machine
    from xferd.ctl.engine.served import Engine

_STORAGE: Final = "/etc/containers/storage.conf"
_VENDOR_STORAGE: Final = "/usr/share/containers/storage.conf"

_K3S_WITH_CONTAINERD_2: Final = {31: Version(1, 31, 6), 32: Version(1, 32, 2)}
"""The first versions of k3s with containerd 2, of the minor versions that began with 1.7."""

_NO_RESTART: Final = "For podman, buildah and skopeo; only 'podman system service' needs a restart."

_USERNS_REMAP: Final = re.compile(r'"userns-remap"\s*:\s*"[^"]')
"""A user in C{daemon.json}, which people write by hand, and not always as valid JSON."""


def containerd(engine: Engine, machine: Machine, platform: str) -> list[ConfigFile]:
    """
    C{config.toml} for Kubernetes and C{ctr}.

    @raise ClientError: this containerd is rootless, and the daemon is another user's.
    """
    rootless = _is_rootless("containerd", engine, machine)
    if machine.version("containerd").major >= 2:
        note = f"Kubernetes then uses xferd; so does: ctr images pull --snapshotter {SNAPSHOTTER} REF"
    else:
        note = "Kubernetes then uses xferd.  ctr of containerd 1 fetches layers without it."
    files = [
        containerd_config(
            engine, machine, platform, with_transfer=True, with_cri=True, note=note, rootless=rootless
        )
    ]
    if not rootless:
        files.append(_after_xferd("containerd"))
    if engine.cri:
        text = f"imageServiceEndpoint: {json.dumps(f'unix://{engine.path}')}\n"
        note = "For the pull secrets of pods.  Restart kubelet: systemctl restart kubelet"
        files.append(ConfigFile("/var/lib/kubelet/config.yaml", text, is_whole=False, note=note))
    return files


def k3s(engine: Engine, machine: Machine, platform: str) -> list[ConfigFile]:
    """
    A template of containerd's configuration that extends k3s' own, and C{snapshotter} of
    k3s, from which that has the table of CRI (https://docs.k3s.io/advanced).
    """
    version = machine.version("k3s")
    new = has_containerd_2(version)
    name = "config-v3.toml.tmpl" if new else "config.toml.tmpl"
    path = f"/var/lib/rancher/k3s/agent/etc/containerd/{name}"
    parts = ['{{ template "base" . }}\n', proxy_plugin(engine)]
    note = "For RKE2, the path has rke2 in place of k3s.  Restart k3s or k3s-agent on the node."
    if new:
        parts.append(transfer_service(platform))
        note += (
            "\nIt fetches images by xferd with containerd 2.1 or newer (k3s ctr version), if the config.toml "
            "that k3s writes beside it\nhas no use_local_image_pull = true; otherwise it uses xferd only for "
            "images that are already in its store."
        )
    else:
        note += (
            f"\nThe containerd of k3s {version} uses xferd only for images that are already in its store: "
            "xferctl pull REF"
        )
    settings = f"snapshotter: {SNAPSHOTTER}\n"
    if engine.cri:
        settings += f"image-service-endpoint: {json.dumps(engine.path)}\n"
    return [
        ConfigFile(path, "\n".join(parts), is_whole=machine.read(path) is None, note=note),
        ConfigFile("/etc/rancher/k3s/config.yaml.d/50-xferd.yaml", settings),
        _after_xferd("k3s"),
    ]


def has_containerd_2(k3s_version: Version) -> bool:
    """
    Whether k3s has a containerd 2.
    """
    first = _K3S_WITH_CONTAINERD_2.get(k3s_version.minor)
    return k3s_version >= first if first is not None else k3s_version.minor > max(_K3S_WITH_CONTAINERD_2)


def docker(engine: Engine, machine: Machine, platform: str) -> list[ConfigFile]:
    """
    C{daemon.json}, and the configuration of the containerd that docker uses.

    @raise ClientError: this docker cannot have the containerd image store, or is rootless.
    """
    own = machine.rootless("docker")
    if own:
        raise ClientError(
            f"docker of user {machine.uid} is rootless ({own}), and cannot use xferd: it starts a containerd "
            "of its own, and gives it no snapshotter; run docker as root, or nerdctl with rootless containerd"
        )
    version, path = machine.version("docker"), "/etc/docker/daemon.json"
    if version.major < 24:
        raise ClientError(f"docker {version} cannot use a snapshotter; version 24 is the first that can")
    present = machine.read(path)
    if present is not None and _USERNS_REMAP.search(present):
        raise ClientError(
            "docker refuses to start with a snapshotter and userns-remap; "
            f"remove userns-remap from {path} first"
        )
    settings = {
        "containerd": "/run/containerd/containerd.sock",
        "features": {"containerd-snapshotter": True},
        "storage-driver": SNAPSHOTTER,
    }
    note = "Images of another storage driver are hidden until it is set again.\nsystemctl restart docker"
    text = json.dumps(settings, indent=2) + "\n"
    return [
        containerd_config(
            engine, machine, platform, with_transfer=False, with_cri=False, note="Before docker's file:"
        ),
        _after_xferd("containerd"),
        ConfigFile(path, text, is_whole=present is None, note=note),
    ]


def nerdctl(engine: Engine, machine: Machine, platform: str) -> list[ConfigFile]:
    """
    C{nerdctl.toml}, and containerd's configuration.

    @raise ClientError: this nerdctl is rootless, and the daemon is another user's.
    """
    rootless = _is_rootless("nerdctl", engine, machine)
    version, running = machine.version("nerdctl"), machine.version("containerd")
    note = ""
    if version.major < 2 or running.major < 2:
        note = (
            f"nerdctl {version} with containerd {running} uses xferd only for images that are already in its "
            "store: xferctl pull REF\nBoth need version 2 to fetch them by xferd."
        )
    path = f"{machine.config_home}/nerdctl/nerdctl.toml" if rootless else "/etc/nerdctl/nerdctl.toml"
    text = f"snapshotter = {json.dumps(SNAPSHOTTER)}\n"
    config = containerd_config(
        engine,
        machine,
        platform,
        with_transfer=True,
        with_cri=False,
        note="For rootless nerdctl." if rootless else "For nerdctl as root.",
        rootless=rootless,
    )
    own = ConfigFile(path, text, is_whole=machine.read(path) is None, note=note)
    return [config, own] if rootless else [config, _after_xferd("containerd"), own]


def podman(engine: Engine, machine: Machine, _: str) -> list[ConfigFile]:
    """
    C{storage.conf} for podman, buildah and skopeo.
    """
    version = machine.version("podman")
    note = _NO_RESTART
    if version < Version(5, 0):
        note += f"\npodman {version} cannot mount images of more than 60 layers from this store."
    return [_storage(engine, machine, note)]


def buildah(engine: Engine, machine: Machine, _: str) -> list[ConfigFile]:
    """
    The same where podman is not installed.
    """
    machine.version("buildah")
    return [_storage(engine, machine, _NO_RESTART)]


def cri_o(engine: Engine, machine: Machine, _: str) -> list[ConfigFile]:
    """
    C{storage.conf}, whose options CRI-O uses unless it has its own.
    """
    machine.version("cri-o")
    files = [_storage(engine, machine, "Restart CRI-O: systemctl restart crio")]
    options = json.dumps([f"overlay.imagestore={engine.path}"])
    note = "Only if storage_option is set: CRI-O then ignores the options of storage.conf."
    text = f"[crio]\nstorage_option = {options}\n"
    return [*files, ConfigFile("/etc/crio/crio.conf", text, is_whole=False, note=note)]


class Tool(NamedTuple):
    """
    A tool that can be configured.

    @ivar kind: the kind of engine that serves it.
    @ivar files: makes its files from the engine, the machine and the platform of this
        machine.
    """

    kind: str
    files: Callable[[Engine, Machine, str], list[ConfigFile]]


TOOLS: Final[Mapping[str, Tool]] = {
    "containerd": Tool(CONTAINERD, containerd),
    "k3s": Tool(CONTAINERD, k3s),
    "docker": Tool(CONTAINERD, docker),
    "podman": Tool(VIEW, podman),
    "buildah": Tool(VIEW, buildah),
    "cri-o": Tool(VIEW, cri_o),
    "nerdctl": Tool(CONTAINERD, nerdctl),
}
"""The tools, by name."""


def _is_rootless(tool: str, engine: Engine, machine: Machine) -> bool:
    """
    Whether the tool is the user's, which runs in a user namespace.

    @raise ClientError: it is, and the daemon is another user's.
    """
    own = machine.rootless(tool)
    if own and not machine.owns(engine.path):
        raise ClientError(
            f"{tool} of user {machine.uid} is rootless ({own}), and needs an xferd of the same user in a "
            f"user namespace, not the one at {engine.path}"
        )
    return bool(own)


def _after_xferd(unit: str) -> ConfigFile:
    """
    A drop-in of systemd that starts an engine after xferd, so that its first containers
    find their snapshots.
    """
    return ConfigFile(
        f"/etc/systemd/system/{unit}.service.d/50-xferd.conf",
        "[Unit]\nWants=xferd.service\nAfter=xferd.service\n",
        note=f"{unit} starts after xferd.  systemctl daemon-reload",
    )


def _storage(engine: Engine, machine: Machine, note: str) -> ConfigFile:
    """
    The lines for the C{storage.conf} of the user, or the whole file if there is none.

    A file must have C{runroot} and C{graphroot}, and replaces that of the distribution
    as a whole: containers-storage.conf(5).
    """
    is_root = machine.uid == 0
    path = _STORAGE if is_root else f"{machine.config_home}/containers/storage.conf"
    options = f"[storage.options]\nadditionalimagestores = {json.dumps([engine.path])}\n"
    if machine.read(path) is not None:
        return ConfigFile(path, options, is_whole=False, note=note)
    if is_root and machine.read(_VENDOR_STORAGE) is not None:
        note += f"\nCopy {_VENDOR_STORAGE} first: this file replaces it."
        return ConfigFile(path, options, is_whole=False, note=note)
    roots = ""
    if is_root:
        roots = 'runroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n'
    return ConfigFile(path, f'[storage]\ndriver = "overlay"\n{roots}\n{options}', note=note)
