"""
Tests for L{xferd.store.integrity.integrity}.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from isal.isal_zlib import crc32
from twisted.internet.defer import CancelledError
from zope.interface.verify import verifyObject

from tests.store.conformance.base import DATA, DIGEST
from tests.store.support import StoreTestCase, layer_descriptor, plant, pull, sample
from xferd.interfaces.integrity import Damage, IIntegrity, IPace
from xferd.interfaces.store import Unpacked
from xferd.names import Digest
from xferd.tree_record import RecordWriter

NAME = f"content/blobs/{DIGEST.algorithm}/{DIGEST.hex}"


class IntegrityTests(StoreTestCase):
    """
    A store with one blob.
    """

    def setUp(self) -> None:
        """
        Put it there.
        """
        super().setUp()
        self.successResultOf(self.store.blobs.put(DIGEST, DATA))
        self.file = self.store.blobs.path(DIGEST)

    def flip(self) -> None:
        """
        Damage it.
        """
        with open(self.file, "r+b") as file:
            file.write(b"?")

    def test_interfaces(self) -> None:
        """
        Each object provides its Interface.
        """
        verifyObject(IIntegrity, self.store.integrity)
        verifyObject(IPace, self.store.integrity.pace())

    def test_checked(self) -> None:
        """
        A blob is whole until it is damaged; the damage has its path in the store.
        """
        integrity = self.store.integrity
        self.assertIsNone(self.successResultOf(integrity.check_blob(DIGEST, len(DATA), integrity.pace())))
        self.flip()
        damage = self.successResultOf(integrity.check_blob(DIGEST, len(DATA), integrity.pace()))
        assert isinstance(damage, Damage)
        self.assertEqual(damage.path, NAME)
        self.assertIn("has the digest", damage.problem)

    def test_cancelled(self) -> None:
        """
        A check that is cancelled before its thread begins reads nothing; one whose result
        is on its way is cancelled, too.
        """
        for pool in self.pools.made:
            pool.held = True
        checking = self.store.integrity.check_blob(DIGEST, None, self.store.integrity.pace())
        checking.cancel()
        self.assertNoResult(checking)
        for pool in self.pools.made:
            pool.release()
        self.failureResultOf(checking, CancelledError)

    def test_lease(self) -> None:
        """
        While a lease is held, the garbage collector keeps what is being checked.
        """
        release = self.store.gc.lease()
        self.successResultOf(self.store.integrity.check_blob(DIGEST, None, self.store.integrity.pace()))
        self.successResultOf(self.store.gc.collect())
        self.assertTrue(os.path.exists(self.file))
        release()
        self.successResultOf(self.store.gc.collect())
        self.assertFalse(os.path.exists(self.file))

    def test_quarantine(self) -> None:
        """
        A damaged blob is moved away and kept, each time under a name of its own, also over
        restarts and collections; the store can get another one.
        """
        for number in (1, 2, 3):
            self.flip()
            moved = self.successResultOf(self.store.integrity.quarantine_blob(DIGEST))
            suffix = "" if number == 1 else f"-{number}"
            name = f"blob-{DIGEST.algorithm}-{DIGEST.hex}{suffix}"
            self.assertEqual(moved, os.path.join(self.store.path, "quarantine", name))
            self.assertFalse(self.store.blobs.has(DIGEST))
            self.successResultOf(self.store.blobs.put(DIGEST, DATA))
        self.reopen()
        self.successResultOf(self.store.gc.collect())
        self.assertEqual(len(os.listdir(os.path.join(self.path, "quarantine"))), 3)
        self.assertEqual(os.stat(os.path.join(self.path, "quarantine")).st_mode & 0o777, 0o700)

    def test_nothing_to_move(self) -> None:
        """
        A blob that is missing is not moved.
        """
        os.unlink(self.file)
        self.assertIsNone(self.successResultOf(self.store.integrity.quarantine_blob(DIGEST)))


class TreeTests(StoreTestCase):
    """
    A store with one image of two layers, whose trees have records.
    """

    def setUp(self) -> None:
        """
        Put it there.
        """
        super().setUp()
        self.sample = sample("docker.io/library/app:1", b"lower", b"upper")
        self.run_now(pull(self.store, self.sample))
        self.lower, self.upper = self.sample.diff_ids

    def check(self, diff_id: Digest) -> Any:
        """
        The damage of a tree.
        """
        integrity = self.store.integrity
        return self.successResultOf(integrity.check_tree(diff_id, integrity.pace()))

    def tree(self, number: int = 0) -> str:
        """
        The directory of a layer's tree.
        """
        assert self.sample.image.chain_id is not None
        return self.store.layers.stack(self.sample.image.chain_id)[number].path

    def record(self, path: str) -> None:
        """
        Write the record of a tree, as its unpacking does.
        """
        status, data = os.stat(os.path.join(path, "content")), Path(path, "content").read_bytes()
        root = os.stat(path)
        with open(os.path.join(os.path.dirname(path), "entries"), "wb", buffering=0) as file:
            record = RecordWriter(file.fileno())
            owner = (status.st_uid, status.st_gid, status.st_mode)
            record.file(b"", b"content", owner, len(data), status.st_mtime_ns, crc32(data))
            record.directory(b"", (root.st_uid, root.st_gid, root.st_mode), root.st_mtime_ns, 0)
            record.finish()

    def renew(self, blob: bytes) -> None:
        """
        Unpack a tree again and register it, as a job does.
        """
        self.run_now(plant(self.store, blob))
        parent = None
        for each in self.sample.blobs:
            work = self.store.layers.register(parent, Digest.of(each), layer_descriptor(each))
            parent = self.successResultOf(work).chain_id

    def test_checked(self) -> None:
        """
        A tree without a record is not compared; one with a record is, with its copies.
        """
        self.assertEqual(set(self.store.integrity.trees()), {self.lower, self.upper})
        self.assertIsNone(self.check(self.lower))
        self.record(self.tree())
        self.assertEqual(self.check(self.lower), [])
        with open(os.path.join(self.tree(), "content"), "r+b") as file:
            file.write(b"L")
        self.assertIn("has other content", [damage.problem for damage in self.check(self.lower)])

    def test_lost(self) -> None:
        """
        A lost tree, lost facts and a damaged record are damage.
        """
        self.record(self.tree())
        holder = os.path.dirname(self.tree())
        with open(os.path.join(holder, "entries"), "r+b") as file:
            file.write(b"?")
        self.assertIn("is damaged", self.check(self.lower)[0].problem)
        os.unlink(os.path.join(holder, "tree.json"))
        self.assertEqual(self.check(self.lower), [Damage("../tree.json", "is missing")])
        shutil.rmtree(holder)
        self.assertEqual(self.check(self.lower), [Damage(".", "is missing")])

    def test_condemned(self) -> None:
        """
        A damaged tree is outdated until there is another one beside it, also over restarts.
        The layers get that one, and the damaged one is collected once nothing has it mounted.
        """
        self.record(self.tree())
        damaged = self.tree()
        self.successResultOf(self.store.integrity.condemn_tree(self.lower))
        for _ in range(2):
            self.assertTrue(self.store.trees.is_outdated(self.lower))
            self.assertTrue(self.store.trees.is_damaged(self.lower))
            self.assertFalse(self.store.trees.is_outdated(self.upper))
            self.assertIn("was found damaged", self.check(self.lower)[0].problem)
            self.reopen()
        self.renew(b"lower")
        self.reopen()
        self.assertFalse(self.store.trees.is_outdated(self.lower))
        self.assertNotEqual(self.tree(), damaged)
        self.assertTrue(os.path.isdir(damaged))
        self.record(self.tree())
        self.assertEqual(self.check(self.lower), [])
        self.successResultOf(self.store.gc.collect())
        self.assertFalse(os.path.exists(damaged))
        self.assertTrue(os.path.isdir(self.tree()))

    def test_condemned_twice(self) -> None:
        """
        A tree may be damaged more than once, and its directory may be lost.
        """
        paths = {self.tree()}
        for lost in (False, True, False):
            if lost:
                shutil.rmtree(os.path.dirname(self.tree()))
            self.successResultOf(self.store.integrity.condemn_tree(self.lower))
            self.renew(b"lower")
            paths.add(self.tree())
            self.assertTrue(os.path.exists(os.path.join(self.tree(), "content")))
        self.assertEqual(len(paths), 4)

    def test_variants(self) -> None:
        """
        A variant of a damaged tree is not used for the one that replaces it.
        """
        self.run_now(plant(self.store, b"implies", b"d"))
        diff_id, descriptor = Digest.of(b"implies"), layer_descriptor(b"implies")
        tops = []
        for number in range(2):
            below = b"below %d" % number
            staged = self.successResultOf(self.store.trees.stage())
            os.mkdir(os.path.join(staged, "d"), 0o700 + number)
            unpacked = Unpacked(Digest.of(below), 1, 1, 1)
            self.successResultOf(self.store.trees.commit(staged, unpacked, Digest.of(below)))
            bottom = self.successResultOf(
                self.store.layers.register(None, Digest.of(below), layer_descriptor(below))
            )
            tops.append(
                self.successResultOf(self.store.layers.register(bottom.chain_id, diff_id, descriptor))
            )
        self.successResultOf(self.store.integrity.condemn_tree(diff_id))
        self.run_now(plant(self.store, b"implies", b"d"))
        for number, old in enumerate(tops):
            found = self.store.layers.get(old.chain_id)
            assert found is not None
            self.assertTrue(found.outdated)
            fresh = self.successResultOf(self.store.layers.register(old.parent, diff_id, descriptor))
            self.assertFalse(fresh.outdated)
            self.assertNotIn(fresh.path, [each.path for each in tops])
            self.assertEqual(os.stat(os.path.join(fresh.path, "d")).st_mode & 0o777, 0o700 + number)

    def test_quarantine(self) -> None:
        """
        The layers with a damaged tree and those on top are removed; the tree is moved away
        and kept over restarts and collections; what was mounted of it goes on.
        """
        directory = os.open(self.tree(), os.O_RDONLY)
        self.addCleanup(os.close, directory)
        self.successResultOf(self.store.integrity.condemn_tree(self.lower))
        (moved,) = self.successResultOf(self.store.integrity.quarantine_tree(self.lower))
        self.assertEqual(os.listdir(directory), ["content"])
        for _ in range(2):
            self.assertFalse(self.store.trees.has(self.lower))
            self.assertTrue(self.store.trees.has(self.upper))
            self.assertEqual(set(self.store.layers.chain_ids()), set())
            self.reopen()
        self.successResultOf(self.store.gc.collect())
        self.assertTrue(os.path.exists(os.path.join(moved, "diff/content")))
        self.run_now(plant(self.store, b"upper"))
        self.renew(b"lower")
        self.assertTrue(self.store.trees.has(self.lower))

    def test_adopted(self) -> None:
        """
        A tree without a record gets that of a staged one.
        """
        staged = self.successResultOf(self.store.trees.stage())
        shutil.copy2(os.path.join(self.tree(), "content"), staged)
        shutil.copystat(self.tree(), staged)
        self.record(staged)
        self.successResultOf(self.store.integrity.adopt_record(staged, self.lower))
        self.successResultOf(self.store.trees.discard(staged))
        self.assertEqual(self.check(self.lower), [])
