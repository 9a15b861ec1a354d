# -*- test-case-name: tests.web.test_app -*-
"""
The space on the disk of the store, as C{GET /api/v1/status} shows it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, TypedDict

from twisted.logger import Logger

if TYPE_CHECKING:
    from xferd.interfaces.store import IStore

_log: Final = Logger()


class DiskJSON(TypedDict):
    """
    A disk: free and total bytes, L{None} where they are unknown, and why
    nothing can be written, empty if it can.
    """

    path: str
    free: int | None
    total: int | None
    why: str


def disk_status(store: IStore) -> DiskJSON:
    """
    The space on the disk of a store.
    """
    try:
        disk = os.statvfs(store.path)
    except OSError as e:
        _log.warn("cannot determine the free space of {path}: {error}", path=store.path, error=e)
        return {"path": store.path, "free": None, "total": None, "why": ""}
    return {
        "path": store.path,
        "why": store.free_space.why,
        "free": disk.f_bavail * disk.f_frsize,
        "total": disk.f_blocks * disk.f_frsize,
    }
