"""
Lists of the content of directory trees, for an exact comparison.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from hashlib import sha256
from typing import Any


def listing(root: str, *, links: bool = True, without: Collection[bytes] = ()) -> dict[bytes, dict[str, Any]]:
    """
    The content of a tree below its root: type and mode, owner, times, sizes,
    contents, links, devices, extended attributes.

    @param links: whether to include which names are one file.
    @param without: the paths of entries to leave out with all below them.
    @return: the facts of each entry, by its path relative to the root.
    """
    top = os.fsencode(root)
    found: dict[bytes, dict[str, Any]] = {}
    first: dict[tuple[int, int], bytes] = {}
    folders = [b""]
    while folders:
        folder = folders.pop()
        for name in sorted(os.listdir(os.path.join(top, folder))):
            path = os.path.join(folder, name)
            if path in without:
                continue
            full = os.path.join(top, path)
            status = os.lstat(full)
            is_whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
            facts: dict[str, Any] = {
                "mode": oct(status.st_mode),
                "owner": (status.st_uid, status.st_gid),
                # A whiteout has the time of its creation, which nothing shows.
                "mtime": None if is_whiteout else status.st_mtime_ns,
                "xattrs": {
                    x: os.getxattr(full, x, follow_symlinks=False)
                    for x in os.listxattr(full, follow_symlinks=False)
                },
            }
            if stat.S_ISDIR(status.st_mode):
                folders.append(path)
            elif stat.S_ISLNK(status.st_mode):
                facts["target"] = os.readlink(full)
            elif stat.S_ISREG(status.st_mode):
                facts["size"] = status.st_size
                with open(full, "rb") as file:
                    facts["content"] = sha256(file.read()).hexdigest()
            else:
                facts["device"] = status.st_rdev
            if links and status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                facts["same as"] = first.setdefault((status.st_dev, status.st_ino), path)
            found[path] = facts
    return found


def differences(ours: dict[bytes, dict[str, Any]], theirs: dict[bytes, dict[str, Any]]) -> list[str]:
    """
    The differences of two listings, a line for each.
    """
    lines = [f"only ours: {path!r}" for path in sorted(ours.keys() - theirs.keys())]
    lines += [f"only theirs: {path!r}" for path in sorted(theirs.keys() - ours.keys())]
    for path in sorted(ours.keys() & theirs.keys()):
        for fact in sorted(ours[path].keys() | theirs[path].keys()):
            mine, other = ours[path].get(fact), theirs[path].get(fact)
            if mine != other:
                lines.append(f"{path!r}: {fact} is {mine!r}, theirs {other!r}")
    return lines
