# -*- test-case-name: tests.jobs.test_image_admin,tests.jobs.test_removal -*-
"""
The administration of the store's images: tags, pins, removal, garbage collection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import BadReference, Interrupted, NotFound, StoreError
from xferd.interfaces.collection import Freed
from xferd.interfaces.jobs import IImageAdmin
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.store import Image, IStore
from xferd.jobs.deferreds import uninterrupted
from xferd.jobs.events.broker import Broker
from xferd.jobs.images.naming import Naming
from xferd.jobs.images.stored import no_image, no_image_yet, stored_image
from xferd.jobs.job import ENDED
from xferd.json_encoding import rfc3339
from xferd.names import Digest, Reference


@implementer(IImageAdmin)
class ImageAdmin:
    """
    Changes the names in the store.

    A client that leaves cancels its request.  A change that has begun in the store
    by then completes, and is reported to event streams.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        broker: Broker,
        ready: Callable[[], bool],
        *,
        naming: Naming,
        wall_clock: WallClock,
    ) -> None:
        """
        @param broker: gets all changes.
        @param ready: returns whether the store may be changed.
        @param wall_clock: makes the stamps of new names.
        """
        self._store = store
        self._broker = broker
        self._naming = naming
        self._wall_clock = wall_clock
        self._ready = ready

    def tag(self, reference: str, name: str) -> Deferred[Image]:
        return Deferred.fromCoroutine(self._tag(reference, name))

    async def _tag(self, reference: str, name: str) -> Image:
        """
        Give an image another name.
        """
        wanted, new = Reference.parse(reference), Reference.parse(name)
        if new.digest is not None:
            raise BadReference(name, "a new name has a tag, not a digest, which no image can be given")
        self._check()
        image = stored_image(self._store, wanted)
        origin = None if image.source == new.repository else image.source
        tagged = evolve(
            image, reference=new, origin=origin, created=rfc3339(self._wall_clock()), pinned=False
        )
        resolution = self._naming.resolved()
        try:
            await self._naming.give(tagged, resolution)
        finally:
            self._naming.close(resolution)
        # The name may be pinned.
        return self._store.images.get(new) or tagged

    def pin(self, reference: str, pinned: bool) -> Deferred[Image]:
        return Deferred.fromCoroutine(self._pin(reference, pinned))

    async def _pin(self, reference: str, pinned: bool) -> Image:
        wanted = Reference.parse(reference)
        self._check()
        try:
            image = await uninterrupted(self._store.images.pin(wanted, pinned))
        except NotFound as e:
            raise no_image(wanted) from e
        self._broker.named(image)
        return image

    def remove(self, reference: str) -> Deferred[Freed]:
        return Deferred.fromCoroutine(self._remove(reference))

    def collect(self, dry_run: bool, partials: bool = False, without: Sequence[str] = ()) -> Deferred[Freed]:
        return Deferred.fromCoroutine(self._collect(dry_run, partials, without))

    async def _remove(self, reference: str) -> Freed:
        """
        Remove a name, and what only it used.
        """
        wanted = Reference.parse(reference)
        self._check()
        records = await self._begun(wanted)
        begun = _blobs_of(records)
        missing: NotFound | None = None
        try:
            await uninterrupted(self._store.images.remove(wanted))
        except NotFound as e:
            missing = e
            if not begun:
                raise no_image(wanted) from e
        else:
            self._broker.removed(wanted)
        freed = await uninterrupted(self._store.gc.collect(dry_run=False, abandoned=begun))
        if missing is not None and not freed.partials:
            unfinished = [record["id"] for record in records if record["state"] not in ENDED]
            raise (no_image_yet(wanted, unfinished[0]) if unfinished else no_image(wanted)) from missing
        return freed

    async def _begun(self, reference: Reference) -> Sequence[Mapping[str, Any]]:
        """
        The records of the jobs for a name that are not done.
        """
        try:
            records = await self._store.journal.unfinished(str(reference))
        except StoreError as e:
            self._log.warn("cannot look for unfinished jobs of {name}: {error}", name=reference, error=e)
            return ()
        return records

    async def _collect(self, dry_run: bool, partials: bool, without: Sequence[str]) -> Freed:
        """
        Free what nothing uses.
        """
        names = frozenset(map(Reference.parse, without))
        self._check()
        # Not by get(), which would count as a use and so keep the content.
        known = {image.reference for image in self._store.images.all()}
        begun: set[Digest] = set()
        for name in sorted(names, key=str):
            digests = _blobs_of(await self._begun(name))
            if name not in known and not digests:
                raise no_image(name)
            begun |= digests
        collecting = self._store.gc.collect(dry_run, partials, begun, names)
        return await (collecting if dry_run else uninterrupted(collecting))

    def _check(self) -> None:
        """
        Check that the store may be changed.

        @raise Interrupted: the daemon is starting or stopping.
        """
        if not self._ready():
            raise Interrupted("the daemon is just starting or stopping; ask again in a moment")


def _blobs_of(records: Sequence[Mapping[str, Any]]) -> frozenset[Digest]:
    """
    The blobs of jobs.

    @param records: the records of the jobs.
    """
    return frozenset(
        Digest.parse(layer["digest"]) for record in records for layer in record.get("layers", ())
    )
