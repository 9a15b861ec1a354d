# -*- test-case-name: tests.jobs.images.test_outdated_trees -*-
"""
Trees that an older xferd unpacked by other rules, and damaged ones.  At their next use
they are unpacked again, from blobs in the store or else fetched.  Where that fails, the
older tree is used, and a warning names it; a damaged one is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from xferd.errors import XferdError
from xferd.interfaces.registry import IBlobSource, IRegistries
from xferd.interfaces.store import IStore
from xferd.interfaces.transfer import IProgressSink
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.blobs.layers import Stack
from xferd.jobs.deferreds import gather
from xferd.jobs.images.stored import stored_image, stored_layers
from xferd.names import Digest, Reference
from xferd.transfer.fair_queue import Turn
from xferd.transfer.transfer import Transfer


async def renew(
    stack: Stack,
    source: IBlobSource,
    turn: Turn,
    sink: IProgressSink | None = None,
    *,
    store: IStore,
    layers: DownloadManager,
    shown: Callable[[Transfer | None, Transfer | None], None] | None = None,
) -> str | None:
    """
    Unpack a layer's tree again.

    @param shown: called with the download, if one is needed, and the
        unpacking; and with L{None} for both if they have failed.
    @return: a warning, if that fails: the older tree is used as it is.
    @raise XferdError: that fails, and the present tree is damaged.
    """
    blob = stack.blob
    fetch = None
    if not store.blobs.has(blob.digest):
        fetch = layers.fetch(blob, source, turn, sink)
    tree = layers.unpack(blob, turn, sink, stack.diff_id.algorithm, layers.scope(source))
    if shown is not None:
        shown(None if fetch is None else fetch.transfer, tree.transfer)
    try:
        results: list[Deferred[Any]] = [] if fetch is None else [fetch.result()]
        await gather([*results, tree.result()])
    except XferdError as e:
        if store.trees.is_damaged(stack.diff_id):
            raise
        if shown is not None:
            shown(None, None)
        return (
            f"layer {blob.digest} was unpacked by an older xferd, and stays in use: "
            f"it could not be unpacked again: {e}"
        )
    finally:
        tree.release()
        if fetch is not None:
            fetch.release()
    return None


async def renew_image(
    reference: Reference, turn: Turn, *, store: IStore, registries: IRegistries, layers: DownloadManager
) -> list[str]:
    """
    Unpack the outdated trees of an image of the store again, and register its
    layers with the new trees.

    @return: warnings.
    @raise NotFound: there is no such image.
    @raise StoreError: a layer is missing.
    """
    image = stored_image(store, reference)
    chain = stored_layers(store, image)
    if not any(layer.outdated for layer in chain):
        return []
    end_use = store.gc.lease()
    try:
        source = registries.repository(image.source)
        stacks = Stack.of(image.layers, [layer.diff_id for layer in chain])
        old: dict[Digest, Stack] = {s.diff_id: s for s in stacks if store.trees.is_outdated(s.diff_id)}
        warnings = await gather(
            Deferred.fromCoroutine(renew(stack, source, turn, store=store, layers=layers))
            for stack in old.values()
        )
        for stack in stacks:
            watcher = layers.register(stack, turn)
            try:
                await watcher.result()
            finally:
                watcher.release()
        await store.images.layers_changed()
        return [text for text in warnings if text is not None]
    finally:
        end_use()
