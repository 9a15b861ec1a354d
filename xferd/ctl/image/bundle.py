# -*- test-case-name: tests.ctl.image.test_unpack -*-
"""
The C{config.json} of a runtime bundle whose root file system is in place.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from xferd.ctl.image.rootfs import RootFS
from xferd.ctl.image.runtime_config import Execution, Volume, runtime_config
from xferd.ctl.image.users import find_user

if TYPE_CHECKING:
    from xferd.ctl.image.unpack import StoredImage


def bundle_config(
    image: StoredImage, execution: Execution, root: str, notes: list[str], *, read_only: bool
) -> dict[str, Any]:
    """
    The bundle's C{config.json}, with users looked up in the bundle's files.

    @param notes: receives further notes for the user.
    @param read_only: whether the container may change nothing.
    """
    uid = os.geteuid()
    rootless = None if uid == 0 else (uid, os.getegid())
    with RootFS(root) as files:
        passwd, group = files.read("/etc/passwd"), files.read("/etc/group")
        volumes = [_volume(files, path) for path in execution.volumes]
    user = find_user(execution.user, passwd, group)
    if rootless is not None and (user.uid, user.gid) != (0, 0):
        notes.append(
            f"the container runs as root, mapped to you, and not as the image's {user.uid}:{user.gid}: "
            "without root only one user can be mapped"
        )
        user = find_user("0:0", passwd, group)
    return runtime_config(
        execution, user, volumes, hostname=image.name, read_only=read_only, rootless=rootless
    )


def _volume(files: RootFS, path: str) -> Volume:
    found = files.directory(path)
    if found is None:
        return Volume(path)
    return Volume(path, (found.st_uid, found.st_gid), stat.S_IMODE(found.st_mode))
