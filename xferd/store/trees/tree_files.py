# -*- test-case-name: tests.store.trees.test_trees -*-
"""
The files of trees as a whole: flushed, moved into C{trees/}, and loaded.

Blocking, for threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from secrets import token_hex

from attrs import evolve

from xferd.names import Digest
from xferd.store.disk.file_system import make_directory, move, trying_to
from xferd.store.disk.reserve import Reserve
from xferd.store.paths import Paths, parse_tree_name, tree_name
from xferd.store.trees.facts import (
    KnownTree,
    LinkedTree,
    TreeFacts,
    has_files,
    read_facts,
    valid_facts,
    write_facts,
)
from xferd.store.trees.variants import copy_size_of


def move_in(paths: Paths, staged: str, tree: TreeFacts, *, beside: bool) -> str:
    """
    Rename a staged tree into C{trees/}.

    @param beside: whether a damaged tree is there, whose name is not used again, even if
        its directory is gone.
    @return: its name, with the version of the rules if an older tree has the
        usual name.
    """
    diff_id = tree.unpacked.diff_id
    name = tree_name(diff_id)
    if os.path.lexists(paths.tree(name)):
        name = tree_name(diff_id, f"{tree.rules:016x}")
    if beside:
        name = tree_name(diff_id, token_hex(8))
    target = paths.tree(name)
    with trying_to(f"keep the tree of {diff_id}"):
        make_directory(os.path.dirname(target), 0o700)
        move(os.path.dirname(staged), target)
    return name


def rewrite(paths: Paths, reserve: Reserve, name: str, blobs: tuple[Digest, ...]) -> None:
    """
    Write the blobs that unpack to a tree into its facts.
    """
    with trying_to(f"write the facts of the tree {paths.tree(name)}"):
        write_facts(paths, reserve, name, evolve(valid_facts(paths, name), blobs=blobs))


def load_trees(
    paths: Paths, reserve: Reserve
) -> tuple[list[KnownTree], dict[str, LinkedTree], set[str], list[str]]:
    """
    Read the facts of all trees.

    @return: the unpacked trees, the variants and copies by name, the names of damaged
        ones, and the directories that are no complete tree.
    """
    damaged: set[str] = set()
    trees: list[KnownTree] = []
    linked: dict[str, LinkedTree] = {}
    broken: list[str] = []
    with trying_to(f"read {paths.trees}"):
        for name in tree_names(paths):
            path = paths.tree(name)
            try:
                tree = read_facts(paths, name)
                if tree_name(tree.unpacked.diff_id) != name.partition(".")[0] or not has_files(paths, name):
                    raise ValueError("not the tree of this name")
            except (FileNotFoundError, NotADirectoryError, ValueError):
                broken.append(path)
            else:
                if tree.damaged:
                    damaged.add(name)
                if tree.linked:
                    size = copy_size_of(paths, reserve, name, tree)
                    linked[name] = LinkedTree(size, tree.rules, tree.owned)
                else:
                    trees.append(KnownTree.of(tree, name))
    return trees, linked, damaged, broken


def tree_names(paths: Paths) -> Iterator[str]:
    """
    The names of all trees.  Links beside them, and whatever else is there, are
    left out.  Blocking.
    """
    for algorithm in sorted(os.listdir(paths.trees)):
        directory = os.path.join(paths.trees, algorithm)
        if os.path.isdir(directory) and not os.path.islink(directory):
            for name in sorted(os.listdir(directory)):
                if parse_tree_name(f"{algorithm}/{name}") is not None:
                    yield f"{algorithm}/{name}"
