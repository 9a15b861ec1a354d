# -*- test-case-name: tests.jobs.pull -*-
"""
An image is pulled: its documents are resolved, its layers fetched, unpacked and
registered, and it gets its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from xferd.image_config import ImageConfig, parse_config
from xferd.interfaces.registry import IBlobSource
from xferd.interfaces.store import Image, IStore
from xferd.interfaces.transfer import IProgressSink
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.blobs.layers import Stack
from xferd.jobs.deferreds import gather, unless_failed
from xferd.jobs.disk_space.full_disk import retry_while_full
from xferd.jobs.images.naming import Naming
from xferd.jobs.images.outdated_trees import renew
from xferd.jobs.images.platform_change import platform_change_warning
from xferd.jobs.images.resolve import Resolved, check_platform
from xferd.jobs.images.whole_images import WholeImages
from xferd.jobs.job import Job
from xferd.jobs.reporter import Reporter
from xferd.jobs.rows import LayerRow
from xferd.json_encoding import rfc3339
from xferd.names import Digest, Reference
from xferd.oci import Descriptor
from xferd.platforms import Platform
from xferd.transfer.fair_queue import Turn
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher
from xferd.waits import DISK, waiting_for


class ImageDocuments(Protocol):
    """
    The documents of an image, in a repository or an archive.
    """

    async def resolve(
        self, reference: Reference, platform: Platform, turn: Turn, sink: IProgressSink | None = None
    ) -> Resolved:
        """
        Resolve a reference to the manifest for a platform.
        """

    async def config(self, descriptor: Descriptor, turn: Turn, sink: IProgressSink | None = None) -> bytes:
        """
        Return the image's config.
        """


class Pull:
    """
    One pull, from the reference to the name in the store.

    L{run} releases all transfers when it ends; after L{bring}, the caller has to
    call L{release}.
    """

    def __init__(
        self,
        job: Job,
        reference: Reference,
        *,
        store: IStore,
        source: IBlobSource,
        documents: ImageDocuments,
        layers: DownloadManager,
        naming: Naming,
        reporter: Reporter,
        whole: WholeImages | None = None,
    ) -> None:
        """
        @param whole: the images that jobs have found whole.  The job holds its lease.
        """
        self._job = job
        self._reference = reference
        self._store = store
        self._source = source
        self._documents = documents
        self._layers = layers
        self._scope = layers.scope(self._source)
        self._naming = naming
        self._resolution = 0
        self._reporter = reporter
        self._whole = whole if self._scope is None else None
        self._since = 0 if whole is None else whole.now()
        self._rows: list[LayerRow] = []
        self._fetches: dict[Digest, tuple[Watcher[Any], ...]] = {}
        self._registrations: list[Watcher[Any]] = []
        self._reservations: list[Callable[[], None]] = []

    async def run(self, now: Callable[[], float]) -> Image:
        """
        Pull the image and give it its name, unless the name stands for a newer
        image by then.  The job cannot be cancelled once the name is being written.

        @param now: returns the time in seconds since the epoch.
        """
        try:
            image = await self.bring(now)
            warning = await platform_change_warning(self._store, image)
            # From here on only the disk can make the job fail.
            given = await retry_while_full(
                self._store.free_space, lambda: self._naming.give(image, self._resolution), self._full
            )
            if not given:
                warning = (
                    f"{image.reference.familiar()} keeps a newer image, which another job has fetched; "
                    f"this job has fetched {image.manifest.digest}"
                )
            if warning is not None:
                self._job.warn(warning)
            return image
        finally:
            self.release()

    async def run_unnamed(self, now: Callable[[], float]) -> Image:
        """
        Pull the image, and leave it without a name.

        @param now: returns the time in seconds since the epoch.
        """
        try:
            return await self.bring(now)
        finally:
            self.release()

    async def bring(self, now: Callable[[], float]) -> Image:
        """
        Download the image into the store, without its name.

        Config and layers are fetched at the same time; the first error ends the
        job.

        @param now: returns the time in seconds since the epoch.
        """
        platform = Platform.local() if self._job.platform is None else Platform.parse(self._job.platform)
        resolved = await self._documents.resolve(self._reference, platform, self._job.turn())
        self._resolution = self._naming.resolved()
        resolved.manifest.check_runnable()
        others = len(self._job.rows)
        self._rows = [LayerRow(n, blob) for n, blob in enumerate(resolved.manifest.layers, others)]
        whole = None if self._whole is None else self._whole.find(resolved, self._since)
        if whole is not None:
            self._check_platform(resolved, platform, whole.config)
            for row, stack in zip(self._rows, whole.stacks, strict=True):
                row.diff_id, row.existed = stack.diff_id, True
            # The rows are reported with the end of the job, which is near.
            self._job.add_rows(self._rows)
            return self._image(resolved, whole.stacks, now())
        self._job.add_rows(self._rows)
        await self._reserve()
        for row in self._rows:
            self._begin(row)
        self._report(self._rows)
        fetches = [w.result() for pair in self._fetches.values() for w in pair]
        stacks = await unless_failed(fetches, Deferred.fromCoroutine(self._stack(resolved, platform)))
        if self._scope is not None:
            # Trees may have been in the store; the client's access has to be proved.
            for fetch, _ in tuple(self._fetches.values()):
                await fetch.result()
        return self._image(resolved, stacks, now())

    def _report(self, rows: Sequence[LayerRow]) -> None:
        """
        Report that rows changed.  A job that fetches is written to the journal
        with its rows; the store of one that does not has no part of its blobs.
        """
        self._reporter.rows_changed(rows)
        if any(row.fetch is not None for row in rows):
            self._reporter.record()

    async def _reserve(self) -> None:
        """
        Reserve space for the blobs that have to be fetched.

        @raise DiskFull: it does not fit.
        """
        trees, reservations = self._store.trees, self._layers.reservations
        blobs = [
            row.blob
            for row in self._rows
            if self._scope is not None or trees.diff_id_of(row.blob.digest) is None
        ]
        if not blobs:
            return
        end = await reservations.reserve(blobs, self._reference.familiar())
        self._reservations.append(end)
        warning = reservations.unpacked(blob for blob in blobs if trees.diff_id_of(blob.digest) is None)
        if warning and self._job.warn(warning):
            self._reporter.job_changed()

    def _begin(self, row: LayerRow, algorithm: str = "") -> None:
        """
        Request a layer's blob and its tree, unless the tree is in the store or
        the blob was requested already, for a layer below.

        @param algorithm: the algorithm of its diff ID, where it is known.
        """
        digest = row.blob.digest
        known = self._store.trees.diff_id_of(digest)
        if self._scope is None and known is not None and algorithm in ("", known.algorithm):
            return
        if digest not in self._fetches:
            turn, sink = self._job.turn(row.index), self._reporter.sink(row)
            self._fetches[digest] = (
                self._layers.fetch(row.blob, self._source, turn, sink),
                self._layers.unpack(row.blob, turn, sink, algorithm, self._scope),
            )
        fetch, tree = self._fetches[digest]
        row.fetch, row.tree = fetch.transfer, tree.transfer

    async def _stack(self, resolved: Resolved, platform: Platform) -> list[Stack]:
        """
        Wait for the config, then for all layers in their order.
        """
        asked = set(self._fetches)
        config, stacks = await self._configured(resolved, platform)
        await self._renew(stacks)
        late = [w.result() for d, pair in self._fetches.items() if d not in asked for w in pair]
        for row, stack in zip(self._rows, stacks, strict=True):
            if row.fetch is None and self._layers.is_registered(stack):
                row.existed = True
                continue
            watcher = self._layers.register(stack, self._job.turn(row.index), self._reporter.sink(row))
            self._registrations.append(watcher)
            row.registration = watcher.transfer
        self._report(self._rows)
        registered = gather(w.result() for w in self._registrations)
        await unless_failed(late, Deferred.fromCoroutine(registered))
        if self._whole is not None:
            self._whole.note(resolved, config, stacks)
        return stacks

    async def _configured(self, resolved: Resolved, platform: Platform) -> tuple[ImageConfig, list[Stack]]:
        """
        Wait for the config, and find the layers whose trees are in the store.
        """
        manifest = resolved.manifest
        data = await self._documents.config(manifest.config, self._job.turn())
        config = parse_config(data, manifest)
        self._check_platform(resolved, platform, config)
        stacks = Stack.of([row.blob for row in self._rows], config.diff_ids, self._scope)
        for row, stack in zip(self._rows, stacks, strict=True):
            row.diff_id = stack.diff_id
            if self._scope is not None:
                continue
            if row.fetch is not None and self._store.trees.has(stack.diff_id):
                # The tree came with another blob: this one is not needed.
                for watcher in self._fetches.pop(row.blob.digest, ()):
                    watcher.release()
                row.fetch = row.tree = None
            elif row.fetch is None and not self._store.trees.has(stack.diff_id):
                # The tree in the store is known by another algorithm.
                self._begin(row, stack.diff_id.algorithm)
        return config, stacks

    def _check_platform(self, resolved: Resolved, platform: Platform, config: ImageConfig) -> None:
        if self._job.platform is not None:
            check_platform(str(self._reference), platform, resolved.descriptor.platform, config.platform)

    @contextmanager
    def _full(self, why: str) -> Iterator[None]:
        """
        Show the rows while the name waits for free space.
        """
        self._reporter.rows_changed(self._rows)
        with waiting_for(DISK, why):
            yield

    async def _renew(self, stacks: list[Stack]) -> None:
        """
        Unpack outdated trees again.  In isolated mode, L{_begin} has requested
        all trees.
        """

        async def one(row: LayerRow, stack: Stack) -> None:
            def shown(fetch: Transfer | None, tree: Transfer | None) -> None:
                row.fetch, row.tree = fetch, tree
                self._report([row])

            warning = await renew(
                stack,
                self._source,
                self._job.turn(row.index),
                self._reporter.sink(row),
                store=self._store,
                layers=self._layers,
                shown=shown,
            )
            if warning is not None:
                self._job.warn(warning)
                self._reporter.job_changed()

        if self._scope is None:
            trees = self._store.trees
            pairs = zip(self._rows, stacks, strict=True)
            outdated = [(row, stack) for row, stack in pairs if trees.is_outdated(stack.diff_id)]
            await gather(Deferred.fromCoroutine(one(row, stack)) for row, stack in outdated)

    def _image(self, resolved: Resolved, stacks: list[Stack], now: float) -> Image:
        """
        The image, as the store records it.
        """
        manifest = resolved.manifest
        return Image(
            reference=self._reference,
            manifest=resolved.descriptor,
            config=manifest.config,
            resolved=resolved.digest,
            layers=manifest.layers,
            chain_id=stacks[-1].chain_id if stacks else None,
            size=resolved.descriptor.size
            + manifest.config.size
            + sum({layer.digest: layer.size for layer in manifest.layers}.values()),
            created=rfc3339(now),
            pulled=rfc3339(now) if self._job.kind == "pull" else "",
        )

    def release(self) -> None:
        """
        Release every watcher: registrations first, as they watch the rest.
        """
        self._naming.close(self._resolution)
        for watcher in [
            *reversed(self._registrations),
            *(w for pair in self._fetches.values() for w in pair),
        ]:
            watcher.release()
        self._registrations.clear()
        self._fetches.clear()
        while self._reservations:
            self._reservations.pop()()
