"""
One daemon of a simulation, on fakes of the disk, the registries and the unpacker.
"""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from attrs import define, field
from twisted.internet.task import Clock
from twisted.web.server import Site

from tests.clocks import QuickClock
from tests.simulation.durable import Disk, Store, World
from tests.simulation.schedules import CLIENTS, IMAGES, Settings
from xferd.jobs.kept_credentials import KeptCredentials
from xferd.jobs.limits import Limits
from xferd.jobs.local.manifests import LocalManifests
from xferd.jobs.local.registries import LocalRegistries
from xferd.jobs.manager import Jobs
from xferd.names import Digest
from xferd.store.threads import Threads
from xferd.testing.fake_keychain import FakeKeychain
from xferd.testing.fakes import FakeRegistries, FakeRegistry, FakeUnpacker, FakeWallClock
from xferd.testing.images import SampleImage, image_of, sample_layer, write_layout
from xferd.testing.inline_threads import InlinePool, InlineReactor
from xferd.testing.layers import SampleLayer
from xferd.transfer.adaptive_streams import RangePolicy
from xferd.transfer.retry import RetryPolicy
from xferd.v2.app import Registry
from xferd.v2.rights.rights import Rights
from xferd.v2.settings import RegistrySettings
from xferd.web.peer_trust import Trust

PIECE: Final = 6_000
"""Bytes of a piece."""

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

RANGES: Final = RangePolicy(window=0.5, gain=0.0, fast=1e9, least=8_000, lasting=0.5, part=4_000)
"""When a blob is fetched by several streams."""

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


def imported(name: str) -> str:
    """
    The name under which an image is imported.
    """
    return f"imported.example/{name.replace('.', '-').replace('/', '-')}:latest"


@cache
def archive_of(name: str) -> bytes:
    """
    The archive of an image.

    @param name: as it is L{imported}.
    """
    image = next(image for each, image in images().items() if imported(each) == name)
    with TemporaryDirectory() as place:
        write_layout(f"{place}/layout", {name: image})
        with tarfile.open(f"{place}/archive", "w") as tar:
            tar.add(f"{place}/layout", ".")
        return Path(place, "archive").read_bytes()


def _registry(
    store: Store, jobs: Jobs, registries: FakeRegistries, clock: Clock, wall_clock: FakeWallClock
) -> Registry:
    """
    The registry of a daemon, which takes pushes.
    """
    reactor: Any = InlineReactor()
    settings = RegistrySettings(upstreams={})
    manifests = LocalManifests(store, wall_clock)
    local = LocalRegistries(registries, store, manifests, lambda: settings.local, clock)
    rights = Rights(
        settings,
        local,
        FakeKeychain(lambda: None),
        store.catalog,
        threads=Threads(reactor, InlinePool(), "closed"),
        clock=clock,
        wall_clock=wall_clock,
    )
    return Registry(
        store=store,
        mirror=jobs.mirror,
        rights=rights,
        registries=local,
        manifests=manifests,
        settings=settings,
        clock=clock,
    )


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
    @ivar loses: whether it may lose bytes that arrived, for example as its disk was full.
    @ivar site: makes the factory of connections to its own registry.
    @ivar mirrored: how often clients of its registry have requested each blob: an upstream may
        have to prove that it has it.
    @ivar bases: the registries; C{registries} has each once more for each client.
    """

    number: int
    clock: Clock
    wall_clock: FakeWallClock
    store: Store
    registries: FakeRegistries
    bases: tuple[FakeRegistry, ...]
    unpacker: FakeUnpacker
    jobs: Jobs
    site: Callable[[Trust], Site]
    spoiled: set[Digest] = field(factory=set)
    mirrored: Counter[Digest] = field(factory=Counter)
    loses: bool = False

    @classmethod
    def make(
        cls,
        number: int,
        settings: Settings,
        path: str,
        limits: Limits,
        wall: float | None,
        disk: Disk | None,
        world: World,
    ) -> Daemon:
        """
        Make a daemon, which is not started.

        @param path: a directory for files of blobs, which uploads read.
        @param wall: the time of day.
        @param disk: what earlier daemons left.
        @param world: what the registries have.
        """
        clock = QuickClock()
        wall_clock = FakeWallClock(clock) if wall is None else FakeWallClock(clock, wall)
        store = Store(clock, path, disk)
        registries = FakeRegistries(clock)
        world.load(registries)
        bases = tuple(registries._registries.values())
        for base in bases if settings.credentials else ():
            for client in CLIENTS:
                view = registries.registry(base.host, client)
                view._documents, view._blobs, view._stalled = base._documents, base._blobs, base._stalled
                view.uploads = base.uploads
        unpacker = FakeUnpacker(clock, store.blobs.open_path)
        jobs = Jobs(
            store,
            registries,
            unpacker,
            clock=clock,
            wall_clock=wall_clock,
            limits=limits,
            small_blob=SMALL,
            sharing=settings.sharing,
            ranges=RANGES,
            retry=RetryPolicy(attempts=settings.attempts, cap=4.0, jitter=0.0),
            kept=KeptCredentials(f"{os.path.dirname(path)}/kept" if settings.kept else None),
        )
        # Only some schedules have clients of it.
        registry = cache(partial(_registry, store, jobs, registries, clock, wall_clock))

        def site(trust: Trust) -> Site:
            return registry().site(trust)

        return cls(number, clock, wall_clock, store, registries, bases, unpacker, jobs, site)

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
    def filling(self) -> set[Digest]:
        """
        The blobs that the store fetches for clients of the registry, who may have left.
        """
        return {fill.blob.digest for fill in self.jobs.mirror._blobs.fills._fills.values()}

    def kept_files(self) -> list[str]:
        """
        The files with credentials of jobs.
        """
        directory = f"{os.path.dirname(self.store.path)}/kept"
        return os.listdir(directory) if os.path.isdir(directory) else []

    @property
    def hosts(self) -> Iterator[FakeRegistry]:
        """
        The registries, each once more for each client with credentials of its own.
        """
        return iter(self.registries._registries.values())
