# -*- test-case-name: tests.store.integrity.test_integrity -*-
"""
Checks the content of the store, and moves what is damaged into C{quarantine/}.

What is there is never removed: an operator may need it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from threading import Event

from twisted.internet.defer import Deferred
from zope.interface import implementer

from xferd.interfaces.integrity import Damage, IIntegrity, IPace
from xferd.names import Digest
from xferd.store.disk.file_system import make_directory, move, sync_directory, trying_to
from xferd.store.integrity.blob_check import check_blob
from xferd.store.integrity.pace import Pace
from xferd.store.integrity.tree_check import TreeCheck
from xferd.store.layers import Layers
from xferd.store.leases import Leases
from xferd.store.paths import Paths
from xferd.store.threads import Threads, delay_cancellation
from xferd.store.trees.facts import files_of, read_facts
from xferd.store.trees.trees import Trees
from xferd.tree_record import NAME, read_record


@implementer(IIntegrity)
class Integrity:
    """
    The integrity of a data directory.
    """

    def __init__(
        self,
        paths: Paths,
        threads: Threads,
        reading: Threads,
        *,
        leases: Leases,
        trees: Trees,
        layers: Layers,
    ) -> None:
        """
        @param reading: threads for the checks, which may take hours.
        """
        self._paths = paths
        self._threads = threads
        self._reading = reading
        self._leases = leases
        self._trees = trees
        self._layers = layers

    def pace(self) -> Pace:
        return Pace()

    def check_blob(self, digest: Digest, size: int | None, pace: IPace) -> Deferred[Damage | None]:
        assert isinstance(pace, Pace)
        self._leases.touch(digest)
        path, stop = self._paths.blob(digest), Event()

        def check() -> Damage | None:
            problem = check_blob(path, digest, size, pace, stop)
            return Damage(os.path.relpath(path, self._paths.root), problem) if problem else None

        return self._reading.run(check, stop=stop)

    def quarantine_blob(self, digest: Digest) -> Deferred[str | None]:
        name = f"blob-{digest.algorithm}-{digest.hex}"
        return self._threads.run(quarantine, self._paths, self._paths.blob(digest), name)

    def trees(self) -> Sequence[Digest]:
        return list(dict.fromkeys(record.diff_id for record in self._layers.all().values()))

    def check_tree(self, diff_id: Digest, pace: IPace) -> Deferred[Sequence[Damage] | None]:
        assert isinstance(pace, Pace)
        stop = Event()
        checking = Deferred.fromCoroutine(self._check_tree(diff_id, pace, stop))
        return delay_cancellation(checking, stop=stop.set)

    def adopt_record(self, staged: str, diff_id: Digest) -> Deferred[None]:
        return Deferred.fromCoroutine(self._adopt_record(staged, diff_id))

    def condemn_tree(self, diff_id: Digest) -> Deferred[None]:
        self._leases.touch(diff_id)
        return delay_cancellation(
            Deferred.fromCoroutine(self._trees.condemn(diff_id)).addCallback(lambda _: None)
        )

    def quarantine_tree(self, diff_id: Digest) -> Deferred[Sequence[str]]:
        return delay_cancellation(Deferred.fromCoroutine(self._quarantine_tree(diff_id)))

    async def _check_tree(self, diff_id: Digest, pace: Pace, stop: Event) -> Sequence[Damage] | None:
        self._leases.touch(diff_id)

        def check() -> Deferred[Sequence[Damage] | None]:
            return self._reading.run(check_trees, self._paths, self._trees.names(diff_id), pace, stop)

        if self._trees.is_damaged(diff_id):
            return [Damage(".", "was found damaged before, and has not been replaced")]
        found = await check()
        if found:
            # Its directories may have been changed for another layer meanwhile.
            found = await self._trees.locked(diff_id, check)
        return found

    async def _adopt_record(self, staged: str, diff_id: Digest) -> None:
        names = self._trees.names(diff_id)
        await self._trees.locked(diff_id, lambda: self._threads.run(adopt_record, self._paths, staged, names))

    async def _quarantine_tree(self, diff_id: Digest) -> Sequence[str]:
        chain_ids, records = self._layers.using(diff_id), self._layers.all()
        used = {records[each].tree for each in chain_ids if records[each].diff_id == diff_id}
        for chain_id in chain_ids:
            self._layers.forget(chain_id)
        # Without this, the layers could be there again after a power cut.
        for directory in {os.path.dirname(self._paths.layer(chain_id)) for chain_id in chain_ids}:
            await self._threads.run(flush_removals, directory)
        moved = []
        for name in self._trees.forget_damaged(diff_id, used):
            found = await self._threads.run(
                quarantine, self._paths, self._paths.tree(name), f"tree-{name.replace('/', '-')}"
            )
            if found is not None:
                moved.append(found)
        return moved


def check_trees(paths: Paths, names: Sequence[str], pace: Pace, stop: Event) -> list[Damage] | None:
    """
    Compare a tree, and its variants and copies, with its record.  Blocking, for a thread.

    @param names: their names.
    @return: the damage, or L{None} if there is no record.
    """
    damage: list[Damage] = []
    checked: dict[tuple[int, int], str] = {}
    for name in names:
        try:
            facts = read_facts(paths, name)
        except FileNotFoundError:
            lost = not os.path.isdir(paths.tree(name))
            damage.append(Damage(".", "is missing") if lost else Damage("../tree.json", "is missing"))
            continue
        except (OSError, ValueError) as e:
            damage.append(Damage("../tree.json", f"is damaged: {e}"))
            continue
        try:
            with open(os.path.join(paths.tree(name), NAME), "rb") as file:
                record = read_record(file.read())
        except FileNotFoundError:
            return damage or None
        except (OSError, ValueError) as e:
            damage.append(Damage(f"../{NAME}", f"is damaged: {e}"))
            continue
        check = TreeCheck(
            files_of(paths, name), record, facts.claimed, facts.default, facts.linked, pace, stop, checked
        )
        damage += check.run()
    # What variants share is damaged in all of them.
    return list(dict.fromkeys(damage))


def adopt_record(paths: Paths, staged: str, names: Sequence[str]) -> None:
    """
    Move the record of a staged tree to others.  Blocking, for a thread.
    """
    source = os.path.join(os.path.dirname(staged), NAME)
    with trying_to("keep the record of a tree"):
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        for name in names:
            target = os.path.join(paths.tree(name), NAME)
            if not os.path.lexists(target):
                os.link(source, target)
                sync_directory(paths.tree(name))


def quarantine(paths: Paths, path: str, name: str) -> str | None:
    """
    Move a file or a directory into C{quarantine/}.  Blocking, for a thread.

    @param name: its name there; a number follows if the name is taken.
    @return: its path there, or L{None} if it does not exist.
    """
    with trying_to(f"move {path} into {paths.quarantine}"):
        make_directory(paths.quarantine, 0o700)
        target, number = os.path.join(paths.quarantine, name), 1
        while os.path.lexists(target):
            number += 1
            target = os.path.join(paths.quarantine, f"{name}-{number}")
        try:
            move(path, target)
        except FileNotFoundError:
            return None
        # Else a power cut could leave it at its old place, too.
        sync_directory(os.path.dirname(path))
    return target


def flush_removals(directory: str) -> None:
    """
    Flush the removal of entries of a directory.  Blocking, for a thread.
    """
    with trying_to(f"remove entries of {directory}"):
        sync_directory(directory)
