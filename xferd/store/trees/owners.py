# -*- test-case-name: tests.store.trees.test_owners -*-
"""
Finds the owners of the files in a tree whose facts lack them, as an older
version unpacked it.

Blocking, for threads.
"""

from __future__ import annotations

import os
import stat
from threading import Event
from typing import Final

from attrs import define, evolve, field

from xferd.owners import Owners, OwnerSet
from xferd.store.disk.file_system import DIRECTORY, trying_to
from xferd.store.disk.reserve import Reserve
from xferd.store.paths import Paths
from xferd.store.trees.facts import TreeFacts, files_of, valid_facts, write_facts
from xferd.store.trees.walk import check, xattr

_OVERRIDE: Final = "user.containers.override_stat"
"""Where a daemon without root keeps C{uid:gid:mode:type}."""


def facts_with_owners(paths: Paths, reserve: Reserve, name: str, stop: Event) -> TreeFacts:
    """
    Read the facts of a tree.  If they lack the owners, these are found and written.

    @param stop: ends the work when it is set.
    """
    path = files_of(paths, name)
    with trying_to(f"look for the owners of the files in {path}"):
        facts = valid_facts(paths, name)
        if facts.unpacked.owners is None:
            facts = evolve(facts, unpacked=evolve(facts.unpacked, owners=find_owners(path, stop)))
            write_facts(paths, reserve, name, facts)
    return facts


def find_owners(tree: str, stop: Event) -> Owners:
    """
    Look at all files of a tree.

    @param tree: the directory of its files.
    @param stop: ends the work when it is set.
    @raise StoreError: it was stopped.
    """
    # As of all that a daemon without root writes, its owner is the daemon's user.
    search = _Search(os.stat(os.path.dirname(tree)).st_uid == 0, stop)
    fd = os.open(tree, DIRECTORY)
    try:
        search.add(os.fstat(fd), f"/proc/self/fd/{fd}")
        search.visit(fd)
    finally:
        os.close(fd)
    return search.found.owners()


@define(eq=False)
class _Search:
    """
    One search.
    """

    _privileged: bool
    _stop: Event
    found: OwnerSet = field(factory=OwnerSet)

    def visit(self, fd: int) -> None:
        """
        Look at the entries of a directory, and of those in it.
        """
        check(self._stop)
        with os.scandir(fd) as listing:
            entries = list(listing)
        for entry in entries:
            self.add(entry.stat(follow_symlinks=False), f"/proc/self/fd/{fd}/{entry.name}")
            if entry.is_dir(follow_symlinks=False):
                inner = os.open(entry.name, DIRECTORY, dir_fd=fd)
                try:
                    self.visit(inner)
                finally:
                    os.close(inner)

    def add(self, status: os.stat_result, path: str) -> None:
        """
        Add the owners of a file.
        """
        if self._privileged:
            self.found.add(status.st_uid, status.st_gid)
            return
        kept = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
        value = (xattr(path, _OVERRIDE) if kept else None) or b""
        try:
            user, group = (int(part) for part in value.split(b":")[:2])
        except ValueError:
            user = group = 0  # as for files without one
        self.found.add(user, group)
