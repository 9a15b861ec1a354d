"""
Stacks of layers, from their tars to the root file system, with the steps of the
store.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from threading import Event

from tests.unpack.tars import IS_ROOT, make
from xferd.store.trees.hard_links import CopySize, link_tree
from xferd.store.trees.implied_directories import apply_metadata, find_empty, read_metadata, remove_empty
from xferd.store.trees.lower_directories import find_lower
from xferd.unpack.flatten import flatten


def fitted_trees(place: str, tars: Sequence[bytes], privileged: bool = IS_ROOT) -> list[str]:
    """
    Unpack tars and fit each tree on those below, as registration does.

    @param place: an empty directory.
    @return: the trees, bottom first.
    """
    trees: list[str] = []
    for number, tar in enumerate(tars):
        raw, tree = (
            os.path.join(place, f"raw{number}", "diff"),
            os.path.join(place, f"fitted{number}", "diff"),
        )
        _, implied = make(raw, tar, privileged=privileged)
        wanted = find_lower(raw, implied, trees[::-1], Event())
        omitted = find_empty(raw, wanted, Event())
        os.makedirs(tree)
        link_tree(raw, tree, CopySize(), CopySize(10**6, 10**9), Event())
        remove_empty(tree, omitted)
        apply_metadata(tree, wanted, read_metadata(raw, wanted), omitted, stop=Event())
        trees.append(tree)
    return trees


def root_file_system(place: str, tars: Sequence[bytes], privileged: bool = IS_ROOT) -> str:
    """
    Make the root file system of some layers.

    @param place: an empty directory.
    @return: the root file system, in a directory below it.
    """
    trees = fitted_trees(place, tars, privileged)
    target = os.path.join(place, "root")
    os.mkdir(target)
    flatten(trees, target, lambda _: None, privileged=privileged)
    return target
