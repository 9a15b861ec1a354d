"""
umoci as a reference: the trees that it makes of the tars of some layers.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Sequence
from typing import Any

_OCI = "application/vnd.oci.image"


def write_image(path: str, tars: Sequence[bytes], compression: str = "") -> None:
    """
    Write an OCI image layout with one image, C{test}.

    @param tars: its layers, bottom first.
    @param compression: the end of the layers' media type, such as C{+gzip}; the
        bytes are written unchanged.
    """
    blobs = os.path.join(path, "blobs/sha256")
    os.makedirs(blobs)

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        name = hashlib.sha256(data).hexdigest()
        with open(os.path.join(blobs, name), "wb") as f:
            f.write(data)
        return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data)}

    layers = [put(tar, f"{_OCI}.layer.v1.tar{compression}") for tar in tars]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": put(json.dumps(config).encode(), f"{_OCI}.config.v1+json"),
        "layers": layers,
    }
    entry = put(json.dumps(manifest).encode(), f"{_OCI}.manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "test"}
    for name, document in (
        ("index.json", {"schemaVersion": 2, "manifests": [entry]}),
        ("oci-layout", {"imageLayoutVersion": "1.0.0"}),
    ):
        with open(os.path.join(path, name), "w") as f:
            json.dump(document, f)


def umoci_unpack(place: str, tars: Sequence[bytes]) -> tuple[str | None, str]:
    """
    Let umoci unpack some layers.

    @param place: a directory that does not exist.
    @return: the root file system, or C{None} if umoci refuses; and its output.
    """
    image, bundle = os.path.join(place, "image"), os.path.join(place, "bundle")
    write_image(image, tars)
    done = subprocess.run(
        ["umoci", "unpack", "--image", f"{image}:test", bundle], check=False, capture_output=True
    )
    return None if done.returncode else os.path.join(bundle, "rootfs"), done.stderr.decode(errors="replace")


def shape(root: str) -> dict[bytes, tuple[Any, ...]]:
    """
    The content of a root file system, without facts that differ between tools:
    the times of directories, which umoci sets again with each entry.

    @return: type, mode, owner, seconds, and contents, target or device, with
        the number of links and the xattrs, by path.
    """
    found: dict[bytes, tuple[Any, ...]] = {}
    waiting = [b""]
    top = os.fsencode(root)
    while waiting:
        above = waiting.pop()
        for name in os.listdir(os.path.join(top, above)):
            path = os.path.join(above, name)
            full = os.path.join(top, path)
            info = os.lstat(full)
            what: Any = None
            seconds: int | None = info.st_mtime_ns // 10**9
            links = info.st_nlink
            if stat.S_ISDIR(info.st_mode):
                waiting.append(path)
                seconds, links = None, 0
            elif stat.S_ISLNK(info.st_mode):
                what = os.readlink(full)
            elif stat.S_ISREG(info.st_mode):
                with open(full, "rb") as f:
                    what = f.read()
            else:
                what = info.st_rdev
            xattrs = {
                x: os.getxattr(full, x, follow_symlinks=False)
                for x in os.listxattr(full, follow_symlinks=False)
            }
            found[path] = (oct(info.st_mode), info.st_uid, info.st_gid, seconds, links, what, xattrs)
    return found
