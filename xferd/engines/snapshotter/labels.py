# -*- test-case-name: tests.engines.snapshotter.test_labels -*-
"""
The labels of snapshots: those that containerd gives a meaning, and their limit.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from xferd.engines.snapshotter.errors import BadCall
from xferd.errors import BadDigest, BadReference
from xferd.interfaces.layer_source import WantedLayer
from xferd.names import Digest, Reference

REF: Final = "containerd.io/snapshot.ref"
"""The chain ID of the layer that a snapshot is wanted for."""

IMAGE: Final = "containerd.io/snapshot/cri.image-ref"
"""The reference of its image."""

MANIFEST: Final = "containerd.io/snapshot/cri.manifest-digest"
"""The digest of the image's manifest, for one platform."""

UID_MAP: Final = "containerd.io/snapshot/uidmapping"
GID_MAP: Final = "containerd.io/snapshot/gidmapping"
"""The ID maps of a container's user namespace: C{CONTAINER:HOST:COUNT}, by commas."""

MAX_LABEL: Final = 4096
"""The most bytes of a label's key and value together, as in containerd."""

MAX_KEY: Final = 4096
"""The most bytes of a snapshot's key: containerd's have some hundred."""

_MAX_ID: Final = 2**32 - 1


def checked(labels: Mapping[str, str]) -> dict[str, str]:
    """
    The labels to record: containerd has none without a value.

    @raise BadCall: one is too long.
    """
    for key, value in labels.items():
        if len(key.encode()) + len(value.encode()) > MAX_LABEL:
            raise BadCall(f"label key and value length exceeds the limit of {MAX_LABEL} bytes: {key[:64]}")
    return {key: value for key, value in labels.items() if value}


def check_key(key: str) -> None:
    """
    Check the key of a new snapshot.

    @raise BadCall: there is none, or it is too long.
    """
    if not key:
        raise BadCall("a snapshot needs a key")
    if len(key.encode()) > MAX_KEY:
        raise BadCall(f"the key of a snapshot exceeds the limit of {MAX_KEY} bytes: {key[:64]}")


def without_maps(labels: Mapping[str, str]) -> dict[str, str]:
    """
    Labels without ID maps: those of a layer may come from the image, and an image does
    not choose the owner of files on this host.
    """
    return {key: value for key, value in labels.items() if key not in (UID_MAP, GID_MAP)}


def wanted_layer(labels: Mapping[str, str]) -> WantedLayer | None:
    """
    The layer that a new snapshot is wanted for, or L{None}: the labels are none of
    a layer's, or are malformed.
    """
    try:
        chain_id = Digest.parse(labels.get(REF, ""))
    except BadDigest:
        return None
    named = labels.get(IMAGE, "")
    try:
        manifest = Digest.parse(labels.get(MANIFEST, ""))
        repository = Reference.parse(named).repository
    except (BadDigest, BadReference):
        return WantedLayer(chain_id)
    return WantedLayer(chain_id, Reference(repository, None, manifest), named)


def mapped_root(labels: Mapping[str, str]) -> tuple[int, int] | None:
    """
    The user and the group on this host that are root in a container's user namespace;
    L{None} without one.

    @raise BadCall: the maps are malformed, or have no root.
    """
    maps = [labels.get(UID_MAP), labels.get(GID_MAP)]
    if maps == [None, None]:
        return None
    uid, gid = (_host_id(text or "") for text in maps)
    return uid, gid


def _host_id(text: str) -> int:
    """
    The ID on the host of the container's 0.
    """
    for part in text.split(","):
        numbers = part.split(":")
        if len(numbers) != 3 or not all(n.isascii() and n.isdigit() for n in numbers):
            raise BadCall(f"{text!r} is not an ID map; one is CONTAINER:HOST:COUNT")
        inside, outside, count = map(int, numbers)
        if max(inside, outside, count) > _MAX_ID:
            raise BadCall(f"{text!r} is not an ID map: an ID has 32 bits")
        if inside == 0 and count:
            return outside
    raise BadCall(f"the ID map {text!r} has no root")
