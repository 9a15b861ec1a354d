# -*- test-case-name: tests.doctor.test_doctor -*-
"""
Checks of the disk, of container engines, of the system's limits and of the sandbox.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from xferd.descriptors import own_limit
from xferd.doctor.problem import Problem, Running
from xferd.store.disk.file_system import free_bytes, total_bytes
from xferd.store.disk.reserve import RESERVE
from xferd.store.paths import Paths

LEAST_FREE: Final = 1024 * 1024 * 1024
"""The bytes that should be free on a disk, or a twentieth of a small disk."""

LEAST_FILES: Final = 4096
"""The number of files that the daemon should be able to open."""

_ROOT_ONLY: Final = frozenset({"network", "ipc", "mounts", "bounding_set"})
"""The measures of the sandbox that the kernel grants only to root."""


def check_disk(running: Running) -> Iterator[Problem]:
    """
    Check the free space on the store's disk, and its reserve.
    """
    path = running.config.data_dir
    try:
        free, total = free_bytes(path), total_bytes(path)
        found = os.statvfs(path)
    except OSError as e:
        yield Problem(f"cannot read the disk of {path}: {e.strerror}", f"mount it, and restore {path}")
        return
    if found.f_flag & os.ST_RDONLY:
        yield Problem(f"the disk of {path} is mounted read-only", "mount it with rw")
    if free < min(LEAST_FREE, total // 20):
        yield Problem(
            f"the disk of {path} has {free // 1024**2} MiB left",
            "remove images with xferctl rm, run xferctl gc, or set quota in [store]",
        )
    if found.f_files and found.f_favail < found.f_files // 50:
        yield Problem(f"the disk of {path} has {found.f_favail} inodes left", "remove images with xferctl rm")
    try:
        reserve = os.stat(Paths(path).reserve).st_blocks * 512
    except OSError:
        reserve = 0
    if reserve < min(RESERVE, total // 30):
        yield Problem(
            f"the reserve of the store has {reserve // 1024} KiB: on a full disk, removals would fail",
            "free space on the disk; xferd then restores the reserve",
        )
    if running.config.store.quota > total:
        yield Problem(
            f"the quota is {running.config.store.quota} bytes, and the disk has {total}",
            "lower quota in [store], or set it to 0",
        )


def check_engines(running: Running) -> Iterator[Problem]:
    """
    Check that the container engines of the settings are served.
    """
    for name, why in running.engines.items():
        yield Problem(f"{name} is not served: {why}", "correct this and restart xferd")


def check_limits(running: Running) -> Iterator[Problem]:
    """
    Check the number of open files, and that of workers.
    """
    files = own_limit()
    if 0 <= files < LEAST_FILES:
        yield Problem(
            f"the daemon may open {files} files, too few for many clients",
            "set LimitNOFILE=1024:65536 in its unit, or run ulimit -Hn 65536",
        )
    cores = len(os.sched_getaffinity(0))
    workers = running.config.limits.resolved().workers
    if workers > 4 * cores:
        yield Problem(
            f"{workers} layers are unpacked at the same time on {cores} cores", "lower workers in [limits]"
        )


def check_sandbox(running: Running) -> Iterator[Problem]:
    """
    Check the sandbox of unpacking processes for measures that can be had.
    """
    not_granted = frozenset() if running.is_root else _ROOT_ONLY
    for measure, why in (running.sandbox or {}).items():
        if why and measure not in not_granted:
            yield Problem(
                f"layers are unpacked without {measure}: {why}",
                "allow it in the unit or container of xferd; see 'The sandbox' in the documentation",
            )
