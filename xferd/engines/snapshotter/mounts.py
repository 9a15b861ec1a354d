# -*- test-case-name: tests.engines.snapshotter.test_mounts -*-
"""
The mounts of snapshots, as containerd's own overlayfs snapshotter makes them.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from xferd.engines.snapshotter.labels import GID_MAP, UID_MAP
from xferd.interfaces.snapshots import Kind, Mount, Snapshot

ROOM: Final = 3000
"""
The bytes of options beyond which lower directories get short names: a mount takes a
page of options, of which containerd keeps 512 bytes free.
"""


def mount_of(snapshot: Snapshot, lowers: Sequence[str], files: str, *, in_namespace: bool = False) -> Mount:
    """
    The mount of an active snapshot or a view.

    @param lowers: the directories of the snapshots below, the top one first.
    @param files: the directory of its own C{fs} and C{work}.
    @param in_namespace: whether it is mounted in a user namespace, where overlayfs reads
        C{user.overlay.*}.
    """
    maps = _map_options(snapshot.labels)
    writable = snapshot.kind is Kind.ACTIVE
    if not lowers:
        return Mount("bind", f"{files}/fs", (*maps, "rw" if writable else "ro", "rbind"))
    if not writable and len(lowers) == 1:
        return Mount("bind", lowers[0], (*maps, "ro", "rbind"))
    own = (f"workdir={files}/work", f"upperdir={files}/fs") if writable else ()
    more = ("index=off", "userxattr") if in_namespace else ("index=off",)
    return Mount("overlay", "overlay", (*maps, *own, f"lowerdir={':'.join(lowers)}", *more))


def needs_short_names(mount: Mount) -> bool:
    """
    Whether the options of a mount may not fit into a page.
    """
    return len(",".join(mount.options).encode()) > ROOM


def _map_options(labels: Mapping[str, str]) -> tuple[str, ...]:
    """
    The options for a container's user namespace: containerd maps the owners.
    """
    named = (("uidmap", labels.get(UID_MAP)), ("gidmap", labels.get(GID_MAP)))
    return tuple(f"{name}={value}" for name, value in named if value is not None)
