# -*- test-case-name: tests.engines.snapshotter.test_provider -*-
"""
Layers of the store, provided to an engine as committed snapshots.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final
from weakref import WeakValueDictionary

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.logger import Logger, LogLevel

from xferd.engines.snapshotter.labels import WantedLayer, checked
from xferd.engines.snapshotter.pulls import LayerPulls, NotPulled
from xferd.errors import StoreError
from xferd.interfaces.engines import ICredentialsOf
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.snapshots import ISnapshotTable, Kind, Snapshot, Usage
from xferd.interfaces.store import IStore, Layer
from xferd.names import Digest
from xferd.store.threads import delay_cancellation

STORED: Final = "stored"
PULLED: Final = "pulled"
DECLINED: Final = "declined"


class _Declined(Exception):
    """
    xferd does not provide a layer; the text is the reason.
    """


class _OnTop(_Declined):
    """
    The engine has unpacked the layer below itself.
    """


class LayerProvider:
    """
    Provides layers to one engine.

    States: I{open}; I{stopping}, after C{stop}.

    @ivar prepares: the number of layers that the engine has asked for, by result.
    """

    _log = Logger()

    def __init__(
        self,
        table: ISnapshotTable,
        *,
        store: IStore,
        pulls: LayerPulls,
        wall_clock: WallClock,
        isolated: bool,
        credentials: ICredentialsOf | None = None,
    ) -> None:
        """
        @param table: the engine's snapshots.
        @param isolated: whether a client has to prove that it may have a layer: an engine
            cannot.
        @param credentials: those that clients of the engine have brought.
        """
        self.prepares: Counter[str] = Counter()
        self._table = table
        self._store = store
        self._pulls = pulls
        self._wall_clock = wall_clock
        self._isolated = isolated
        self._credentials = credentials
        self._locks: WeakValueDictionary[Digest, DeferredLock] = WeakValueDictionary()
        self._stopping = False

    def stop(self) -> None:
        """
        Provide no more layers.
        """
        self._stopping = True

    async def provide(self, wanted: WantedLayer, parent: str, labels: Mapping[str, str]) -> bool:
        """
        Obtain a layer if the store lacks it, and record it as a committed snapshot.

        Cancelling ends the wait for the layer; a snapshot that is being recorded is
        recorded.

        @param parent: the key of the snapshot below, which exists, or the empty string.
        @return: whether there is such a snapshot now, on the disk.  If not, the engine has to
            unpack the layer itself, and the log has the reason.
        """
        try:
            self.prepares[await self._provide(wanted, parent, labels)] += 1
        except _Declined as e:
            self.prepares[DECLINED] += 1
            self._log.emit(
                # One sentence for each image.
                LogLevel.debug if isinstance(e, _OnTop) else LogLevel.info,
                "{name} fetches and unpacks {layer} of {image} itself: {why}",
                name=self._table.name,
                layer=wanted.chain_id,
                image=wanted.named or "an image",
                why=str(e),
            )
            return False
        return True

    async def _provide(self, wanted: WantedLayer, parent: str, labels: Mapping[str, str]) -> str:
        """
        Obtain a layer, and record it.

        @return: how it was obtained.
        @raise _Declined: the engine has to unpack it by itself.
        """
        below = self._below(parent)
        # Until the record keeps the layer.
        release = self._store.gc.lease()
        try:
            layer, result = self._store.layers.get(wanted.chain_id), STORED
            if layer is None or layer.outdated:
                # An outdated tree is unpacked again.
                layer, result = await self._pull(wanted, layer), PULLED
            if layer.parent != below:
                raise _Declined("the layer below is another one in the store")
            await delay_cancellation(Deferred.fromCoroutine(self._record(layer, parent, labels)))
        except StoreError as e:
            raise _Declined(str(e)) from e
        finally:
            release()
        return result

    def _below(self, parent: str) -> Digest | None:
        """
        The layer of the store that a parent is.

        @raise _Declined: it is not one of them, or no layer can be provided.
        """
        if self._stopping:
            raise _Declined("xferd is stopping")
        if self._isolated:
            raise _Declined('sharing = "isolated" provides layers only to clients that prove their access')
        if not parent:
            return None
        snapshot = self._table.get(parent)
        below = None if snapshot is None else snapshot.chain_id
        if below is None:
            raise _OnTop("it has unpacked the layer below itself")
        return below

    async def _pull(self, wanted: WantedLayer, outdated: Layer | None) -> Layer:
        """
        Have a layer pulled.

        @param outdated: the layer as an older xferd has unpacked it, if it is in the store.
        @raise _Declined: it cannot be.
        """
        if wanted.image is None:
            stored = "no such layer" if outdated is None else "an outdated tree of the layer"
            raise _Declined(f"the store has {stored}, and the engine names no image to pull it with")
        brought = None if self._credentials is None else self._credentials.credentials_of(wanted.named)
        try:
            return await self._pulls.layer(wanted.image, wanted.chain_id, self._table.name, brought)
        except CancelledError:
            raise
        except NotPulled as e:
            raise _Declined(str(e)) from e

    async def _record(self, layer: Layer, parent: str, labels: Mapping[str, str]) -> None:
        """
        Record a layer as a committed snapshot, unless it is one.  It is named by its chain
        ID: containerd's own keys have other forms.

        @raise _Declined: another snapshot has its name, or the parent has gone.
        """
        lock = self._locks.setdefault(layer.chain_id, DeferredLock())
        # Who comes second waits until the record is on the disk.
        async with lock:
            name, now = str(layer.chain_id), nanoseconds(self._wall_clock)
            present = self._table.get(name)
            if present is not None and (present.chain_id, present.parent) == (layer.chain_id, parent):
                return
            if present is not None or (parent and self._table.get(parent) is None):
                raise _Declined("another snapshot has its name, or the one below was removed")
            await self._table.put(
                Snapshot(
                    number=self._table.number(),
                    key=name,
                    kind=Kind.COMMITTED,
                    parent=parent,
                    created=now,
                    updated=now,
                    labels=checked(labels),
                    chain_id=layer.chain_id,
                    usage=Usage(layer.size, 0),
                )
            )


def nanoseconds(wall_clock: WallClock) -> int:
    """
    Nanoseconds since the epoch.
    """
    return int(wall_clock() * 1e9)
