"""
Power cuts at any time, on a disk that keeps as little as POSIX permits.

The first test checks what the store has promised after each cut; the second one that these
checks miss no C{fsync}.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from threading import Event
from typing import Final, TypeVar

from tests.store.power_cut.disk import Disk, Said, Sync, choices, write
from tests.store.power_cut.life import FILL, IMPORTED, PAUSE, SETTINGS
from tests.store.power_cut.recording import record
from tests.store.support import make_version_1, pull
from tests.store.test_crash import LARGE, PARTS, SAME, WANTED, CrashCase, life
from xferd.interfaces.blobs import IPartial
from xferd.names import Digest
from xferd.store.blobs.spans import boot_id
from xferd.store.disk.file_system import remove
from xferd.store.store import Store

T = TypeVar("T")

ALL: Final = os.environ.get("XFERD_POWER_CUTS") == "all"
"""Whether to try everything, which takes ten minutes."""

STATES: Final = 1_000_000 if ALL else 120
"""States of the disk that are tried for each life, chosen by chance from all of them."""

COMMITS: Final = frozenset(
    {
        "fsync store/ingest/PARTIAL",
        "fsync store/content/blobs/ALGORITHM",
        "syncfs store/staging",
        "fsync store/trees/ALGORITHM",
        "fsync store/layers/ALGORITHM",
        "fsync store/staging/FILE",
        "fsync store/content",
    }
)
"""The syncs that commit a blob, a tree, a layer, a small file and a name."""

# SQLite flushes the directory of its write-ahead log; the start of the store flushes all after that.
_SQLITE: Final = "fdatasync store"
# After a tree's record of what it takes over, its metadata are flushed with the whole file system.
_CLAIM: Final = "fsync store/trees/ALGORITHM/HEX"
_NO_NAMES: Final = "fsync store/content"
_NO_JOBS: Final = "fdatasync store/xferd.db-wal"
_NO_SNAPSHOTS: Final = "fdatasync store/snapshots.db-wal"

REDUNDANT: Final[Mapping[str, frozenset[str]]] = {
    "tidy_life": frozenset({_SQLITE, _NO_SNAPSHOTS, _CLAIM}),
    "life": frozenset({_SQLITE, _NO_SNAPSHOTS, _CLAIM}),
    "parts": frozenset({_SQLITE, _NO_NAMES, _NO_JOBS, _NO_SNAPSHOTS}),
    "marked": frozenset({_SQLITE, _NO_NAMES, _NO_JOBS, _NO_SNAPSHOTS}),
    "pushes": frozenset({_SQLITE, _NO_NAMES}),
    "heal": frozenset({_SQLITE, _NO_JOBS, _NO_SNAPSHOTS, "syncfs store"}),
    "imports": frozenset({_SQLITE, _NO_NAMES, _NO_JOBS, _NO_SNAPSHOTS}),
    "records": frozenset({_SQLITE, _NO_NAMES, _NO_SNAPSHOTS}),
    # Whatever is lost of a migration is done again, with the same names.
    "migrate": frozenset(
        {
            _SQLITE,
            _NO_JOBS,
            _NO_SNAPSHOTS,
            "fsync store",
            "syncfs store",
            "fsync store/layers/ALGORITHM",
            _CLAIM,
        }
    ),
}
"""By life, the kinds of syncs without which nothing is lost in it."""


def missing(partial: IPartial, size: int) -> list[tuple[int, int]]:
    """
    The parts of the blob that a partial blob lacks.
    """
    edges = [partial.offset, *(edge for span in partial.spans for edge in span), size]
    return [(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True) if start < stop]


def chosen_of(items: Iterable[T], most: int) -> list[T]:
    """
    Choose some of many items by chance, without a list of all.
    """
    chance, found = random.Random(1), list[T]()
    for number, item in enumerate(items):
        if number < most:
            found.append(item)
        elif (place := chance.randrange(number + 1)) < most:
            found[place] = item
    return found


def booted(state: dict[str, tuple[int, bytes | None]]) -> dict[str, tuple[int, bytes | None]]:
    """
    The same disk, after the next boot of the machine: what was written in this one has the
    ID of another one.
    """
    this, earlier = boot_id().encode(), b"00000000-0000-4000-8000-000000000000"
    assert len(this) == len(earlier)
    return {
        path: (mode, data.replace(this, earlier) if data and path.endswith((".spans", "/boot")) else data)
        for path, (mode, data) in state.items()
    }


class PowerCutTests(CrashCase):
    """
    The commits of a store: blobs, trees, layers, names, journal, pushes, imports, migration,
    quarantine.
    """

    def setUp(self) -> None:
        """
        Note what is used of partial blobs.
        """
        super().setUp()
        self.used: set[int] = set()

    def recorded(self, name: str) -> Disk:
        """
        Record a life.
        """
        place = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self.addCleanup(remove, place, Event())
        root = os.path.join(place, "disk")
        os.mkdir(root)
        self.path = self.original = os.path.join(root, "store")
        if name == "migrate":
            store = self.open()
            for wanted in SAME:
                self.run_now(pull(store, wanted))
            self.close(store)
            make_version_1(self.path)
        if name == "heal":
            store = self.open()
            self.run_now(pull(store, WANTED))
            self.close(store)
        disk = Disk(root)
        disk.play(record(name, self.path, Path(place)))
        return disk

    def states(
        self, disk: Disk, lost: Collection[str] = ()
    ) -> Iterator[tuple[dict[str, tuple[int, bytes | None]], list[str]]]:
        """
        The states of the disk that power cuts may leave, each once, with what was reported
        before.
        """
        seen: set[int] = set()
        for at in range(len(disk.events) + 1):
            last = disk.events[at - 1] if at else None
            if isinstance(last, Sync) and at < len(disk.events) and isinstance(disk.events[at], Said):
                continue
            before = disk.events[at].before if at < len(disk.events) else len(disk.effects)
            said = [event.line for event in disk.events[:at] if isinstance(event, Said)]
            sure = {number for number in disk.durable(at, lost) if number < before}
            pending = [effect for effect in disk.effects[:before] if effect.number not in sure]
            for chosen, zeros in choices(pending):
                state = disk.state(sure | chosen, zeros)
                key = hash((frozenset(state.items()), len(said)))
                if key not in seen:
                    seen.add(key)
                    yield state, said

    def survive(self, name: str, state: dict[str, tuple[int, bytes | None]], said: list[str]) -> None:
        """
        Start a store on what a power cut has left, and check that it is as it should be.
        """
        root = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        try:
            write(booted(state), root)
            self.path = os.path.join(root, "store")
            store = self.make()
            store.open()
            try:
                self.successResultOf(store.start())
                # Some steps name a path in the directory that was recorded.
                self.checks[name](self, store, [line.replace(self.original, self.path) for line in said])
            finally:
                self.close(store)
        finally:
            remove(root, Event())

    def check_life(self, store: Store, said: list[str]) -> None:
        """
        All that was reported is there, also after a collection.
        """
        self.check(store, said)
        self.successResultOf(store.gc.collect(False))
        self.check_named(store)

    def check_completed(self, store: Store, said: list[str]) -> None:
        """
        All that was reported is there, and the next daemon completes the rest with the same
        result.
        """
        self.check(store, said)
        self.close(store)
        life(self.path, lambda _: None)
        store = self.open()
        self.check_whole(store)
        self.close(store)

    def check_parts(self, store: Store, said: list[str]) -> None:
        """
        The blob is there if that was reported.  Otherwise the bytes that are used are right.
        """
        self.check_arrived(store, said, PARTS)

    def check_marked(self, store: Store, said: list[str]) -> None:
        """
        The same with a larger blob, whose bytes are used if they are there.
        """
        self.check_arrived(store, said, LARGE)

    def check_arrived(self, store: Store, said: list[str], data: bytes) -> None:
        """
        A blob is there, or can be completed.
        """
        digest = Digest.of(data)
        if not store.blobs.has(digest):
            self.assertEqual(said, [])
            partial = self.successResultOf(store.blobs.partial(digest, len(data)))
            self.used.add(partial.offset)
            for start, stop in missing(partial, len(data)):
                partial.write_at(start, data[start:stop])
            self.successResultOf(partial.commit())
        self.check(store, [f"blob {digest}"])
        self.assertEqual(data, self.successResultOf(store.blobs.read(digest)))

    def check_push(self, store: Store, said: list[str]) -> None:
        """
        What was reported as pushed is there.  The bytes of an upload that goes on are not
        promised.
        """
        self.check_pushed(store, [line for line in said if not line.startswith(("session", "cancelled"))])

    def check_migration(self, store: Store, said: list[str]) -> None:
        """
        All layers are there, each with a directory of its own.
        """
        self.check_named(store)
        self.check_separate(store, said)

    def check_healed(self, store: Store, said: list[str]) -> None:
        """
        What was moved away is not served any more, and is not lost; a damaged tree is not
        taken for a whole one.
        """
        done = said[-1] if said else ""
        blob, diff_id = Digest.of(WANTED.blobs[0]), WANTED.diff_ids[0]
        kept = os.path.join(self.path, "quarantine")
        names = os.listdir(kept) if os.path.exists(kept) else []
        if done == "blob quarantined":
            # The next step may have brought the blob back.
            self.assertIn(f"blob-sha256-{blob.hex}", names)
        elif done:
            self.assertEqual(self.successResultOf(store.blobs.read(blob)), WANTED.blobs[0])
        if done in ("tree condemned", "tree condemned again") and store.trees.has(diff_id):
            # The next step may have brought another tree, whose name has a key.
            renewed = done == "tree condemned" and "." in store.trees.name(diff_id)
            self.assertTrue(store.trees.is_damaged(diff_id) or renewed)
        elif done == "tree renewed":
            found = store.layers.get(diff_id)
            assert found is not None
            with open(os.path.join(found.path, "content"), "rb") as file:
                self.assertEqual(file.read(), WANTED.blobs[0])
        elif done == "tree quarantined":
            # The tree that was replaced first is still there, marked as damaged.
            self.assertFalse(store.trees.has(diff_id) and not store.trees.is_damaged(diff_id))
            self.assertEqual(set(store.layers.chain_ids()), set())
            self.assertTrue([name for name in names if name.startswith("tree-")])

    def check_imported(self, store: Store, said: list[str]) -> None:
        """
        What was reported is there, and a blob with a name has its bytes.
        """
        self.check(store, said)
        for data in IMPORTED:
            if store.blobs.has(Digest.of(data)):
                self.assertEqual(self.successResultOf(store.blobs.read(Digest.of(data))), data)
        self.assertFalse(store.blobs.has(Digest.of(b"given up")))

    def check_recorded(self, store: Store, said: list[str]) -> None:
        """
        Pauses, limits and downloads are there, and the message of a job is there with its end.
        """
        journal = store.journal
        settings = self.successResultOf(journal.settings())
        for name, value in SETTINGS.items():
            # The next step after the last report may have ended the pause.
            resumed = name == PAUSE and "fill" in said
            if f"setting {name}" in said and not (resumed and name not in settings):
                self.assertEqual(settings.get(name), value)
        if "resumed" in said:
            self.assertNotIn(PAUSE, settings)
        fills = self.successResultOf(journal.fills())
        self.assertIn(fills, ([FILL],) if "fill" in said else ([FILL], []))
        record = self.successResultOf(journal.job("job-1"))
        done = record is not None and record["state"] == "done"
        waiting = [each.id for each in self.successResultOf(journal.deliveries())]
        self.assertEqual(waiting, ["job-1-a"] if done else [])
        self.assertTrue(done or "delivery job-1-a" not in said)
        if done:
            self.assertEqual(self.successResultOf(journal.delivery_body("job-1-a")), "body")

    checks: Final[dict[str, Callable[[PowerCutTests, Store, list[str]], None]]] = {
        "tidy_life": check_life,
        "life": check_completed,
        "parts": check_parts,
        "marked": check_marked,
        "pushes": check_push,
        "migrate": check_migration,
        "heal": check_healed,
        "imports": check_imported,
        "records": check_recorded,
    }

    def test_promised(self) -> None:
        """
        After each power cut the store starts, nothing half-made is visible, and what was
        reported as done is there.
        """
        for name in self.checks:
            # Bytes of an earlier boot are in few states.
            most = 3 * STATES if name == "marked" else STATES
            states = chosen_of(self.states(self.recorded(name)), most)
            self.used.clear()
            for number, (state, said) in enumerate(states):
                try:
                    self.survive(name, state, said)
                except Exception as e:
                    raise AssertionError(f"{name}, state {number} of {len(states)}, after {said[-1:]}") from e
            if name == "marked":
                # The bytes of an earlier boot are used, and not only discarded.
                self.assertEqual(self.used, {0, 300_000, 600_000})

    def test_every_sync_counts(self) -> None:
        """
        Without a kind of C{fsync}, a power cut loses something, and these checks find it.
        """
        for name in self.checks if ALL else ("life",):
            disk = self.recorded(name)
            kinds = dict.fromkeys(event.what for event in disk.events if isinstance(event, Sync))
            tried = [kind for kind in kinds if ALL or kind in COMMITS]
            usual = {hash((frozenset(state.items()), len(said))) for state, said in self.states(disk)}
            missed = {kind for kind in tried if not self.fails_without(name, disk, kind, usual)}
            self.assertEqual(missed, REDUNDANT[name] if ALL else set(), name)

    def fails_without(self, name: str, disk: Disk, kind: str, usual: Collection[int]) -> bool:
        """
        Whether a state of the disk without a kind of sync is found to be wrong.

        @param usual: the states with all syncs.
        """
        for state, said in self.states(disk, {kind}):
            if hash((frozenset(state.items()), len(said))) not in usual:
                try:
                    self.survive(name, state, said)
                except Exception:
                    return True
        return False
