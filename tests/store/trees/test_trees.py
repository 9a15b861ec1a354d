"""
Tests for L{xferd.store.trees.trees}.
"""

from __future__ import annotations

import errno
import json
import os
from threading import Event
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.store.conformance.base import DATA, DIGEST
from tests.store.conformance.trees import TreesConformance
from tests.store.disk.test_file_system import Recorder
from tests.store.support import StoreTestCase, plant
from xferd.errors import StoreError
from xferd.interfaces.store import Unpacked
from xferd.names import Digest
from xferd.owners import Owners
from xferd.store.disk import file_system
from xferd.store.disk.file_system import sync_file_system
from xferd.store.trees import tree_files, variants
from xferd.store.trees.facts import TreeFacts
from xferd.store.trees.hard_links import CopySize

BLOB = Digest.of(b"compressed")
OWNERS = Owners((0, 3), (1,))
FACTS = Unpacked(DIGEST, 100, 10, 1)


class TreesTests(TreesConformance, StoreTestCase):
    """
    Trees on disk.
    """

    def where(self, name: str = DIGEST.hex) -> str:
        """
        Where a tree is.
        """
        return os.path.join(self.path, "trees", "sha256", name)

    def staging(self) -> list[str]:
        """
        The content of C{staging/}.
        """
        return os.listdir(os.path.join(self.path, "staging"))

    def test_whole(self) -> None:
        """
        The tree is what was staged, beside its facts, on a path without
        colons, and nothing is left in C{staging/}.
        """
        self.addCleanup(os.umask, os.umask(0o077))
        self.run_now(plant(self.store, DATA, b"a/b"))
        self.assertEqual(sorted(os.listdir(self.where())), ["diff", "tree.json"])
        self.assertEqual(sorted(os.listdir(os.path.join(self.where(), "diff"))), ["a", "content"])
        self.assertEqual(os.stat(os.path.join(self.where(), "diff")).st_mode & 0o777, 0o755)
        self.assertNotIn(":", self.where())
        self.assertEqual(self.staging(), [])

    def test_order(self) -> None:
        """
        All of a tree is on the disk before it has its name.
        """
        recorder = Recorder(self, "rename", "fsync")

        def flush(fd: int) -> None:
            recorder.calls.append("syncfs")
            sync_file_system(fd)

        self.patch(file_system, "sync_file_system", flush)
        self.run_now(plant(self.store, DATA))
        self.assertEqual(recorder.calls[0], "syncfs")
        self.assertEqual(recorder.calls[-2:], ["rename", "fsync directory"])

    def test_one_flush_for_many(self) -> None:
        """
        Trees that are ready while the disk is busy are flushed together.
        """
        flushes: list[int] = []
        self.patch(file_system, "sync_file_system", flushes.append)
        self.pools.disk.held = self.pools.bulk.held = True
        staging = [self.store.trees.stage() for _ in range(5)]
        while self.pools.disk.waiting:
            self.pools.disk.step()
        committing = []
        for number, staged in enumerate(self.successResultOf(each) for each in staging):
            diff_id = Digest.of(b"%d" % number)
            committing.append(self.store.trees.commit(staged, Unpacked(diff_id, 1, 1, 1), diff_id))
        while self.pools.disk.waiting or self.pools.bulk.waiting:
            (self.pools.disk if self.pools.disk.waiting else self.pools.bulk).step()
        for each in committing:
            self.successResultOf(each)
        self.assertEqual(len(flushes), 2)

    def test_lost_write(self) -> None:
        """
        The kernel reports a lost write to one flush: it fails the commits of all trees that
        were staged before, in whatever flush, and of none that is staged later.
        """
        first, second, other = (self.successResultOf(self.store.trees.stage()) for _ in range(3))
        patched = self.refuse("sync_file_system", file_system)
        self.failureResultOf(self.store.trees.commit(first, FACTS, BLOB), StoreError)
        patched.restore()
        self.successResultOf(self.store.trees.discard(other))
        reason = self.failureResultOf(self.store.trees.commit(second, FACTS, BLOB), StoreError)
        self.assertIn("cannot flush an unpacked layer: Input/output error", str(reason.value))
        self.assertEqual((self.staging(), self.store.trees.has(DIGEST)), ([], False))
        staged = self.successResultOf(self.store.trees.stage())
        self.successResultOf(self.store.trees.commit(staged, FACTS, BLOB))
        self.assertEqual(self.store.trees._staged, {})

    def test_over_a_restart(self) -> None:
        """
        Trees and the blobs that they are known by are there after a restart.
        """
        other = Digest.of(b"zstd")
        for blob in (BLOB, other):
            staged = self.successResultOf(self.store.trees.stage())
            self.successResultOf(self.store.trees.commit(staged, FACTS, blob))
        again = self.reopen().trees
        self.assertTrue(again.has(DIGEST))
        self.assertEqual((again.diff_id_of(BLOB), again.diff_id_of(other)), (DIGEST, DIGEST))

    def test_both_at_once(self) -> None:
        """
        Two commits of one tree at the same time make one tree, known by both
        blobs.
        """
        blobs = [BLOB, Digest.of(b"zstd")]
        staged = [self.successResultOf(self.store.trees.stage()) for _ in blobs]
        self.pools.disk.held = True
        committing = [
            self.store.trees.commit(path, FACTS, blob) for path, blob in zip(staged, blobs, strict=True)
        ]
        self.pools.disk.release()
        for each in committing:
            self.successResultOf(each)
        self.assertEqual(self.staging(), [])
        self.reopen()
        self.assertEqual([self.store.trees.diff_id_of(blob) for blob in blobs], [DIGEST, DIGEST])

    def refuse(self, name: str, module: Any = tree_files) -> Any:
        """
        Let a function of the disk fail.
        """

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        return self.patch(module, name, refuse)

    def test_disk_refuses(self) -> None:
        """
        Whatever the disk refuses, the staged tree is removed and another
        attempt may succeed.
        """
        for module, name in (
            (file_system, "sync_file_system"),
            (tree_files, "move"),
            (tree_files, "make_directory"),
        ):
            staged = self.successResultOf(self.store.trees.stage())
            patched = self.refuse(name, module)
            reason = self.failureResultOf(self.store.trees.commit(staged, FACTS, BLOB), StoreError)
            patched.restore()
            self.assertIn("Input/output error", str(reason.value))
            self.assertEqual((self.staging(), self.store.trees.has(DIGEST)), ([], False))
        staged = self.successResultOf(self.store.trees.stage())
        self.successResultOf(self.store.trees.commit(staged, FACTS, BLOB))

    def test_reserve(self) -> None:
        """
        On a full disk the facts of a tree use the reserve, unless they are
        large.
        """
        spent: list[object] = []

        def spend(work: Any, *args: Any) -> Any:
            spent.append(work)
            return work(*args)

        self.patch(self.store._reserve, "spend", spend)
        for name, few in ((b"short", True), (b"n" * (256 * 1024), False)):
            spent.clear()
            digest = Digest.of(name)
            staged = self.successResultOf(self.store.trees.stage())
            facts = Unpacked(digest, 1, 0, 1, (name,))
            self.successResultOf(self.store.trees.commit(staged, facts, digest))
            again = self.successResultOf(self.store.trees.stage())
            self.successResultOf(self.store.trees.commit(again, facts, BLOB))
            written = [work for work in spent if work.__module__ == "xferd.store.trees.facts"]
            self.assertEqual(len(written), 2 if few else 0)

    def test_cannot_stage(self) -> None:
        """
        A directory that cannot be made is an error.
        """
        self.refuse("mkdtemp", variants)
        self.failureResultOf(self.store.trees.stage(), StoreError)

    def test_cancel_stage(self) -> None:
        """
        A staged directory whose requester was cancelled is removed.
        """
        self.pools.disk.held = True
        staging = self.store.trees.stage()
        staging.cancel()
        self.assertNoResult(staging)
        self.pools.disk.release()
        self.failureResultOf(staging, CancelledError)
        self.assertEqual(self.staging(), [])

    def test_cancel_commit(self) -> None:
        """
        A commit that is cancelled is carried through, and then has been
        cancelled.
        """
        staged = self.successResultOf(self.store.trees.stage())
        self.pools.disk.held = True
        committing = self.store.trees.commit(staged, FACTS, BLOB)
        committing.cancel()
        self.assertNoResult(committing)
        self.pools.disk.release()
        self.failureResultOf(committing, CancelledError)
        self.assertTrue(self.store.trees.has(DIGEST))

    def test_weigh(self) -> None:
        """
        A staged tree has the bytes of its files.
        """
        staged = self.successResultOf(self.store.trees.stage())
        with open(os.path.join(staged, "file"), "wb") as file:
            file.write(bytes(8192))
        self.assertEqual(self.successResultOf(self.store.trees.staged_size(staged)), 8192)
        self.successResultOf(self.store.trees.discard(staged))

    def test_discard(self) -> None:
        """
        A discarded tree is out of the way before it is removed.
        """
        staged = self.successResultOf(self.store.trees.stage())
        os.mkdir(os.path.join(staged, "inner"))
        self.pools.disk.held = True
        self.successResultOf(self.store.trees.discard(staged))
        self.assertFalse(os.path.exists(staged))
        self.assertEqual(len(self.staging()), 1)
        self.pools.disk.release()
        self.assertEqual(self.staging(), [])

    def test_discard_refused(self) -> None:
        """
        A staged tree that cannot be moved is an error.
        """
        staged = self.successResultOf(self.store.trees.stage())
        self.patch(self.store._paths.__class__, "staging", property(lambda _: "/nowhere"))
        self.failureResultOf(self.store.trees.discard(staged), StoreError)

    def test_broken(self) -> None:
        """
        Incomplete trees are removed at the start; directories with names of
        another form are ignored.
        """
        self.run_now(plant(self.store, DATA))
        with open(os.path.join(self.where(), "tree.json"), "rb") as file:
            facts = file.read()

        def broken(name: str, facts: bytes | None, has_fs: bool = True) -> str:
            path = self.where(name)
            os.makedirs(os.path.join(path, "diff") if has_fs else path)
            if facts is not None:
                with open(os.path.join(path, "tree.json"), "wb") as file:
                    file.write(facts)
            return path

        gone = [
            broken(Digest.of(b"1").hex, None),
            broken(Digest.of(b"2").hex, facts),
            broken(Digest.of(b"3").hex, facts[:-9]),
            broken(Digest.of(b"4").hex, b"[]"),
            broken(Digest.of(b"5").hex, facts.replace(DIGEST.hex.encode(), b"x")),
            broken(DIGEST.hex + ".0123456789abcdef", facts, has_fs=False),
        ]
        stranger = broken("lost+found", None)
        with open(os.path.join(self.path, "trees", "README"), "wb"):
            pass
        self.reopen()
        self.assertEqual([path for path in gone if os.path.exists(path)], [])
        self.assertTrue(os.path.exists(stranger))
        self.assertTrue(self.store.trees.has(DIGEST))
        self.assertEqual(self.staging(), [])

    def test_fit_absent(self) -> None:
        """
        A tree that is not here fits nothing.
        """
        self.failureResultOf(Deferred.fromCoroutine(self.store.trees.fit(DIGEST, [], Event())), StoreError)


class FactsTests(SynchronousTestCase):
    """
    C{tree.json}.
    """

    @given(st.lists(st.binary(min_size=1)), st.none() | st.just({b"\xff": None}), st.none() | st.just(OWNERS))
    def test_json(
        self, implied: list[bytes], claimed: dict[bytes, None] | None, owners: Owners | None
    ) -> None:
        """
        Facts survive the conversion to JSON, with any bytes in paths.
        """
        tree = TreeFacts(
            Unpacked(DIGEST, 3, 2, 1, tuple(implied), owners), (BLOB,), claimed, copied=CopySize(3, 4096)
        )
        self.assertEqual(TreeFacts.from_json(tree.to_json()), tree)

    def test_damaged(self) -> None:
        """
        Damage of any kind is reported as such.
        """
        good = json.loads(TreeFacts(FACTS, (BLOB,)).to_json())
        damages: list[dict[str, object]] = [
            {"size": None},
            {"diff_id": "x"},
            {"blobs": 3},
            {"claimed": 3},
            {"implied": [3]},
            {"copied": []},
            {"owners": {}},
        ]
        for damage in damages:
            self.assertRaises(ValueError, TreeFacts.from_json, json.dumps({**good, **damage}).encode())
        for text in (b"", b"3", b"{}", b"\xff"):
            self.assertRaises(ValueError, TreeFacts.from_json, text)
