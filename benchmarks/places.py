"""
The places of stores: file systems in memory, fresh for each run, so that
neither a disk nor an earlier run affects the measurement; and a disk, where that is measured.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.processes import Failed, output
from xferd.ctl.demo.processes import remove_tree
from xferd.v2.file_sender import is_cached

_MEMORY = Path("/dev/shm")


@contextmanager
def in_memory(*, mount: bool | None = None) -> Iterator[Path]:
    """
    A directory on tmpfs for the time of the block: a mount of its own for root,
    otherwise a directory below C{/dev/shm}.

    @param mount: whether to mount; by default, if we are root.
    """
    # A short path: a unix socket's may have 107 bytes.
    place = Path(mkdtemp(prefix="xb-"))
    if os.geteuid() == 0 if mount is None else mount:
        try:
            output(["mount", "-t", "tmpfs", "-o", "mode=0700", "xferd-benchmark", str(place)])
        except Failed:
            pass  # in a container, root may not mount
        else:
            try:
                yield place
            finally:
                _unmount(place)
                place.rmdir()
            return
    place.rmdir()
    place = Path(mkdtemp(prefix="xb-", dir=_MEMORY if _MEMORY.is_dir() else None))
    try:
        yield place
    finally:
        remove_tree(str(place))


@contextmanager
def on_disk(size: int) -> Iterator[Path]:
    """
    A directory on a disk for the time of the block: below C{TMPDIR}, or C{/var/tmp}.  For root
    it is a mount of its own, so that all mounts below it end with it.

    @param size: the bytes that it will have.
    @raise Failed: the disk has not twice as many.
    """
    parent = Path(os.environ.get("TMPDIR") or "/var/tmp")
    free = shutil.disk_usage(parent).free
    if free < 2 * size:
        raise Failed(f"{parent} has {free} bytes free, which is less than {2 * size}: set TMPDIR")
    place = Path(mkdtemp(prefix="xb-", dir=parent))
    try:
        mounts = os.geteuid() == 0
        if mounts:
            output(["mount", "--bind", str(place), str(place)])
        try:
            yield place
        finally:
            if mounts:
                _unmount(place)
    finally:
        remove_tree(str(place))


def evict(path: Path) -> None:
    """
    Remove a file from the page cache.

    @raise Failed: its file system keeps it, or does not tell.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if is_cached(file.fileno(), 0, path.stat().st_size):
            raise Failed(f"{path.parent} is on no disk whose page cache can be emptied: set TMPDIR")


def _unmount(place: Path) -> None:
    """
    Unmount it with all mounts below it.
    """
    try:
        output(["umount", "--recursive", str(place)])
    except Failed:
        # A process still uses it; the memory is freed when that ends.
        output(["umount", "--recursive", "--lazy", str(place)])
