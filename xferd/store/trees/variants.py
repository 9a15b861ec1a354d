# -*- test-case-name: tests.store.test_layers -*-
"""
Making a tree fit on those below: its implied directories have what lies below
there.

Blocking, for threads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from tempfile import mkdtemp
from threading import Event

from attrs import evolve

from xferd.store.disk.file_system import move, remove, sync_file_system, trying_to
from xferd.store.disk.reserve import Reserve
from xferd.store.paths import Paths, tree_name
from xferd.store.trees.facts import TreeFacts, files_of, valid_facts, write_facts, write_staged_facts
from xferd.store.trees.hard_links import CopySize, link_tree, measure
from xferd.store.trees.implied_directories import (
    apply_metadata,
    find_empty,
    read_metadata,
    remove_empty,
    variant_key,
)
from xferd.store.trees.lower_directories import find_lower

_ROOT_MODE = 0o755


def stage(staging: str) -> str:
    """
    Make a directory for the files of a tree that has no name yet.
    """
    with trying_to(f"make a directory in {staging}"):
        staged = os.path.join(mkdtemp(prefix="tree-", dir=staging), "fs")
        os.mkdir(staged)
        # Whatever the umask: this is the image's root unless its tar says otherwise.
        os.chmod(staged, _ROOT_MODE)
        return staged


def fit(
    paths: Paths,
    reserve: Reserve,
    name: str,
    below: Sequence[str],
    used: CopySize,
    most: CopySize,
    stop: Event,
) -> tuple[str, CopySize | None]:
    """
    L{Trees.fit}, blocking.

    The first chain's needs are written down before the tree is changed, and
    changed again when the same chain comes anew: the daemon may have died in
    between.  Nobody uses a tree that is not as its claim says, because its
    layer is registered after this.

    @param name: the name of the tree that was unpacked.
    @param used: what the trees of hard links below have of their own.
    @param most: what all in the chain may have together.
    @return: the name of the one that fits, and what it has of its own if it is
        one of hard links.
    """
    path = files_of(paths, name)
    with trying_to(f"give the tree {path} the attributes of what lies below"):
        tree = valid_facts(paths, name)
        wanted = find_lower(path, tree.unpacked.implied, [files_of(paths, each) for each in below], stop)
        # Another chain may need what this one must not have, so that never leaves the tree itself.
        omitted = find_empty(path, wanted, stop)
        default = read_metadata(path, wanted) if tree.claimed is None else tree.default
        if tree.claimed is None and not omitted:
            tree = evolve(tree, claimed=wanted, default=default)
            write_facts(paths, reserve, name, tree)
        if tree.claimed == wanted and not omitted:
            if any(wanted.values()):
                apply_metadata(path, wanted, tree.default, stop=stop)
                sync_file_system(path)
            return name, None
        fitting = tree_name(tree.unpacked.diff_id, variant_key(wanted, tree.rules))
        if os.path.isdir(paths.tree(fitting)):
            copied = copy_size_of(paths, reserve, fitting)
            (used + copied).check(most)
        else:
            tree = evolve(tree, claimed=wanted, default=default, linked=True)
            copied = _link_fitting(paths, reserve, path, tree, omitted, paths.tree(fitting), used, most, stop)
        return fitting, copied


def _link_fitting(
    paths: Paths,
    reserve: Reserve,
    source: str,
    tree: TreeFacts,
    omitted: Sequence[bytes],
    target: str,
    used: CopySize,
    most: CopySize,
    stop: Event,
) -> CopySize:
    """
    Make a tree of hard links with the attributes that C{tree} claims.

    @param omitted: the directories to leave out, each behind those in it.
    @return: what it has of its own.
    """
    assert tree.claimed is not None
    staged = stage(paths.staging)
    try:
        copied = link_tree(source, staged, used, most, stop)
        remove_empty(staged, omitted)
        apply_metadata(staged, tree.claimed, tree.default, omitted, stop=stop)
        write_staged_facts(reserve, staged, evolve(tree, copied=copied))
        sync_file_system(staged)
        move(os.path.dirname(staged), target)
    except BaseException:
        remove(os.path.dirname(staged), Event())
        raise
    return copied


def copy_size_of(paths: Paths, reserve: Reserve, name: str, tree: TreeFacts | None = None) -> CopySize:
    """
    What a tree of hard links has of its own.  Before this was written down, it
    was not counted.
    """
    tree = valid_facts(paths, name) if tree is None else tree
    if tree.copied is None:
        tree = evolve(tree, copied=measure(files_of(paths, name)))
        write_facts(paths, reserve, name, tree)
    assert tree.copied is not None
    return tree.copied
