# -*- test-case-name: tests.store.gc.test_survey -*-
"""
The mark phase of the garbage collector: the content of a data directory, the
digests that C{index.json} leads to, and the trees that are mounted.

Blocking, for a thread.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Set
from typing import Any

from attrs import frozen

from xferd.errors import BadDigest
from xferd.media_types import INDEXES, MANIFESTS
from xferd.names import Digest
from xferd.oci import MAX_DOCUMENT
from xferd.store.disk.file_system import trying_to
from xferd.store.gc.mounts import find_mounts
from xferd.store.images.index_file import is_ours, name_of, read_index
from xferd.store.paths import Paths, parse_partial_name
from xferd.store.trees.tree_files import tree_names


@frozen
class Survey:
    """
    The result of a survey.

    @ivar blobs: each blob with its bytes.
    @ivar partials: each partial blob with its bytes and the time of its last
        write, in seconds since the epoch.
    @ivar trees: the names of all trees, also of variants.
    @ivar reached: all digests that C{index.json} leads to, and the chain IDs
        of mounts.
    @ivar mounted: the names of mounted trees; some may not exist.
    @ivar chains: the chain IDs of mounts.
    """

    blobs: tuple[tuple[Digest, int], ...]
    partials: tuple[tuple[Digest, int, float], ...]
    trees: tuple[str, ...]
    reached: frozenset[Digest]
    mounted: frozenset[str]
    chains: frozenset[Digest]


def survey(paths: Paths, processes: str = "/proc", without: Set[str] = frozenset()) -> Survey:
    """
    Survey a data directory.

    @param processes: the mount point of C{proc}.
    @param without: the names of xferd's images that do not count.
    @raise StoreError: the disk refuses, or C{index.json} is damaged.
    """
    with trying_to(f"look through {paths.root}"):
        blobs = tuple(_blobs(paths))
        partials = tuple(_partials(paths))
        trees = tuple(tree_names(paths))
        reached = _reach(paths, without)
    mounts = find_mounts(paths, processes)
    return Survey(blobs, partials, trees, mounts.chains | reached, mounts.trees, mounts.chains)


def _blobs(paths: Paths) -> Iterator[tuple[Digest, int]]:
    for name, found in _entries(paths.blobs):
        algorithm, _, encoded = name.partition("/")
        # Unfinished files of other tools have other names.
        if stat.S_ISREG(found.st_mode) and _is_digest(f"{algorithm}:{encoded}"):
            yield Digest(algorithm, encoded), found.st_size


def _partials(paths: Paths) -> Iterator[tuple[Digest, int, float]]:
    with os.scandir(paths.ingest) as listing:
        for entry in listing:
            digest = parse_partial_name(entry.name)
            if digest is not None:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # It has become a blob.
                yield digest, found.st_size, found.st_mtime


def _entries(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    """
    The entries of a directory's directories, as C{a/b}.
    """
    for algorithm in sorted(os.listdir(directory)):
        inner = os.path.join(directory, algorithm)
        if os.path.isdir(inner):
            with os.scandir(inner) as listing:
                for entry in listing:
                    try:
                        yield f"{algorithm}/{entry.name}", entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # It has been removed.


def _reach(paths: Paths, without: Set[str]) -> set[Digest]:
    """
    Follow every entry of the index, also those of other tools, down to the last
    blob.  A document that is missing or damaged leads no further.

    @param without: the names of xferd's images whose entries are left out.
    """
    reached: set[Digest] = set()
    followed: set[Digest] = set()
    index = read_index(paths)
    entries = [each for each in index["manifests"] if not (name_of(each) in without and is_ours(each))]
    waiting: list[object] = [{**index, "manifests": entries}]
    while waiting:
        for digest, leads_on in _named(waiting.pop()):
            reached.add(digest)
            if leads_on and digest not in followed:
                followed.add(digest)
                waiting.append(_document(paths.blob(digest)))
    return reached


def _named(value: object) -> Iterator[tuple[Digest, bool]]:
    """
    All digests in a JSON value, each with whether it may belong to a manifest or
    an index.
    """
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            media_type = item.get("mediaType")
            leads_on = media_type is None or media_type in MANIFESTS | INDEXES
            for key, inner in item.items():
                if isinstance(inner, str):
                    if _is_digest(inner):
                        yield Digest.parse(inner), leads_on and key == "digest"
                else:
                    waiting.append(inner)
        elif isinstance(item, list):
            waiting.extend(item)


def _document(path: str) -> Mapping[str, Any] | None:
    try:
        if os.stat(path).st_size > MAX_DOCUMENT:
            return None
        with open(path, "rb") as file:
            value = json.loads(file.read())
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_digest(text: str) -> bool:
    try:
        Digest.parse(text)
    except BadDigest:
        return False
    return True
