# -*- test-case-name: tests.store.disk.test_permissions -*-
"""
Owner and permissions of the data directory.

Images may be private, and programs in unpacked layers may be setuid.  A user
who can write to the directory can plant files and links of any kind.

Blocking, for before the reactor runs.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from xferd.errors import StoreError
from xferd.store.paths import Paths


def check_owner(path: str) -> None:
    """
    Refuse a data directory that another user can change.

    @raise StoreError: it belongs to another user than root and the daemon's, or
        others can write to it, or a group can and the sticky bit is not set.
    @raise OSError: its status cannot be read.
    """
    found = os.stat(path)
    otherwise = "choose another, or set trust_data_dir = true in [store]"
    if found.st_uid not in (0, os.geteuid()):
        user = "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
        raise StoreError(
            f"the data directory {path} belongs to user {found.st_uid}, who can change what is in it: "
            f"chown it to {user}, {otherwise}"
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_IWOTH:
        raise StoreError(
            f"all users can write to the data directory {path}, whose mode is {mode:o}: "
            f"chmod o-w it, {otherwise}"
        )
    if mode & stat.S_IWGRP and not mode & stat.S_ISVTX:
        raise StoreError(
            f"the group {found.st_gid} can write to the data directory {path}, whose mode is {mode:o}: "
            f"chmod g-w it, {otherwise}"
        )


def close_to_others(paths: Paths) -> list[str]:
    """
    Remove the permissions of group and others from the files of an earlier
    version at the top of a data directory.  Deeper files cannot be reached then.

    @return: the paths that the system refuses to change.
    @raise OSError: the disk refuses.
    """
    refused = []
    for path in entries(paths):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            continue
        if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
            # A link has no mode, and its target is not the store's.
            continue
        mode = stat.S_IMODE(found.st_mode)
        if mode & 0o077:
            try:
                os.chmod(path, mode & ~0o077)
            except PermissionError:
                refused.append(path)
    return refused


def entries(paths: Paths) -> Iterator[str]:
    """
    The paths at the top of a data directory, and of the image layout in it.
    """
    yield from (paths.content, paths.ingest, paths.trees, paths.layers, paths.staging)
    yield from (paths.database, f"{paths.database}-wal", f"{paths.database}-shm")
    yield from (paths.version, paths.lock, paths.reserve)
    yield from (paths.index, paths.oci_layout, paths.blobs)
