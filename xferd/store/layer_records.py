# -*- test-case-name: tests.store.test_layers -*-
"""
The records of layers, in C{layers/}, and what they refer to.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

from attrs import define, field, frozen

from xferd.errors import BadDigest, BadDocument
from xferd.names import Digest, chain_id
from xferd.oci import Descriptor
from xferd.store.disk.file_system import make_directory, trying_to, write_file
from xferd.store.paths import Paths, parse_tree_name

T = TypeVar("T")


@frozen
class Record:
    """
    The content of a layer's file.

    @ivar chain_id: the identity of the stack.
    @ivar parent: the chain ID below, or L{None}.
    @ivar diff_id: the digest of the tar.
    @ivar tree: the name of the tree below C{trees/}.
    @ivar size: the bytes in the tree's regular files.
    @ivar blobs: the blobs that unpack to the layer.
    @ivar rules: the version of the rules that the tree was unpacked by.
    @ivar owns: whether the tree's directory is this layer's own: see
        L{ILayers.separate}.
    """

    chain_id: Digest
    parent: Digest | None
    diff_id: Digest
    tree: str
    size: int
    blobs: tuple[Descriptor, ...] = field(hash=False)
    rules: int = 0
    owns: bool = False

    def to_json(self) -> bytes:
        """
        Encode the file.
        """
        value = {
            "version": 1,
            "chain_id": str(self.chain_id),
            "parent": None if self.parent is None else str(self.parent),
            "diff_id": str(self.diff_id),
            "tree": self.tree,
            "size": self.size,
            "blobs": [blob.to_json() for blob in self.blobs],
            "rules": self.rules,
            "owns": self.owns,
        }
        return json.dumps(value).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Record:
        """
        Decode the file.

        @raise ValueError: it is damaged.
        """
        try:
            value: dict[str, Any] = json.loads(data)
            parent = value["parent"]
            record = cls(
                Digest.parse(value["chain_id"]),
                None if parent is None else Digest.parse(parent),
                Digest.parse(value["diff_id"]),
                str(value["tree"]),
                int(value["size"]),
                tuple(Descriptor.from_json(blob, "blobs") for blob in value["blobs"]),
                int(value.get("rules", 0)),
                bool(value.get("owns", False)),
            )
        except (BadDigest, BadDocument, KeyError, TypeError, AttributeError) as e:
            raise ValueError(f"no record of a layer: {e!r}") from e
        tree = parse_tree_name(record.tree)
        if tree is None or tree[0] != record.diff_id:
            raise ValueError("the tree is not one of the layer's diff ID")
        if chain_id([record.diff_id], record.parent) != record.chain_id:
            raise ValueError("the chain ID is not the layer's")
        return record


@define
class LayerUses:
    """
    What records of layers refer to, with the number of records that do.

    @ivar parents: the chain IDs below.
    @ivar trees: the names of trees.
    @ivar diff_ids: the digests of tars.
    @ivar owners: the layer that owns a tree, by the name of the tree.
    """

    parents: Counter[Digest | None] = field(factory=Counter)
    trees: Counter[str] = field(factory=Counter)
    diff_ids: Counter[Digest] = field(factory=Counter)
    owners: dict[str, Digest] = field(factory=dict)

    def add(self, record: Record) -> None:
        """
        Count a record.
        """
        self.parents[record.parent] += 1
        self.trees[record.tree] += 1
        self.diff_ids[record.diff_id] += 1
        if record.owns:
            self.owners[record.tree] = record.chain_id

    def remove(self, record: Record) -> None:
        """
        Count a record no longer.
        """
        _discard(self.parents, record.parent)
        _discard(self.trees, record.tree)
        _discard(self.diff_ids, record.diff_id)
        if record.owns:
            del self.owners[record.tree]

    def copy(self) -> LayerUses:
        """
        A copy, which changes alone.
        """
        return LayerUses(self.parents.copy(), self.trees.copy(), self.diff_ids.copy(), self.owners.copy())


def _discard(counter: Counter[T], key: T) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def write_record(paths: Paths, record: Record) -> None:
    """
    Write the file of a layer, durably.
    """
    with trying_to(f"register the layer {record.chain_id}"):
        path = paths.layer(record.chain_id)
        make_directory(os.path.dirname(path), 0o700)
        write_file(path, record.to_json(), paths.staging)


def load_records(paths: Paths) -> tuple[dict[Digest, Record], Sequence[str]]:
    """
    Read all records, and remove those without tree or parent.

    @return: the records, and the paths of those removed.
    """
    found: dict[Digest, Record] = {}
    broken = []
    with trying_to(f"read {paths.layers}"):
        for directory, _, names in os.walk(paths.layers):
            for name in names:
                path = os.path.join(directory, name)
                try:
                    with open(path, "rb") as file:
                        record = Record.from_json(file.read())
                except ValueError:
                    broken.append(path)
                    continue
                if paths.layer(record.chain_id) == path and os.path.isdir(paths.tree(record.tree)):
                    found[record.chain_id] = record
                else:
                    broken.append(path)
        whole: dict[Digest, Record] = {}
        for chain in found:
            stack = []
            current: Digest | None = chain
            while current is not None and current in found and current not in whole:
                stack.append(found[current])
                current = found[current].parent
            if current is None or current in whole:
                whole.update((record.chain_id, record) for record in stack)
        broken.extend(paths.layer(chain) for chain in found if chain not in whole)
        for path in broken:
            os.unlink(path)
    return whole, broken
