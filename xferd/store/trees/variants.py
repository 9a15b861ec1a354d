# -*- test-case-name: tests.store.trees.test_variants -*-
"""
Fits a tree onto those below: its implied directories get the metadata that they
have there, in the tree itself or in a variant made of hard links.  Makes copies
for layers that need a directory of their own, too.

Blocking, for threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from hashlib import sha256
from tempfile import mkdtemp
from threading import Event

from attrs import evolve

from xferd.names import Digest
from xferd.store.disk.file_system import flushed, move, remove, trying_to
from xferd.store.disk.reserve import Reserve
from xferd.store.paths import FILES, Paths, tree_name
from xferd.store.trees.facts import (
    LinkedTree,
    TreeFacts,
    files_of,
    valid_facts,
    write_facts,
    write_staged_facts,
)
from xferd.store.trees.hard_links import CopySize, link_tree, measure
from xferd.store.trees.implied_directories import (
    apply_metadata,
    find_empty,
    read_metadata,
    remove_empty,
    variant_key,
)
from xferd.store.trees.lower_directories import find_lower
from xferd.tree_record import NAME

_ROOT_MODE = 0o755


def stage(staging: str) -> str:
    """
    Create a directory in C{staging/} for the files of a tree.
    """
    with trying_to(f"make a directory in {staging}"):
        staged = os.path.join(mkdtemp(prefix="tree-", dir=staging), FILES)
        os.mkdir(staged)
        # Independent of the umask: the image's root has this mode unless its tar lists it.
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

    The first chain claims the tree itself: its metadata are recorded before the
    tree is changed, and applied again whenever the same chain is registered,
    since the daemon may have died in between.  No layer uses the tree before
    that, because layers are registered afterwards.

    @param name: the name of the unpacked tree.
    @param used: the size of the variants below.
    @param most: the size of all variants in the chain, at most.
    @return: the name of the tree that fits, and its size if it is a variant.
    """
    path = files_of(paths, name)
    with trying_to(f"give the tree {path} the attributes of what lies below"):
        tree = valid_facts(paths, name)
        wanted = find_lower(path, tree.unpacked.implied, [files_of(paths, each) for each in below], stop)
        # Another chain may need the directories that this one must not have: the tree itself keeps them.
        omitted = find_empty(path, wanted, stop)
        default = read_metadata(path, wanted) if tree.claimed is None else tree.default
        if tree.claimed is None and not omitted:
            tree = evolve(tree, claimed=wanted, default=default)
            write_facts(paths, reserve, name, tree)
        if tree.claimed == wanted and not omitted:
            if any(wanted.values()):
                with flushed(path):
                    apply_metadata(path, wanted, tree.default, stop=stop)
            return name, None
        number = 0
        while True:
            fitting = tree_name(tree.unpacked.diff_id, variant_key(wanted, tree.rules, number))
            there = os.path.isdir(paths.tree(fitting))
            if not there or not valid_facts(paths, fitting).damaged:
                break
            number += 1
        if there:
            copied = copy_size_of(paths, reserve, fitting)
            (used + copied).check(most)
        else:
            tree = evolve(tree, claimed=wanted, default=default, linked=True, damaged=False)
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
    Make a variant with the metadata that C{tree} claims.

    @param omitted: the directories to leave out, each after those in it.
    @return: its size.
    """
    claimed = tree.claimed
    assert claimed is not None

    def change(staged: str) -> None:
        remove_empty(staged, omitted)
        apply_metadata(staged, claimed, tree.default, omitted, stop=stop)

    return _link(paths, reserve, source, tree, target, used, most, stop, change)


def copy_key(name: str, chain_id: Digest, number: int = 0) -> str:
    """
    The key in the name of a layer's copy of a tree.

    @param number: how many damaged copies there are.
    """
    text = f"{name} of {chain_id}" + (f" {number}" if number else "")
    return sha256(text.encode()).hexdigest()[:16]


def copy(paths: Paths, reserve: Reserve, name: str, target: str, stop: Event) -> LinkedTree:
    """
    Make a copy of a tree, of hard links, unless it is there already.

    @param target: the name of the copy.
    @return: its facts.
    """
    with trying_to(f"copy the tree {files_of(paths, name)}"):
        tree = evolve(valid_facts(paths, name), linked=True, copied=None, owned=True)
        if os.path.isdir(paths.tree(target)):
            size = copy_size_of(paths, reserve, target)
        else:
            path = paths.tree(target)
            size = _link(paths, reserve, files_of(paths, name), tree, path, CopySize(), None, stop)
        return LinkedTree(size, tree.rules, owned=True)


def _link(
    paths: Paths,
    reserve: Reserve,
    source: str,
    tree: TreeFacts,
    target: str,
    used: CopySize,
    most: CopySize | None,
    stop: Event,
    change: Callable[[str], object] = lambda _: None,
) -> CopySize:
    """
    Make a tree of hard links to the files of C{source}, and rename it to
    C{target}.

    @param tree: its facts, without its size.
    @param change: is called with the directory of the tree's files.
    @return: its size.
    """
    staged = stage(paths.staging)
    try:
        with flushed(staged):
            copied = link_tree(source, staged, used, most, stop)
            change(staged)
            _link_record(source, staged)
            write_staged_facts(reserve, staged, evolve(tree, copied=copied))
        move(os.path.dirname(staged), target)
    except BaseException:
        remove(os.path.dirname(staged), Event())
        raise
    return copied


def _link_record(source: str, target: str) -> None:
    """
    Give a variant the record of its tree, if that has one.
    """
    try:
        os.link(os.path.join(os.path.dirname(source), NAME), os.path.join(os.path.dirname(target), NAME))
    except FileNotFoundError:
        # It was unpacked by an older version.
        return


def copy_size_of(paths: Paths, reserve: Reserve, name: str, tree: TreeFacts | None = None) -> CopySize:
    """
    The size of a variant.  Older versions did not record it; it is counted and
    recorded then.
    """
    tree = valid_facts(paths, name) if tree is None else tree
    if tree.copied is None:
        tree = evolve(tree, copied=measure(files_of(paths, name)))
        write_facts(paths, reserve, name, tree)
    assert tree.copied is not None
    return tree.copied
