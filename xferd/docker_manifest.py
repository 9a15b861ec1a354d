# -*- test-case-name: tests.test_docker_manifest -*-
"""
Docker's manifests in OCI form.

In an image layout, skopeo and umoci read only entries with OCI media types.
Docker's form differs in the media types only, so each Docker manifest has an OCI
manifest of the same config and layers beside it.  The original remains, as
registries know its digest.

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
"""OCI's media types for Docker's (image-spec, "Compatibility Matrix")."""


def to_oci_manifest(manifest: bytes) -> bytes:
    """
    Convert a Docker manifest to OCI form.  The result is the same blob each time.

    @param manifest: a manifest that L{xferd.oci.parse_document} accepts.
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
