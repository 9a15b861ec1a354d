# -*- test-case-name: tests.testing.test_fake_store -*-
"""
The named images of a store in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from attrs import evolve
from twisted.internet.defer import Deferred
from zope.interface import implementer

from xferd.errors import NotFound, StoreError
from xferd.interfaces.store import IImages, Image
from xferd.names import Reference
from xferd.testing.fake_blobs import FakeBlobs
from xferd.testing.fake_leases import FakeLeases
from xferd.testing.fake_trees import FakeLayers
from xferd.testing.gate import Gate


@implementer(IImages)
class FakeImages:
    """
    The named images.

    @ivar used: the order of their last use.
    """

    def __init__(self, blobs: FakeBlobs, layers: FakeLayers, gate: Gate, leases: FakeLeases) -> None:
        self._leases = leases
        self._named: dict[Reference, Image] = {}
        self._followers: list[tuple[Callable[[], object], Callable[[], Deferred[None]]]] = []
        self.used: dict[Reference, int] = {}
        self._numbers = count()
        self._blobs = blobs
        self._layers = layers
        self._gate = gate

    def note(self, reference: Reference) -> None:
        """
        Record that a name is used now.
        """
        self.used[reference] = next(self._numbers)

    def forget(self, reference: Reference) -> None:
        """
        Forget a name.
        """
        self.used.pop(reference, None)

    def time_of(self, reference: Reference) -> float:
        """
        The order of the last use of a name.
        """
        return float(self.used.get(reference, -1))

    def all(self) -> Sequence[Image]:
        return sorted(self._named.values(), key=lambda image: str(image.reference))

    def get(self, reference: Reference) -> Image | None:
        image = self._named.get(reference)
        if image is not None:
            self._leases.touch(*image.parts)
            self.note(reference)
        return image

    def peek(self, reference: Reference) -> Image | None:
        return self._named.get(reference)

    def follow(self, changed: Callable[[], object], settled: Callable[[], Deferred[None]]) -> None:
        self._followers.append((changed, settled))

    def layers_changed(self) -> Deferred[None]:
        self._report()
        return Deferred.fromCoroutine(self._settle())

    def put(self, image: Image) -> Deferred[Image]:
        return Deferred.fromCoroutine(self._put(image))

    def remove(self, reference: Reference) -> Deferred[None]:
        return Deferred.fromCoroutine(self._remove(reference))

    def pin(self, reference: Reference, pinned: bool) -> Deferred[Image]:
        return Deferred.fromCoroutine(self._pin(reference, pinned))

    async def _pin(self, reference: Reference, pinned: bool) -> Image:
        await self._gate.enter("images.pin", reference)
        if reference not in self._named:
            raise NotFound(f"there is no image {reference}")
        self._named[reference] = evolve(self._named[reference], pinned=pinned)
        self._report()
        return self._named[reference]

    async def _remove(self, reference: Reference) -> None:
        await self._gate.enter("images.remove", reference)
        if reference not in self._named:
            raise NotFound(f"there is no image {reference}")
        del self._named[reference]
        self._report()

    async def _put(self, image: Image) -> Image:
        await self._gate.enter("images.put", image.reference)
        for document in (image.manifest, image.config):
            if not self._blobs.has(document.digest):
                raise StoreError(f"{image.reference} needs {document.digest}, which is not here")
        if (image.chain_id is None) != (not image.layers):
            raise StoreError(f"{image.reference} has {len(image.layers)} layers and chain {image.chain_id}")
        if image.chain_id is not None and self._layers.get(image.chain_id) is None:
            raise StoreError(f"{image.reference} needs layer {image.chain_id}, which is not registered")
        present = self._named.get(image.reference)
        pinned = image.pinned or (present is not None and present.pinned)
        self._named[image.reference] = evolve(image, pinned=pinned)
        self.note(image.reference)
        self._report()
        await self._settle()
        return self._named.get(image.reference, image)

    async def _settle(self) -> None:
        for _, settled in self._followers:
            await settled()

    def _report(self) -> None:
        for changed, _ in self._followers:
            changed()
