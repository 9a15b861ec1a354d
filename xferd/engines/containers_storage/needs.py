# -*- test-case-name: tests.engines.containers_storage.test_needs -*-
"""
The layers and blobs that stay because engines need them, each with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Final

from xferd.engines.containers_storage.contents import Contents
from xferd.engines.containers_storage.engine_records import LayerUse
from xferd.interfaces.engines import EngineImageJSON
from xferd.interfaces.store import Image
from xferd.names import Digest

HELD: Final = 600.0
"""Seconds for which a layer stays that an engine is about to use, until it has recorded that."""

_PUSHED: Final = ("the view: engines push and save its layers by their blobs",)


class Needs:
    """
    What engines need of one view.

    @ivar unread: the storages of engines whose records cannot be read.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """
        @param clock: returns monotonic seconds.
        """
        self._clock = clock
        self._chains: Mapping[str, Digest] = {}
        self._contents = Contents()
        self._uses: Sequence[LayerUse] = ()
        self._held: dict[Digest, tuple[str, float]] = {}
        self._seen: set[str] = set()
        self._stale = False
        self.unread: Sequence[str] = ()
        self._kept: Set[Digest] = frozenset()
        self._leaving: Set[Digest] = frozenset()
        self._used: Mapping[Digest, Sequence[str]] | None = None

    @property
    def chains(self) -> Set[Digest]:
        """
        The layers that engines have recorded, or are about to record.
        """
        self._expire()
        return {*self._recorded(), *self._held, *self._possible()}

    @property
    def images_of_containers(self) -> Set[str]:
        """
        The IDs of the images of containers, if only the view has them: without them a
        container cannot be committed.
        """
        return {use.image for use in self._uses if use.image}

    def found(self, layers: Iterable[str]) -> None:
        """
        Record which layers an earlier daemon has shown, by their IDs.
        """
        self._seen.update(layers)
        self._used = None

    def recorded(
        self, uses: Sequence[LayerUse], chains: Mapping[str, Digest], unread: Sequence[str] = ()
    ) -> None:
        """
        Replace what the engines have recorded.

        @param chains: the chain IDs of the store's layers, by their IDs.
        @param unread: the storages of engines whose records cannot be read.  They may need
            everything that the view has shown since all records were read.
        """
        older = [use for use in self._uses if use.root in unread and use.layer in chains]
        self._uses, self._chains, self.unread = [*uses, *older], chains, tuple(unread)
        if not unread:
            self._seen = set(self._contents.layers)
        self._used = None

    def not_written(self) -> None:
        """
        Record that the view could not be written: what it has shown may still be there.
        """
        self._stale = True
        self._used = None

    def shown(self, contents: Contents, kept: Set[Digest] = frozenset()) -> None:
        """
        Record what the view shows by now.

        @param kept: the layers that it shows for engines alone.  They stay until it shows
            them no longer, also when no engine has recorded them any more.
        """
        self._contents, self._kept, self._leaving = contents, kept, frozenset()
        self._seen.update(contents.layers)
        self._stale = False
        self._used = None

    def named(self, images: Iterable[Image]) -> None:
        """
        Record that only these images have names by now.  Top layer and documents of
        others stay until the view shows them no longer: an engine may find them there.
        """
        layers = self._contents.layers
        kept = {image.config.digest for image in images}
        leaving = [image for image in self._contents.images.values() if image.config not in kept]
        tops = {layers[image.layer].chain_id for image in leaving if image.layer}
        self._leaving = tops.union(*(image.big_data().values() for image in leaving))
        self._used = None

    def hold(self, chain_id: Digest, reason: str) -> None:
        """
        Keep a layer for L{HELD} seconds.
        """
        self._held[chain_id] = reason, self._clock() + HELD
        self._used = None

    def used(self) -> Mapping[Digest, Sequence[str]]:
        """
        See L{ILayerUser.used<xferd.interfaces.collection.ILayerUser.used>}.  Blobs of layers
        that the view shows stay, too: engines push and save layers by them.
        """
        self._expire()
        if self._used is None:
            # Of thousands of blobs, each has the same text.
            used: dict[Digest, Sequence[str]] = {
                layer.content.digest: _PUSHED
                for layer in self._contents.layers.values()
                if layer.content is not None
            }
            found: dict[Digest, list[str]] = {}
            for chain, reasons in self._recorded().items():
                found.setdefault(chain, []).extend(reasons)
            for chain, (reason, _) in self._held.items():
                found.setdefault(chain, []).append(reason)
            for chain, reasons in self._possible().items():
                found.setdefault(chain, []).extend(reasons)
            for digest in self._leaving | (self._kept - found.keys()):
                found.setdefault(digest, []).append("the view, until it is written again")
            for image in self._contents.images.values():
                if not image.names:
                    for digest in image.big_data().values():
                        found.setdefault(digest, []).append(f"the image {image.id[:12]} of the view")
            used.update(found)
            self._used = used
        return self._used

    def images(self) -> list[EngineImageJSON]:
        """
        The images that engines use, as the API shows them.
        """
        groups: dict[tuple[str, str], list[LayerUse]] = {}
        for use in self._uses:
            groups.setdefault((use.root, use.layer), []).append(use)
        return [
            EngineImageJSON(
                image=self._name(layer, uses),
                layers=self._depth(layer),
                containers=sum(not use.is_pulled for use in uses),
                by=root,
            )
            for (root, layer), uses in groups.items()
        ]

    def _expire(self) -> None:
        now = self._clock()
        expired = [chain for chain, (_, until) in self._held.items() if until <= now]
        for chain in expired:
            del self._held[chain]
            self._used = None

    def _recorded(self) -> Mapping[Digest, Sequence[str]]:
        found: dict[Digest, list[str]] = {}
        for use in self._uses:
            found.setdefault(self._chains[use.layer], []).append(str(use))
        return found

    def _possible(self) -> Mapping[Digest, Sequence[str]]:
        """
        The layers that may be needed, as that cannot be known at present.
        """
        reasons = [f"the engine of {root}, whose records cannot be read" for root in self.unread]
        if self._stale:
            reasons.append("the view, which cannot be written")
        seen = self._seen & self._chains.keys() if reasons else ()
        return {self._chains[layer]: reasons for layer in seen}

    def _name(self, layer: str, uses: Sequence[LayerUse]) -> str:
        """
        The name of the image whose top layer this is; the empty string if none is known.
        """
        pulled = next((use.name for use in uses if use.is_pulled), "")
        images = (image for image in self._contents.images.values() if image.layer == layer)
        return pulled or next((image.names[0] for image in images if image.names), "")

    def _depth(self, layer: str) -> int:
        depth = 0
        while layer in self._contents.layers:
            depth, layer = depth + 1, self._contents.layers[layer].parent
        return depth
