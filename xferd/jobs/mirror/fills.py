# -*- test-case-name: tests.jobs.mirror.test_fills -*-
"""
The fills of a mirror: downloads for clients, which the store watches, too.  They continue
when their clients leave, and when the daemon starts again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Final

from attrs import define
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xferd.errors import XferdError
from xferd.interfaces.journal import UnfinishedFill
from xferd.interfaces.registry import IRepository
from xferd.interfaces.store import IStore
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.mirror.traffic import Traffic
from xferd.names import Repository
from xferd.oci import Descriptor
from xferd.transfer.eventual import Background
from xferd.transfer.fair_queue import Turn
from xferd.transfer.watcher import Watcher

LONG: Final = 1.0
"""Seconds after which a fill is recorded: the clients of shorter ones request them again."""

MOST: Final = 5
"""How often a fill is begun again, at most: it may be the cause of the daemon's deaths."""


@define(eq=False)
class _Fill:
    """
    One fill.

    @ivar begun: how often it was begun again.
    @ivar recorded: whether the journal has it.
    """

    source: IRepository
    blob: Descriptor
    watcher: Watcher[None]
    begun: int
    recorded: bool
    timer: IDelayedCall | None = None


class Fills:
    """
    The fills of one daemon.

    Life cycle: made; L{resume}d, once the upstreams can be requested; L{stop}ped, before
    the downloads are.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        layers: DownloadManager,
        *,
        clock: IReactorTime,
        store_turn: Callable[[], Turn],
        traffic: Traffic,
    ) -> None:
        """
        @param store_turn: makes the turn in which a download waits for a slot that
            no client waits for.
        @param traffic: counts bytes.
        """
        self._store = store
        self._layers = layers
        self._clock = clock
        self._store_turn = store_turn
        self._traffic = traffic
        self._fills: dict[Hashable, _Fill] = {}
        self._stopped = False
        self._background = Background()

    def has(self, source: IRepository, blob: Descriptor) -> bool:
        """
        Whether a blob arrives.
        """
        return (blob.digest, self._layers.scope(source)) in self._fills

    def begin(self, source: IRepository, blob: Descriptor, turn: Turn) -> Watcher[None]:
        """
        Have the store fetch a blob, also without any reader.

        @return: a watcher for the client, which the caller releases.
        """
        watcher = self._layers.fetch(blob, source, turn, prove=True)
        self._keep(source, blob)
        return watcher

    async def resume(self, find: Callable[[Repository], Awaitable[IRepository | None]]) -> None:
        """
        Begin the fills again that an earlier daemon left unfinished.

        @param find: returns the upstream's repository by its name in the catalog, or
            L{None} if its clients have no right any more without credentials of their own.
        """
        journal = self._store.journal
        try:
            unfinished = await journal.fills()
        except XferdError as e:
            self._log.error("cannot read the unfinished fills of the mirror: {error}", error=e)
            return
        for fill in unfinished:
            try:
                source = await find(fill.repository)
            except XferdError as e:
                self._log.warn("{name} cannot be filled: {error}", name=fill.repository, error=e)
                source = None
            if self._stopped:
                return
            if source is None or fill.begun >= MOST or self._store.blobs.has(fill.blob.digest):
                self._forget(fill.repository, fill.blob)
                continue
            self._log.info("{digest} of {name} continues", digest=fill.blob.digest, name=fill.repository)
            self._keep(source, fill.blob, fill.begun + 1)

    def stop(self) -> None:
        """
        Leave the fills to the next daemon.
        """
        self._stopped = True
        for fill in self._fills.values():
            self._cancel(fill)

    def _keep(self, source: IRepository, blob: Descriptor, begun: int = 0) -> None:
        key = blob.digest, self._layers.scope(source)
        if key in self._fills or self._stopped:
            return
        # What an earlier daemon fetched is used only if the upstream proves to have it.
        watcher = self._layers.fetch(blob, source, self._store_turn(), prove=bool(begun))
        fill = self._fills[key] = _Fill(source, blob, watcher, begun, recorded=bool(begun))
        if begun:
            self._record(fill)
        else:
            fill.timer = self._clock.callLater(LONG, self._record, fill)

        def ended(result: object) -> None:
            del self._fills[key]
            watcher.release()
            self._cancel(fill)
            if fill.recorded and not self._stopped:
                self._forget(source.name, blob)
            if result is None:
                from_peers = watcher.transfer.extra.get("from_peers", 0)
                self._traffic.fetched(source.host, max(0, blob.size - from_peers))

        _ = watcher.result().addBoth(ended)

    def _record(self, fill: _Fill) -> None:
        fill.timer, fill.recorded = None, True
        unfinished = UnfinishedFill(fill.source.name, fill.blob, fill.begun)
        self._background.spawn(self._store.journal.record_fill(unfinished), "while recording a fill")

    def _forget(self, repository: Repository, blob: Descriptor) -> None:
        forgetting = self._store.journal.forget_fill(repository, blob.digest)
        self._background.spawn(forgetting, "while recording the end of a fill")

    def _cancel(self, fill: _Fill) -> None:
        timer, fill.timer = fill.timer, None
        if timer is not None:
            timer.cancel()
