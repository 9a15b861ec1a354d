"""
Tests for L{xferd.store.trees.owners}, and the owners that L{xferd.store.trees.trees}
reports.
"""

from __future__ import annotations

import json
import os
import stat
from threading import Event
from typing import Any
from unittest import SkipTest

from attrs import evolve
from twisted.internet.defer import CancelledError

from tests.store.conformance.base import DIGEST
from tests.store.support import StoreTestCase
from xferd.errors import StoreError
from xferd.interfaces.store import Unpacked
from xferd.owners import Owners
from xferd.store.trees import owners
from xferd.store.trees.owners import find_owners

FACTS = Unpacked(DIGEST, 100, 10, 1)


class OwnersTests(StoreTestCase):
    """
    A tree whose files have several owners.
    """

    def commit(self, facts: Unpacked = FACTS) -> str:
        """
        Store the tree.

        @return: the directory of its files.
        """
        staged = self.successResultOf(self.store.trees.stage())
        os.makedirs(os.path.join(staged, "a", "b"))
        for name in ("f", "a/g", "a/b/h"):
            with open(os.path.join(staged, name), "w"):
                pass
        os.symlink("/nowhere", os.path.join(staged, "link"))
        self.successResultOf(self.store.trees.commit(staged, facts, DIGEST))
        path = os.path.join(self.path, "trees", "sha256", DIGEST.hex, "diff")
        if os.geteuid() == 0:
            for number, name in enumerate(("f", "a", "a/b", "a/b/h", "link"), 1):
                os.chown(os.path.join(path, name), number, 10 * number, follow_symlinks=False)
        return path

    def read(self, path: str) -> Any:
        """
        The facts of the tree.
        """
        with open(os.path.join(os.path.dirname(path), "tree.json")) as file:
            return json.load(file)

    def owners(self) -> Owners:
        """
        Ask the store.
        """
        return self.successResultOf(self.store.trees.owners(DIGEST))

    def test_recorded(self) -> None:
        """
        The owners that the unpacking has found are kept, over a restart; no file is
        looked at.
        """
        known = Owners((0, 7), (8,))
        self.commit(evolve(FACTS, owners=known))
        self.patch(owners, "find_owners", self.fail)
        for _ in range(2):
            self.assertEqual(self.owners(), known)
            self.assertEqual(self.store.trees.tar_size(DIGEST), 100)
            self.reopen()

    def test_many(self) -> None:
        """
        Many owners are read from the disk.
        """
        known = Owners(tuple(range(1000)), (8,))
        self.commit(evolve(FACTS, owners=known))
        for _ in range(2):
            self.assertEqual(self.owners(), known)
            self.reopen()

    def test_found(self) -> None:
        """
        If they were not recorded, all files of the tree are looked at, once.
        """
        if os.geteuid() != 0:
            raise SkipTest("only root can give files away")
        path = self.commit()
        facts = self.read(path)
        del facts["owners"]
        with open(os.path.join(os.path.dirname(path), "tree.json"), "w") as file:
            json.dump(facts, file)
        self.reopen()
        expected = Owners((0, 1, 2, 3, 4, 5), (0, 10, 20, 30, 40, 50))
        self.assertEqual(self.owners(), expected)
        self.assertEqual(self.read(path)["owners"], expected.to_json())
        self.patch(owners, "find_owners", self.fail)
        self.assertEqual(self.owners(), expected)
        self.reopen()
        self.assertEqual(self.owners(), expected)

    def test_without_root(self) -> None:
        """
        A daemon without root keeps the owners of files and directories in an
        extended attribute.  Files without one, or with a damaged one, count as
        root's.
        """
        if os.geteuid() != 0:
            raise SkipTest("only root can make a tree of another user")
        path = self.commit()
        os.chown(os.path.dirname(path), 1000, 1000)
        os.mkfifo(os.path.join(path, "fifo"))
        for name, value in (("f", b"12:34:0644:file"), ("a", b"56:78:0755:dir"), ("a/g", b"x:9")):
            os.setxattr(os.path.join(path, name), "user.containers.override_stat", value)
        self.assertEqual(find_owners(path, Event()), Owners((0, 12, 56), (0, 34, 78)))

    def test_devices(self) -> None:
        """
        No device is opened.
        """
        path = self.commit()
        try:
            os.mknod(os.path.join(path, "device"), stat.S_IFCHR, os.makedev(10, 200))
        except PermissionError:
            raise SkipTest("devices take the rights of root") from None
        os.chown(os.path.join(path, "device"), 99, 99)
        self.assertIn(99, self.owners().users)

    def test_absent(self) -> None:
        """
        A tree that is not in the store has none.
        """
        self.failureResultOf(self.store.trees.owners(DIGEST), StoreError)
        self.assertIsNone(self.store.trees.tar_size(DIGEST))

    def test_damaged(self) -> None:
        """
        If the facts cannot be read any more, the error names them.
        """
        path = self.commit()
        with open(os.path.join(os.path.dirname(path), "tree.json"), "w") as file:
            file.write("{}")
        error = self.failureResultOf(self.store.trees.owners(DIGEST), StoreError).value
        self.assertIn("tree.json was changed", str(error))

    def test_cancelled(self) -> None:
        """
        A search that is cancelled ends, before or while it runs; the next one is
        whole.
        """
        path = self.commit()
        self.pools.bulk.held = True
        finding = self.store.trees.owners(DIGEST)
        finding.cancel()
        self.assertNoResult(finding)
        self.pools.bulk.release()
        self.failureResultOf(finding, CancelledError)
        self.assertIsNone(self.read(path)["owners"])
        stop = Event()
        stop.set()
        self.assertRaises(StoreError, find_owners, path, stop)
        self.assertTrue(self.owners().complete)

    def test_at_once(self) -> None:
        """
        Two that ask at the same time get the same, of one search.
        """
        self.commit()
        searches: list[str] = []
        original = find_owners

        def search(path: str, stop: Event) -> Owners:
            searches.append(path)
            return original(path, stop)

        self.patch(owners, "find_owners", search)
        self.pools.bulk.held = True
        finding = [self.store.trees.owners(DIGEST) for _ in range(2)]
        self.pools.bulk.release()
        self.assertEqual(*[self.successResultOf(each) for each in finding])
        self.assertEqual(len(searches), 1)
