# -*- test-case-name: tests.ctl.engine.test_containerd_config -*-
"""
The part of containerd's configuration that makes xferd a snapshotter.

containerd(8), C{config.toml}: version 3 since containerd 2.0, version 2 before; a file
without a version is of version 1.  containerd 2 also reads files of older versions, with
the names of plugins of any version.
A file of C{imports} cannot have this: containerd 1 replaces whole tables of plugins by
those of imported files.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Final

from xferd.ctl.config_file import ConfigFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xferd.ctl.engine.machine import Machine
    from xferd.ctl.engine.served import Engine

SNAPSHOTTER: Final = "xferd"
"""The name of the snapshotter; containerd keeps it in the labels of images, for good."""

_CRI: Final[Mapping[int, str]] = {
    1: "cri.containerd",
    2: '"io.containerd.grpc.v1.cri".containerd',
    3: '"io.containerd.cri.v1.images"',
}

PATH: Final = "/etc/containerd/config.toml"

_VERSION: Final = re.compile(r"(?m)^\s*version\s*=\s*(\d)\b")


def proxy_plugin(engine: Engine, *, rootless: bool = False) -> str:
    """
    The proxy plugin.

    C{exports} and C{capabilities} are of containerd 2; version 1 ignores them.

    @param rootless: whether containerd is in a user namespace, where the kernel maps no
        owners of mounts.
    """
    capabilities = "" if rootless else '  capabilities = ["remap-ids"]\n'
    return (
        f"[proxy_plugins.{SNAPSHOTTER}]\n"
        '  type = "snapshot"\n'
        f"  address = {json.dumps(engine.path)}\n"
        f"{capabilities}"
        f"  [proxy_plugins.{SNAPSHOTTER}.exports]\n"
        f"    root = {json.dumps(engine.data_dir)}\n"
        '    enable_remote_snapshot_annotations = "true"\n'
    )


def transfer_service(platform: str) -> str:
    """
    The snapshotters of the transfer service, by which C{ctr}, nerdctl and CRI of
    containerd 2 pull.

    @param platform: C{linux/amd64}.
    """
    entries = (
        '[[plugins."io.containerd.transfer.v1.local".unpack_config]]\n'
        f"  platform = {json.dumps(platform)}\n"
        f"  snapshotter = {json.dumps(name)}\n"
        for name in (SNAPSHOTTER, "overlayfs")
    )
    return "".join(("# This list replaces the default one, so that it has overlayfs, too.\n", *entries))


def cri(version: int) -> str:
    """
    The snapshotter of Kubernetes.

    @param version: the version of the file by whose names the table is called.
    """
    return (
        f"# For Kubernetes.\n[plugins.{_CRI[version]}]\n"
        f"  snapshotter = {json.dumps(SNAPSHOTTER)}\n"
        "  disable_snapshot_annotations = false\n"
    )


def containerd_config(
    engine: Engine,
    machine: Machine,
    platform: str,
    *,
    with_transfer: bool,
    with_cri: bool,
    note: str,
    rootless: bool = False,
) -> ConfigFile:
    """
    The lines for C{config.toml}, or the whole file if there is none.

    @param with_transfer: whether clients of the transfer service are to use xferd.
    @param with_cri: whether Kubernetes is to use it.
    @param note: the first lines of the note.
    @param rootless: whether the file is the user's, for C{containerd-rootless.sh}.
    @raise ClientError: the version of containerd is not known.
    """
    path = f"{machine.config_home}/containerd/config.toml" if rootless else PATH
    present = machine.read(path)
    is_new = machine.version("containerd").major >= 2
    parts = [f"version = {3 if is_new else 2}\n"] if present is None else []
    parts.append(proxy_plugin(engine, rootless=rootless))
    if with_transfer and is_new:
        parts.append(transfer_service(platform))
    command = "systemctl --user" if rootless else "systemctl"
    lines = [note, f"Restart containerd: {command} restart containerd"]
    if with_cri:
        # containerd 2 accepts the new table in an old file, and loses the old one
        # unless that has runtimes, too.
        parts.append(cri(3 if is_new else _file_version(present)))
        lines += _notes(present or "", is_new)
    return ConfigFile(path, "\n".join(parts), is_whole=present is None, note="\n".join(lines))


def _file_version(text: str | None) -> int:
    """
    The version of a file, or of a new one for containerd 1.
    """
    if text is None:
        return 2
    found = _VERSION.search(text.split("[", 1)[0])
    return 1 if found is None else min(max(1, int(found[1])), 2)


def _notes(text: str, is_new: bool) -> list[str]:
    """
    What has to be removed from the present file.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return []
    lines = []
    if {"cri", "io.containerd.grpc.v1.cri"}.intersection(tables.get("disabled_plugins", [])):
        lines.append("For Kubernetes, remove cri from disabled_plugins.")
    for name in ("cri", "io.containerd.grpc.v1.cri"):
        old = _table(tables, "plugins", name, "containerd")
        if is_new and {"snapshotter", "disable_snapshot_annotations"} & old.keys():
            lines.append(
                f'Remove snapshotter and disable_snapshot_annotations from [plugins."{name}".containerd]: '
                "they would override these."
            )
    return lines


def _table(tables: object, *names: str) -> Mapping[str, object]:
    """
    A table within tables; empty if there is none.
    """
    for name in names:
        tables = tables.get(name) if isinstance(tables, dict) else None
    return tables if isinstance(tables, dict) else {}
