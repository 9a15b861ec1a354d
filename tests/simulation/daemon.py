"""
One daemon of a simulation, on fakes of the disk, the registries and the unpacker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from attrs import define, field
from twisted.internet.task import Clock

from tests.simulation.durable import Disk, Store, World
from tests.simulation.schedules import IMAGES
from xferd.jobs.limits import Limits
from xferd.jobs.manager import Jobs
from xferd.names import Digest
from xferd.testing.fakes import FakeRegistries, FakeRegistry, FakeUnpacker, FakeWallClock
from xferd.testing.images import SampleImage, image_of, sample_layer
from xferd.testing.layers import SampleLayer
from xferd.transfer.retry import RetryPolicy

SIZES: Final = (
    30_000,
    9_000,
    14_000,
    20_000,
    5_000,
    8_000,
    3_000,
    12_000,
    25_000,
    40_000,
    7_000,
    6_000,
    11_000,
    4_000,
)
"""The bytes of each layer."""

SMALL: Final = 10_000
"""Blobs of fewer bytes have slots of their own."""

LIVELOCK: Final = 20_000
"""Turns of the reactor without time, at most."""


@cache
def layer(number: int) -> SampleLayer:
    """
    One of the layers.
    """
    return sample_layer(SIZES[number], f"layer {number}", compression="tar")


@cache
def images() -> Mapping[str, SampleImage]:
    """
    The images, by name.
    """
    return {name: image_of(map(layer, layers)) for name, (_, layers) in IMAGES.items()}


class Livelock(Exception):
    """
    The daemon never rests.
    """


@define(eq=False)
class Daemon:
    """
    One daemon, from its start to its end.

    @ivar number: counts the daemons of a simulation.
    @ivar spoiled: the blobs of which a registry sends wrong bytes.
    @ivar filled: whether its disk was full, so that bytes which arrived were lost.
    """

    number: int
    clock: Clock
    wall_clock: FakeWallClock
    store: Store
    registries: FakeRegistries
    unpacker: FakeUnpacker
    jobs: Jobs
    spoiled: set[Digest] = field(factory=set)
    filled: bool = False

    @classmethod
    def start(
        cls, number: int, path: str, limits: Limits, wall: float | None, disk: Disk | None, world: World
    ) -> Daemon:
        """
        Start a daemon.

        @param path: a directory for files of blobs, which uploads read.
        @param wall: the time of day.
        @param disk: what earlier daemons left.
        @param world: what the registries have.
        """
        clock = Clock()
        wall_clock = FakeWallClock(clock) if wall is None else FakeWallClock(clock, wall)
        store = Store(clock, path, disk)
        registries = FakeRegistries(clock)
        world.load(registries)
        unpacker = FakeUnpacker(clock, store.blobs.open_path)
        jobs = Jobs(
            store,
            registries,
            unpacker,
            clock=clock,
            wall_clock=wall_clock,
            limits=limits,
            small_blob=SMALL,
            retry=RetryPolicy(attempts=20, cap=4.0, jitter=0.0),
        )
        return cls(number, clock, wall_clock, store, registries, unpacker, jobs)

    def settle(self) -> None:
        """
        Let everything happen that needs no time.
        """
        clock = self.clock
        for _ in range(LIVELOCK):
            if not clock.calls or clock.calls[0].getTime() > clock.seconds():
                return
            clock.advance(0)
        raise Livelock(f"{LIVELOCK} turns of the reactor without rest")

    @property
    def hosts(self) -> Iterator[FakeRegistry]:
        """
        The registries.
        """
        return iter(self.registries._registries.values())
