# -*- test-case-name: tests.store.test_store -*-
"""
The data directory as a whole: created, locked, swept and released.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from threading import Event
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import DiskFull, StoreError, StoreLocked
from xferd.interfaces.reactor import IReactor, WallClock
from xferd.interfaces.store import UNPACK_RULES, IStore
from xferd.interfaces.unpack import UnpackLimits
from xferd.locks import FileLock, Held
from xferd.store.batches import Batches
from xferd.store.blobs.blobs import Blobs
from xferd.store.blobs.spans import boot_id
from xferd.store.catalog.catalog import Catalog
from xferd.store.catalog.records import CatalogRecords
from xferd.store.disk.file_system import (
    flushed,
    free_bytes,
    make_directory,
    remove,
    sync_directory,
    total_bytes,
    trying_to,
    write_file,
)
from xferd.store.disk.free_space import LEAST, SHARE, FreeSpace
from xferd.store.disk.permissions import check_owner, close_to_others
from xferd.store.disk.reserve import RESERVE, Reserve
from xferd.store.disk.trash import Trash
from xferd.store.disk.usage import files_of
from xferd.store.gc.collector import GarbageCollector
from xferd.store.images.images import Images
from xferd.store.images.index_file import read_index, write_index
from xferd.store.images.last_used import LastUsed
from xferd.store.incoming.records import IncomingRecords
from xferd.store.incoming.sessions import IncomingBlobs
from xferd.store.integrity.integrity import Integrity
from xferd.store.journal import Journal
from xferd.store.layers import Layers
from xferd.store.leases import Leases
from xferd.store.paths import INCOMING, NOTE, Paths, parse_partial_name
from xferd.store.snapshots import SnapshotDatabase, SnapshotTables
from xferd.store.threads import Pool, Threads, delay_cancellation
from xferd.store.trees.hard_links import CopySize
from xferd.store.trees.trees import Trees
from xferd.store.worker_pool import WorkerPool

VERSION = b"2\n"
"""The version of the data directory's layout."""

_RENAMED = b"1\n"
"""
The version in which the files of trees have another name.  They are renamed when
the trees are loaded, after the version has been written: an older daemon would
remove the trees that it does not find whole.
"""

PARTIAL_AGE = 7 * 24 * 3600
"""Seconds after which an unused partial blob is removed."""


class Pools(Protocol):
    """
    Makes a pool of threads, as L{WorkerPool} does.
    """

    def __call__(self, minthreads: int, maxthreads: int, name: str) -> Pool:
        """
        Make a pool that has not started.
        """


@implementer(IStore)
class Store:
    """
    A data directory.

    Life cycle: made; C{open}ed, which reports all errors that an operator can
    make; C{start}ed, after which it is consistent; C{stop}ped.
    """

    _log = Logger()

    def __init__(
        self,
        path: str,
        reactor: IReactor,
        *,
        wall_clock: WallClock,
        threads: int = 4,
        pools: Pools = WorkerPool,
        partial_age: float = PARTIAL_AGE,
        reserve: int = RESERVE,
        unpack_rules: int = UNPACK_RULES,
        trusted: bool = False,
        unpack_limits: UnpackLimits | None = None,
    ) -> None:
        """
        @param wall_clock: measures the ages of files.
        @param threads: threads of each pool: one for work whose time grows with
            the size of blobs and trees, one for the registration of layers, and
            one for all other work.  One further thread checks content.
        @param reserve: bytes that are kept for small writes on a full disk.
        @param partial_age: seconds for which an unused partial blob is kept.
        @param unpack_rules: the current version of the unpacking rules; trees by
            older ones are outdated.
        @param trusted: whether to accept a directory that others can write to.
        @param unpack_limits: limits of all variants of trees that one image
            needs; by default those of a layer.
        """
        self.path = os.path.abspath(path)
        self._trusted = trusted
        self._wall_clock = wall_clock
        self._paths = paths = Paths(self.path)
        closed = f"the store {self.path} is not open"
        # Long work of one job, such as an fsync or the hashing of a partial blob, must not delay the
        # documents of others.
        self._reading = Threads(reactor, pools(0, 1, "xferd.integrity"), closed)
        self._fitting = Threads(reactor, pools(0, threads, "xferd.layers"), closed)
        self._bulk = Threads(reactor, pools(0, threads, "xferd.bulk"), closed)
        self._threads = Threads(reactor, pools(0, threads, "xferd.store"), closed)
        self._database_thread = Threads(reactor, pools(0, 1, "xferd.journal"), closed)
        self._reserve = Reserve(paths.reserve, reserve)
        self._trash = Trash(paths, self._threads, self._reserve)
        self._partial_age = partial_age
        leases = Leases()
        self.blobs = Blobs(
            paths,
            self._threads,
            self._bulk,
            trash=self._trash,
            leases=leases,
            clock=reactor,
            reserve=self._reserve,
        )
        limits = UnpackLimits() if unpack_limits is None else unpack_limits
        self.trees = Trees(
            paths,
            self._threads,
            self._bulk,
            self._fitting,
            trash=self._trash,
            leases=leases,
            reserve=self._reserve,
            rules=unpack_rules,
            most_copied=CopySize(limits.entries, limits.size),
        )
        self.layers = Layers(paths, self._threads, self.trees, leases)
        self.journal = Journal(paths.database, self._database_thread, self._reserve, reactor)
        self.incoming = IncomingBlobs(
            paths,
            self._bulk,
            records=IncomingRecords(self.journal),
            trash=self._trash,
            leases=leases,
            clock=reactor,
            wall_clock=wall_clock,
        )
        self.integrity = Integrity(
            paths, self._threads, self._reading, leases=leases, trees=self.trees, layers=self.layers
        )
        self._last_used = LastUsed(self.journal, wall_clock)
        self.catalog = Catalog(CatalogRecords(self.journal), leases.touch, self._last_used)
        self.images = Images(
            paths,
            self._threads,
            blobs=self.blobs,
            layers=self.layers,
            leases=leases,
            reserve=self._reserve,
            last_used=self._last_used,
        )
        self.gc = GarbageCollector(
            paths,
            threads=self._threads,
            trash=self._trash,
            leases=leases,
            blobs=self.blobs,
            trees=self.trees,
            layers=self.layers,
            images=self.images,
            catalog=self.catalog,
            last_used=self._last_used,
            clock=reactor,
            wall_clock=wall_clock,
            partial_age=partial_age,
        )
        self._snapshots = SnapshotDatabase(paths.snapshots, self._database_thread, self._reserve, reactor)
        self.snapshots = SnapshotTables(self._snapshots, self.gc.add_user)
        self.free_space = FreeSpace(
            self.path,
            reactor,
            free=lambda: free_bytes(self.path),
            before=lambda: self._threads.run(self._reserve.fill),
            least=lambda: min(LEAST, total_bytes(self.path) // SHARE),
        )
        self._lock = FileLock(paths.lock)
        self._opened = False
        self._old: list[str] = []
        self._started = False
        # A second stop waits for the first, and then has nothing to do.
        self._stops: Batches[None] = Batches(lambda _: Deferred.fromCoroutine(self._stop()))

    def open(self) -> None:
        """
        Create the directories and acquire the lock.  Blocking: call it before
        the reactor runs.

        Only the owner has access to a new data directory: programs in unpacked
        images may be setuid, and images may be private.

        @raise StoreLocked: another daemon has it.
        @raise StoreError: it cannot be written to, another user can change
            it, it is of another version, or something in it is damaged.
        """
        assert not self._opened, "a store is opened once"
        with trying_to(f"use {self.path} as the data directory"):
            if not os.path.lexists(os.path.dirname(self.path)):
                os.makedirs(os.path.dirname(self.path))
            make_directory(self.path, 0o700)
            if not self._trusted:
                check_owner(self.path)
            try:
                self._lock.acquire()
            except Held as e:
                raise StoreLocked(
                    f"another xferd{e.holder} uses {self.path}; stop it, or choose another data directory"
                ) from e
        self._opened = True
        try:
            with trying_to(f"use {self.path} as the data directory"):
                for path in close_to_others(self._paths):
                    self._log.warn("other users may have rights on {path}: chmod go= it", path=path)
                self._reserve.spend(self._prepare)
            self._reserve.spend(self._check_index)
            self._open_journal()
        except BaseException:
            self._release()
            raise

    def start(self) -> Deferred[None]:
        """
        Load the content and sweep unfinished files of an earlier daemon.

        @return: fires when the store is consistent.  Cancelling waits for that.
        @raise StoreError: the disk refuses.
        """
        return delay_cancellation(Deferred.fromCoroutine(self._start()))

    def stop(self) -> Deferred[None]:
        """
        Stop all work and release the directory.  Idempotent.

        @return: fires when no thread uses the directory and the lock is
            released.  Cancelling waits for that.
        """
        return self._stops.add(None)

    def discard(self, path: str) -> None:
        self._trash.throw(path)

    def usage(self) -> Deferred[Mapping[str, int]]:
        return Deferred.fromCoroutine(self._usage())

    async def _usage(self) -> Mapping[str, int]:
        files = await self._threads.run(files_of, self._paths)
        return {**files, "trees": self.trees.total()}

    async def _start(self) -> None:
        if not self._opened:
            raise StoreError(f"the store {self.path} is not open")
        self._reading.start()
        self._fitting.start()
        self._bulk.start()
        self._threads.start()
        self._database_thread.start()
        self._started = True
        old, self._old = self._old, []
        self._trash.remove(old)
        restarted = await self._threads.run(_has_restarted, self._paths)
        oldest = self._wall_clock() - self._partial_age
        await self._threads.run(_settle, self._paths, oldest, restarted)
        await self.trees.load()
        await self.layers.load()
        await self.images.load()
        await self.catalog.load()
        await self.incoming.load(keep=not restarted)
        # Only now: what was not flushed before is gone.
        await self._threads.run(self._reserve.spend, _note_boot, self._paths)
        await self._last_used.load()
        await self.snapshots.load()
        await self._threads.run(self._reserve.fill)
        self.gc.start()
        self._log.info(
            "store {path} is ready: {images} images", path=self.path, images=len(self.images.all())
        )

    async def _stop(self) -> None:
        await self.gc.stop()
        await self.free_space.stop()
        self.blobs.close()
        self.incoming.close()
        self._trash.stop()
        if self._started:
            await self.journal.close()
            await self._snapshots.close()
        await self._reading.stop()
        await self._fitting.stop()
        await self._bulk.stop()
        await self._threads.stop()
        await self._database_thread.stop()
        self.trees.close()
        self._release()

    def _prepare(self) -> None:
        """
        Create the missing parts of the data directory.
        """
        paths = self._paths
        version = self._check_version()
        for directory in (paths.ingest, paths.trees, paths.layers, paths.staging):
            make_directory(directory, 0o700)
        make_directory(paths.content, 0o700)
        make_directory(paths.blobs, 0o700)
        self._old = [os.path.join(paths.staging, name) for name in os.listdir(paths.staging)]
        if version != VERSION:
            self._log.info("the trees in {path} get the layout of version 2", path=self.path)
            write_file(paths.version, VERSION, paths.staging)
        if not os.path.exists(paths.oci_layout):
            layout = json.dumps({"imageLayoutVersion": "1.0.0"}).encode()
            write_file(paths.oci_layout, layout, paths.staging)

    def _open_journal(self) -> None:
        """
        Open the databases.  If the reserve is spent, too, free space by removing
        the unfinished files of an earlier daemon first.
        """
        try:
            self._open_databases()
        except DiskFull:
            old, self._old = self._old, []
            with trying_to(f"sweep {self._paths.staging}"):
                for path in old:
                    remove(path, Event())
            self._open_databases()

    def _open_databases(self) -> None:
        self._snapshots.open()
        # Before the journal drops the snapshots of an older version.
        self._snapshots.take_from(self._paths.database)
        self.journal.open()

    def _check_index(self) -> None:
        """
        Check C{index.json}, or create it.
        """
        index = read_index(self._paths)
        if not os.path.exists(self._paths.index):
            write_index(self._paths, index)

    def _check_version(self) -> bytes:
        """
        Check that the directory has this layout, or one that can be changed into
        it, or is new.

        @return: the version of its layout.
        """
        paths = self._paths
        version = b""
        if os.path.lexists(paths.version):
            with open(paths.version, "rb") as file:
                # A power cut may leave zeros of what was not flushed.
                version = file.read(100).strip(b"\0")
        if version in (VERSION, _RENAMED):
            return version
        if version:
            found = version.decode("ascii", "replace").strip()
            raise StoreError(
                f"{self.path} is arranged as version {found!r}, and this xferd knows versions up to 2; "
                "use the xferd that made it, or choose another data directory"
            )
        ours = (paths.content, paths.ingest, paths.trees, paths.layers, paths.staging, paths.database)
        taken = next((path for path in ours if os.path.lexists(path)), None)
        if taken is not None:
            raise StoreError(
                f"{self.path} holds {os.path.basename(taken)} and is no data directory of xferd; "
                "choose another, or an empty one"
            )
        # Flushed before anything else is created: if it is empty, the directory is new.
        with open(paths.version, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(VERSION)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(self.path)
        return VERSION

    def _release(self) -> None:
        self.journal.release()
        self._snapshots.release()
        self._opened = False
        self._lock.release()


def _has_restarted(paths: Paths) -> bool:
    """
    Whether the machine has restarted since the directory was used last.  Blocking, for a
    thread.
    """
    with trying_to(f"read {paths.boot}"):
        try:
            with open(paths.boot, encoding="ascii", errors="replace") as file:
                return file.read(100).strip() != boot_id()
        except FileNotFoundError:
            # New, or of an older version.
            return False


def _note_boot(paths: Paths) -> None:
    """
    Record in which boot of the machine the directory is used.  Blocking, for a thread.

    @raise StoreError: the disk refuses.
    """
    with trying_to(f"write {paths.boot}"):
        if not os.path.lexists(paths.boot) or _has_restarted(paths):
            write_file(paths.boot, boot_id().encode() + b"\n", paths.staging)


def _settle(paths: Paths, oldest: float, restarted: bool) -> None:
    """
    Flush files that an earlier daemon renamed and may not have flushed, and
    remove unused partial blobs.  Blocking, for a thread.

    @param oldest: the time before which partial blobs are too old, in seconds
        since the epoch.
    @param restarted: whether the machine has restarted: bytes without a hash in a note may
        not have been flushed.
    """
    with trying_to(f"sweep {paths.ingest}"):
        with flushed(paths.root):
            pass
        # Sorted, so that a note comes after its blob.
        for name in sorted(os.listdir(paths.ingest)):
            if name.startswith(INCOMING):
                continue  # The upload sessions are loaded later.
            path = os.path.join(paths.ingest, name)
            digest = parse_partial_name(name.removesuffix(NOTE))
            if digest is None or os.path.lexists(paths.blob(digest)):
                remove(path, Event())
            elif name.endswith(NOTE):
                if not os.path.lexists(paths.partial(digest)):
                    remove(path, Event())
            elif os.lstat(path).st_mtime < oldest or (restarted and not os.path.lexists(paths.note(digest))):
                remove(path, Event())
