# -*- test-case-name: tests.store.trees.test_trees -*-
"""
The facts of a tree: C{tree.json}, and the part of it that is kept in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, Final

from attrs import evolve, field, frozen

from xferd.errors import BadDigest, StoreError
from xferd.interfaces.store import Unpacked
from xferd.names import Digest
from xferd.owners import Owners
from xferd.store.disk.file_system import trying_to, write_file
from xferd.store.disk.reserve import Reserve
from xferd.store.paths import FILES, OLD_FILES, Paths
from xferd.store.trees.hard_links import CopySize
from xferd.store.trees.implied_directories import MetadataByPath, metadata_from_json, metadata_to_json

_SMALL: Final = 256 * 1024
"""Bytes of facts that may use the reserve, at most.  Layers that imply many directories have more."""

_FEW: Final = 64
"""Owners of a tree that are kept in memory, at most."""


@frozen
class TreeFacts:
    """
    The content of C{tree.json}.

    @ivar unpacked: the result of unpacking the tar.
    @ivar blobs: the blobs that unpack to this tree.
    @ivar claimed: the metadata of implied directories for the first chain that
        uses this tree; L{None} before that.
    @ivar default: the metadata that they had before.
    @ivar rules: the version of the rules that it was unpacked by.
    @ivar linked: whether it is a variant or a copy, made of hard links to another
        tree's files.
    @ivar copied: the size of a variant or a copy; L{None} if it was not counted.
    @ivar owned: whether it is a copy that was made for one layer.
    @ivar damaged: whether a verification has found it damaged: then it stays for mounts
        only.
    """

    unpacked: Unpacked
    blobs: tuple[Digest, ...]
    claimed: MetadataByPath | None = field(default=None, hash=False)
    default: MetadataByPath = field(factory=dict, hash=False)
    rules: int = 0
    linked: bool = False
    copied: CopySize | None = None
    owned: bool = False
    damaged: bool = False

    def to_json(self) -> bytes:
        """
        Encode the file.
        """
        facts = self.unpacked
        value = {
            "version": 1,
            "diff_id": str(facts.diff_id),
            "tar_size": facts.tar_size,
            "size": facts.size,
            "entries": facts.entries,
            "implied": [path.decode("utf-8", "surrogateescape") for path in facts.implied],
            "owners": None if facts.owners is None else facts.owners.to_json(),
            "blobs": [str(blob) for blob in self.blobs],
            "claimed": None if self.claimed is None else metadata_to_json(self.claimed),
            "default": metadata_to_json(self.default),
            "rules": self.rules,
            "linked": self.linked,
            "copied": None if self.copied is None else [self.copied.entries, self.copied.size],
            "owned": self.owned,
            "damaged": self.damaged,
        }
        return json.dumps(value).encode()

    @classmethod
    def from_json(cls, data: bytes, name: str = "") -> TreeFacts:
        """
        Decode the file.

        @param name: the name of the tree.
        @raise ValueError: it is damaged.
        """
        try:
            value: dict[str, Any] = json.loads(data)
            owners = value.get("owners")
            unpacked = Unpacked(
                Digest.parse(value["diff_id"]),
                int(value["tar_size"]),
                int(value["size"]),
                int(value["entries"]),
                tuple(path.encode("utf-8", "surrogateescape") for path in value["implied"]),
                None if owners is None else Owners.from_json(owners),
            )
            claimed = value["claimed"]
            copied = value.get("copied")
            return cls(
                unpacked,
                tuple(Digest.parse(blob) for blob in value["blobs"]),
                None if claimed is None else metadata_from_json(claimed),
                metadata_from_json(value["default"]),
                int(value.get("rules", 0)),
                # In files without this member, only variants have a key.
                bool(value.get("linked", "." in name)),
                None if copied is None else CopySize(int(copied[0]), int(copied[1])),
                bool(value.get("owned", False)),
                bool(value.get("damaged", False)),
            )
        except (BadDigest, KeyError, IndexError, TypeError, AttributeError) as e:
            raise ValueError(f"no facts of a tree: {e!r}") from e


@frozen
class KnownTree:
    """
    The facts of a tree that are kept in memory.  The others are read when they
    are needed: the paths of implied directories may take megabytes.

    @ivar name: its L{tree_name}.
    @ivar diff_id: the digest of the tar.
    @ivar blobs: the blobs that unpack to this tree.
    @ivar tar_size: the bytes of the tar.
    @ivar size: the bytes in regular files.
    @ivar owners: the owners of the files, unless they are many, or not recorded.
    @ivar implies: whether its tar implies directories.
    @ivar rules: the version of the rules that it was unpacked by.
    """

    name: str
    diff_id: Digest
    blobs: tuple[Digest, ...]
    tar_size: int
    size: int
    owners: Owners | None
    implies: bool
    rules: int

    @classmethod
    def of(cls, tree: TreeFacts, name: str) -> KnownTree:
        """
        Select the facts to keep.
        """
        facts = tree.unpacked
        owners = facts.owners
        if owners is not None and len(owners.users) + len(owners.groups) > _FEW:
            owners = None
        return cls(
            name,
            facts.diff_id,
            tree.blobs,
            facts.tar_size,
            facts.size,
            owners,
            bool(facts.implied),
            tree.rules,
        )


@frozen
class LinkedTree:
    """
    The facts of a variant or a copy that are kept in memory.

    @ivar size: its size.
    @ivar rules: the version of the rules that it was unpacked by.
    @ivar owned: whether it is a copy that was made for one layer.
    """

    size: CopySize
    rules: int
    owned: bool


def write_staged_facts(reserve: Reserve, staged: str, tree: TreeFacts) -> None:
    """
    Write the facts of a staged tree.
    """
    path = os.path.join(os.path.dirname(staged), "tree.json")

    def write(data: bytes) -> None:
        with open(path, "wb") as file:
            file.write(data)

    with trying_to(f"write the facts of the tree {staged}"):
        _spend(reserve, write, tree.to_json())


def read_facts(paths: Paths, name: str) -> TreeFacts:
    """
    Read the facts of a tree.

    @raise ValueError: they are damaged.
    """
    with open(os.path.join(paths.tree(name), "tree.json"), "rb") as file:
        return TreeFacts.from_json(file.read(), name)


def write_facts(paths: Paths, reserve: Reserve, name: str, tree: TreeFacts) -> None:
    """
    Write the facts of a tree.
    """
    path = os.path.join(paths.tree(name), "tree.json")
    _spend(reserve, lambda data: write_file(path, data, paths.staging), tree.to_json())


def _spend(reserve: Reserve, write: Callable[[bytes], None], data: bytes) -> None:
    """
    Write data with the use of the reserve, unless they are too large for it.
    """
    if len(data) > _SMALL:
        write(data)
    else:
        reserve.spend(write, data)


def valid_facts(paths: Paths, name: str) -> TreeFacts:
    """
    Read the facts of a tree whose facts were valid when the store was loaded.
    """
    try:
        return read_facts(paths, name)
    except ValueError as e:
        raise StoreError(f"{paths.tree(name)}/tree.json was changed: {e}") from e


def files_of(paths: Paths, name: str) -> str:
    """
    The directory of a tree's files.
    """
    return os.path.join(paths.tree(name), FILES)


def has_files(paths: Paths, name: str) -> bool:
    """
    Whether a tree has its files.  Those of a tree in version 1 of the layout are
    renamed first.  Mounts that use them are not affected, but show the old path.
    """
    path = files_of(paths, name)
    if not os.path.lexists(path):
        try:
            os.rename(os.path.join(paths.tree(name), OLD_FILES), path)
        except FileNotFoundError:
            return False
    return os.path.isdir(path)


def mark_damaged(paths: Paths, reserve: Reserve, name: str) -> None:
    """
    Write into the facts of a tree that it is damaged.  If they are lost, the next start
    removes it.
    """
    with trying_to(f"write the facts of the tree {paths.tree(name)}"):
        try:
            tree = read_facts(paths, name)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return
        write_facts(paths, reserve, name, evolve(tree, damaged=True))
