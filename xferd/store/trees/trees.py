# -*- test-case-name: tests.store.trees.test_trees -*-
"""
The unpacked trees, in C{trees/}: one for each diff ID, and variants of it, made
of hard links to the same files, if two chains need different metadata on
directories that the tar only implies.

When a tree is unpacked again by newer rules, the older one stays for mounts and
for the layers that are registered with it; the new one has another name.

A tree becomes visible by a rename, after all of it has been flushed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from functools import partial
from threading import Event
from typing import TypeVar
from weakref import WeakValueDictionary

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredLock, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import StoreError
from xferd.interfaces.store import UNPACK_RULES, ITrees, Unpacked
from xferd.names import Digest
from xferd.owners import Owners
from xferd.store.batches import Batches
from xferd.store.disk.file_system import FileSystemFlush, trying_to
from xferd.store.disk.reserve import Reserve
from xferd.store.disk.trash import Trash
from xferd.store.disk.usage import size_below
from xferd.store.leases import Leases
from xferd.store.paths import Paths, tree_name
from xferd.store.threads import Threads, delay_cancellation
from xferd.store.trees.facts import (
    KnownTree,
    LinkedTree,
    TreeFacts,
    mark_damaged,
    write_staged_facts,
)
from xferd.store.trees.hard_links import CopySize
from xferd.store.trees.owners import facts_with_owners
from xferd.store.trees.tree_files import load_trees, move_in, rewrite
from xferd.store.trees.variants import copy, copy_key, fit, stage
from xferd.store.trees.walk import check

T = TypeVar("T")


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
        fitting: Threads,
        *,
        trash: Trash,
        leases: Leases,
        reserve: Reserve,
        rules: int = UNPACK_RULES,
        most_copied: CopySize,
    ) -> None:
        """
        @param bulk: threads for work whose time grows with the size of a tree.
        @param fitting: threads for L{fit}.
        @param reserve: used by the facts of trees when the disk is full.
        @param rules: the current version of the unpacking rules.
        @param most_copied: the size of all variants in one chain, at most.
        """
        self._paths = paths
        self._rules = rules
        self._leases = leases
        self._threads = threads
        self._bulk = bulk
        self._fitting = fitting
        self._trash = trash
        self._reserve = reserve
        self._most_copied = most_copied
        self._trees: dict[Digest, KnownTree] = {}
        self._old: dict[str, KnownTree] = {}
        self._linked: dict[str, LinkedTree] = {}
        self._damaged: set[str] = set()
        self._known: dict[Digest, Digest] = {}
        self._locks: WeakValueDictionary[Digest, DeferredLock] = WeakValueDictionary()
        # Layers that are complete at the same time share a flush.
        self._disk = FileSystemFlush(paths.staging)
        self._flushes: Batches[None] = Batches(lambda _: bulk.run(self._disk.flush))
        # For each staged tree, the number of failures before its first write.
        self._staged: dict[str, int] = {}

    async def load(self) -> None:
        """
        Read the facts of all trees, and remove directories that are no trees.
        """
        with trying_to(f"open {self._paths.staging}"):
            self._disk.open()
        trees, self._linked, self._damaged, broken = await self._threads.run(
            load_trees, self._paths, self._reserve
        )
        for path in broken:
            self._log.warn("{path} is not a whole tree and is removed", path=path)
            self._trash.throw(path)
        for tree in sorted(trees, key=lambda tree: (tree.name not in self._damaged, tree.rules)):
            self._supersede(tree.diff_id)
            self._remember(tree)

    def close(self) -> None:
        """
        Let nothing be flushed any more.
        """
        self._disk.close()

    def has(self, diff_id: Digest) -> bool:
        self._leases.touch(diff_id)
        return diff_id in self._trees

    def diff_id_of(self, blob: Digest) -> Digest | None:
        diff_id = self._known.get(blob)
        if diff_id is not None:
            # A job that finds the tree does not fetch the blob, and may push it later.
            self._leases.touch(diff_id, blob)
        return diff_id

    def is_outdated(self, diff_id: Digest) -> bool:
        tree = self._trees.get(diff_id)
        return tree is not None and (tree.rules < self._rules or tree.name in self._damaged)

    def is_damaged(self, diff_id: Digest) -> bool:
        tree = self._trees.get(diff_id)
        return tree is not None and tree.name in self._damaged

    def tar_size(self, diff_id: Digest) -> int | None:
        self._leases.touch(diff_id)
        tree = self._trees.get(diff_id)
        return None if tree is None else tree.tar_size

    def owners(self, diff_id: Digest) -> Deferred[Owners]:
        """
        Cancelling ends it at its next step, and waits for that.
        """
        stop = Event()
        return delay_cancellation(Deferred.fromCoroutine(self._owners(diff_id, stop)), stop=stop.set)

    def stage(self) -> Deferred[str]:
        known = self._disk.failures

        def made(staged: str) -> str:
            self._staged[staged] = known
            return staged

        return delay_cancellation(
            self._threads.run(stage, self._paths.staging).addCallback(made), undo=self._discard
        )

    def commit(self, staged: str, unpacked: Unpacked, blob: Digest) -> Deferred[None]:
        """
        Cancelling waits for the disk.
        """
        return delay_cancellation(Deferred.fromCoroutine(self._commit(staged, unpacked, blob)))

    def staged_size(self, staged: str) -> Deferred[int]:
        return self._bulk.run(size_below, staged)

    def discard(self, staged: str) -> Deferred[None]:
        try:
            self._discard(staged)
        except StoreError:
            return fail()
        return succeed(None)

    @property
    def rules(self) -> int:
        """
        The current version of the unpacking rules.
        """
        return self._rules

    def name(self, diff_id: Digest) -> str:
        """
        The name of a tree; empty if it is not in the store.
        """
        tree = self._trees.get(diff_id)
        return "" if tree is None else tree.name

    def size(self, diff_id: Digest) -> int:
        """
        The bytes in the regular files of a tree in the store.
        """
        return self._trees[diff_id].size

    def is_superseded(self, name: str) -> bool:
        """
        Whether a newer tree has replaced this one.
        """
        return name in self._old

    def is_older(self, name: str) -> bool:
        """
        Whether a superseded tree, a variant or a copy was unpacked by older rules
        than L{rules}.
        """
        tree = self._linked.get(name)
        older = name in self._old or name in self._damaged
        return older or (tree is not None and tree.rules < self._rules)

    def names(self, diff_id: Digest) -> Sequence[str]:
        """
        The names of the current tree of a diff ID and of its variants and copies, without
        damaged ones.
        """
        tree = self._trees.get(diff_id)
        if tree is None:
            return ()
        plain = tree_name(diff_id)
        linked = [
            name
            for name, other in self._linked.items()
            if name.partition(".")[0] == plain and other.rules == tree.rules
        ]
        return [name for name in (tree.name, *linked) if name not in self._damaged]

    def is_marked(self, name: str) -> bool:
        """
        Whether a tree, a variant or a copy has been found damaged.
        """
        return name in self._damaged

    async def condemn(self, diff_id: Digest) -> Sequence[str]:
        """
        Record that the current tree of a diff ID and its variants are damaged: the layers
        get another one at the next use, and these stay for mounts.

        @return: their names.
        @raise StoreError: the disk refuses.
        """
        async with self._lock(diff_id):
            names = self.names(diff_id)
            for name in names:
                await self._threads.run(mark_damaged, self._paths, self._reserve, name)
                self._damaged.add(name)
        return names

    def forget_damaged(self, diff_id: Digest, used: Collection[str]) -> Sequence[str]:
        """
        Forget the damaged trees of a diff ID that no other one has replaced.

        @param used: the names of those that layers had; no layer refers to them any more.
        @return: their names.
        """
        tree = self._trees.get(diff_id)
        current = "" if tree is None else tree.name
        if tree is not None and tree.name in self._damaged:
            del self._trees[diff_id]
            for blob in tree.blobs:
                if self._known.get(blob) == diff_id:
                    del self._known[blob]
        names = [name for name in self._damaged if name == current or name in used]
        for name in names:
            self._old.pop(name, None)
            self._linked.pop(name, None)
            self._damaged.discard(name)
        return names

    async def locked(self, diff_id: Digest, work: Callable[[], Deferred[T]]) -> T:
        """
        Do some work while nothing else changes the files of a tree.
        """
        async with self._lock(diff_id):
            return await work()

    def forget_other(self, name: str) -> int:
        """
        Move a superseded tree or a variant to the trash.

        @return: its bytes.
        """
        size = self.size_of_other(name)
        self._trash.throw(self._paths.tree(name))
        self._old.pop(name, None)
        self._linked.pop(name, None)
        self._damaged.discard(name)
        return size

    def size_of_other(self, name: str) -> int:
        """
        The bytes of a superseded tree or a variant.
        """
        old = self._old.get(name)
        return self.size_of_copy(name) if old is None else old.size

    def size_of_copy(self, name: str) -> int:
        """
        The bytes of the directories of a variant or a copy; 0 for any other tree.
        """
        tree = self._linked.get(name)
        return 0 if tree is None else tree.size.size

    def is_here(self, diff_id: Digest) -> bool:
        """
        Whether a tree is in the store.  Unlike L{has}, this does not touch a
        lease.
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
        Move a tree to the trash.
        """
        tree = self._trees.pop(diff_id)
        self._trash.throw(self._paths.tree(tree.name))
        self._damaged.discard(tree.name)
        for blob in tree.blobs:
            if self._known.get(blob) == diff_id:
                del self._known[blob]

    def total(self) -> int:
        """
        The bytes in the regular files of all trees, and in the directories of
        variants.
        """
        kept = sum(tree.size for tree in (*self._trees.values(), *self._old.values()))
        return kept + sum(tree.size.size for tree in self._linked.values())

    async def fit(self, diff_id: Digest, below: Sequence[str], stop: Event) -> tuple[str, int]:
        """
        Give the implied directories of a tree the metadata that they have below.

        @param below: the names of the trees below, the nearest first.
        @param stop: ends the work when it is set.
        @return: the name of the tree, or of a variant of it, and the version of
            the rules that it was unpacked by.
        @raise BadLayer: there are too many such directories below, or the
            variants in the chain are too large.
        @raise StoreError: the tree is not here, the disk refuses, or the work
            was stopped.
        """
        self._leases.touch(diff_id)
        if diff_id not in self._trees:
            raise StoreError(f"the tree of {diff_id} is not here")
        if not self._trees[diff_id].implies:
            return self._trees[diff_id].name, self._trees[diff_id].rules
        async with self._lock(diff_id):
            check(stop)
            tree = self._trees[diff_id]
            linked = [self._linked[name] for name in set(below) if name in self._linked]
            used = sum((each.size for each in linked if not each.owned), CopySize())
            name, copied = await self._fitting.run(
                fit, self._paths, self._reserve, tree.name, below, used, self._most_copied, stop
            )
            if copied is not None:
                self._linked[name] = LinkedTree(copied, tree.rules, owned=False)
        return name, tree.rules

    async def copy(self, diff_id: Digest, name: str, chain_id: Digest, stop: Event) -> str:
        """
        Copy a tree, of hard links, for one layer.

        @param name: the name of the tree.
        @param stop: ends the work when it is set.
        @return: the name of the copy.
        @raise StoreError: the disk refuses, or the work was stopped.
        """
        self._leases.touch(diff_id)
        number = 0
        while (target := tree_name(diff_id, copy_key(name, chain_id, number))) in self._damaged:
            number += 1
        async with self._lock(diff_id):
            check(stop)
            self._linked[target] = await self._fitting.run(
                copy, self._paths, self._reserve, name, target, stop
            )
        return target

    async def _owners(self, diff_id: Digest, stop: Event) -> Owners:
        self._leases.touch(diff_id)
        if diff_id not in self._trees:
            raise StoreError(f"the tree of {diff_id} is not here")
        known = self._trees[diff_id].owners
        if known is not None:
            return known
        async with self._lock(diff_id):
            check(stop)
            name = self._trees[diff_id].name
            facts = await self._bulk.run(facts_with_owners, self._paths, self._reserve, name, stop)
            self._trees[diff_id] = KnownTree.of(facts, name)
        assert facts.unpacked.owners is not None
        return facts.unpacked.owners

    async def _commit(self, staged: str, unpacked: Unpacked, blob: Digest) -> None:
        diff_id = unpacked.diff_id
        older = self._trees.get(diff_id)
        blobs = (blob,) if older is None else tuple(dict.fromkeys((*older.blobs, blob)))
        tree = TreeFacts(unpacked, blobs, rules=self._rules)
        try:
            if not self.has(diff_id) or self.is_outdated(diff_id):
                await self._threads.run(write_staged_facts, self._reserve, staged, tree)
                await self._flushes.add(None)
                with trying_to("flush an unpacked layer"):
                    self._disk.check(self._staged[staged])
            async with self._lock(diff_id):
                known = self._trees.get(diff_id)
                if known is None or self.is_outdated(diff_id):
                    beside = known is not None and known.name in self._damaged
                    name = await self._threads.run(partial(move_in, beside=beside), self._paths, staged, tree)
                    known = KnownTree.of(tree, name)
                    self._supersede(diff_id)
                elif blob not in known.blobs:
                    known = evolve(known, blobs=(*known.blobs, blob))
                    await self._threads.run(rewrite, self._paths, self._reserve, known.name, known.blobs)
                self._remember(known)
        finally:
            self._discard(staged)

    def _discard(self, staged: str) -> None:
        self._staged.pop(staged, None)
        holder = os.path.dirname(staged)
        if os.path.lexists(holder):
            self._trash.throw(holder)

    def _remember(self, tree: KnownTree) -> None:
        self._trees[tree.diff_id] = tree
        self._leases.touch(tree.diff_id)
        for blob in tree.blobs:
            self._known[blob] = tree.diff_id

    def _supersede(self, diff_id: Digest) -> None:
        """
        Keep the current tree of a diff ID for mounts and its layers only.
        """
        old = self._trees.pop(diff_id, None)
        if old is not None:
            self._old[old.name] = old

    def _lock(self, diff_id: Digest) -> DeferredLock:
        """
        The lock to hold while a tree's files are changed.
        """
        return self._locks.setdefault(diff_id, DeferredLock())
