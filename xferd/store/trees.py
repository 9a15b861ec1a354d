# -*- test-case-name: tests.store.test_trees -*-
"""
The unpacked trees, in C{trees/}: one per diff ID, and beside it, where two
chains need other attributes on directories that the tar only implies, trees
of the same files by hard links.

A tree that was made by older rules stays for the layers that are registered
with it, and for mounts, when a new one has been made: the new one has another
name then.

A tree is visible from the rename on that gives it its name, which comes after
all of it was brought to the disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from tempfile import mkdtemp
from threading import Event
from typing import Any
from weakref import WeakValueDictionary

from attrs import evolve, field, frozen
from twisted.internet.defer import Deferred, DeferredLock, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import BadDigest, StoreError
from xferd.interfaces import UNPACK_RULES, ITrees, Unpacked
from xferd.names import Digest
from xferd.store.disk import (
    make_directory,
    move,
    remove,
    sync_file_system,
    trying_to,
    write_file,
)
from xferd.store.mending import (
    Wanted,
    empty,
    find,
    key,
    link_tree,
    mend,
    prune,
    read,
    wanted_from_json,
    wanted_to_json,
)
from xferd.store.paths import Paths, parse_tree_name, tree_name
from xferd.store.threads import Rounds, Threads, patient
from xferd.store.trash import Trash
from xferd.store.usage import size_below
from xferd.store.uses import Uses

_ROOT_MODE = 0o755


@frozen
class Tree:
    """
    What C{tree.json} says.

    @ivar unpacked: what became of the tar.
    @ivar blobs: the blobs that unpack to this tree.
    @ivar claimed: the attributes of implied directories that the first chain
        to use this tree needs, or L{None} before there is one.
    @ivar default: the attributes that they had before.
    @ivar rules: the version of the rules that it was made by.
    @ivar linked: whether it is made of hard links to the files of another one.
    @ivar name: what L{tree_name} gave it; it is not in the file.
    """

    unpacked: Unpacked
    blobs: tuple[Digest, ...]
    claimed: Wanted | None = field(default=None, hash=False)
    default: Wanted = field(factory=dict, hash=False)
    rules: int = 0
    linked: bool = False
    name: str = ""

    def to_json(self) -> bytes:
        """
        The file.
        """
        facts = self.unpacked
        value = {
            "version": 1,
            "diff_id": str(facts.diff_id),
            "tar_size": facts.tar_size,
            "size": facts.size,
            "entries": facts.entries,
            "implied": [path.decode("utf-8", "surrogateescape") for path in facts.implied],
            "blobs": [str(blob) for blob in self.blobs],
            "claimed": None if self.claimed is None else wanted_to_json(self.claimed),
            "default": wanted_to_json(self.default),
            "rules": self.rules,
            "linked": self.linked,
        }
        return json.dumps(value).encode()

    @classmethod
    def from_json(cls, data: bytes, name: str = "") -> Tree:
        """
        Read the file.

        @param name: the name of the tree.
        @raise ValueError: it is damaged.
        """
        try:
            value: dict[str, Any] = json.loads(data)
            unpacked = Unpacked(
                Digest.parse(value["diff_id"]),
                int(value["tar_size"]),
                int(value["size"]),
                int(value["entries"]),
                tuple(path.encode("utf-8", "surrogateescape") for path in value["implied"]),
            )
            claimed = value["claimed"]
            return cls(
                unpacked,
                tuple(Digest.parse(blob) for blob in value["blobs"]),
                None if claimed is None else wanted_from_json(claimed),
                wanted_from_json(value["default"]),
                int(value.get("rules", 0)),
                # Before this was written down, those alone had a key.
                bool(value.get("linked", "." in name)),
                name,
            )
        except (BadDigest, KeyError, TypeError, AttributeError) as e:
            raise ValueError(f"no facts of a tree: {e!r}") from e


@implementer(ITrees)
class Trees:
    """
    The trees of a data directory.
    """

    _log = Logger()

    def __init__(
        self,
        paths: Paths,
        threads: Threads,
        bulk: Threads,
        trash: Trash,
        uses: Uses,
        rules: int = UNPACK_RULES,
    ) -> None:
        """
        @param bulk: for what takes as long as a tree is large.
        @param rules: the version of the rules that trees are made by now.
        """
        self._paths = paths
        self._rules = rules
        self._uses = uses
        self._threads = threads
        self._bulk = bulk
        self._trash = trash
        self._trees: dict[Digest, Tree] = {}
        self._old: dict[str, Tree] = {}
        self._known: dict[Digest, Digest] = {}
        self._locks: WeakValueDictionary[Digest, DeferredLock] = WeakValueDictionary()
        # Layers that are ready together are flushed together.
        self._flushes: Rounds[None] = Rounds(lambda _: bulk.run(_flush, paths))

    async def load(self) -> None:
        """
        Learn what is on disk, and remove what is no tree.
        """
        trees, broken = await self._threads.run(_load, self._paths)
        for path in broken:
            self._log.warn("{path} is not a whole tree and is removed", path=path)
            self._trash.throw(path)
        for tree in sorted(trees, key=lambda tree: tree.rules):
            self._supersede(tree.unpacked.diff_id)
            self._remember(tree)

    def has(self, diff_id: Digest) -> bool:
        """
        See L{ITrees.has}.
        """
        self._uses.touch(diff_id)
        return diff_id in self._trees

    def known(self, blob: Digest) -> Digest | None:
        """
        See L{ITrees.known}.
        """
        diff_id = self._known.get(blob)
        if diff_id is not None:
            # Who has the tree will not fetch the blob, which somebody may want to push.
            self._uses.touch(diff_id, blob)
        return diff_id

    def is_outdated(self, diff_id: Digest) -> bool:
        """
        See L{ITrees.is_outdated}.
        """
        tree = self._trees.get(diff_id)
        return tree is not None and tree.rules < self._rules

    def stage(self) -> Deferred[str]:
        """
        See L{ITrees.stage}.
        """
        return patient(
            self._threads.run(_stage, self._paths.staging),
            undo=lambda staged: self._trash.throw(os.path.dirname(staged)),
        )

    def commit(self, staged: str, unpacked: Unpacked, blob: Digest) -> Deferred[None]:
        """
        See L{ITrees.commit}.  Cancelling waits for the disk.
        """
        return patient(Deferred.fromCoroutine(self._commit(staged, unpacked, blob)))

    def weigh(self, staged: str) -> Deferred[int]:
        """
        See L{ITrees.weigh}.
        """
        return self._bulk.run(size_below, staged)

    def discard(self, staged: str) -> Deferred[None]:
        """
        See L{ITrees.discard}.
        """
        try:
            self._discard(staged)
        except StoreError:
            return fail()
        return succeed(None)

    @property
    def rules(self) -> int:
        """
        The version of the rules that trees are made by now.
        """
        return self._rules

    def name(self, diff_id: Digest) -> str:
        """
        The name of a tree that is here; empty if it is not.
        """
        tree = self._trees.get(diff_id)
        return "" if tree is None else tree.name

    def size(self, diff_id: Digest) -> int:
        """
        The bytes in the regular files of a tree that is here.
        """
        return self._trees[diff_id].unpacked.size

    def is_superseded(self, name: str) -> bool:
        """
        Whether a newer tree has been made in the place of this one.
        """
        return name in self._old

    def forget_other(self, name: str) -> int:
        """
        Take a tree out of the way that is superseded, or made of hard links,
        and that no layer needs.

        @return: its bytes; 0 for one that is made of hard links.
        """
        self._trash.throw(self._paths.tree(name))
        old = self._old.pop(name, None)
        return 0 if old is None else old.unpacked.size

    def size_of_other(self, name: str) -> int:
        """
        What L{forget_other} would return.
        """
        old = self._old.get(name)
        return 0 if old is None else old.unpacked.size

    def is_here(self, diff_id: Digest) -> bool:
        """
        Whether the tree is here.  Asking is no use of it, as L{has} is.
        """
        return diff_id in self._trees

    def is_busy(self, diff_id: Digest) -> bool:
        """
        Whether the files of a tree are being changed.
        """
        lock = self._locks.get(diff_id)
        return lock is not None and bool(lock.locked)

    def forget(self, diff_id: Digest) -> None:
        """
        Take a tree out of the way, which no layer needs.
        """
        tree = self._trees.pop(diff_id)
        self._trash.throw(self._paths.tree(tree.name))
        for blob in tree.blobs:
            if self._known.get(blob) == diff_id:
                del self._known[blob]

    def total(self) -> int:
        """
        The bytes in the regular files of all trees.
        """
        return sum(tree.unpacked.size for tree in (*self._trees.values(), *self._old.values()))

    async def fit(self, diff_id: Digest, below: Sequence[str]) -> tuple[str, int]:
        """
        See to it that a tree has on its implied directories what lies below.

        @param below: the directories of the trees below, the nearest first.
        @return: the name of the tree, or of the one made of hard links that
            fits in its stead; and the version of the rules it was made by.
        @raise StoreError: the tree is not here, or the disk refuses.
        """
        self._uses.touch(diff_id)
        if diff_id not in self._trees:
            raise StoreError(f"the tree of {diff_id} is not here")
        tree = self._trees[diff_id]
        if not tree.unpacked.implied:
            return tree.name, tree.rules
        async with self._lock(diff_id):
            tree, name = await self._threads.run(_fit, self._paths, self._trees[diff_id], below)
            self._remember(tree)
        return name, tree.rules

    async def _commit(self, staged: str, unpacked: Unpacked, blob: Digest) -> None:
        diff_id = unpacked.diff_id
        older = self._trees.get(diff_id)
        blobs = (blob,) if older is None else tuple(dict.fromkeys((*older.blobs, blob)))
        tree = Tree(unpacked, blobs, rules=self._rules)
        try:
            if not self.has(diff_id) or self.is_outdated(diff_id):
                await self._threads.run(_describe, staged, tree)
                await self._flushes.add(None)
            async with self._lock(diff_id):
                known = self._trees.get(diff_id)
                if known is None or self.is_outdated(diff_id):
                    name = await self._threads.run(_move_in, self._paths, staged, tree)
                    tree = evolve(tree, name=name)
                    self._supersede(diff_id)
                elif blob not in known.blobs:
                    tree = evolve(known, blobs=(*known.blobs, blob))
                    await self._threads.run(_rewrite, self._paths, tree)
                else:
                    tree = known
                self._remember(tree)
        finally:
            self._discard(staged)

    def _discard(self, staged: str) -> None:
        holder = os.path.dirname(staged)
        if os.path.lexists(holder):
            self._trash.throw(holder)

    def _remember(self, tree: Tree) -> None:
        self._trees[tree.unpacked.diff_id] = tree
        self._uses.touch(tree.unpacked.diff_id)
        for blob in tree.blobs:
            self._known[blob] = tree.unpacked.diff_id

    def _supersede(self, diff_id: Digest) -> None:
        """
        Keep the tree of a diff ID for those alone who have it.
        """
        old = self._trees.pop(diff_id, None)
        if old is not None:
            self._old[old.name] = old

    def _lock(self, diff_id: Digest) -> DeferredLock:
        """
        What to hold while a tree's files are changed.
        """
        return self._locks.setdefault(diff_id, DeferredLock())


def _stage(staging: str) -> str:
    with trying_to(f"make a directory in {staging}"):
        staged = os.path.join(mkdtemp(prefix="tree-", dir=staging), "fs")
        os.mkdir(staged)
        # Whatever the umask: this is the image's root unless its tar says otherwise.
        os.chmod(staged, _ROOT_MODE)
        return staged


def _describe(staged: str, tree: Tree) -> None:
    with trying_to(f"write the facts of the tree {staged}"):
        path = os.path.join(os.path.dirname(staged), "tree.json")
        with open(path, "wb") as file:
            file.write(tree.to_json())


def _flush(paths: Paths) -> None:
    with trying_to("bring an unpacked layer to the disk"):
        sync_file_system(paths.staging)


def _move_in(paths: Paths, staged: str, tree: Tree) -> str:
    """
    Give a staged tree its name.

    @return: the name; one with the version of the rules where an older tree
        has the usual one.
    """
    diff_id = tree.unpacked.diff_id
    name = tree_name(diff_id)
    if os.path.lexists(paths.tree(name)):
        name = tree_name(diff_id, f"{tree.rules:016x}")
    target = paths.tree(name)
    with trying_to(f"keep the tree of {diff_id}"):
        make_directory(os.path.dirname(target), 0o700)
        move(os.path.dirname(staged), target)
    return name


def _rewrite(paths: Paths, tree: Tree) -> None:
    diff_id = tree.unpacked.diff_id
    with trying_to(f"write the facts of the tree of {diff_id}"):
        path = os.path.join(paths.tree(tree.name), "tree.json")
        write_file(path, tree.to_json(), paths.staging)


def _fit(paths: Paths, tree: Tree, below: Sequence[str]) -> tuple[Tree, str]:
    """
    L{Trees.fit}, blocking.

    The first chain's needs are written down before the tree is changed, and
    changed again when the same chain comes anew: the daemon may have died in
    between.  Nobody uses a tree that is not as its claim says, because its
    layer is registered after this.
    """
    diff_id = tree.unpacked.diff_id
    name = tree.name
    path = os.path.join(paths.tree(name), "fs")
    with trying_to(f"give the tree of {diff_id} the attributes of what lies below"):
        wanted = find(path, tree.unpacked.implied, below)
        # Another chain may need what this one must not have, so that never leaves the tree itself.
        omitted = empty(path, wanted)
        default = read(path, wanted) if tree.claimed is None else tree.default
        if tree.claimed is None and not omitted:
            tree = evolve(tree, claimed=wanted, default=default)
            _rewrite(paths, tree)
        if tree.claimed == wanted and not omitted:
            if any(wanted.values()):
                mend(path, wanted, tree.default)
                sync_file_system(path)
            return tree, name
        name = tree_name(diff_id, key(wanted, tree.rules))
        if not os.path.isdir(paths.tree(name)):
            fitting = evolve(tree, claimed=wanted, default=default, linked=True)
            _link_fitting(paths, path, fitting, omitted, paths.tree(name))
        return tree, name


def _link_fitting(paths: Paths, source: str, tree: Tree, omitted: Sequence[bytes], target: str) -> None:
    """
    Make a tree of hard links with the attributes that C{tree} claims.

    @param omitted: the directories to leave out, each behind those in it.
    """
    assert tree.claimed is not None
    staged = _stage(paths.staging)
    try:
        link_tree(source, staged)
        prune(staged, omitted)
        mend(staged, tree.claimed, tree.default, omitted)
        _describe(staged, tree)
        sync_file_system(staged)
        move(os.path.dirname(staged), target)
    except BaseException:
        remove(os.path.dirname(staged), Event())
        raise


def _load(paths: Paths) -> tuple[list[Tree], list[str]]:
    """
    Read every tree's facts.

    @return: the trees, without those made of hard links, and the directories
        that are no whole tree.
    """
    trees, broken = [], []
    with trying_to(f"read {paths.trees}"):
        for name in _names(paths.trees):
            parsed = parse_tree_name(name)
            if parsed is None:
                continue
            diff_id, _ = parsed
            path = paths.tree(name)
            try:
                with open(os.path.join(path, "tree.json"), "rb") as file:
                    tree = Tree.from_json(file.read(), name)
                if tree.unpacked.diff_id != diff_id or not os.path.isdir(os.path.join(path, "fs")):
                    raise ValueError("not the tree of this name")
            except (FileNotFoundError, NotADirectoryError, ValueError):
                broken.append(path)
            else:
                if not tree.linked:
                    trees.append(tree)
    return trees, broken


def _names(directory: str) -> Iterable[str]:
    """
    What is in a directory of directories, as C{a/b}.
    """
    for algorithm in sorted(os.listdir(directory)):
        if os.path.isdir(os.path.join(directory, algorithm)):
            for name in sorted(os.listdir(os.path.join(directory, algorithm))):
                yield f"{algorithm}/{name}"
