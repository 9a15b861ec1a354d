# -*- test-case-name: tests.jobs.blobs.test_layers -*-
"""
Blobs are unpacked into trees, and trees are registered on top of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from contextlib import ExitStack, nullcontext
from typing import Final

from attrs import field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import BadLayer, DiffIDMismatch, DiskFull, WorkerLost, XferdError
from xferd.interfaces.blobs import IFollower
from xferd.interfaces.store import IStore, Layer, Unpacked
from xferd.interfaces.transfer import IProgressSink
from xferd.interfaces.unpack import Displaced, ILayerTask, IUnpacker, UnpackProgress
from xferd.jobs.blobs.growth import Growth
from xferd.jobs.disk_space.full_disk import retry_while_full
from xferd.jobs.isolation import SharingScope
from xferd.media_types import LAYERS
from xferd.names import Digest, chain_id
from xferd.oci import Descriptor
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.reason import NO_REASON, Obstacle, Reason
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher

QUEUED_LAYERS: Final = 2
"""
Complete blobs, for each unpacking worker, that are being unpacked or are about
to be: the next one is ready when a worker is free.
"""

_WORKER: Final = Reason(Obstacle.WORKER)
_DOWNLOAD: Final = Reason(Obstacle.DOWNLOAD)
_WRITING: Final = Reason(Obstacle.WRITING)


@frozen(eq=False)
class Stack:
    """
    A layer of one image, with all layers below it.

    @ivar blob: the layer's blob.
    @ivar diff_id: the digest of its unpacked tar, by the image's config.
    @ivar below: the stack below the layer, or L{None} at the bottom.
    @ivar chain_id: the ID under which the layer is registered.
    @ivar key: the key of its registration.  The blobs are a part of it: two
        images may have one layer in two compressions, and then each waits
        for its own bytes.
    @ivar scope: the clients that share it; L{None} for all.
    """

    blob: Descriptor
    diff_id: Digest
    below: Stack | None = field(repr=False)
    chain_id: Digest
    key: tuple[Hashable, ...]
    scope: SharingScope | None = None

    @classmethod
    def of(
        cls, blobs: Iterable[Descriptor], diff_ids: Iterable[Digest], scope: SharingScope | None = None
    ) -> list[Stack]:
        """
        The stacks of an image, the bottom one first.

        @param scope: the clients that share them; L{None} for all.
        """
        stacks: list[Stack] = []
        layers: Digest | None = None
        bytes_: Digest | None = None
        below: Stack | None = None
        for blob, diff_id in zip(blobs, diff_ids, strict=True):
            layers, bytes_ = chain_id([diff_id], layers), chain_id([blob.digest], bytes_)
            assert layers is not None
            assert bytes_ is not None
            key = ("layer", layers, bytes_) if scope is None else ("layer", layers, bytes_, scope)
            below = cls(blob, diff_id, below, layers, key, scope)
            stacks.append(below)
        return stacks


class LayerManager:
    """
    Unpacks and registers layers for all jobs.
    """

    def __init__(
        self,
        store: IStore,
        unpacker: IUnpacker,
        *,
        unpackings: TransferManager,
        registrations: TransferManager,
        growth: Callable[[Digest, SharingScope | None], Growth],
    ) -> None:
        """
        @param growth: returns the growth of a blob's file.
        """
        self._store = store
        self._unpacker = unpacker
        self._unpackings = unpackings
        self._registrations = registrations
        self._growth = growth

    @property
    def workers(self) -> int:
        """
        The number of layers that are unpacked at the same time; a change counts at
        once.
        """
        return self._unpacker.workers

    @workers.setter
    def workers(self, workers: int) -> None:
        self._unpackings.slots.limit = workers * QUEUED_LAYERS
        self._unpacker.workers = workers

    def unpack(
        self,
        blob: Descriptor,
        turn: Turn,
        sink: IProgressSink | None = None,
        algorithm: str = "",
        scope: SharingScope | None = None,
    ) -> Watcher[Digest]:
        """
        Unpack a layer's blob into a tree, while the blob arrives.

        Where the store lacks the blob, the caller has to download it meanwhile.

        @param algorithm: the algorithm of the diff ID.  The default is the
            blob's own, for callers that do not know the config yet.
        @param scope: the clients that share it; L{None} for all.
        @return: a watcher whose result is the tree's diff ID.  It fails with
            L{BadLayer}, L{WorkerLost} or a L{StoreError}.
        """

        algorithm = algorithm or blob.digest.algorithm

        async def work(transfer: Transfer) -> Digest:
            return await self._unpack(transfer, blob, algorithm, scope)

        return self._unpackings.request(
            key("tree", blob.digest, algorithm, scope), work, digest=blob.digest, turn=turn, sink=sink
        )

    def register(self, stack: Stack, turn: Turn, sink: IProgressSink | None = None) -> Watcher[Layer]:
        """
        Register a layer on top of the one below.

        Call this for the layers of an image from the bottom up.  Where the store
        lacks the tree, the caller has to download and L{unpack} the blob
        meanwhile.

        @return: a watcher whose result is the layer.  It fails with
            L{DiffIDMismatch}, a L{StoreError}, or the error of what it waits for.
        """

        async def work(transfer: Transfer) -> Layer:
            return await self._register(transfer, stack, turn)

        return self._registrations.request(stack.key, work, digest=stack.chain_id, turn=turn, sink=sink)

    def record(self, blob: Descriptor, diff_id: Digest, turn: Turn) -> Watcher[None]:
        """
        Unpack a blob of the store for the record of its tree alone, which an older version
        has unpacked without one.

        @return: a watcher whose result fires when the tree has a record.  It fails with
            L{DiffIDMismatch}, or as that of L{unpack}.
        """

        async def work(transfer: Transfer) -> None:
            growth = self._growth(blob.digest, None)
            async with transfer.slot():
                staged = await self._store.trees.stage()
                try:
                    found = await self._read(transfer, blob, staged, diff_id.algorithm, growth, last=True)
                    if found is None or found.diff_id != diff_id:
                        raise DiffIDMismatch(f"layer {blob.digest} does not unpack to {diff_id} any more")
                    await self._store.integrity.adopt_record(staged, diff_id)
                finally:
                    await self._store.trees.discard(staged)

        return self._unpackings.request(key("record", blob.digest), work, digest=blob.digest, turn=turn)

    def is_registered(self, stack: Stack) -> bool:
        """
        Whether a layer is registered, so that L{register} would have nothing to do.
        """
        return stack.scope is None and self._registered(stack) is not None

    def _registered(self, stack: Stack) -> Layer | None:
        """
        The layer of a stack, if it is registered.  An outdated layer gets the tree that
        was unpacked again.
        """
        layer = self._store.layers.get(stack.chain_id)
        if layer is not None and layer.outdated and self._store.trees.has(stack.diff_id):
            return layer if self._store.trees.is_outdated(stack.diff_id) else None
        return layer

    # ------------------------------------------------------------- unpacking

    async def _unpack(
        self, transfer: Transfer, blob: Descriptor, algorithm: str, scope: SharingScope | None
    ) -> Digest:
        """
        The work of an unpacking: tries until the blob's bytes are right.
        """
        transfer.report(bytes_done=0, bytes_total=blob.size)
        growth = self._growth(blob.digest, scope)
        lost = False
        since: float | None = None
        space = self._store.free_space
        while True:
            if transfer.over:
                # It was cancelled when its bytes had just become void.
                raise CancelledError
            known = self._store.trees.diff_id_of(blob.digest)
            outdated = known is not None and self._store.trees.is_outdated(known)
            if known is not None and known.algorithm == algorithm and not outdated:
                transfer.report(bytes_done=blob.size)
                return known
            if not self._store.blobs.has(blob.digest):
                with transfer.wait_for(_DOWNLOAD):
                    await growth.ready(self._unpacker.least)
            try:
                unpacked = await self._try(transfer, blob, algorithm, growth, last=lost)
            except BadLayer as e:
                raise BadLayer(f"layer {blob.digest}: {e}") from e
            except WorkerLost:
                if lost:
                    raise
                lost = True
            except DiskFull as e:
                since = space.now() if since is None else since
                waiting = space.wait(e, since)
                with transfer.wait_for_disk(space.why):
                    await waiting
            else:
                if unpacked is not None:
                    transfer.report(bytes_done=blob.size)
                    return unpacked.diff_id

    async def _try(
        self, transfer: Transfer, blob: Descriptor, algorithm: str, growth: Growth, *, last: bool
    ) -> Unpacked | None:
        """
        Unpack a blob once, into a tree of the store.

        A complete blob waits for a worker, and has no staging directory before.
        A blob that grows is unpacked as its bytes arrive.

        @param last: whether there is no other try.
        @return: the tree's facts, or L{None} if the unpacking has to start over:
            the bytes were void, or ceased to arrive.
        """
        whole = self._store.blobs.has(blob.digest)
        staged: str | None = None
        unpacked: Unpacked | None = None
        try:
            async with transfer.slot() if whole else nullcontext():
                staged = await self._store.trees.stage()
                unpacked = await self._read(transfer, blob, staged, algorithm, growth, last=last)
            if unpacked is not None:
                await self._store.trees.commit(staged, unpacked, blob.digest)
                staged = None
            return unpacked
        except DiskFull as e:
            # Removing the directory frees as much, which was not enough.
            if unpacked is not None:
                e.need = unpacked.size * 11 // 10
            elif staged is not None:
                e.need = await self._store.trees.staged_size(staged) * 11 // 10
            raise
        finally:
            if staged is not None:
                await self._store.trees.discard(staged)

    async def _read(
        self, transfer: Transfer, blob: Descriptor, staged: str, algorithm: str, growth: Growth, *, last: bool
    ) -> Unpacked | None:
        """
        Have a process unpack a blob into a staging directory.
        """

        def notify(progress: UnpackProgress) -> None:
            transfer.report(bytes_done=progress.consumed)

        unpacking = self._unpacker.unpack(
            staged, LAYERS[blob.media_type], notify, algorithm, lambda: growth.moving
        )
        arrives = not self._store.blobs.has(blob.digest)

        def stillness() -> Reason:
            if unpacking.queued:
                return _WORKER
            return _DOWNLOAD if arrives and not growth.is_whole else NO_REASON

        transfer.activity.stillness = stillness
        reader = _Reader(unpacking, last=last)
        if not arrives:
            reader.sealed(self._store.blobs.path(blob.digest), blob.size)
            return await reader.unpacked()
        waiting = ExitStack()

        def look(moving: bool) -> None:
            # Without an attempt that receives bytes, it waits as before the first byte.
            waiting.close()
            if not moving:
                waiting.enter_context(transfer.wait_for(_DOWNLOAD))

        growth.follow(reader)
        end = growth.on_arrivals(look)
        try:
            return await reader.unpacked()
        finally:
            end()
            waiting.close()
            growth.unfollow(reader)

    # ---------------------------------------------------------- registration

    async def _register(self, transfer: Transfer, stack: Stack, turn: Turn) -> Layer:
        """
        The work of a registration: wait for the tree and for the parent.
        """
        wanted = stack.diff_id
        if stack.scope is not None:
            # The config may name the diff ID of another client's layer: the
            # client's own blob has to unpack to it, whether the tree is here or not.
            await self._check_diff_id(transfer, stack, turn)
        registered = self._registered(stack)
        if registered is not None:
            return registered
        if not self._store.trees.has(wanted):
            await self._check_diff_id(transfer, stack, turn)
        below = stack.below
        if below is not None:
            parent = self.register(below, turn)
            try:
                with transfer.wait(Obstacle.PARENT):
                    await parent.result()
            finally:
                parent.release()
        parent_id = None if below is None else below.chain_id
        transfer.activity.stillness = lambda: _WRITING
        return await retry_while_full(
            self._store.free_space,
            lambda: self._store.layers.register(parent_id, wanted, stack.blob),
            transfer.wait_for_disk,
        )

    async def _check_diff_id(self, transfer: Transfer, stack: Stack, turn: Turn) -> None:
        """
        Wait until a layer's blob is unpacked.

        @raise DiffIDMismatch: its diff ID is not the one in the image's config.
        """
        tree = self.unpack(stack.blob, turn, algorithm=stack.diff_id.algorithm, scope=stack.scope)
        try:
            with transfer.wait(Obstacle.UNPACKING):
                found = await tree.result()
        finally:
            tree.release()
        if found != stack.diff_id:
            raise DiffIDMismatch(
                f"layer {stack.blob.digest} unpacks to {found}, but the image's config says {stack.diff_id}; "
                "the image has to be built again"
            )


def key(*parts: Hashable) -> tuple[Hashable, ...]:
    """
    A transfer's key, without the parts that are L{None}.
    """
    return tuple(part for part in parts if part is not None)


@implementer(IFollower)
class _Reader:
    """
    One unpacking, which follows the growth of the blob's file.
    """

    _log = Logger()

    def __init__(self, unpacking: ILayerTask, *, last: bool) -> None:
        """
        @param last: whether there is no other try.
        """
        self._unpacking = unpacking
        self._last = last
        self._sealed = False
        self._void = False
        self._waiting: Deferred[None] | None = None

    def grown(self, path: str, size: int) -> None:
        """
        More bytes can be read.
        """
        if not self._void:
            self._unpacking.grown(path, size)

    def restarted(self) -> None:
        """
        The bytes that were read are void.
        """
        if not self._void:
            self._void = True
            self._unpacking.restarted()
            self._wake()

    def sealed(self, path: str, size: int) -> None:
        """
        The blob is complete and verified.
        """
        if not self._void:
            self._sealed = True
            self._unpacking.sealed(path, size)
            self._wake()

    async def unpacked(self) -> Unpacked | None:
        """
        Wait for the unpacking's end.

        An error before the blob is verified may be caused by wrong bytes: then
        this waits until their digest is known.

        @return: the layer's facts, or L{None} if its bytes were void or ceased
            to arrive.
        """
        try:
            return await self._unpacking.result
        except CancelledError:
            if self._void:
                return None
            raise
        except Displaced:
            return None
        except XferdError as e:
            self._log.debug("an unpacking failed: {why}", why=str(e))
            if isinstance(e, WorkerLost) and not self._last and not self._void:
                raise  # the next try reads the bytes that are here
            if isinstance(e, DiskFull):
                raise  # the bytes are not the cause, and the written files occupy the disk
            if not self._sealed and not self._void:
                self._waiting = Deferred(lambda _: setattr(self, "_waiting", None))
                await self._waiting
            if self._void:
                return None
            raise

    def _wake(self) -> None:
        """
        Fire the wait for the digest.
        """
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
