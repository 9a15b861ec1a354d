"""
Count the snapshots of transfers that event streams cost, on fakes.

C{python benchmarks/snapshots.py DIRECTORY}: some streams follow a job of 40
layers, of which one moves.  Prints the snapshots for each stream and reading.
The directory is for the store and has to exist.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from xferd.jobs.manager import Jobs
from xferd.testing.fakes import FakeRegistries, FakeStore, FakeUnpacker
from xferd.testing.images import sample_image
from xferd.transfer.transfer import Transfer

_HOST = "registry.example"
_LAYERS = 40
_STREAMS = 10
_TICKS = 20


def main(directory: str) -> None:
    """
    Count, and print the result.
    """
    clock = Clock()
    store, registries = FakeStore(clock, directory), FakeRegistries(clock)
    options: dict[str, Any] = {"clock": clock, "wall_clock": clock.seconds, "small_blob": 0}
    known = signature(Jobs).parameters  # older versions know fewer
    jobs = Jobs(
        store,
        registries,
        FakeUnpacker(clock, store.blobs.open_path),
        **{name: value for name, value in options.items() if name in known},
    )

    def settle() -> None:
        for _ in range(100):
            clock.advance(0)

    starting = Deferred.fromCoroutine(jobs.start())
    image = sample_image(_LAYERS)
    registry = registries.registry(_HOST)
    registry.add(image, "app")
    for layer in image.layers:
        registry.stall(layer.blob.digest)
    job = jobs.pull(f"{_HOST}/app", None, "client", 0)
    settle()
    assert starting.called
    streams = [jobs.events(job["id"]) for _ in range(_STREAMS)]
    moving = image.layers[0].blob.digest
    counted = _counted()
    before = 0
    for tick in range(_TICKS + 1):
        registry.feed(moving, 16)
        readings = [stream.get() for stream in streams]
        for _ in range(12):
            clock.advance(0.02)
        if not all(reading.called and reading.result for reading in readings):
            raise SystemExit("a stream had no news")
        if tick == 0:
            # The first reading is the present state of everything.
            before = counted()
    print((counted() - before) / _STREAMS / _TICKS)


def _counted() -> Callable[[], int]:
    """
    Have snapshots counted from now on.

    @return: gives their number.
    """
    number = 0
    snapshot = Transfer.snapshot

    def counting(self: Transfer) -> Mapping[str, Any]:
        nonlocal number
        number += 1
        return snapshot(self)

    Transfer.snapshot = counting  # type: ignore[method-assign,assignment]
    return lambda: number


if __name__ == "__main__":
    main(sys.argv[1])
