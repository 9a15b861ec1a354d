"""
Tests for L{xferd.jobs.mirror.blobs}.

The module is long because a blob that arrives has clients, ranges, full disks and pauses.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from tests.jobs.case import HOST
from tests.jobs.mirror.case import MirrorCase
from xferd.errors import (
    BlobUnknown,
    ConnectionFailed,
    ContentMismatch,
    Denied,
    DigestMismatch,
    Draining,
    RegistryUnavailable,
    StoreError,
    TimedOut,
    TooManyRequests,
)
from xferd.interfaces.mirror import IBlobReader
from xferd.interfaces.registry import IRepository
from xferd.jobs.blobs.possession import PARTS
from xferd.jobs.mirror.blobs import FAR, HELD_BACK, MOST_LONG, SHORT
from xferd.names import Digest
from xferd.testing.images import sample_image

SIZE = 300_000


class BlobCase(MirrorCase):
    """
    A mirror of an image with one large layer, of which the manifest is known.
    """

    size = SIZE

    def setUp(self) -> None:
        """
        Add the image.
        """
        super().setUp()
        self.image = self.add(sample_image(1, size=self.size))
        self.blob = self.image.layers[0].blob
        self.data = self.blob.read()
        self.digest = self.blob.digest
        self.found()

    def open(
        self,
        client: str = "ci",
        start: int = 0,
        stop: int | None = None,
        digest: Digest | None = None,
        source: IRepository | None = None,
    ) -> Deferred[IBlobReader]:
        """
        Open the layer.
        """
        opening = self.mirror.blob(source or self.source, digest or self.digest, client, start, stop)
        self.settle()
        return opening

    def read(self, reader: IBlobReader, offset: int = 0, stop: int | None = None) -> bytes:
        """
        Read what is here.
        """
        found, stop = bytearray(), len(self.data) if stop is None else stop
        while offset + len(found) < stop:
            reading = reader.read(offset + len(found), min(65536, stop - offset - len(found)))
            self.settle()
            if not reading.called:
                reading.cancel()
                self.failureResultOf(reading, CancelledError)
                break
            found += self.successResultOf(reading)
        return bytes(found)


class FillTests(BlobCase):
    """
    A blob that is not in the store.
    """

    def test_shared(self) -> None:
        """
        Many clients read it while it arrives, each at its own offset, and one request
        is made.
        """
        self.registry.stall(self.digest)
        opening = [self.open(f"c{n}") for n in range(8)]
        for each in opening:
            self.assertNoResult(each)
        self.registry.feed(self.digest, 100_000)
        self.settle()
        readers = [self.successResultOf(each) for each in opening]
        for number, reader in enumerate(readers):
            self.assertEqual(self.read(reader, 0, number * 10_000 + 1), self.data[: number * 10_000 + 1])
        self.registry.finish(self.digest)
        self.settle()
        for reader in readers:
            self.assertEqual(self.read(reader), self.data)
            reader.close()
        self.assertEqual(self.gets(self.digest), 1)
        self.assert_idle()

    def test_hit(self) -> None:
        """
        Then it comes from the store.
        """
        self.successResultOf(self.open()).close()
        reader = self.successResultOf(self.open())
        self.assertEqual(self.read(reader), self.data)
        reader.close()
        self.assertEqual(self.gets(self.digest), 1)

    def test_held_back(self) -> None:
        """
        The end is read only after the digest was verified.
        """
        self.store.blobs.gate.hold("partial.commit")
        reader = self.successResultOf(self.open())
        self.assertEqual(self.read(reader), self.data[: len(self.data) - HELD_BACK])
        self.store.blobs.gate.release("partial.commit")
        self.settle()
        self.assertEqual(self.read(reader), self.data)
        reader.close()

    def test_not_on_disk(self) -> None:
        """
        The end does not wait for the disk: a client has the verified blob though the store
        cannot keep it.
        """
        self.store.blobs.gate.fail("partial.publish", StoreError("the disk is broken"), times=9)
        self.store.blobs.gate.hold("partial.commit")
        reader = self.successResultOf(self.open())
        end = len(self.data) - HELD_BACK
        self.assertEqual(self.read(reader, 0, end), self.data[:end])
        reading = reader.read(end, HELD_BACK)
        self.assertNoResult(reading)
        self.store.blobs.gate.release("partial.commit")
        self.settle()
        self.assertEqual(self.successResultOf(reading), self.data[end:])
        self.assertFalse(self.store.blobs.has(self.digest))
        reader.close()

    def test_wrong_bytes(self) -> None:
        """
        All clients are cut that read wrong bytes, and the source is marked.  The next
        request gets the right ones.
        """
        wrong = bytes(len(self.data))
        self.registry.corrupt(self.digest, wrong)
        self.registry.stall(self.digest)
        opening = [self.open(f"c{n}") for n in range(2)]
        self.registry.feed(self.digest, 100_000)
        self.settle()
        readers = [self.successResultOf(each) for each in opening]
        self.assertEqual(self.read(readers[0], 0, 10), wrong[:10])
        reading = readers[1].read(len(wrong) - 1, 1)
        self.registry.finish(self.digest)
        self.settle()
        self.failureResultOf(reading, DigestMismatch)
        self.failureResultOf(readers[0].read(10, 1), DigestMismatch)
        self.assertEqual(self.registry.distrusted, [self.digest])
        for reader in readers:
            reader.close()
        reader = self.successResultOf(self.open())
        self.assertEqual(self.read(reader), self.data)
        reader.close()

    def test_other_size(self) -> None:
        """
        A blob of another size than its manifest's is an error before any byte.
        """
        self.registry.corrupt(self.digest, self.data[:-1], times=9)
        self.failureResultOf(self.open(), ContentMismatch)

    def test_break(self) -> None:
        """
        A break is mended behind the readers' backs.
        """
        self.registry.stall(self.digest)
        opening = self.open()
        self.registry.feed(self.digest, 100_000)
        self.settle()
        reader = self.successResultOf(opening)
        self.registry.fail(self.digest)
        self.registry.finish(self.digest)
        self.settle()
        reading = reader.read(100_000, 10)
        self.assertNoResult(reading)
        self.wait(1)
        self.assertEqual(self.successResultOf(reading), self.data[100_000:100_010])
        reader.close()
        self.assertEqual(self.gets(self.digest), 2)

    def test_errors(self) -> None:
        """
        An error before the first byte is one of the request.
        """
        self.registry.gate.fail("open", Denied("no", host=HOST, status=403))
        self.failureResultOf(self.open(), Denied)
        self.registry.gate.fail("open", BlobUnknown("no", host=HOST, status=404))
        self.failureResultOf(self.open(), BlobUnknown)
        self.registry.gate.fail("open", ConnectionFailed("no", host=HOST), times=9)
        opening = self.open()
        self.wait(3)
        self.failureResultOf(opening, ConnectionFailed)
        self.assert_idle()

    def test_black_hole(self) -> None:
        """
        If nothing comes, a client waits for ten seconds; a slot that it waits for does
        not count.
        """
        others = [self.add(sample_image(1, seed=f"o{n}"), f"other{n}") for n in range(3)]
        for image in others:
            self.registry.stall(image.layers[0].blob.digest)
        jobs = [self.pull(f"other{n}") for n in range(3)]
        self.settle()
        self.registry.gate.hold("open", self.digest)
        opening = self.open()
        self.wait(30)
        self.assertNoResult(opening)
        for image in others:
            self.registry.finish(image.layers[0].blob.digest)
        self.wait(9)
        self.assertNoResult(opening)
        self.wait(2)
        self.failureResultOf(opening, TimedOut)
        self.registry.gate.release("open")
        self.settle()
        for job in jobs:
            self.assert_done(job)

    def test_long_pause(self) -> None:
        """
        If the upstream wants a long pause, the client gets its error at once.  Errors
        after which there is a retry are those of the client, too.
        """
        self.registry.gate.fail("open", TooManyRequests("slow down", host=HOST, retry_after=60.0))
        opening = self.open()
        self.wait(1)
        self.failureResultOf(opening, TooManyRequests)

    def test_partial_needs_answer(self) -> None:
        """
        Bytes of an earlier daemon are not sent before the upstream has proved to have
        them.
        """
        self.store.blobs.partials[self.digest] = self.data[:200_000]
        self.registry.gate.hold("open")
        opening = self.open()
        self.assertNoResult(opening)
        self.registry.gate.release("open")
        self.settle()
        reader = self.successResultOf(opening)
        self.assertEqual(self.read(reader), self.data)
        reader.close()
        offsets = [r.offset for r in self.registry.requests if r.kind == "blob"]
        self.assertEqual((len(offsets), offsets[-1]), (PARTS + 1, 200_000))

    def test_left(self) -> None:
        """
        A client that leaves, before the first byte or after, ends nothing.
        """
        self.registry.stall(self.digest)
        first, second = self.open("a"), self.open("b")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.registry.feed(self.digest, 10)
        self.settle()
        self.successResultOf(second).close()
        self.registry.finish(self.digest)
        self.settle()
        self.assertTrue(self.has(self.digest))
        self.assert_idle()

    def test_stopped(self) -> None:
        """
        When the daemon stops, the fill ends, and its bytes stay.
        """
        self.registry.stall(self.digest)
        opening = self.open()
        self.registry.feed(self.digest, 1000)
        self.settle()
        reader = self.successResultOf(opening)
        self.stop(self.jobs)
        self.failureResultOf(reader.read(1000, 1))
        reader.close()
        self.assertEqual(self.store.blobs.partials[self.digest], self.data[:1000])

    def test_shared_with_jobs(self) -> None:
        """
        A fill is the download of jobs that need the blob, and shown as such.
        """
        self.registry.stall(self.digest)
        opening = self.open()
        job = self.pull()
        self.settle()
        row = self.transfer("download", self.digest)
        self.assertEqual((row["state"], row["watchers"]), ("running", 3))
        self.registry.finish(self.digest)
        self.settle()
        self.assert_done(job)
        self.assertEqual(self.gets(self.digest), 1)
        self.successResultOf(opening).close()

    def test_clients_first(self) -> None:
        """
        A fill that no client waits for goes behind those that one does, and clients
        take turns.
        """
        images = [self.add(sample_image(1, SIZE, f"n{n}"), f"n{n}") for n in range(5)]
        blobs = [image.layers[0].blob.digest for image in images]
        sources = [self.registry.repository(f"n{n}") for n in range(5)]
        for source in sources:
            self.successResultOf(self._manifest(source))
        for digest in blobs:
            self.registry.stall(digest)
        held = [self.open(f"h{n}", digest=blobs[n], source=sources[n]) for n in range(3)]
        left = self.open("left", digest=blobs[3], source=sources[3])
        left.cancel()
        self.failureResultOf(left, CancelledError)
        waiting = self.open("late", digest=blobs[4], source=sources[4])
        self.registry.finish(blobs[0])
        self.settle()
        self.assertEqual(self.transfer("download", blobs[4])["state"], "running")
        self.assertEqual(self.transfer("download", blobs[3])["state"], "queued")
        for digest in blobs[1:]:
            self.registry.finish(digest)
            self.settle()
        for each in (*held, waiting):
            self.successResultOf(each).close()
        self.assertTrue(self.has(blobs[3]))

    def _manifest(self, source: IRepository) -> Deferred[object]:
        asking: Deferred[object] = self.mirror.manifest(source, "latest", "ci")  # type: ignore[assignment]
        self.settle()
        return asking


class SmallTests(BlobCase):
    """
    Blobs that are small.
    """

    small_blob = 1024 * 1024
    size = 2 * 1024 * 1024

    def test_not_behind_large(self) -> None:
        """
        A small blob does not wait behind large ones; it comes whole.
        """
        images = [self.add(sample_image(1, self.size, f"n{n}"), f"n{n}") for n in range(4)]
        for image in images:
            self.registry.stall(image.layers[0].blob.digest)
        jobs = [self.pull(f"n{n}") for n in range(4)]
        self.settle()
        config = self.image.config
        reader = self.successResultOf(self.open(digest=config.digest))
        self.assertEqual(self.successResultOf(reader.read(0, 10_000)), config.content)
        reader.close()
        for image in images:
            self.registry.finish(image.layers[0].blob.digest)
        self.settle()
        for job in jobs:
            self.assert_done(job)


class IsolatedTests(BlobCase):
    """
    Clients that share only what each has access to.
    """

    sharing = "isolated"

    def test_proved(self) -> None:
        """
        A blob in the store is sent to a client whose own registry confirms it, and to
        no other: that one gets an error with a status.
        """
        reader = self.successResultOf(self.open())
        self.assertEqual(self.read(reader), self.data)
        reader.close()
        ann = self.registries.registry(HOST, "ann")
        ann.add(self.image, "app")
        bob = self.registries.registry(HOST, "bob")
        reader = self.successResultOf(self.open(source=ann.repository("app")))
        self.assertEqual(self.read(reader), self.data)
        reader.close()
        self.assertGreater(ann.count("confirm", self.digest), 0)
        self.failureResultOf(self.open(source=bob.repository("app")), BlobUnknown)


class DescribeTests(BlobCase):
    """
    The sizes of blobs.
    """

    def describe(self, digest: Digest) -> Deferred[object]:
        """
        Ask.
        """
        asking: Deferred[object] = self.mirror.describe(self.source, digest, "ci")  # type: ignore[assignment]
        self.settle()
        return asking

    def test_named(self) -> None:
        """
        A blob of a known manifest has the size that the manifest names; the upstream
        gets no request.
        """
        self.successResultOf(self.describe(self.digest))
        self.assertEqual(self.registry.count("confirm", self.digest), 0)

    def test_not_named(self) -> None:
        """
        Of another, the upstream is asked, once in a minute, though it is in the store:
        it has to be in this repository.
        """
        other = self.add(sample_image(1, seed="other"), "other")
        digest = other.layers[0].blob.digest
        self.pulled("other")
        self.failureResultOf(self.describe(digest), BlobUnknown)
        self.registry.put_blob("app", digest, other.layers[0].blob.read())
        for _ in range(2):
            self.successResultOf(self.describe(digest))
        self.assertEqual(self.registry.count("confirm", digest), 2)
        reader = self.successResultOf(self.open(digest=digest))
        reader.close()
        self.assertEqual(self.gets(digest), 1)


class FarTests(BlobCase):
    """
    Ranges of a large blob that arrives.
    """

    size = FAR + 2 * SIZE

    def test_far(self) -> None:
        """
        A short range at the end comes by itself, and is not kept; the fill goes on.
        """
        self.registry.stall(self.digest)
        start = len(self.data) - 1000
        opening = self.open(start=start)
        self.assertNoResult(opening)
        self.registry.feed(self.digest, 1000)
        self.settle()
        reader = self.successResultOf(opening)
        self.assertEqual(self.read(reader, start), self.data[start:])
        reader.close()
        self.assertEqual(sorted(r.offset for r in self.registry.requests if r.kind == "blob"), [0, start])
        self.registry.finish(self.digest)
        self.settle()
        self.assertTrue(self.has(self.digest))
        self.assert_idle()

    def test_near(self) -> None:
        """
        What is nearer is waited for.
        """
        self.registry.stall(self.digest)
        opening = self.open(start=FAR - 10, stop=FAR)
        self.registry.feed(self.digest, 1000)
        self.settle()
        reader = self.successResultOf(opening)
        self.registry.feed(self.digest, FAR)
        self.settle()
        self.assertEqual(self.read(reader, FAR - 10, FAR), self.data[FAR - 10 : FAR])
        reader.close()
        self.assertEqual(self.gets(self.digest), 1)
        self.registry.finish(self.digest)


class LongFarTests(BlobCase):
    """
    Long ranges of a large blob that arrives.
    """

    size = FAR + SHORT + 2 * SIZE

    def test_within_limits(self) -> None:
        """
        A few come by themselves at the same time.  Another one waits for the fill.
        """
        self.registry.stall(self.digest)
        start = FAR + SIZE
        opening = [self.open(f"c{n}", start=start) for n in range(MOST_LONG + 1)]
        self.registry.feed(self.digest, 1000)
        self.settle()
        readers = [self.successResultOf(each) for each in opening]
        for reader in readers[:MOST_LONG]:
            self.assertEqual(self.read(reader, start, start + 1000), self.data[start : start + 1000])
        self.assertNoResult(waiting := readers[-1].read(start, 10))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        for reader in readers:
            reader.close()
        self.settle()
        self.assertEqual(
            sorted(r.offset or 0 for r in self.registry.requests if r.kind == "blob"),
            [0, *[start] * MOST_LONG],
        )
        again = self.open(start=start)
        self.registry.feed(self.digest, 1000)
        self.settle()
        reader = self.successResultOf(again)
        self.assertEqual(self.read(reader, start, start + 1000), self.data[start : start + 1000])
        reader.close()
        self.settle()
        self.assertEqual(self.mirror._blobs._long, {})
        self.registry.finish(self.digest)


class FullDiskTests(BlobCase):
    """
    A disk that is full.
    """

    def setUp(self) -> None:
        """
        Fill it.
        """
        super().setUp()
        self.store.free_space.ran_out()

    def test_unkept(self) -> None:
        """
        A blob is sent to one client at a time, and not kept.
        """
        opening = [self.open(f"c{n}") for n in range(2)]
        reader = self.successResultOf(opening[0])
        self.assertNoResult(opening[1])
        self.assertEqual(self.read(reader), self.data)
        reader.close()
        self.settle()
        reader = self.successResultOf(opening[1])
        self.assertEqual(self.read(reader), self.data)
        reader.close()
        self.settle()
        self.assertFalse(self.has(self.digest))
        self.assertEqual(self.store.blobs.partials, {})
        self.assertEqual(self.gets(self.digest), 2)
        self.assertEqual(self.mirror._blobs._locks, {})

    def test_next_leaves(self) -> None:
        """
        A client that leaves its queue is no hindrance.
        """
        opening = [self.open(f"c{n}") for n in range(3)]
        reader = self.successResultOf(opening[0])
        opening[1].cancel()
        self.failureResultOf(opening[1], CancelledError)
        reader.close()
        self.settle()
        self.successResultOf(opening[2]).close()


class SmallDiskTests(BlobCase):
    """
    A disk that has room, but not enough.
    """

    def test_does_not_fit(self) -> None:
        """
        A blob that does not fit is sent and not kept.
        """
        self.store.blobs.free = 1000
        reader = self.successResultOf(self.open())
        self.assertEqual(self.read(reader), self.data)
        reader.close()
        self.settle()
        self.assertFalse(self.has(self.digest))


class SteeredTests(BlobCase):
    """
    Clients of a mirror whose upstream is paused, and of a daemon that is drained.
    """

    def pause(self, name: str) -> None:
        """
        Pause everything or a host.
        """
        self.successResultOf(self.jobs.steering.pause(name, keep=False, by="ann"))
        self.settle()

    def test_paused(self) -> None:
        """
        A blob waits for the end of a pause; an image that is here is served without a question, and
        what is not is refused at once.
        """
        self.pause("downloads")
        opening = self.open()
        self.wait(60)
        self.assertNoResult(opening)
        self.successResultOf(self.jobs.steering.resume("downloads"))
        self.settle()
        reader = self.successResultOf(opening)
        self.assertEqual(self.read(reader), self.data)
        reader.close()
        self.fill()
        for name in (f"hosts/{HOST}", "all"):
            before = self.asked()
            self.clock.advance(3_600)
            self.pause(name)
            self.assertEqual(self.found().document.digest, self.image.digest)
            self.assertEqual(self.asked(), before)
            failed = self.failureResultOf(self.ask("other"), RegistryUnavailable).value
            self.assertIn("paused by ann", str(failed))
            self.assertEqual(failed.retry_after, 30)
            self.successResultOf(self.jobs.steering.resume(name))

    def test_drained(self) -> None:
        """
        What is here, or arrives, is served; nothing else is begun.
        """
        self.registry.stall(self.digest)
        opening = self.open()
        self.successResultOf(self.jobs.steering.drain(keep=False, by="ann"))
        joining = self.open("other")
        self.registry.finish(self.digest)
        self.settle()
        for each in (opening, joining, self.open()):
            reader = self.successResultOf(each)
            self.assertEqual(self.read(reader), self.data)
            reader.close()
        self.assertEqual(self.found().document.digest, self.image.digest)
        config = self.open(digest=self.image.config.descriptor.digest)
        self.assertIn("drained by ann", str(self.failureResultOf(config, Draining).value))
