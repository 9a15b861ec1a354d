# -*- test-case-name: tests.store.trees.test_layer_files -*-
"""
The files of a layer, as another process than the daemon finds them.
"""

from __future__ import annotations

import json
import os
from typing import Final

from xferd.errors import StoreError
from xferd.names import Digest
from xferd.store.disk.file_system import trying_to
from xferd.store.paths import Paths, parse_tree_name
from xferd.store.trees.facts import files_of

_MOST: Final = 10_000
"""Layers that are remembered."""


class LayerFiles:
    """
    Finds the files of layers by their records, which the daemon replaces at any time.

    Blocking, for threads; several may use it at the same time.
    """

    def __init__(self, root: str) -> None:
        """
        @param root: the data directory.
        """
        self._paths = Paths(root)
        self._known: dict[Digest, tuple[tuple[int, int], str]] = {}

    def find(self, chain_id: Digest) -> str | None:
        """
        The directory that holds the tree of a layer, or L{None} if the layer is not in the
        store.

        @raise StoreError: the disk refuses.
        """
        path = self._paths.layer(chain_id)
        with trying_to(f"read {path}"):
            try:
                file = open(path, "rb")  # noqa: SIM115 - closed below
            except FileNotFoundError:
                return None
            with file:
                found = os.fstat(file.fileno())
                # A record is replaced by a new file.
                version = found.st_ino, found.st_mtime_ns
                known = self._known.get(chain_id)
                if known is not None and known[0] == version:
                    return known[1]
                try:
                    name = str(json.load(file)["tree"])
                except (ValueError, KeyError, TypeError) as e:
                    raise StoreError(f"{path} is damaged") from e
        if parse_tree_name(name) is None:
            return None
        files = files_of(self._paths, name)
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[chain_id] = version, files
        return files
