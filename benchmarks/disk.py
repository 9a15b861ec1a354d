# -*- test-case-name: tests.test_benchmarks -*-
"""
xferd as a registry with its store on a disk: blobs that are larger than what any buffer
holds, and blobs that are not in the page cache.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic

from attrs import frozen

from benchmarks.daemons import Measured
from benchmarks.figures import Outcome, Row, Series
from benchmarks.images import MB
from benchmarks.memory import Watch
from benchmarks.places import evict, in_memory, on_disk
from benchmarks.registry import Registry, upload
from benchmarks.rounds import Setting, started
from benchmarks.servers import Mirror
from xferd.names import Digest

_USUAL = 64 * 1024 * 1024
_HUGE = 10_000_000_000
_REPOSITORY = "mirrored"
_PUSHED = "local/pushed"
_PIECE = 1 << 18


class _Probed(Mirror, Measured):
    """
    A mirror with a view of its reactor's pauses.
    """

    probed = True

    def blob(self, digest: Digest) -> Path:
        """
        The file of a blob in its store.
        """
        return self._place / "data/content/blobs" / digest.algorithm / digest.hex


@frozen
class _Blob:
    """
    A blob that the registry has.

    @ivar file: its content.
    """

    digest: Digest
    file: Path
    size: int

    @property
    def path(self) -> str:
        """
        Its path at a registry.
        """
        return f"/v2/{_REPOSITORY}/blobs/{self.digest}"


_Use = Callable[[_Probed, _Blob], object]


def _read(mirror: _Probed, blob: _Blob, clients: int = 1) -> None:
    mirror.read(blob.path, clients)


def _push(mirror: _Probed, blob: _Blob) -> None:
    host = mirror.url.partition("://")[2]
    with closing(HTTPConnection(host, blocksize=_PIECE)) as connection, blob.file.open("rb") as file:
        upload(connection, _PUSHED, blob.digest, file, blob.size)


def _nothing(mirror: _Probed, blob: _Blob) -> None:
    """
    The store is empty.
    """


def _evicted(mirror: _Probed, blob: _Blob) -> None:
    """
    The blob is in the store, and not in the page cache.
    """
    _read(mirror, blob)
    evict(mirror.blob(blob.digest))


def disk(setting: Setting) -> Outcome:
    """
    Find the daemon's peak of resident memory, and its reactor's longest pause, with small and
    huge blobs.  There is one round.
    """
    facts: dict[str, dict[str, float]] = {}
    subject = f"blobs of {_USUAL / MB:.0f} MB and {_HUGE / MB:.0f} MB; the daemon's peak of resident memory"
    with in_memory() as place:
        registry = Registry(place, place / "storage")
        try:
            usual, huge = (_made(registry, place / f"{size}", size) for size in (_USUAL, _HUGE))
            cases: dict[str, tuple[_Use, _Use, _Blob, int]] = {
                f"{what}, {blob.size / MB:.0f} MB": (before, use, blob, clients)
                for blob in (usual, huge)
                for what, before, use, clients in (
                    ("a miss", _nothing, _read, 1),
                    ("a hit, cold", _evicted, _read, 1),
                    ("a push", _nothing, _push, 1),
                )
            }
            many = partial(_read, clients=64)
            cases["64 clients, a hit, cold, 67 MB"] = _evicted, many, usual, 64

            def once(name: str, _: int) -> float:
                before, use, blob, clients = cases[name]
                with started(_Probed, registry, where=partial(on_disk, blob.size)) as mirror:
                    before(mirror, blob)
                    with Watch(mirror.pid) as watch:
                        began = monotonic()
                        use(mirror, blob)
                        took = monotonic() - began
                    longest, computing = mirror.longest_pause(began)
                facts[name] = {
                    "pause, ms": longest,
                    "computing, ms": computing,
                    "MB/s": blob.size * clients / MB / took,
                }
                return watch.peaks.main / MB

            values, missing = setting.in_rounds(list(cases), once, unit="MB", runs=1, warm_up=False)
        finally:
            registry.stop()
    rows = [Row(name, "MB", Series(peaks), facts[name]) for name, peaks in values.items()]
    return Outcome("disk", subject, rows, missing)


def _made(registry: Registry, path: Path, size: int) -> _Blob:
    """
    Make a blob: noise up to the usual size, then zeros, which need no memory.
    """
    with path.open("wb") as file:
        file.write(os.urandom(min(size, _USUAL)))
        file.truncate(size)
    return _Blob(registry.link(_REPOSITORY, path), path, size)
