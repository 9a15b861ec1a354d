"""
Tests for L{xferd.store.store}.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from typing import cast
from unittest import SkipTest

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from tests.other_user import OTHER
from tests.store.conformance.base import DATA, DIGEST
from tests.store.conformance.store import StoreConformance
from tests.store.disk.test_file_system import become_nobody
from tests.store.support import StoreTestCase, make_version_1, pull, sample
from xferd.errors import StoreError, StoreLocked
from xferd.interfaces.reactor import IReactor
from xferd.names import Digest
from xferd.store.store import PARTIAL_AGE, Store


class StoreTests(StoreConformance, StoreTestCase):
    """
    A data directory as a whole.
    """

    def mode(self, *names: str) -> int:
        """
        The mode of a file in the data directory.
        """
        return stat.S_IMODE(os.stat(os.path.join(self.path, *names)).st_mode)

    def refused(self) -> str:
        """
        Open the data directory and return the error.
        """
        return str(self.assertRaises(StoreError, self.make().open))

    def test_modes(self) -> None:
        """
        Only the daemon's user has access to the data directory, independent of
        the umask and of the directory's own mode: images may be private, and
        the journal has URLs of uploads.
        """
        self.addCleanup(os.umask, os.umask(0))
        for mode in (None, 0o755):
            self.path = self.mktemp()
            if mode is not None:
                os.mkdir(self.path, mode)
            self.open()
            self.assertEqual(self.mode(), mode or 0o700)
            self.successResultOf(self.store.journal.jobs(1))
            found = {
                os.path.relpath(os.path.join(root, name), self.path)
                for root, folders, files in os.walk(self.path)
                for name in folders + files
            }
            self.assertTrue(found >= {"content/index.json", "trees", "xferd.db", "xferd.db-wal", "lock"})
            for name in found:
                folder = os.path.isdir(os.path.join(self.path, name))
                self.assertEqual(self.mode(name), 0o700 if folder else 0o600, name)

    def test_modes_of_an_older_one(self) -> None:
        """
        Files of an earlier xferd that others could read are closed to them at
        the start; targets of links are not.
        """
        self.close(self.store)
        names = ("content", "content/index.json", "content/blobs", "xferd.db", "version", "trees")
        for name in names:
            path = os.path.join(self.path, name)
            os.chmod(path, 0o755 if os.path.isdir(path) else 0o644)
        other = self.mktemp()
        with open(other, "w"):
            os.chmod(other, 0o644)
        os.rename(os.path.join(self.path, "content/oci-layout"), os.path.join(self.path, "content/x"))
        os.symlink(os.path.abspath(other), os.path.join(self.path, "content/oci-layout"))
        self.open()
        for name in names:
            folder = os.path.isdir(os.path.join(self.path, name))
            self.assertEqual(self.mode(name), 0o700 if folder else 0o600, name)
        self.assertEqual(stat.S_IMODE(os.stat(other).st_mode), 0o644)

    def test_another_users(self) -> None:
        """
        A directory that another user has made, who could have planted links
        in it, is refused before anything is touched, unless it is trusted.
        """
        if os.geteuid() != 0:
            raise SkipTest("only root can use a directory of another user")
        self.path, victim = self.mktemp(), self.mktemp()
        os.mkdir(self.path, 0o700)
        with open(victim, "w") as file:
            file.write("precious")
        os.symlink(os.path.abspath(victim), os.path.join(self.path, "lock"))
        os.chown(self.path, OTHER, OTHER)
        self.assertIn(f"belongs to user {OTHER}", self.refused())
        with open(victim) as file:
            self.assertEqual(file.read(), "precious")
        self.trusted = True
        self.open()
        with open(victim) as file:
            self.assertEqual(file.read(), "precious")

    def test_mode_is_the_operators(self) -> None:
        """
        An existing directory keeps its mode.
        """
        for mode in (0o750, 0o755, 0o1775):
            self.path = self.mktemp()
            os.mkdir(self.path)
            os.chmod(self.path, mode)
            self.open()
            self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), mode)

    def test_others_can_write(self) -> None:
        """
        A directory that others can write to, or a group without a sticky
        bit, is refused, unless it is trusted.
        """
        for mode, who in ((0o757, "all users"), (0o1777, "all users"), (0o770, "the group")):
            self.path = self.mktemp()
            os.mkdir(self.path)
            os.chmod(self.path, mode)
            self.assertTrue(self.refused().startswith(who), mode)
            self.assertEqual(os.listdir(self.path), [])
            self.trusted = True
            self.open()
            self.trusted = False

    def test_parents(self) -> None:
        """
        The directories above are made, too.
        """
        self.path = os.path.join(self.mktemp(), "a", "b")
        self.open()
        self.assertTrue(os.path.isdir(self.path))

    def test_locked(self) -> None:
        """
        One daemon at a time: the second one reports the first one's process.
        """
        error = self.assertRaises(StoreLocked, self.make().open)
        self.assertEqual(
            str(error),
            f"another xferd (process {os.getpid()}) uses {os.path.abspath(self.path)}; "
            "stop it, or choose another data directory",
        )
        self.successResultOf(self.store.journal.jobs(1))
        self.reopen()

    def test_locked_by_who_knows_whom(self) -> None:
        """
        The holder of a lock may not have written its process ID yet.
        """
        os.truncate(os.path.join(self.path, "lock"), 0)
        self.assertTrue(self.refused().startswith("another xferd uses "))

    def test_no_locks(self) -> None:
        """
        A file system that cannot lock is no place for a store.
        """

        def refuse(*_: object) -> None:
            raise OSError(37, "No locks available")

        self.patch(fcntl, "flock", refuse)
        self.assertIn("No locks available", self.refused())

    def test_lock_is_freed_by_a_failure(self) -> None:
        """
        An attempt to open that fails leaves the lock to the next one.
        """
        self.close(self.store)
        version = os.path.join(self.path, "version")
        os.rename(version, version + "2")
        self.refused()
        os.rename(version + "2", version)
        self.open()

    def test_not_a_directory(self) -> None:
        """
        A path that leads through a file is refused in one line.
        """
        with open(self.mktemp(), "wb") as file:
            self.path = os.path.join(file.name, "store")
        message = self.refused()
        self.assertEqual(
            message, f"cannot use {os.path.abspath(self.path)} as the data directory: Not a directory"
        )

    def test_unwritable(self) -> None:
        """
        The same for a directory that may not be written to.
        """
        self.path = become_nobody(self)
        os.chmod(self.path, 0o500)
        self.assertEqual(self.refused(), f"cannot use {self.path} as the data directory: Permission denied")
        self.path = os.path.join(self.path, "store")
        self.assertIn("Permission denied", self.refused())

    def test_version(self) -> None:
        """
        A directory that another version arranged is left alone.
        """
        self.close(self.store)
        with open(os.path.join(self.path, "version"), "w") as file:
            file.write("3\n")
        self.assertEqual(
            self.refused(),
            f"{os.path.abspath(self.path)} is arranged as version '3', and this xferd knows versions up to "
            "2; use the xferd that made it, or choose another data directory",
        )

    def test_version_1(self) -> None:
        """
        A directory of the first version is used as it is, with another name for the
        files of each tree.  An older daemon refuses it from then on.
        """
        wanted = sample("alpine", b"one", b"two")
        self.run_now(pull(self.store, wanted))
        assert wanted.image.chain_id is not None
        layer = self.store.layers.get(wanted.image.chain_id)
        assert layer is not None
        self.close(self.store)
        make_version_1(self.path)
        self.assertFalse(os.path.exists(layer.path))
        self.store = self.open()
        self.assertEqual(self.store.layers.get(wanted.image.chain_id), layer)
        self.assertEqual(sorted(os.listdir(os.path.dirname(layer.path))), ["diff", "tree.json"])
        self.assertTrue(os.path.exists(os.path.join(layer.path, "content")))
        with open(os.path.join(self.path, "version")) as file:
            self.assertEqual(file.read(), "2\n")
        self.reopen()
        self.assertEqual(self.store.layers.get(wanted.image.chain_id), layer)

    def test_half_renamed(self) -> None:
        """
        The second version is recorded before the first tree is renamed, as an older
        daemon would remove the others; a start after an interrupted one renames
        these.
        """
        wanted = sample("alpine", b"one", b"two", b"three")
        self.run_now(pull(self.store, wanted))
        self.close(self.store)
        make_version_1(self.path)
        names: list[str] = []
        rename = os.rename

        def refuse(source: str, target: str) -> None:
            if os.path.basename(target) == "diff":
                with open(os.path.join(self.path, "version")) as file:
                    names.append(file.read())
                if len(names) == 2:
                    raise OSError(errno.EIO, "Input/output error")
            rename(source, target)

        patched = self.patch(os, "rename", refuse)
        store = self.make()
        store.open()
        self.failureResultOf(store.start(), StoreError)
        self.successResultOf(store.stop())
        patched.restore()
        self.assertEqual(names, ["2\n"] * 2)
        self.store = self.open()
        assert wanted.image.chain_id is not None
        layer = self.store.layers.get(wanted.image.chain_id)
        while layer is not None:
            self.assertTrue(os.path.exists(os.path.join(layer.path, "content")))
            layer = None if layer.parent is None else self.store.layers.get(layer.parent)
        self.assertEqual(len(self.store.images.all()), 1)

    def test_somebody_elses(self) -> None:
        """
        A directory that has one of our names in it and is not ours is left
        alone: sweeping C{staging/} would be a disaster.
        """
        for name in ("staging", "content"):
            self.path = self.mktemp()
            os.makedirs(os.path.join(self.path, name, "precious"))
            self.assertIn(f"holds {name} and is no data directory of xferd", self.refused())
            self.assertTrue(os.path.isdir(os.path.join(self.path, name, "precious")))

    def test_other_files(self) -> None:
        """
        Other files in the data directory are ignored.
        """
        self.path = self.mktemp()
        os.makedirs(os.path.join(self.path, "lost+found"))
        self.open()
        self.assertIn("lost+found", os.listdir(self.path))

    def test_sweep(self) -> None:
        """
        A start removes staged files, and useless partial blobs: with an invalid
        name, complete, or older than a week.
        """
        self.successResultOf(self.store.blobs.put(DIGEST, DATA))
        os.makedirs(os.path.join(self.path, "staging", "tree-x", "diff", "deep"))
        fresh, old = Digest.of(b"fresh"), Digest.of(b"old")
        for name in ("rubbish", f"sha256-{DIGEST.hex}", f"sha256-{fresh.hex}", f"sha256-{old.hex}"):
            with open(os.path.join(self.path, "ingest", name), "wb") as file:
                file.write(b"some")
            os.utime(file.name, (1000, 2000))
        os.utime(os.path.join(self.path, "ingest", f"sha256-{old.hex}"), (1000, 1000))
        os.mkdir(os.path.join(self.path, "ingest", "directory"))
        self.reactor.advance(PARTIAL_AGE + 1000)
        self.reopen()
        self.assertEqual(os.listdir(os.path.join(self.path, "staging")), [])
        self.assertEqual(os.listdir(os.path.join(self.path, "ingest")), [f"sha256-{fresh.hex}"])

    def test_start_does_not_wait_for_the_sweep(self) -> None:
        """
        Staged files of an earlier daemon are removed after the start, and new
        ones are spared.
        """
        os.makedirs(os.path.join(self.path, "staging", "tree-x", "diff"))
        self.close(self.store)
        self.store = self.make()
        self.addCleanup(self.close, self.store)
        self.store.open()
        self.pools.disk.held = True
        starting = self.store.start()
        removal = self.pools.disk.waiting.pop(0)
        while self.pools.disk.waiting:
            self.pools.disk.step()
        self.successResultOf(starting)
        staging = self.store.trees.stage()
        self.pools.disk.step()
        removal()
        self.assertEqual(
            [os.path.basename(os.path.dirname(self.successResultOf(staging)))],
            os.listdir(os.path.join(self.path, "staging")),
        )
        self.pools.disk.release()

    def test_start_fails(self) -> None:
        """
        A start that the disk refuses fails in one line, and the store can be
        stopped.
        """
        self.close(self.store)
        fresh = self.make()
        fresh.open()
        os.rename(os.path.join(self.path, "trees"), os.path.join(self.path, "moved"))
        reason = self.failureResultOf(fresh.start(), StoreError)
        self.assertIn("cannot read", str(reason.value))
        self.successResultOf(fresh.stop())

    def test_start_unopened(self) -> None:
        """
        A store that was not opened cannot start, and can be stopped.
        """
        fresh = self.make()
        self.failureResultOf(fresh.start(), StoreError)
        self.successResultOf(fresh.stop())

    def test_stop_opened(self) -> None:
        """
        A store that was opened and not started can be stopped, which releases
        the lock.
        """
        self.close(self.store)
        fresh = self.make()
        fresh.open()
        self.successResultOf(fresh.stop())
        self.open()

    def test_stop(self) -> None:
        """
        Stopping closes partial blobs, waits for threads, and is idempotent.
        """
        partial = self.successResultOf(self.store.blobs.partial(DIGEST, None))
        partial.write(DATA)
        self.pools.disk.held = True
        putting = self.store.blobs.put(Digest.of(b"x"), b"x")
        stopping = [self.store.stop(), self.store.stop()]
        stopping[0].cancel()
        for each in stopping:
            self.assertNoResult(each)
        self.assertRaises(StoreError, partial.write, b"more")
        self.pools.disk.release()
        self.successResultOf(putting)
        self.failureResultOf(stopping[0], CancelledError)
        self.successResultOf(stopping[1])
        self.failureResultOf(self.store.blobs.read(DIGEST), StoreError)
        self.reopen()
        self.assertEqual(self.successResultOf(self.store.blobs.partial(DIGEST, None)).offset, len(DATA))

    def test_stop_while_opening_a_partial(self) -> None:
        """
        A partial blob that is being opened when the store stops can be closed
        by its owner.
        """
        self.pools.disk.held = True
        opening = self.store.blobs.partial(DIGEST, None)
        stopping = self.store.stop()
        self.pools.disk.release()
        self.successResultOf(stopping)
        self.successResultOf(opening).close()
        self.assertEqual(os.listdir(os.path.join(self.path, "ingest")), [])


class RealStoreTests(TestCase):
    """
    A store with real threads on the real reactor.
    """

    async def test_whole_life(self) -> None:
        """
        Images that are pulled at the same time are all there after a restart.
        """
        from twisted.internet import reactor  # noqa: PLC0415

        path = self.mktemp()
        first = Store(path, cast(IReactor, reactor), wall_clock=time.time)
        first.open()
        await first.start()
        wanted = [sample(f"image{n}", b"%d" % n, b"top %d" % n) for n in range(8)]
        pulls = [Deferred.fromCoroutine(pull(first, each)) for each in wanted]
        for each in pulls:
            await each
        await first.stop()
        second = Store(path, cast(IReactor, reactor), wall_clock=time.time)
        second.open()
        await second.start()
        try:
            self.assertEqual(list(second.images.all()), [each.image for each in wanted])
        finally:
            await second.stop()
