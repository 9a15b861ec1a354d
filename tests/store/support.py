"""
Shared by the tests of the store: threads under the test's control, and small
images.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xferd.interfaces.blobs import IFollower, IPartial
from xferd.interfaces.collection import ILayerUser
from xferd.interfaces.reactor import IReactor
from xferd.interfaces.store import UNPACK_RULES, Image, IStore, Unpacked
from xferd.interfaces.unpack import UnpackLimits
from xferd.media_types import DOCKER_CONFIG, DOCKER_MANIFEST, OCI_CONFIG, OCI_MANIFEST
from xferd.names import Digest, Reference, chain_id
from xferd.oci import Descriptor
from xferd.store.store import Store
from xferd.testing.fakes import FakeWallClock
from xferd.testing.inline_threads import InlinePool, InlinePools, InlineReactor

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
RESERVE = 64 * 1024
"""Bytes of the reserve of a store in tests."""
DOCKER_LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar"


class Pools(InlinePools):
    """
    The pools of a store, by their use.
    """

    @property
    def layers(self) -> InlinePool:
        """
        The pool of a store for layers that are registered.
        """
        return self.made[-4]

    @property
    def bulk(self) -> InlinePool:
        """
        The pool of a store for what takes long.
        """
        return self.made[-3]

    @property
    def disk(self) -> InlinePool:
        """
        The pool of a store that waits for the disk.
        """
        return self.made[-2]

    @property
    def database(self) -> InlinePool:
        """
        The pool of a store that has the journal.
        """
        return self.made[-1]


@implementer(IFollower)
@define(eq=False)
class Follower:
    """
    A follower that records its calls.
    """

    told: list[tuple[Any, ...]] = field(factory=list)

    def grown(self, path: str, size: int) -> None:
        """
        Write it down.
        """
        self.told.append(("grown", path, size))

    def restarted(self) -> None:
        """
        Write it down.
        """
        self.told.append(("restarted",))

    def sealed(self, path: str, size: int) -> None:
        """
        Write it down.
        """
        self.told.append(("sealed", path, size))


@implementer(ILayerUser)
@define(eq=False)
class LayerUser:
    """
    A user of layers whose needs a test sets.

    @ivar needs: what it needs.
    @ivar reading: makes the results of its C{refresh}.
    """

    name: str = "engine one"
    needs: dict[Digest, Sequence[str]] = field(factory=dict)
    reading: Callable[[], Deferred[None]] = field(default=lambda: succeed(None))

    def refresh(self) -> Deferred[None]:
        """
        What the test wants.
        """
        return self.reading()

    def used(self) -> dict[Digest, Sequence[str]]:
        """
        What the test has set.
        """
        return self.needs


@frozen
class Sample:
    """
    A small image and all its bytes.

    @ivar image: the image that the store names.
    @ivar documents: manifest and config.
    @ivar blobs: the layers' blobs, each of which represents its own tar.
    """

    image: Image
    documents: dict[Digest, bytes]
    blobs: tuple[bytes, ...]

    @property
    def diff_ids(self) -> list[Digest]:
        """
        The layers' diff IDs.
        """
        return [Digest.of(blob) for blob in self.blobs]


def sample(name: str, *blobs: bytes) -> Sample:
    """
    Make a small image.
    """
    return _sample(name, blobs, OCI_MANIFEST, OCI_CONFIG, LAYER_TYPE)


def docker_sample(name: str, *blobs: bytes) -> Sample:
    """
    Make a small image in Docker's form.
    """
    return _sample(name, blobs, DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER_TYPE)


def _sample(
    name: str, blobs: tuple[bytes, ...], manifest_type: str, config_type: str, layer_type: str
) -> Sample:
    diff_ids = [Digest.of(blob) for blob in blobs]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [str(d) for d in diff_ids]},
        }
    ).encode()
    config_descriptor = Descriptor(config_type, Digest.of(config), len(config))
    layers = tuple(Descriptor(layer_type, Digest.of(blob), len(blob)) for blob in blobs)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": config_descriptor.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
    ).encode()
    manifest_descriptor = Descriptor(manifest_type, Digest.of(manifest), len(manifest))
    return Sample(
        Image(
            reference=Reference.parse(name),
            manifest=manifest_descriptor,
            config=config_descriptor,
            resolved=manifest_descriptor.digest,
            layers=layers,
            chain_id=chain_id(diff_ids),
            size=len(manifest) + len(config) + sum(len(b) for b in set(blobs)),
            created="2026-01-02T03:04:05Z",
        ),
        {manifest_descriptor.digest: manifest, config_descriptor.digest: config},
        blobs,
    )


def layer_descriptor(blob: bytes) -> Descriptor:
    """
    The descriptor of a layer's blob.
    """
    return Descriptor(LAYER_TYPE, Digest.of(blob), len(blob))


async def fetch(store: IStore, blob: bytes) -> None:
    """
    Put a blob into the store as a download does.
    """
    partial: IPartial = await store.blobs.partial(Digest.of(blob), len(blob))
    partial.write(blob[partial.offset :])
    await partial.commit()


async def plant(store: IStore, blob: bytes, *implied: bytes) -> None:
    """
    Add a tree to the store as unpacking does. It has the file C{content} and
    the implied directories.
    """
    staged = await store.trees.stage()
    # A store in memory only names it.
    os.makedirs(staged, exist_ok=True)
    for path in implied:
        os.makedirs(os.path.join(os.fsencode(staged), path), exist_ok=True)
    with open(os.path.join(staged, "content"), "wb") as file:
        file.write(blob)
    digest = Digest.of(blob)
    await store.trees.commit(staged, Unpacked(digest, len(blob), len(blob), 1, implied), digest)


def make_version_1(path: str) -> None:
    """
    Give a data directory the first version of its layout, whose trees have their
    files in C{fs}.
    """
    for directory, names, _ in os.walk(os.path.join(path, "trees")):
        if "diff" in names:
            os.rename(os.path.join(directory, "diff"), os.path.join(directory, "fs"))
            names.clear()
    with open(os.path.join(path, "version"), "w") as file:
        file.write("1\n")


async def pull(store: IStore, wanted: Sample, keep_blobs: bool = True) -> None:
    """
    Put a whole image into the store as a job does.
    """
    for digest, data in wanted.documents.items():
        await store.blobs.put(digest, data)
    parent = None
    for blob in wanted.blobs:
        if keep_blobs and not store.blobs.has(Digest.of(blob)):
            await fetch(store, blob)
        await plant(store, blob)
        layer = await store.layers.register(parent, Digest.of(blob), layer_descriptor(blob))
        parent = layer.chain_id
    await store.images.put(wanted.image)


def one_life(path: str, live: Callable[[Store], Awaitable[None]]) -> None:
    """
    Start a store at a path, with the machine's clock and with threads that end at once,
    and stop it after C{live}.

    @raise RuntimeError: something failed.
    """
    reactor = cast(IReactor, InlineReactor())
    store = Store(path, reactor, wall_clock=time.time, pools=Pools(), reserve=RESERVE)
    store.open()

    async def start_and_stop() -> None:
        await store.start()
        await live(store)
        await store.stop()

    failures: list[object] = []
    _ = Deferred.fromCoroutine(start_and_stop()).addErrback(failures.append)
    if failures:
        raise RuntimeError(failures)


class StoreTestCase(SynchronousTestCase):
    """
    Tests with a store whose threads are the test's own.

    @cvar rules: the version of the rules that trees are made by.
    @cvar trusted: whether the data directory is used whoever can write to it.
    @cvar limits: what the copies of trees in one image may have.
    """

    rules = UNPACK_RULES
    trusted = False
    limits = UnpackLimits()

    def setUp(self) -> None:
        """
        Open a new store.
        """
        self.reactor = InlineReactor()
        self.wall_clock = FakeWallClock(self.reactor, 500.0)
        self.pools = Pools()
        self.path = self.mktemp()
        self.store = self.open()

    def make(self) -> Store:
        """
        Make a store, to be opened.
        """
        return Store(
            self.path,
            cast(IReactor, self.reactor),
            wall_clock=self.wall_clock,
            pools=self.pools,
            unpack_rules=self.rules,
            unpack_limits=self.limits,
            reserve=RESERVE,
            trusted=self.trusted,
        )

    def open(self) -> Store:
        """
        Open and start a store, which is stopped at the end.
        """
        store = self.make()
        store.open()
        self.successResultOf(store.start())
        self.addCleanup(self.close, store)
        return store

    def close(self, store: Store) -> None:
        """
        Stop a store.
        """
        for pool in self.pools.made:
            pool.release()
        self.successResultOf(store.stop())

    def reopen(self) -> Store:
        """
        Stop the store, and open the data directory again.
        """
        self.close(self.store)
        self.store = self.open()
        return self.store

    def run_now(self, work: Any) -> Any:
        """
        The result of a coroutine that does not wait for the clock.
        """
        return self.successResultOf(Deferred.fromCoroutine(work))
