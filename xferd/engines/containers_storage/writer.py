# -*- test-case-name: tests.engines.containers_storage.test_writer -*-
"""
Writes the view::

    overlay                     a link to the directory of all trees; in it:
      <layer id>                a link to the layer's directory, <alg>/<hex>
      <layer id>/diff           the tree
      <layer id>/link           the short name
      <layer id>/lower          the short names of the layers below, the next one first
      <layer id>/additionallayer    where to read the blob: see below
      l/<short name>            a link to ../<layer id>/diff
    overlay-layers/             layers.json, layers.lock
    overlay-images/             images.json, images.lock, <image id>/<big data>
    additional/<layer id>/      diff, info and blob of a layer

Some engines clone the mount of C{overlay}, some that of C{overlay/<layer id>}, with
mapped owners; neither clone may have a link that leads out of it.  So the trees
themselves are below C{overlay}, and the links are beside them.

The files stay in an order that is complete at each moment: a layer that
C{layers.json} names is there, and so is a layer that C{images.json} names.

Blocking, for a thread; calls must not overlap.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any, Final

from xferd.engines.containers_storage.contents import Contents
from xferd.engines.containers_storage.created import created_of
from xferd.engines.containers_storage.identity import big_data_file, link_of
from xferd.engines.containers_storage.record_lock import PATIENCE, locked, mark_changed
from xferd.engines.containers_storage.records import ImageRecord, LayerRecord
from xferd.errors import StoreError
from xferd.names import Digest
from xferd.store.disk.file_system import sync_directory

DIFF: Final = "diff"
"""The last component of a tree's path."""

_OVERLAY: Final = "overlay"
_LAYERS: Final = "overlay-layers"
_IMAGES: Final = "overlay-images"
_CONTAINERS: Final = "overlay-containers"
_ADDITIONAL: Final = "additional"
_LINKS: Final = "l"
_ID: Final = re.compile(r"[0-9a-f]{64}")

Entries = dict[str, dict[str, Any]]
"""The entries of a file of records, by their IDs."""


class Writer:
    """
    The writer of one view.
    """

    def __init__(
        self,
        path: str,
        trees: str,
        blob: Callable[[Digest], str],
        *,
        stop: Event,
        patience: float = PATIENCE,
    ) -> None:
        """
        @param path: the directory of the view, which is made.
        @param trees: the directory of all trees.
        @param blob: returns the path of a blob.
        @param stop: ends the wait for a lock when it is set.
        @param patience: seconds for which each lock is waited for.
        """
        self._path = Path(path)
        self._trees = Path(trees)
        self._blob = blob
        self._stop = stop
        self._patience = patience
        # What is on the disk, and the records of which all files were written.
        self._on_disk: tuple[Entries, Entries] | None = None
        self._stamps: Sequence[tuple[int, int, int] | None] = ()
        self._layers: dict[str, LayerRecord] = {}
        self._images: dict[str, tuple[ImageRecord, dict[str, Any]]] = {}

    def on_disk(self) -> tuple[Mapping[str, ImageRecord], Iterable[str]]:
        """
        The images on the disk, by their IDs, and the IDs of the layers.
        """
        found = {}
        for key, value in self._read(_IMAGES, "images").items():
            try:
                found[key] = ImageRecord.from_json(value)
            except ValueError:
                continue  # It is written again if it is needed.
        return found, self._read(_LAYERS, "layers").keys()

    def write(self, contents: Contents, now: str) -> bool:
        """
        Update the view.  The first call compares it with the disk, and so does
        one after an error, or after the records were changed by someone else.

        @param now: the time at which new layers are made, RFC 3339.
        @return: whether the records have changed.
        @raise StoreError: an engine holds a lock for too long, or the directory is
            the storage of an engine, or the view of another store.
        @raise OSError: the disk refuses.
        """
        try:
            if self._stamps != self._read_stamps():
                self._forget()
            changed = self._write(contents, now)
            self._stamps = self._read_stamps()
        except BaseException:
            self._forget()
            raise
        return changed

    def _forget(self) -> None:
        """
        Compare the view with the disk the next time.
        """
        self._on_disk = None
        self._layers.clear()
        self._images.clear()

    def _read_stamps(self) -> Sequence[tuple[int, int, int] | None]:
        """
        What changes with the files of records.
        """
        found: list[tuple[int, int, int] | None] = []
        for directory, name in ((_LAYERS, "layers"), (_IMAGES, "images")):
            try:
                file = os.stat(self._path / directory / f"{name}.json")
            except FileNotFoundError:
                found.append(None)
            else:
                found.append((file.st_ino, file.st_size, file.st_mtime_ns))
        return found

    def _write(self, contents: Contents, now: str) -> bool:
        """
        See L{write}.
        """
        first = self._on_disk is None
        if self._on_disk is None:
            self._make_directories()
            self._on_disk = self._read_or_make(_LAYERS, "layers"), self._read_or_make(_IMAGES, "images")
        old_layers, old_images = self._on_disk
        for layer in contents.layers.values():
            if self._layers.get(layer.id) != layer:
                self._write_layer(layer, contents.layers)
                self._layers[layer.id] = layer
        layers = {key: self._layer_entry(each, old_layers, now) for key, each in contents.layers.items()}
        gone = old_layers.keys() - layers.keys()
        with_gone = {**layers, **{key: old_layers[key] for key in sorted(gone)}}
        if with_gone != old_layers:
            self._replace(_LAYERS, "layers", with_gone)
            self._on_disk = with_gone, old_images
        changed = [each for each in contents.images.values() if self._images.get(each.id, (None,))[0] != each]
        for image in changed:
            self._images[image.id] = image, self._write_big_data(image)
        images = {key: self._images[key][1] for key in contents.images}
        if images != old_images:
            self._replace(_IMAGES, "images", images)
            self._on_disk = with_gone, images
        for key in old_images.keys() - images.keys():
            self._remove_big_data(key)
        for image in changed:
            self._remove_stray_data(image)
        if gone:
            self._replace(_LAYERS, "layers", layers)
            self._on_disk = layers, images
            for key in gone:
                self._remove_layer(key)
        if first:
            self._remove_strays(contents)
        return (layers, images) != (old_layers, old_images)

    def _make_directories(self) -> None:
        overlay, remedy = (
            self._path / _OVERLAY,
            "choose another directory as 'path' in [engines.containers-storage]",
        )
        is_engines = os.path.lexists(self._path / _CONTAINERS) or (
            overlay.exists() and not overlay.is_symlink()
        )
        if is_engines:
            raise StoreError(f"{self._path} is the storage of an engine; {remedy}")
        if overlay.exists() and not overlay.samefile(self._trees):
            raise StoreError(
                f"{self._path} is the view of another store, {overlay.resolve().parent}; {remedy}, "
                "or remove this one if that store is not used any more"
            )
        for name in ("", _LAYERS, _IMAGES, _ADDITIONAL):
            (self._path / name).mkdir(mode=0o700, exist_ok=True)
        (self._trees / _LINKS).mkdir(mode=0o700, exist_ok=True)
        _link(str(self._trees), str(self._path / _OVERLAY))

    def _read(self, directory: str, name: str) -> Entries:
        """
        Read the entries that an earlier daemon has written; none if they are damaged.
        """
        try:
            found = json.loads((self._path / directory / f"{name}.json").read_bytes())
            return {str(entry["id"]): dict(entry) for entry in found}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return {}

    def _read_or_make(self, directory: str, name: str) -> Entries:
        """
        Read entries, or write a file without any: an engine cannot make a lock on a
        read-only file system.
        """
        if not (self._path / directory / f"{name}.json").exists():
            self._replace(directory, name, {})
        return self._read(directory, name)

    def _replace(self, directory: str, name: str, entries: Entries) -> None:
        """
        Replace a file of records under its lock.
        """
        data = json.dumps(list(entries.values())).encode()
        place = self._path / directory
        with locked(
            str(place / f"{name}.lock"), exclusive=True, stop=self._stop, patience=self._patience
        ) as lock:
            mark_changed(lock)
            _replace(f"{place}/{name}.json", data, durable=True)
            sync_directory(str(place))

    def _layer_entry(self, layer: LayerRecord, old: Entries, now: str) -> dict[str, Any]:
        return layer.to_json(str(old.get(layer.id, {}).get("created", now)))

    def _write_layer(self, layer: LayerRecord, layers: Mapping[str, LayerRecord]) -> None:
        """
        Write what is beside a tree, then the links to it.
        """
        trees = str(self._trees)
        place, link = f"{trees}/{layer.tree}", link_of(layer.id)
        below = [f"{_LINKS}/{link_of(each.id)}" for each in _below(layer, layers)]
        _write(f"{place}/link", link.encode())
        _write_or_remove(f"{place}/lower", ":".join(below).encode())
        _write_or_remove(f"{place}/additionallayer", self._write_additional(layer))
        _link(f"../{layer.id}/{DIFF}", f"{trees}/{_LINKS}/{link}")
        _link(layer.tree, f"{trees}/{layer.id}")

    def _write_additional(self, layer: LayerRecord) -> bytes:
        """
        Write the directory from which engines read the layer's blob when they push or
        save it.  They make a file C{use} in it, which this prevents; and they remove the
        directory by its path as it is written, with C{-/..}, which does not exist, but
        open files in it by the shortened path.

        @return: the path; empty if the blob is not in the store.
        """
        parent = f"{self._path}/{_ADDITIONAL}"
        place = f"{parent}/{layer.id}"
        if layer.content is None:
            shutil.rmtree(place, ignore_errors=True)
            return b""
        _make_directory(place)
        _link(f"{self._trees}/{layer.tree}/{DIFF}", f"{place}/{DIFF}")
        _link(self._blob(layer.content.digest), f"{place}/blob")
        _link("-/use", f"{place}/use")
        _write(f"{place}/info", json.dumps(layer.to_json("1970-01-01T00:00:00Z")).encode())
        return os.fsencode(f"{parent}/-/../{layer.id}")

    def _remove_layer(self, identity: str) -> None:
        """
        Remove the links to a layer.  Its tree belongs to the store.
        """
        self._layers.pop(identity, None)
        for link in (self._trees / identity, self._trees / _LINKS / link_of(identity)):
            link.unlink(missing_ok=True)
        shutil.rmtree(self._path / _ADDITIONAL / identity, ignore_errors=True)

    def _write_big_data(self, image: ImageRecord) -> dict[str, Any]:
        """
        Link the documents of an image.

        @return: the entry of the image.
        """
        place = f"{self._path}/{_IMAGES}/{image.id}"
        _make_directory(place)
        documents = image.big_data()
        for key, digest in documents.items():
            _link(self._blob(digest), f"{place}/{big_data_file(key)}")
        sizes = {digest: os.stat(self._blob(digest)).st_size for digest in documents.values()}
        created = created_of(Path(self._blob(image.config)).read_bytes())
        return image.to_json(created, sizes)

    def _remove_stray_data(self, image: ImageRecord) -> None:
        place = self._path / _IMAGES / image.id
        for stray in set(os.listdir(place)) - {big_data_file(key) for key in image.big_data()}:
            os.unlink(place / stray)

    def _remove_big_data(self, identity: str) -> None:
        self._images.pop(identity, None)
        shutil.rmtree(self._path / _IMAGES / identity, ignore_errors=True)

    def _remove_strays(self, contents: Contents) -> None:
        """
        Remove what a daemon that was killed has left without a record.
        """
        links = {link_of(identity) for identity in contents.layers}
        with os.scandir(self._trees) as listing:
            found = {entry.name for entry in listing if entry.is_symlink() and _ID.fullmatch(entry.name)}
        for identity in (found | set(os.listdir(self._path / _ADDITIONAL))) - contents.layers.keys():
            self._remove_layer(identity)
        for name in set(os.listdir(self._trees / _LINKS)) - links:
            os.unlink(self._trees / _LINKS / name)
        for name in os.listdir(self._path / _IMAGES):
            if _ID.fullmatch(name) and name not in contents.images:
                self._remove_big_data(name)


def _below(layer: LayerRecord, layers: Mapping[str, LayerRecord]) -> Sequence[LayerRecord]:
    """
    The layers below one, the next one first.
    """
    found = []
    while layer.parent:
        layer = layers[layer.parent]
        found.append(layer)
    return found


def _make_directory(path: str) -> None:
    """
    Make a directory, unless it is there.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass


def _write(path: str, data: bytes) -> None:
    """
    Write a file, unless it has this content.  Nothing refers yet to one that is new, so
    that it is not replaced as a whole.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        with open(path, "rb") as file:
            same = file.read() == data
        if not same:
            _replace(path, data)
    else:
        with open(fd, "wb", buffering=0) as file:
            file.write(data)


def _replace(path: str, data: bytes, *, durable: bool = False) -> None:
    """
    Replace a file.

    @param durable: whether its content, but not yet its name, is on the disk then.
    """
    temporary = _temporary(path)
    with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.rename(temporary, path)


def _write_or_remove(path: str, data: bytes) -> None:
    """
    Write a file, or remove it if it has no content.
    """
    if data:
        _write(path, data)
    else:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


def _link(target: str, path: str) -> None:
    """
    Make a symbolic link, unless it has this target.
    """
    try:
        os.symlink(target, path)
    except FileExistsError:
        if os.readlink(path) != target:
            temporary = _temporary(path)
            Path(temporary).unlink(missing_ok=True)
            os.symlink(target, temporary)
            os.rename(temporary, path)


def _temporary(path: str) -> str:
    """
    The name of a file until it replaces another one.
    """
    directory, name = os.path.split(path)
    return f"{directory}/.{name}.new"
