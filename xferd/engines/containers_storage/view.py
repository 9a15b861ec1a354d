# -*- test-case-name: tests.engines.containers_storage.test_view -*-
"""
The view of one store: it is written whenever the store's names change, and keeps the
layers that engines need.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping, Sequence
from threading import Event
from typing import Final

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from xferd.engines.containers_storage.contents import Contents, Selection
from xferd.engines.containers_storage.engine_records import read_all_uses
from xferd.engines.containers_storage.late_answers import LateAnswers
from xferd.engines.containers_storage.needs import Needs
from xferd.engines.containers_storage.records import ImageRecord
from xferd.engines.containers_storage.store_layers import StoreLayers
from xferd.engines.containers_storage.writer import DIFF, Writer
from xferd.engines.settings import ContainersStorageSettings
from xferd.errors import StoreError, XferdError
from xferd.interfaces.collection import ILayerUser
from xferd.interfaces.engines import (
    CONTAINERS_STORAGE,
    FAILED,
    SERVING,
    STOPPED,
    EngineContext,
    EngineFigures,
    EngineJSON,
    IEngine,
    ILateAnswers,
    LeftOutJSON,
)
from xferd.json_encoding import rfc3339
from xferd.names import Digest, Repository
from xferd.oci import Document
from xferd.store.batches import Batches
from xferd.store.disk.file_system import trying_to
from xferd.store.threads import Pool, Threads
from xferd.unpack.rights import Rights, own_rights

SHOWN: Final = 2.0
"""Seconds for which the end of a pull waits until the view has the image."""

RETRY: Final = 30.0
"""Seconds after which a view is written again that could not be written."""

FRESH: Final = 5.0
"""Seconds for which a description has what the engines had recorded before."""

_BATCH: Final = 8
"""Images that are looked at in one turn of the reactor: some milliseconds, with ten layers each."""


@implementer(ILayerUser)
@define(eq=False)
class ViewUser:
    """
    The engines of a view, for the garbage collector.
    """

    _view: StorageView
    name: str = CONTAINERS_STORAGE

    def refresh(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._view.refresh_or_spare())

    def used(self) -> Mapping[Digest, Sequence[str]]:
        return self._view.needs.used()


@implementer(IEngine, ILateAnswers)
class StorageView:
    """
    The view of one store.

    States: made; serving; stopped.

    @ivar needs: what engines need of it.
    """

    _log = Logger()
    name = ""
    kind = CONTAINERS_STORAGE

    def __init__(
        self,
        settings: ContainersStorageSettings,
        context: EngineContext,
        pool: Pool | None = None,
        rights: Rights | None = None,
    ) -> None:
        """
        @param pool: has one thread.
        @param rights: those by which layers are unpacked; this process's by default.
        """
        self._rights = own_rights() if rights is None else rights
        self.path = settings.path
        self.needs = Needs(context.reactor.seconds)
        self._late = LateAnswers(
            self,
            settings.wait_for,
            settings.patience,
            store=context.store,
            jobs=context.jobs,
            clock=context.reactor,
        )
        self._roots = settings.roots
        self._store = context.store
        self._reactor = context.reactor
        self._wall_clock = context.wall_clock
        self._stop = Event()
        one = ThreadPool(0, 1, "xferd.view") if pool is None else pool
        self._threads = Threads(context.reactor, one, f"the view {self.path} is not served")
        self._trees = os.path.join(context.data_dir, "trees")
        self._writer = Writer(self.path, self._trees, self._store.blobs.path, stop=self._stop)
        self._updates: Batches[None] = Batches(lambda _: Deferred.fromCoroutine(self._update()))
        self._contents = Contents()
        self._on_disk: Mapping[str, ImageRecord] | None = None
        self._layers = StoreLayers(self._store)
        self._begun = self._serving = False
        self._written = False
        self._read = 0.0
        self._unread: Mapping[str, str] = {}
        self._problem: str | None = None
        self._retry: IDelayedCall | None = None
        # Nothing is collected that an engine needs, whatever becomes of the view: jobs of an earlier
        # daemon may collect before it is started.
        if self._rights is not Rights.NONE:
            self._store.gc.add_user(ViewUser(self))

    def start(self) -> Deferred[None]:
        if self._rights is Rights.NONE:
            return fail(
                StoreError(
                    "engines do not read trees of a daemon that cannot set owners; run xferd as root, or by "
                    "'podman unshare' as podman's user, with a data directory that is new"
                )
            )
        self._serving = True
        self._store.images.follow(self._changed, self._settled)
        # What fails now may be mended, and is tried again.
        return self.refresh().addErrback(self._failed)

    def stop(self) -> Deferred[None]:
        self._serving, self._begun = False, True
        self._stop.set()
        self._end_retry()
        return Deferred.fromCoroutine(self._threads.stop())

    def refresh(self) -> Deferred[None]:
        """
        Update the view, and read what engines need.  Cancelling waits for
        that.

        @raise StoreError: the view cannot be written.
        """
        if not self._begun:
            self._begun = True
            self._threads.start()
        return self._updates.add(None)

    async def refresh_or_spare(self) -> None:
        """
        As L{refresh}, for a collection, which continues if the view cannot be written: it
        spares everything that the view has shown.  Before the first writing, that is not
        known.

        @raise StoreError: the view has not been written yet, or is not served any more.
        """
        try:
            await self.refresh()
        except StoreError:
            if not (self._serving and self._written):
                raise

    def waits(self, uid: int, agent: str) -> bool:
        return self._serving and self._problem is None and self._late.waits(uid, agent)

    def ready(self, repository: Repository, document: Document, client: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._late.ready(repository, document, client))

    def hold(self, chain_id: Digest, reason: str) -> None:
        """
        Keep a layer that an engine is about to use, until it has had time to record that.
        """
        self.needs.hold(chain_id, reason)

    def shows(self, chain_id: Digest) -> bool:
        """
        Whether a layer is in the view.
        """
        return self._layers.identity(chain_id) in self._contents.layers

    @property
    def problem(self) -> str | None:
        """
        See L{IEngine}.
        """
        return self._problem

    def describe(self) -> Deferred[EngineJSON]:
        return Deferred.fromCoroutine(self._describe())

    async def _describe(self) -> EngineJSON:
        now = self._reactor.seconds()
        if self._serving and now >= self._read + FRESH:
            try:
                await self._read_needs()
            except XferdError:
                pass  # The next writing of the view reports it.
        stacks = (self._store.layers.stack(chain) for chain in self.needs.chains)
        needed = {layer.chain_id: layer.size for stack in stacks for layer in stack}
        state = FAILED if self._problem else SERVING if self._serving else STOPPED
        return EngineJSON(
            name=self.name,
            kind=self.kind,
            state=state,
            problem=self._problem or next(iter(self._unread.values()), None),
            path=self.path,
            snapshots=0,
            layers=len(needed),
            size=sum(needed.values()),
            images=self.needs.images(),
            left_out=[
                LeftOutJSON(image=name, reason=reason)
                for name, reason in sorted(self._contents.left_out.items())
            ],
        )

    def figures(self) -> EngineFigures:
        return EngineFigures(layers=len(self._contents.layers), prepares=dict(self._late.answers))

    def _changed(self) -> None:
        """
        Write the view, as names in the store have changed.
        """
        self.needs.named(self._store.images.all())
        self._end_retry()
        if self._serving:
            _ = self.refresh().addErrback(self._failed)

    def _settled(self) -> Deferred[None]:
        """
        Wait until the view has the newest names, so that an engine finds an image once
        its pull has ended; for a short time if something holds that up.
        """
        updates = Deferred.fromCoroutine(self._updates.flush())
        return updates.addTimeout(SHOWN, self._reactor).addErrback(lambda _: None)

    def _failed(self, failure: Failure) -> None:
        """
        Try again later.
        """
        if not failure.check(CancelledError):
            self._try_later()

    def _try_later(self) -> None:
        self._end_retry()
        if self._serving:
            self._retry = self._reactor.callLater(RETRY, self._changed)

    def _end_retry(self) -> None:
        retry, self._retry = self._retry, None
        if retry is not None and retry.active():
            retry.cancel()

    async def _update(self) -> None:
        """
        Write the view.

        A layer leaves the view before the engines' records are read for the last time:
        from then on they can record nothing new that stands on it.
        """
        try:
            if self._on_disk is None:
                self._on_disk, layers = await self._threads.run(self._writer.on_disk)
                self.needs.found(layers)
            await self._read_needs()
            before = self._contents
            await self._write()
            if not before.layers.keys() <= self._contents.layers.keys():
                await self._read_needs()
                if any(not self.shows(chain) for chain in self.needs.chains):
                    await self._write()
        except XferdError as e:
            if self._problem != str(e):
                self._log.error("the view {path} is not up to date: {why}", path=self.path, why=str(e))
            self._problem = str(e)
            self.needs.not_written()
            raise
        except Exception:
            self._problem = "internal error; see the daemon's log"
            self._log.failure("while writing the view {path}", path=self.path)
            self.needs.not_written()
            raise
        self._problem, self._written = None, True
        if self._unread:
            self._try_later()

    async def _read_needs(self) -> None:
        chains, before = self._layers.chains(), self._unread
        uses, self._unread = await self._threads.run(
            read_all_uses, self._roots, frozenset(chains), self._stop, before.keys()
        )
        for root, why in self._unread.items():
            if root not in before:
                self._log.error("all layers that the view shows stay: {why}", root=root, why=why)
        self.needs.recorded(uses, chains, tuple(self._unread))
        self._read = self._reactor.seconds()

    async def _write(self) -> None:
        selection, chains = Selection(self._trees), self._layers.chains()
        on_disk = self._on_disk or {}
        for number, image in enumerate(self._store.images.all()):
            if number % _BATCH == _BATCH - 1:
                await deferLater(self._reactor, 0, lambda: None)
            try:
                stack = await self._layers.stack(image.chain_id)
            except XferdError as e:
                selection.leave_out(image, str(e))
            else:
                if all(
                    map(self._store.blobs.has, (image.config.digest, image.manifest.digest, image.resolved))
                ):
                    selection.add_image(image, stack)
                else:
                    selection.leave_out(
                        image,
                        "its manifest or its config is not in the store any more; "
                        f"'xferctl pull {image.reference.familiar()}' fetches it",
                    )
        of_containers = on_disk.keys() if self.needs.unread else self.needs.images_of_containers
        for image_id in sorted(of_containers & on_disk.keys()):
            record = on_disk[image_id]
            chain_id = chains.get(record.layer)
            if self._has_documents(record) and (chain_id is not None or not record.layer):
                selection.keep_image(record, await self._layers.stack(chain_id))
        kept = self.needs.chains
        for chain in sorted(kept):
            selection.add_layers(await self._layers.stack(chain))
        contents = selection.contents()
        await self._threads.run(self._write_files, contents, rfc3339(self._wall_clock()))
        self._contents, self._on_disk = contents, contents.images
        self._layers.keep({f"{self._trees}/{layer.tree}/{DIFF}" for layer in contents.layers.values()})
        self.needs.shown(contents, kept)

    def _has_documents(self, image: ImageRecord) -> bool:
        return all(self._store.blobs.has(digest) for digest in image.big_data().values())

    def _write_files(self, contents: Contents, now: str) -> None:
        with trying_to(f"write the view {self.path}"):
            self._writer.write(contents, now)
