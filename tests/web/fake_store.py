"""
A fake of the store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from tests.web.fakes import CONFIG
from xferd.errors import StoreError
from xferd.interfaces.collection import KeptFor
from xferd.interfaces.store import IImages, Image, IStore, Layer
from xferd.names import Digest, Reference
from xferd.store.disk.free_space import FreeSpace
from xferd.testing.fake_journal import FakeJournal


@implementer(IImages)
class FakeImages:
    """
    Images that a test adds.
    """

    def __init__(self) -> None:
        self.named: dict[Reference, Image] = {}

    def all(self) -> Sequence[Image]:
        """
        Every image.
        """
        return [self.named[name] for name in sorted(self.named)]

    def get(self, reference: Reference) -> Image | None:
        """
        One image.
        """
        return self.named.get(reference)

    def follow(self, changed: Callable[[], object], settled: Callable[[], Deferred[None]]) -> None:
        """
        xferd.web does not call this.
        """
        raise NotImplementedError

    def layers_changed(self) -> Deferred[None]:
        """
        xferd.web does not call this.
        """
        raise NotImplementedError

    def peek(self, reference: Reference) -> Image | None:
        """
        The same.
        """
        return self.named.get(reference)

    def put(self, image: Image) -> Deferred[Image]:
        """
        Set an image's name.
        """
        self.named[image.reference] = image
        return succeed(image)

    def pin(self, reference: Reference, pinned: bool) -> Deferred[Image]:
        """
        xferd.web does not call this.
        """
        raise NotImplementedError

    def remove(self, reference: Reference) -> Deferred[None]:
        """
        Remove a name.
        """
        del self.named[reference]
        return succeed(None)


class FakeBlobs:
    """
    The config of every image.
    """

    def read(self, digest: Digest) -> Deferred[bytes]:
        """
        Return it.
        """
        return succeed(json.dumps(CONFIG).encode())


class FakeLayers:
    """
    A layer for every chain ID, without a parent.
    """

    def get(self, chain_id: Digest) -> Layer:
        """
        Return it.
        """
        return Layer(chain_id, None, chain_id, f"/trees/{chain_id.hex}", 9000)


class FakeUses:
    """
    What container engines need, for tests to set.

    @ivar users: what they need a layer for, by chain ID.
    @ivar kept: what is kept for each.
    """

    def __init__(self) -> None:
        self.users: dict[Digest | None, list[str]] = {}
        self.kept: list[KeptFor] = []

    def used_by(self, chain_id: Digest | None) -> Sequence[str]:
        """
        What needs a layer.
        """
        return self.users.get(chain_id, [])

    def kept_for(self) -> Sequence[KeptFor]:
        """
        What is kept.
        """
        return self.kept


@implementer(IStore)
class FakeStore:
    """
    A store with images and their content.
    """

    blobs: Any = FakeBlobs()
    trees: Any = None
    layers: Any = FakeLayers()
    catalog: Any = None
    incoming: Any = None
    integrity: Any = None
    snapshots: Any = None

    def discard(self, path: str) -> None:
        """
        There is nothing to discard.
        """

    def __init__(self, journal: FakeJournal, path: str = "/") -> None:
        self.path = path
        self.journal = journal
        self.free_space = FreeSpace(path, Clock(), free=lambda: 1 << 40)
        self.images = FakeImages()
        self.gc: Any = FakeUses()
        self.closed = False

    def usage(self) -> Deferred[Mapping[str, int]]:
        """
        Return some figures.
        """
        if self.closed:
            return fail(StoreError("the store is not open"))
        return succeed({"blobs": 10, "arriving": 20, "trees": 30})
