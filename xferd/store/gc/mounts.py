# -*- test-case-name: tests.store.gc.test_mounts -*-
"""
The mounts that use trees, as the kernel shows them in C{mountinfo}.

The kernel shows the text of an overlay's options as it was when it was mounted.
Each program that mounts trees writes their paths in its own way:

  - C{trees/<alg>/<hex>/diff}, or C{fs} if it was mounted before version 2 of the
    data directory's layout;
  - C{<hex>/diff}, as containerd mounts from within the directory that all lower
    ones have in common;
  - C{overlay/l/LINK} or C{overlay/<layer id>/diff}, in a containers-storage view
    whose C{overlay} is the directory of trees; and C{mapped/0/l/LINK}, in a clone
    of that with mapped owners, which is detached by then;
  - C{engines/<name>/l/<number>}, the short names of a snapshotter.

Links are followed in the data directory alone: a path in the options may lead to
a file system that does not respond.

Blocking, for a thread.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen

from xferd.errors import StoreError
from xferd.names import Digest
from xferd.store.paths import FILES, OLD_FILES, Paths, parse_tree_name

_ALGORITHMS: Final = {64: "sha256", 128: "sha512"}
"""Algorithms by the length of their hexadecimal digits."""

_BOUND_TREE: Final = re.compile(
    r"/trees/(sha(?:256|512)/[0-9a-f]{64,128}(?:\.[0-9a-f]{16})?)/(?:diff|fs)(?:/|$)"
)
"""A tree, or a directory in one, as the root of a bind mount.  It may belong to another daemon."""

_CHAIN: Final = re.compile(r"xferd:(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})")
"""The source of a mount of C{xferctl}, whose options contain no path."""

_ESCAPE: Final = re.compile(r"\\([0-7]{3})")

_LOWER: Final = re.compile(r"(?:^|,)(?:lowerdir|datadir)\+?=([^,]*)")
"""The lower directories in the options of an overlay."""

_BETWEEN: Final = re.compile(r"(?<!\\):+")


@frozen
class Mounts:
    """
    What mounts use.

    @ivar trees: the names of trees; some may not exist.
    @ivar chains: the chain IDs of C{xferctl}'s mounts.
    """

    trees: frozenset[str]
    chains: frozenset[Digest]


def find_mounts(paths: Paths, processes: str = "/proc") -> Mounts:
    """
    Look through every mount namespace that this process can read: a mount may
    exist only in a container's own namespace.

    @param processes: the mount point of C{proc}.
    @raise StoreError: this process's own namespace cannot be read.
    """
    trees: set[str] = set()
    chains: set[Digest] = set()
    lowers: set[str] = set()
    for line in _lines(processes):
        mount, _, system = line.rstrip("\n").partition(" - ")
        bound = _BOUND_TREE.search(mount.split(" ")[3])
        if bound is not None:
            trees.add(bound[1])
        kind, source, options, *_ = [*system.split(" "), "", "", ""]
        if kind == "overlay":
            chain = _CHAIN.fullmatch(source)
            if chain is not None:
                chains.add(Digest.parse(chain[1]))
            lowers.update(_LOWER.findall(options))
    # Containers of one image have the same lower directories.
    for path in {path for each in lowers for path in _BETWEEN.split(_unescape(each))}:
        trees.update(_trees(paths, path.split("/")))
    return Mounts(frozenset(trees), frozenset(chains))


def _trees(paths: Paths, parts: Sequence[str]) -> Iterator[str]:
    """
    The trees that a lower directory may be.

    @param parts: the components of its path.
    """
    name, files = ["", *parts][-2:]
    if files in (FILES, OLD_FILES):
        named = f"{_ALGORITHMS.get(len(name.partition('.')[0]))}/{name}"
        if parse_tree_name(named) is not None:
            yield named
    trees = os.path.realpath(paths.trees)
    for link in (os.path.join(paths.trees, *parts[-2:]), os.path.join(paths.root, *parts[-4:])):
        tree, files = os.path.split(os.path.realpath(link))
        named = os.path.relpath(tree, trees)
        if files in (FILES, OLD_FILES) and parse_tree_name(named) is not None:
            yield named


def _unescape(text: str) -> str:
    """
    Undo the escapes of C{mountinfo}.
    """
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)


def _lines(processes: str) -> Iterator[str]:
    """
    The lines of all mounts that may use trees.
    """
    seen: set[int] = set()
    for name in ["self", *(n for n in os.listdir(processes) if n.isdigit())]:
        place = os.path.join(processes, name)
        try:
            namespace = os.stat(os.path.join(place, "ns", "mnt")).st_ino
            if namespace not in seen:
                path = os.path.join(place, "mountinfo")
                with open(path, encoding="utf-8", errors="surrogateescape") as file:
                    yield from (line for line in file if " - overlay " in line or "/trees/" in line)
                seen.add(namespace)
        except OSError as e:
            if name == "self":
                raise StoreError(f"cannot determine which layers are mounted: {place}: {e.strerror}") from e
            # It has ended, or belongs to another user.
