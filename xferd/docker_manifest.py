# -*- test-case-name: tests.test_docker_manifest -*-
"""
Docker's manifests in OCI's words.

A manifest of Docker's cannot stand in an image layout under a name: skopeo
and umoci look only at entries of OCI's types.  The two forms differ in nothing
but the types that they name, so the same image is written down a second time
as the OCI would have it, of the same config and the same layers.  The manifest
as it came stays beside it: its digest is the one that registries know.

Pure.
"""

from __future__ import annotations

import json
from typing import Any, Final

from xferd.media_types import DOCKER_CONFIG, DOCKER_MANIFEST, MISNAMED_CONFIGS, OCI_CONFIG, OCI_MANIFEST

_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_FOREIGN: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar"
_TYPES: Final = {
    DOCKER_MANIFEST: OCI_MANIFEST,
    DOCKER_CONFIG: OCI_CONFIG,
    "application/vnd.docker.image.rootfs.diff.tar": _LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{_LAYER}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": f"{_LAYER}+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar": _FOREIGN,
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": f"{_FOREIGN}+gzip",
}
"""What the OCI calls Docker's types (image-spec, "Compatibility Matrix")."""


def render(manifest: bytes) -> bytes:
    """
    Write a manifest of Docker's in OCI's words; always in the same way, so
    that it is the same blob for every name.

    @param manifest: one that L{xferd.oci.parse_document} accepts.
    """
    value: dict[str, Any] = json.loads(manifest)
    value["mediaType"] = OCI_MANIFEST
    value["config"] = _renamed(value["config"])
    if value["config"]["mediaType"] in MISNAMED_CONFIGS:
        value["config"]["mediaType"] = OCI_CONFIG
    value["layers"] = [_renamed(layer) for layer in value["layers"] or ()]
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _renamed(descriptor: dict[str, Any]) -> dict[str, Any]:
    media_type = descriptor.get("mediaType") or ""
    return {**descriptor, "mediaType": _TYPES.get(media_type, media_type)}
