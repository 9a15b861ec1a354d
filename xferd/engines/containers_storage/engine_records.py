# -*- test-case-name: tests.engines.containers_storage.test_engine_records -*-
"""
What engines have recorded in their own storage about layers of the view: their images,
containers and layers that stand on them.

Blocking, for a thread.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from threading import Event
from typing import Any, Final

from attrs import frozen

from xferd.engines.containers_storage.record_lock import PATIENCE, locked, open_file
from xferd.errors import StoreError

Entries = Sequence[Mapping[str, Any]]

MAX_RECORDS: Final = 64 * 1024 * 1024
"""Bytes of one file of records: 100,000 layers have less."""


SHORT_PATIENCE: Final = 0.1
"""Seconds for which a lock is waited for that was not released in time before: as long, the
ends of pulls wait for the view."""


@frozen
class LayerUse:
    """
    An image, a container or a layer of an engine that stands on a layer of the view.

    @ivar layer: the ID of the highest layer of the view below it.
    @ivar kind: C{image}, C{container} or C{layer}.
    @ivar name: its name, or else its ID in short.
    @ivar image: of a container, the ID of its image if only the view has that.
    @ivar root: the engine's storage.
    @ivar is_pulled: of an image, whether the view has all its layers: it was pulled, not
        built on top.
    """

    layer: str
    kind: str
    name: str
    root: str
    image: str = ""
    is_pulled: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.name} of {self.root}"


def read_all_uses(
    roots: Sequence[str], ours: Set[str], stop: Event, before: Set[str] = frozenset()
) -> tuple[Sequence[LayerUse], Mapping[str, str]]:
    """
    Read what all engines have recorded.

    @param roots: their storages.
    @param ours: the IDs of the layers of the view.
    @param stop: ends the wait for a lock when it is set.
    @param before: the storages that could not be read the last time: so that others do not
        wait for them again, they have little time.
    @return: also the storages whose records cannot be read, each with the reason.
    """
    found: list[LayerUse] = []
    unread = {}
    for root in roots:
        try:
            patience = SHORT_PATIENCE if root in before else PATIENCE
            found += read_uses(root, ours, stop=stop, patience=patience)
        except StoreError as e:
            unread[root] = str(e)
    return found, unread


def read_uses(root: str, ours: Set[str], *, stop: Event, patience: float = PATIENCE) -> Sequence[LayerUse]:
    """
    Read what one engine has recorded.

    Images are read first, then layers, then containers: the order in which they come
    from each other, so that none is missed that changes its form meanwhile.

    @param root: its storage.  There may be none.
    @param ours: the IDs of the layers of the view.
    @param stop: ends the wait for a lock when it is set.
    @raise StoreError: a record cannot be read, or the engine holds a lock for too long.
    """

    def read(name: str) -> Entries:
        try:
            return _read(os.path.join(root, f"overlay-{name}"), name, stop, patience)
        except (OSError, ValueError, TypeError, RecursionError) as e:
            raise StoreError(
                f"cannot determine which layers the engine of {root} needs: {name}.json: {e}; 'roots' in "
                "[engines.containers-storage] names the storage of the engines"
            ) from e

    images, layers, containers = read("images"), read("layers"), read("containers")
    parents = {str(layer.get("id")): str(layer.get("parent") or "") for layer in layers}
    bases: dict[str, str] = {}

    def base(layer: str) -> str:
        """
        The highest layer of the view below a layer; empty if there is none.  An engine
        uses its own layer where both have it.
        """
        seen: set[str] = set()
        while layer in parents and layer not in seen and layer not in bases:
            seen.add(layer)
            layer = parents[layer]
        below = bases.get(layer, layer if layer in ours else "")
        bases.update(dict.fromkeys(seen, below))
        return below

    own = {str(image.get("id")) for image in images}
    found = [*_of_images(root, images, base), *_of_containers(root, containers, base, own)]
    known = {use.layer for use in found}
    for layer, parent in parents.items():
        below = base(parent)
        if below and below not in known:
            known.add(below)
            found.append(LayerUse(below, "layer", layer[:12], root))
    return found


def _of_images(root: str, images: Entries, base: Callable[[str], str]) -> Iterator[LayerUse]:
    for image in images:
        names = image.get("names") or [str(image.get("id"))[:12]]
        tops = [image.get("layer"), *(image.get("mapped-layers") or ())]
        bases = {base(str(top)): str(top) for top in tops if top}
        for layer, top in bases.items():
            if layer:
                yield LayerUse(layer, "image", str(names[0]), root, is_pulled=layer == top)


def _of_containers(
    root: str, containers: Entries, base: Callable[[str], str], own: Set[str]
) -> Iterator[LayerUse]:
    for container in containers:
        layer = base(str(container.get("layer")))
        if layer:
            names = container.get("names") or [str(container.get("id"))[:12]]
            image = str(container.get("image") or "")
            yield LayerUse(layer, "container", str(names[0]), root, "" if image in own else image)


def _read(directory: str, name: str, stop: Event, patience: float) -> Entries:
    """
    Read the entries of a file and of its volatile companion, under their lock.

    @raise OSError: they cannot be read.
    @raise ValueError: they are damaged.
    """
    entries: list[Mapping[str, Any]] = []
    try:
        with locked(os.path.join(directory, f"{name}.lock"), exclusive=False, stop=stop, patience=patience):
            for file_name in (f"{name}.json", f"volatile-{name}.json"):
                entries += _entries(os.path.join(directory, file_name))
    except FileNotFoundError:
        return ()  # The engine has not recorded any.
    return entries


def _entries(path: str) -> Entries:
    try:
        with open(open_file(path, os.O_RDONLY), "rb") as file:
            data = file.read(MAX_RECORDS + 1)
    except FileNotFoundError:
        return ()
    if len(data) > MAX_RECORDS:
        raise ValueError(f"it has more than {MAX_RECORDS} bytes")
    # Engines truncate a file of theirs to remove all.
    found = json.loads(data) if data else []
    if not isinstance(found, list) or not all(map(_is_record, found)):
        raise ValueError("it is not a list of records")
    return found


def _is_record(entry: object) -> bool:
    return isinstance(entry, dict) and all(
        isinstance(entry.get(key) or [], list) for key in ("names", "mapped-layers")
    )
