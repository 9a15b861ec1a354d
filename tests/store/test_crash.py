"""
The files that a killed daemon leaves, and their use by the next one.

The module is long because one sequence of changes is killed, torn and compared in three ways.
"""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any, NoReturn, cast

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.forks import bounded, fork
from tests.store.conformance.journal import job
from tests.store.support import (
    RESERVE,
    Pools,
    Sample,
    StoreTestCase,
    fetch,
    layer_descriptor,
    make_version_1,
    one_life,
    plant,
    pull,
    sample,
)
from xferd.errors import UploadUnknown
from xferd.interfaces.catalog import LOCAL_HOST, CatalogManifest
from xferd.interfaces.collection import Freed
from xferd.interfaces.reactor import IReactor
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest, Repository, chain_id
from xferd.oci import Descriptor
from xferd.store.disk.file_system import remove
from xferd.store.paths import INCOMING
from xferd.store.store import Store
from xferd.testing.inline_threads import InlineReactor

WANTED = sample("alpine", b"bottom", b"top")
OTHER = sample("other", b"another bottom", b"top")
SAME = sample("one", b"bottom", b"top"), sample("two", b"another bottom", b"top")
MODES = {str(WANTED.image.chain_id): 0o700, str(OTHER.image.chain_id): 0o750}
"""The modes that directories of their top layers take over from below."""
PART = 1000
PARTS = random.Random(0).randbytes(8 * PART - 1)
"""A blob, without any part that is like another, or like nothing."""
PARTED = Digest.of(PARTS)
LARGE = random.Random(1).randbytes(700_000)
"""A blob that is large enough for marks of its bytes."""
LOCAL = Repository(LOCAL_HOST, "local/app")
PAUSE = b"\n"
"""What a child reports before a call of the system."""


def life(path: str, say: Any, *, tidy: bool = False) -> None:
    """
    A typical life of a daemon: two images, one of which needs the other's tree
    with other metadata, and a job.

    @param say: called with each step that is done.
    @param tidy: whether it removes them one after the other in the end.
    """

    async def live(store: Store) -> None:
        await store.journal.record_job(job(1))
        say("job")
        for wanted in (WANTED, OTHER):
            parent = None
            for digest, data in wanted.documents.items():
                await store.blobs.put(digest, data)
                say(f"blob {digest}")
            for blob in wanted.blobs:
                await fetch(store, blob)
                say(f"blob {Digest.of(blob)}")
                if not store.trees.has(Digest.of(blob)):
                    await plant(store, blob, b"etc")
                say(f"tree {Digest.of(blob)}")
                layer = await store.layers.register(parent, Digest.of(blob), layer_descriptor(blob))
                if parent is None:
                    # Metadata that the tree above has to take over, each in its own way.
                    os.chmod(os.path.join(layer.path, "etc"), MODES[str(wanted.image.chain_id)])
                parent = layer.chain_id
                say(f"layer {parent}")
            await store.images.put(wanted.image)
            say(f"image {wanted.image.reference}")
        await store.images.pin(OTHER.image.reference, True)
        say(f"pinned {OTHER.image.reference}")
        for wanted in (WANTED, OTHER) if tidy else ():
            say(f"removing {wanted.image.reference}")
            await store.images.remove(wanted.image.reference)
            say(f"removed {wanted.image.reference}")
            await store.gc.collect(False)

    one_life(path, live)


def digests(wanted: Sample) -> set[Digest]:
    """
    The digests of all blobs of an image.
    """
    chains = {chain_id(wanted.diff_ids[:n]) for n in range(1, len(wanted.diff_ids) + 1)}
    return {*wanted.documents, *wanted.diff_ids, *(chain for chain in chains if chain is not None)}


def pause(report: int, go: int) -> None:
    """
    Stop this process each time when it is about to touch the file system, until it is told
    to go on.

    @param report: where it writes L{PAUSE} then.
    @param go: where it gets a byte for each.
    """

    def wait(event: str, _: object) -> None:
        if event == "open" or event.startswith(("os.", "shutil.", "tempfile.", "sqlite3.")):
            os.write(report, PAUSE)
            os.read(go, 1)

    sys.addaudithook(wait)


def tidy_life(path: str, say: Any) -> None:
    """
    The same, with all removed in the end.
    """
    life(path, say, tidy=True)


def parts(path: str, say: Any) -> None:
    """
    A blob that arrives in parts, over an interrupted attempt and one that
    restarts.

    @param say: called with each step that is done.
    """

    async def live(store: Store) -> None:
        for order in ((0, 2, 4, 1), (7, 3), (6, 2), (0, 1, 3, 5, 4)):
            blob = await store.blobs.partial(PARTED, len(PARTS))
            if order[0] == 6:
                blob.restart()
            for number in order:
                start = number * PART
                if start >= blob.offset and not any(a <= start < b for a, b in blob.spans):
                    blob.write_at(start, PARTS[start : start + PART])
            blob.close()
        await fill(store)
        say(f"blob {PARTED}")

    one_life(path, live)


async def fill(store: Store) -> None:
    """
    Write the missing parts of the blob.
    """
    blob = await store.blobs.partial(PARTED, len(PARTS))
    while blob.offset < len(PARTS):
        stop = min((start for start, _ in blob.spans), default=len(PARTS))
        blob.write(PARTS[blob.offset : stop])
    await blob.commit()


def migrate(path: str, say: Any) -> None:
    """
    The first life of a daemon in a data directory of the first version, with a tree
    that is in two chains, each of which gets a directory of its own.

    @param say: called with each step that is done.
    """

    async def live(store: Store) -> None:
        say("started")
        for wanted in SAME:
            assert wanted.image.chain_id is not None
            layer = await store.layers.separate(wanted.image.chain_id)
            say(f"{layer.chain_id} {layer.path}")
        for diff_id in {diff_id for wanted in SAME for diff_id in wanted.diff_ids}:
            await store.trees.owners(diff_id)
            say(f"owners {diff_id}")

    one_life(path, live)


def pushes(path: str, say: Any) -> None:
    """
    An image is pushed: one blob in two requests with a restart in between, one in one
    request, and one whose upload is cancelled.

    @param say: called with each step that is done.
    """

    async def first(store: Store) -> None:
        session = await store.incoming.begin(LOCAL, "ci")
        say(f"session {session.id} 0")
        session.write(PARTS[: 3 * PART])
        session.release()
        say(f"session {session.id} {3 * PART}")
        cancelled = await store.incoming.begin(LOCAL, "ci", "sha512")
        cancelled.write(b"given up")
        await cancelled.remove()
        say(f"cancelled {cancelled.id}")
        await push_brief(store)
        say(f"pushed {Digest.of(b'brief')}")

    async def second(store: Store) -> None:
        (name,) = store.incoming._sessions
        await finish_push(store, name)
        say(f"pushed {PARTED}")
        manifest = catalog_manifest()
        await store.blobs.put(manifest.descriptor.digest, b"manifest")
        await store.catalog.put_manifest(LOCAL, manifest, ["1"], 1.0)
        say(f"tagged {manifest.descriptor.digest}")

    for part in (first, second):
        one_life(path, part)


async def push_brief(store: Store) -> None:
    """
    Push a blob in one request.
    """
    session = await store.incoming.begin(LOCAL, "ci", brief=True)
    session.write(b"brief")
    await session.commit(Digest.of(b"brief"))
    await store.catalog.put_blob(LOCAL, Descriptor("", Digest.of(b"brief"), 5))


async def finish_push(store: Store, name: str) -> None:
    """
    Send the rest of an upload.
    """
    session = await store.incoming.open(LOCAL, name)
    session.write(PARTS[session.offset :])
    await session.commit(PARTED)
    await store.catalog.put_blob(LOCAL, Descriptor("", PARTED, len(PARTS)))


def catalog_manifest() -> CatalogManifest:
    """
    What is pushed.
    """
    blobs = Descriptor("", PARTED, len(PARTS)), Descriptor("", Digest.of(b"brief"), 5)
    return CatalogManifest(Descriptor(OCI_MANIFEST, Digest.of(b"manifest"), 8), blobs)


def child(path: str, report: int, go: int, live: Callable[[str, Any], None]) -> NoReturn:
    """
    Live step by step.  For a forked process, which must not return.
    """
    status = 1
    try:
        pause(report, go)
        live(path, lambda done: os.write(report, f"{done}\n".encode()))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


class CrashCase(StoreTestCase):
    """
    What has to be true after a crash.
    """

    def mktemp(self) -> str:
        """
        A path in memory, if there is such a file system: a signal loses no
        written bytes on any, and memory is fast.
        """
        if not os.access("/dev/shm", os.W_OK):
            return str(super().mktemp())
        directory = tempfile.mkdtemp(dir="/dev/shm")
        self.addCleanup(remove, directory, Event())
        return os.path.join(directory, "store")

    def check(self, store: Store, said: list[str]) -> None:
        """
        Everything that was reported as done is done.
        """
        images = [str(image.reference) for image in store.images.all()]
        removing = {line.partition(" ")[2] for line in said if line.startswith("removing ")}
        staying = [w for w in (WANTED, OTHER) if str(w.image.reference) not in removing]
        kept = {str(digest) for wanted in staying for digest in digests(wanted)}
        for line in said:
            what, _, name = line.partition(" ")
            if what == "removing" or (removing and what in ("blob", "tree", "layer") and name not in kept):
                continue
            if what == "removed":
                self.assertNotIn(name, images)
            elif what in ("image", "pinned") and name in removing:
                continue
            elif what == "blob":
                self.successResultOf(store.blobs.read(Digest.parse(name)))
            elif what == "tree":
                self.assertTrue(store.trees.has(Digest.parse(name)), line)
                self.assertEqual(store.trees.diff_id_of(Digest.parse(name)), Digest.parse(name))
            elif what == "layer":
                layer = store.layers.get(Digest.parse(name))
                assert layer is not None, line
                self.assertEqual(sorted(os.listdir(layer.path)), ["content", "etc"])
                if name in MODES:
                    self.assertEqual(os.stat(os.path.join(layer.path, "etc")).st_mode & 0o777, MODES[name])
            elif what == "image":
                self.assertIn(name, images)
            elif what == "pinned":
                self.assertEqual([i.pinned for i in store.images.all() if str(i.reference) == name], [True])
            else:
                (unfinished,) = self.successResultOf(store.journal.interrupted())
                self.assertEqual(unfinished.record, job(1))

        self.check_named(store)

    def check_named(self, store: Store) -> None:
        """
        Every named image is complete.
        """
        for image in store.images.all():
            for digest in (image.manifest.digest, image.config.digest, *(d.digest for d in image.layers)):
                self.assertTrue(store.blobs.has(digest))
            assert image.chain_id is not None
            self.assertIsNotNone(store.layers.get(image.chain_id))

    def check_whole(self, store: Store) -> None:
        """
        Everything is done, as without a crash.
        """
        self.assertEqual(list(store.images.all()), [WANTED.image, evolve(OTHER.image, pinned=True)])
        for chain, mode in MODES.items():
            layer = store.layers.get(Digest.parse(chain))
            assert layer is not None
            self.assertEqual(os.stat(os.path.join(layer.path, "etc")).st_mode & 0o777, mode)
        self.assertEqual(os.listdir(os.path.join(store.path, "staging")), [])
        self.assertEqual(os.listdir(os.path.join(store.path, "ingest")), [])

    def check_pushed(self, store: Store, said: list[str]) -> None:
        """
        All that was reported of a push is done.
        """
        pushed = {line.split()[1] for line in said if line.startswith("pushed")}
        for line in said:
            what, name, *size = line.split()
            if what == "session":
                try:
                    self.assertGreaterEqual(store.incoming.offset(LOCAL, name), int(size[0]), line)
                except UploadUnknown:
                    # The blob was published, and the client pushes it again.
                    self.assertTrue(store.blobs.has(PARTED), line)
            elif what == "cancelled":
                self.assertRaises(UploadUnknown, store.incoming.offset, LOCAL, name)
            elif what == "tagged":
                tag = store.catalog.tag(LOCAL, "1")
                assert tag is not None
                self.assertEqual(str(tag.digest), name)
                self.assertTrue(store.blobs.has(tag.digest))
        for name in pushed:
            self.assertIsNotNone(store.catalog.blob(LOCAL, Digest.parse(name)))
            data = self.successResultOf(store.blobs.read(Digest.parse(name)))
            self.assertEqual(Digest.of(data), Digest.parse(name))

    def check_separate(self, store: Store, said: list[str]) -> None:
        """
        Each of two layers with one tree has a directory of its own, or gets one.
        """
        paths: list[str] = []
        tops: list[Digest] = []
        for wanted in SAME:
            assert wanted.image.chain_id is not None
            top = store.layers.get(wanted.image.chain_id)
            assert top is not None and top.parent is not None
            tops.append(top.chain_id)
            paths += [line.split()[1] for line in said if line.startswith(str(top.chain_id))]
            bottom = store.layers.get(top.parent)
            assert bottom is not None
            for layer, blob in zip((bottom, top), wanted.blobs, strict=True):
                self.assertEqual(os.listdir(layer.path), ["content"])
                with open(os.path.join(layer.path, "content"), "rb") as file:
                    self.assertEqual(file.read(), blob)
        found = [self.successResultOf(store.layers.separate(top)).path for top in tops]
        self.assertEqual(found[: len(paths)], paths)
        self.assertEqual(len({*found}), 2)
        self.assertEqual([os.listdir(path) for path in found], [["content"]] * 2)
        for diff_id in SAME[0].diff_ids:
            self.assertTrue(self.successResultOf(store.trees.owners(diff_id)).complete)


def listing(path: str) -> dict[str, tuple[int, bytes | str]]:
    """
    Mode and content of all that is in a directory, or the target of a link.
    """
    found: dict[str, tuple[int, bytes | str]] = {}
    for directory, names, files in os.walk(path):
        for name in (*names, *files):
            each = os.path.join(directory, name)
            mode = os.lstat(each).st_mode
            if stat.S_ISLNK(mode):
                found[each] = mode, os.readlink(each)
            elif stat.S_ISDIR(mode):
                found[each] = mode, b""
            else:
                with open(each, "rb") as file:
                    found[each] = mode, file.read()
    return found


class KilledAnywhereTests(CrashCase):
    """
    A daemon that is killed between any two calls of the system.

    A signal leaves of a process its files, as they were at that call, and nothing else.  So
    the daemon lives once and stops at each call, and each state of its files is copied.
    """

    def deaths(
        self, live: Callable[[str, Any], None], path: str | None = None, *, least: int = 50
    ) -> Iterator[tuple[list[str], bool]]:
        """
        Let a daemon live.  C{self.path} is a copy of its directory at each call of the system
        before which that, or what it had reported, has changed, and in the end.

        @param path: its directory; a new one by default.
        @param least: the calls that it makes at least.
        @return: the steps that it has reported as done, and whether it has ended.
        """
        path = self.mktemp() if path is None else path
        (reader, report), (wait, go) = os.pipe(), os.pipe()
        pid = fork()
        if pid == 0:
            child(path, report, wait, live)
        os.close(report)
        os.close(wait)
        calls, states = 0, 0
        said: list[str] = []
        last: object = None
        try:
            with open(reader, "rb") as reports, bounded(lambda: [pid], 300):
                while line := reports.readline():
                    if line != PAUSE:
                        said.append(line.decode().rstrip("\n"))
                        continue
                    calls += 1
                    if (found := (listing(path), len(said))) != last:
                        last = found
                        states += 1
                        yield self.copied(path, said), False
                    os.write(go, b".")
                _, status = os.waitpid(pid, 0)
                pid = 0
        finally:
            os.close(go)
            if pid:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        self.assertEqual(status, 0)
        self.assertGreater(calls, least)
        self.assertGreater(states, least // 2)
        yield self.copied(path, said), True

    def copied(self, path: str, said: list[str]) -> list[str]:
        """
        Copy a directory.

        @return: what was reported, with the paths of the copy.
        """
        self.path = self.mktemp()
        if os.path.exists(path):
            subprocess.run(["cp", "-a", path, self.path], check=True)
        return [line.replace(path, self.path) for line in said]

    def test_every_step(self) -> None:
        """
        After a kill at any step, all reported steps are done for the next
        daemon, which starts and completes the rest with the same result.
        """
        for said, ended in self.deaths(tidy_life, least=100):
            store = self.open()
            self.check(store, said)
            named = store.images.all()
            self.successResultOf(store.gc.collect(False))
            self.check_named(store)
            self.assertEqual(store.images.all(), named)
            self.close(store)
            store = self.open()
            self.assertEqual(store.images.all(), named)
            self.assertEqual(os.listdir(os.path.join(store.path, "staging")), [])
            self.close(store)
            if not ended:
                # Its successor is not killed, and does it all again.
                life(self.path, said.append)
                store = self.open()
                self.check_whole(store)
                self.close(store)

    def test_every_step_of_parts(self) -> None:
        """
        After a kill at any step, all recorded bytes of a blob in parts are on
        the disk, and the rest completes it, with no byte of it refused.
        """
        for said, _ in self.deaths(parts):
            store = self.open()
            if store.blobs.has(PARTED):
                self.check(store, [f"blob {PARTED}"])
            else:
                self.assertEqual(said, [])
                partial = self.successResultOf(store.blobs.partial(PARTED, len(PARTS)))
                place = os.path.join(self.path, "ingest", f"sha256-{PARTED.hex}")
                with open(place, "rb") as file:
                    there = file.read()
                for start, stop in ((0, partial.offset), *partial.spans):
                    self.assertEqual(there[start:stop], PARTS[start:stop])
                partial.close()
                self.run_now(fill(store))
            self.assertEqual(os.listdir(os.path.join(self.path, "ingest")), [])
            self.close(store)

    def test_every_step_of_a_push(self) -> None:
        """
        After a kill at any step, an upload has all reported bytes and can be continued,
        what was reported as pushed is in the repository, and no file of an upload is left
        that has ended.
        """
        for said, _ in self.deaths(pushes):
            store = self.open()
            self.check_pushed(store, said)
            left = {name.removeprefix(INCOMING) for name in os.listdir(os.path.join(self.path, "ingest"))}
            self.assertEqual(left, set(store.incoming._sessions))
            for name in left:
                if store.incoming._sessions[name].row.algorithm == "sha256":
                    self.run_now(finish_push(store, name))
                else:
                    self.successResultOf(self.successResultOf(store.incoming.open(LOCAL, name)).remove())
            self.assertEqual(os.listdir(os.path.join(self.path, "ingest")), [])
            self.successResultOf(store.gc.collect(False))
            self.check_pushed(store, [line for line in said if not line.startswith("session")])
            self.close(store)

    def test_every_step_of_a_migration(self) -> None:
        """
        After a kill at any step of the start that renames the files of trees, and of
        the copy of a tree for a second chain, the next daemon has all layers.  What
        was reported as a layer's own directory stays so.
        """
        old = self.path = self.mktemp()
        store = self.open()
        for wanted in SAME:
            self.run_now(pull(store, wanted))
        self.close(store)
        make_version_1(old)
        for said, _ in self.deaths(migrate, old):
            store = self.open()
            self.check_named(store)
            self.check_separate(store, said)
            self.successResultOf(store.gc.collect(False))
            self.close(store)
            store = self.open()
            self.assertEqual(self.successResultOf(store.gc.collect(False)), Freed())
            self.check_separate(store, said)
            self.assertEqual(os.listdir(os.path.join(store.path, "staging")), [])
            self.close(store)


class LeftBehindTests(StoreTestCase):
    """
    The states after a power failure on a file system that reorders writes.
    """

    def test_partial_of_zeros(self) -> None:
        """
        A partial blob whose bytes did not reach the disk is detected and
        fetched again.
        """
        blob = bytes(range(256)) * 8
        partial = self.successResultOf(self.store.blobs.partial(Digest.of(blob), len(blob)))
        partial.write(blob[:1000])
        self.close(self.store)
        with open(os.path.join(self.path, "ingest", f"sha256-{Digest.of(blob).hex}"), "r+b") as file:
            file.write(bytes(1000))
        self.store = self.open()
        partial = self.successResultOf(self.store.blobs.partial(Digest.of(blob), len(blob)))
        partial.write(blob[partial.offset :])
        self.failureResultOf(partial.commit())
        partial.write(blob)
        self.successResultOf(partial.commit())

    def test_empty_version(self) -> None:
        """
        A data directory whose creation was interrupted is created again.
        """
        self.path = self.mktemp()
        os.mkdir(self.path)
        for name, left in (("version", bytes(2)), ("lock", b"")):
            with open(os.path.join(self.path, name), "wb") as file:
                file.write(left)
        store = self.open()
        self.run_now(pull(store, WANTED))
        self.assertIsNotNone(store.images.get(WANTED.image.reference))

    def test_empty_facts(self) -> None:
        """
        A tree without facts and an empty record are made again.
        """
        self.run_now(pull(self.store, WANTED))
        self.close(self.store)
        for name in ("trees", "layers"):
            for directory, _, files in os.walk(os.path.join(self.path, name)):
                for file in files:
                    if name == "layers" or file == "tree.json":
                        os.truncate(os.path.join(directory, file), 0)
        self.store = self.open()
        self.assertFalse(self.store.trees.has(WANTED.diff_ids[0]))
        assert WANTED.image.chain_id is not None
        self.assertIsNone(self.store.layers.get(WANTED.image.chain_id))
        self.run_now(pull(self.store, WANTED))
        self.assertIsNotNone(self.store.layers.get(WANTED.image.chain_id))


PROGRAM = """
import os
import sys
import time
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from tests.store.support import pull, sample
from xferd.store.store import Store

async def live(path, first):
    store = Store(path, reactor, wall_clock=time.time)
    store.open()
    await store.start()
    await pull(store, sample("shared", b"shared"))
    pulls = []
    for number in range(first, first + 1000):
        name = f"image{number:04}"
        one = Deferred.fromCoroutine(pull(store, sample(name, b"shared", name.encode() * 10000)))
        one.addCallback(lambda _, name=name: print(name, flush=True))
        pulls.append(one)
        if len(pulls) == 3:
            await pulls.pop(0)

def main():
    Deferred.fromCoroutine(live(sys.argv[1], int(sys.argv[2]))).addErrback(
        lambda reason: (reason.printTraceback(sys.stderr), os._exit(1))
    )

reactor.callWhenRunning(main)
reactor.run()
"""


class KilledProcessTests(SynchronousTestCase):
    """
    A real daemon's store with real threads, killed in full flight.
    """

    def run_and_kill(self, path: str, first: int, after: int) -> list[str]:
        """
        Let a process pull images until so many are done, and kill it.

        @return: the names of the images that it reported as done.
        """
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, path, str(first)],
            stdout=subprocess.PIPE,
            cwd=os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
            text=True,
        ) as process:
            assert process.stdout is not None
            said = [process.stdout.readline().strip() for _ in range(after)]
            process.kill()
            said.extend(line.strip() for line in process.stdout if line.endswith("\n"))
        self.assertEqual(process.returncode, -signal.SIGKILL)
        return said

    def test_again_and_again(self) -> None:
        """
        Every image that was reported as done is complete after any number of
        kills in the same directory.
        """
        path = os.path.abspath(self.mktemp())
        said: list[str] = []
        for first, after in ((0, 1), (100, 4), (200, 9)):
            said.extend(self.run_and_kill(path, first, after))
            store = Store(
                path, cast(IReactor, InlineReactor()), wall_clock=time.time, pools=Pools(), reserve=RESERVE
            )
            store.open()
            self.successResultOf(store.start())
            self.addCleanup(store.stop)
            images = {image.reference.familiar(): image for image in store.images.all()}
            for name in said:
                image = images[f"{name}:latest"]
                wanted: Sample = sample(name, b"shared", name.encode() * 10000)
                self.assertEqual(image, wanted.image)
                for layer in image.layers:
                    self.assertTrue(store.blobs.has(layer.digest))
                assert image.chain_id is not None
                top = store.layers.get(image.chain_id)
                assert top is not None
                with open(os.path.join(top.path, "content"), "rb") as file:
                    self.assertEqual(file.read(), wanted.blobs[1])
            self.assertEqual(os.listdir(os.path.join(path, "staging")), [])
            self.successResultOf(store.stop())
