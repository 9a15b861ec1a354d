"""
A store on a disk that is full.
"""

from __future__ import annotations

import os
from typing import cast

from attrs import evolve

from tests.store.conformance.journal import job
from tests.store.small_disk import SmallDisk
from tests.store.support import StoreTestCase, docker_sample, pull, sample
from xferd.errors import DiskFull
from xferd.interfaces.reactor import IReactor
from xferd.names import Digest, Reference, Repository
from xferd.store.store import Store

MIB = 1024 * 1024
SIZE = 6 * MIB


class FullDiskTests(StoreTestCase):
    """
    A store with two images, on a real disk without a free byte.
    """

    def setUp(self) -> None:
        """
        Fill it.
        """
        self.disk = SmallDisk(self.mktemp(), SIZE)
        self.addCleanup(self.disk.unmount)
        super().setUp()
        self.images = [sample("one", b"one" * 10_000), docker_sample("two", b"two" * 10_000)]
        for image in self.images:
            self.run_now(pull(self.store, image))
        self.disk.fill()

    def mktemp(self) -> str:
        """
        The data directory.
        """
        return self.disk.place("store") if hasattr(self, "disk") else str(super().mktemp())

    def make(self) -> Store:
        """
        A store with a reserve of 2 MiB.
        """
        return Store(
            self.path,
            cast(IReactor, self.reactor),
            wall_clock=self.wall_clock,
            pools=self.pools,
            reserve=2 * MIB,
        )

    def names(self) -> list[str]:
        """
        The names of the images.
        """
        return [image.reference.familiar() for image in self.store.images.all()]

    def test_full(self) -> None:
        """
        A write of any size fails, with an error of the store.
        """
        self.assertRaises(OSError, self.write)
        self.assertEqual(self.store.free_space.why, f"the disk of {self.path} is full")

    def write(self) -> None:
        """
        Try to write one byte.
        """
        with open(self.disk.place("file"), "wb") as file:
            file.write(b"x")

    def test_remove(self) -> None:
        """
        An image is removed and collected, which frees space; the reserve is
        complete again afterwards, and the next store finds the same state.
        """
        self.successResultOf(self.store.images.remove(self.images[0].image.reference))
        freed = self.successResultOf(self.store.gc.collect(False))
        self.assertEqual((freed.trees, freed.layers, freed.blobs), (1, 1, 3))
        self.assertEqual(self.names(), ["two:latest"])
        self.assertGreater(self.disk.free, 0)
        self.store = self.reopen()
        self.assertEqual(self.names(), ["two:latest"])
        self.assertEqual(os.path.getsize(self.disk.place("store/reserve")), SIZE // 3)

    def test_tag(self) -> None:
        """
        Images get other names, one of Docker's form too.
        """
        for number, each in enumerate(self.images):
            name = Reference.parse(f"more{number}:1")
            self.successResultOf(self.store.images.put(evolve(each.image, reference=name)))
        self.store = self.reopen()
        self.assertEqual(self.names(), ["more0:1", "more1:1", "one:latest", "two:latest"])

    def test_documents(self) -> None:
        """
        Small documents are kept, large ones refused.
        """
        for size, kept in ((1000, True), (70_000, False)):
            data = b"x" * size
            putting = self.store.blobs.put(Digest.of(data), data)
            if kept:
                self.successResultOf(putting)
            else:
                self.failureResultOf(putting, DiskFull)
            self.assertEqual(self.store.blobs.has(Digest.of(data)), kept)

    def test_journal(self) -> None:
        """
        The journal continues, over many records and a restart.
        """
        for number in range(50):
            self.successResultOf(self.store.journal.record_job(job(number)))
        self.store = self.reopen()
        self.assertEqual(len(self.successResultOf(self.store.journal.jobs(1000))), 50)

    def test_start(self) -> None:
        """
        A store starts on a full disk, again and again, also after the daemon
        was killed and had nothing in its lock file.
        """
        for _ in range(3):
            self.store = self.reopen()
            self.disk.fill()
        self.close(self.store)
        os.truncate(self.disk.place("store/lock"), 0)
        self.disk.fill()
        self.store = self.open()
        self.assertEqual(self.names(), ["one:latest", "two:latest"])

    def test_start_without_reserve(self) -> None:
        """
        If the reserve is spent, too, a store starts in the space of an earlier
        one's unfinished files; without any, it reports why it cannot.
        """
        self.close(self.store)
        os.unlink(self.disk.place("store/reserve"))
        os.makedirs(self.disk.place("store/staging/tree-1/diff"))
        with open(self.disk.place("store/staging/tree-1/diff/file"), "wb") as file:
            file.write(bytes(MIB))
        self.disk.fill()
        self.store = self.open()
        self.assertEqual(self.names(), ["one:latest", "two:latest"])
        self.close(self.store)
        os.unlink(self.disk.place("store/reserve"))
        self.disk.fill()
        error = self.assertRaises(DiskFull, self.make().open)
        self.assertIn("no space is left", str(error))

    def test_spent(self) -> None:
        """
        Without a reserve, as in a store on a disk that was full from the
        start, a name that cannot be changed stays, with an error that states
        the reason.
        """
        os.unlink(self.disk.place("store/reserve"))
        self.disk.fill()
        failure = self.failureResultOf(self.store.images.remove(self.images[0].image.reference), DiskFull)
        self.assertIn("no space is left", failure.getErrorMessage())
        self.assertEqual(self.names(), ["one:latest", "two:latest"])
        self.assertEqual(os.listdir(self.disk.place("store/staging")), [])

    def test_room_again(self) -> None:
        """
        When there is a little space, the reserve is allocated again first.
        """
        os.truncate(self.disk.place("store/reserve"), 0)
        self.disk.fill()
        waiting = self.store.free_space.wait(DiskFull("full"))
        self.reactor.advance(1)
        self.disk.drain(self.disk.used("ballast") - MIB)
        self.reactor.advance(1)
        self.assertEqual(os.path.getsize(self.disk.place("store/reserve")), MIB)
        self.assertNoResult(waiting)
        self.disk.drain()
        self.reactor.advance(1)
        self.assertEqual(os.path.getsize(self.disk.place("store/reserve")), SIZE // 3)
        self.successResultOf(waiting)

    def test_upload(self) -> None:
        """
        An upload to the registry can begin; its bytes are refused, and what came before
        stays, until there is space.
        """
        app = Repository("localhost", "local/app")
        incoming = self.successResultOf(self.store.incoming.begin(app, "ci"))
        self.assertRaises(DiskFull, incoming.write, bytes(MIB))
        self.assertEqual(incoming.offset, 0)
        incoming.release()
        self.disk.drain()
        self.reopen()
        again = self.successResultOf(self.store.incoming.open(app, incoming.id))
        again.write(b"data")
        self.assertEqual(self.successResultOf(again.commit(Digest.of(b"data"))), 4)
        self.assertEqual(self.successResultOf(self.store.blobs.read(Digest.of(b"data"))), b"data")
