# -*- test-case-name: tests.engines.snapshotter.test_provider -*-
"""
Layers of the store, provided to an engine as committed snapshots.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger, LogLevel

from xferd.engines.snapshotter.labels import checked
from xferd.errors import DiskFull, StoreError
from xferd.interfaces.engines import ICredentialsOf
from xferd.interfaces.layer_source import DECLINED, STORED, ILayerSource, NotProvided, Promise, WantedLayer
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.snapshots import ISnapshotTable, Kind, Snapshot, Usage
from xferd.names import Digest
from xferd.store.threads import delay_cancellation

_TRIES: Final = 3
"""
Promises of one layer: a collection of garbage ends a promise, and there is seldom more
than one in a minute.
"""


class _OnTop(NotProvided):
    """
    The engine has unpacked the layer below itself.
    """


class LayerProvider:
    """
    Provides layers to one engine.

    @ivar prepares: the number of layers that the engine has asked for, by result.
    """

    _log = Logger()

    def __init__(
        self,
        engine: str,
        table: ISnapshotTable,
        *,
        source: ILayerSource,
        wall_clock: WallClock,
        isolated: bool,
        credentials: ICredentialsOf | None = None,
    ) -> None:
        """
        @param engine: the name of the engine.
        @param table: its snapshots.
        @param isolated: whether a client has to prove that it may have a layer: an engine
            cannot.
        @param credentials: those that clients of the engine have sent.
        """
        self.prepares: Counter[str] = Counter()
        self._engine = engine
        self._table = table
        self._source = source
        self._wall_clock = wall_clock
        self._isolated = isolated
        self._credentials = credentials
        self._locks: WeakValueDictionary[Digest, DeferredLock] = WeakValueDictionary()

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
        except NotProvided as e:
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
        @raise NotProvided: the engine has to unpack it by itself.
        """
        below = self._below(parent)
        if self._source.away and self._is_recorded(wanted.chain_id, parent):
            return STORED
        brought = {} if self._credentials is None else self._credentials.credentials_of(wanted.named)
        for tries in range(_TRIES, 0, -1):
            promise = await self._source.obtain(self._engine, wanted, below, brought)
            recording = Deferred.fromCoroutine(self._record(wanted.chain_id, promise, parent, labels))
            try:
                await delay_cancellation(recording)
                return promise.how
            except StoreError as e:
                if tries == 1 or isinstance(e, DiskFull):
                    raise NotProvided(str(e)) from e
            finally:
                promise.release()
        raise AssertionError("not reached")

    def _below(self, parent: str) -> Digest | None:
        """
        The layer of the store that a parent is.

        @raise NotProvided: it is not one of them, or no layer can be provided.
        """
        if self._isolated:
            raise NotProvided('sharing = "isolated" provides layers only to clients that prove their access')
        if not parent:
            return None
        snapshot = self._table.get(parent)
        below = None if snapshot is None else snapshot.chain_id
        if below is None:
            raise _OnTop("it has unpacked the layer below itself")
        return below

    def _is_recorded(self, chain_id: Digest, parent: str) -> bool:
        """
        Whether a layer is a snapshot already.
        """
        present = self._table.get(str(chain_id))
        return present is not None and (present.chain_id, present.parent) == (chain_id, parent)

    async def _record(
        self, chain_id: Digest, promise: Promise, parent: str, labels: Mapping[str, str]
    ) -> None:
        """
        Record a layer as a committed snapshot, unless it is one.  It is named by its chain
        ID: containerd's own keys have other forms.

        @raise NotProvided: another snapshot has its name, or the parent has gone.
        @raise StoreError: the promise is no longer valid, or the disk refuses.
        """
        lock = self._locks.setdefault(chain_id, DeferredLock())
        # Who comes second waits until the record is on the disk.
        async with lock:
            if self._is_recorded(chain_id, parent):
                return
            name, now = str(chain_id), nanoseconds(self._wall_clock)
            if self._table.get(name) is not None or (parent and self._table.get(parent) is None):
                raise NotProvided("another snapshot has its name, or the one below was removed")
            await self._table.put(
                Snapshot(
                    number=self._table.number(),
                    key=name,
                    kind=Kind.COMMITTED,
                    parent=parent,
                    created=now,
                    updated=now,
                    labels=checked(labels),
                    chain_id=chain_id,
                    usage=Usage(promise.size, 0),
                ),
                promise.number,
            )


def nanoseconds(wall_clock: WallClock) -> int:
    """
    Nanoseconds since the epoch.
    """
    return int(wall_clock() * 1e9)
