# -*- test-case-name: tests.engines.snapshotter.test_provider -*-
"""
The layers of the daemon's store, for the engines that it serves.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from xferd.credentials import Credentials
from xferd.engines.snapshotter.pulls import LayerPulls, NotPulled
from xferd.errors import StoreError
from xferd.interfaces.layer_source import PULLED, STORED, ILayerSource, NotProvided, Promise, WantedLayer
from xferd.interfaces.store import IStore, Layer
from xferd.names import Digest


@implementer(ILayerSource)
class LayerSource:
    """
    Finds layers in the store, and has those pulled that it lacks.
    """

    away = False

    def __init__(self, store: IStore, pulls: LayerPulls) -> None:
        self._store = store
        self._pulls = pulls

    def obtain(
        self,
        engine: str,
        wanted: WantedLayer,
        below: Digest | None,
        credentials: Mapping[str, Credentials],
    ) -> Deferred[Promise]:
        return Deferred.fromCoroutine(self._obtain(engine, wanted, below, credentials))

    async def _obtain(
        self,
        engine: str,
        wanted: WantedLayer,
        below: Digest | None,
        credentials: Mapping[str, Credentials],
    ) -> Promise:
        # Until the promise keeps the layer.
        release = self._store.gc.lease()
        try:
            layer, how = self._store.layers.get(wanted.chain_id), STORED
            if layer is None or layer.outdated:
                # An outdated tree is unpacked again.
                layer, how = await self._pull(engine, wanted, layer, credentials), PULLED
            if layer.parent != below:
                raise NotProvided("the layer below is another one in the store")
            number = self._store.snapshots.promise(engine, layer.chain_id)
        except StoreError as e:
            release()
            raise NotProvided(str(e)) from e
        except BaseException:
            release()
            raise
        return Promise(number, layer.size, how, release)

    async def _pull(
        self,
        engine: str,
        wanted: WantedLayer,
        outdated: Layer | None,
        credentials: Mapping[str, Credentials],
    ) -> Layer:
        """
        Have a layer pulled.

        @param outdated: the layer as an older xferd has unpacked it, if it is in the store.
        @raise NotProvided: it cannot be.
        """
        if wanted.image is None:
            stored = "no such layer" if outdated is None else "an outdated tree of the layer"
            raise NotProvided(f"the store has {stored}, and the engine names no image to pull it with")
        try:
            return await self._pulls.layer(wanted.image, wanted.chain_id, f"containerd {engine}", credentials)
        except CancelledError:
            raise
        except NotPulled as e:
            raise NotProvided(str(e)) from e
