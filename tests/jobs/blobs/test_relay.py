"""
Tests for L{xferd.jobs.blobs.relay}.

The module is long because a blob can be interrupted at each step between two registries.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.jobs.case import HOST, OTHER, JobsCase
from tests.jobs.isolation.case import ANN, BOB
from xferd.credentials import Credentials
from xferd.errors import BlobUnknown, ConnectionFailed, TooManyRequests
from xferd.interfaces.registry import IContent
from xferd.jobs.blobs.growth import Growth
from xferd.jobs.blobs.reader import PATIENCE, BlobReader
from xferd.jobs.blobs.relay import RelayedBlob
from xferd.names import Digest, Repository
from xferd.testing.images import SampleImage, sample_image
from xferd.testing.layers import Blob
from xferd.transfer.attempts import Postponed


class RelayCase(JobsCase):
    """
    Copies of an image with one small layer.
    """

    small_blob = 1024 * 1024

    def setUp(self) -> None:
        """
        Put the image into the registry.
        """
        super().setUp()
        self.image = self.add(sample_image(1, size=20_000))
        self.layer = self.image.layers[0].blob

    def assert_copied(self, image: SampleImage | None = None, name: str = "app") -> None:
        """
        The other registry has an image, byte for byte.
        """
        image = image or self.image
        for blob in image.blobs:
            self.assertEqual(self.other.blob(Repository(OTHER, name), blob.digest), blob.read())
        self.assertEqual(self.other.document_of(name, "latest"), image.document)

    def kinds(self, job_id: str) -> set[str]:
        """
        The kinds of the transfers of a job that has ended, by its attempts.
        """
        attempting = self.jobs.attempts(job_id)
        self.settle()
        attempts = self.successResultOf(attempting)
        return {attempt["kind"] for attempt in attempts} - {"document"}

    def stored(self, digest: Digest) -> bool:
        """
        Whether the store has a blob, or a part of it.
        """
        return self.store.blobs.has(digest) or self.store.blobs.partial_size(digest) > 0


class RelayTests(RelayCase):
    """
    Small blobs of copies.
    """

    def test_memory(self) -> None:
        """
        A small blob is fetched once and sent once, without a file and a download, and
        its bytes are counted.
        """
        job_id = self.copy()
        self.settle()
        self.assert_done(job_id)
        self.assert_copied()
        self.assertEqual(self.gets(self.layer.digest), 1)
        self.assertEqual(self.kinds(job_id), {"upload"})
        self.assertFalse(self.stored(self.layer.digest))
        job, status = self.job(job_id), self.jobs.status()
        self.assertEqual(
            (job["bytes_done"], job["bytes_total"]), (job["bytes_total"], status["bytes_fetched"])
        )
        self.assertEqual(status["bytes_fetched"], status["bytes_sent"])
        timing = job["timing"]
        self.assertEqual((timing["bytes_received"], timing["bytes_sent"]), (job["bytes_total"],) * 2)
        self.assert_idle()

    def test_large(self) -> None:
        """
        A blob of more than 64 KiB is downloaded.
        """
        image = self.add(sample_image(1, size=100_000, compression="tar"), "large")
        job_id = self.copy("large")
        self.settle()
        self.assert_done(job_id)
        self.assertTrue(self.stored(image.layers[0].blob.digest))
        self.assertEqual(self.kinds(job_id), {"upload", "download"})

    def test_in_store(self) -> None:
        """
        A blob of the store is sent from there.
        """
        self.pulled()
        job_id = self.copy()
        self.settle()
        self.assert_done(job_id)
        self.assert_copied()
        self.assertEqual(self.gets(self.layer.digest), 1)

    def test_exists(self) -> None:
        """
        A blob that the target has is not requested.
        """
        self.copy()
        self.settle()
        job_id = self.copy()
        self.settle()
        self.assertEqual(self.states(job_id), ["exists"] * 2)
        self.assertEqual(self.gets(self.layer.digest), 1)

    def test_shared_by_copies(self) -> None:
        """
        Copies to two repositories at the same time share the request, also when the
        one that began it is cancelled.
        """
        self.registry.stall(self.layer.digest)
        jobs = [self.copy(target=f"{OTHER}/{name}") for name in ("one", "two", "three")]
        self.settle()
        self.jobs.cancel(jobs[0])
        self.settle()
        self.registry.finish(self.layer.digest)
        self.settle()
        for job_id, name in zip(jobs[1:], ("two", "three"), strict=True):
            self.assert_done(job_id)
            self.assert_copied(name=name)
        self.assertEqual(self.gets(self.layer.digest), 1)
        self.assert_idle()

    def test_shared_with_a_pull(self) -> None:
        """
        A pull that begins meanwhile gets the bytes into the store.
        """
        self.registry.stall(self.layer.digest)
        copying = self.copy()
        self.settle()
        pulling = self.pull()
        self.settle()
        self.registry.finish(self.layer.digest)
        self.settle()
        self.assert_done(copying)
        self.assert_done(pulling)
        self.assertTrue(self.store.blobs.has(self.layer.digest))
        self.assertEqual(self.gets(self.layer.digest), 1)
        self.assert_idle()

    def test_pull_after_failure(self) -> None:
        """
        Where the request fails that a pull waits for, the pull makes its own.
        """
        self.registry.stall(self.layer.digest)
        copying = self.copy()
        self.settle()
        pulling = self.pull()
        self.settle()
        self.registry.fail(self.layer.digest)
        self.registry.finish(self.layer.digest)
        self.wait(3)
        self.assert_done(copying)
        self.assert_done(pulling)
        self.assertEqual(self.gets(self.layer.digest), 2)
        self.assert_idle()

    def test_joins_a_download(self) -> None:
        """
        A blob that a pull downloads is sent from the growing file.
        """
        self.registry.stall(self.layer.digest)
        pulling = self.pull()
        self.settle()
        copying = self.copy()
        self.settle()
        self.registry.finish(self.layer.digest)
        self.settle()
        self.assert_done(copying)
        self.assert_done(pulling)
        self.assertEqual(self.gets(self.layer.digest), 1)
        self.assert_idle()

    def test_cancelled(self) -> None:
        """
        A copy that is cancelled while the blob arrives drops the connection, and
        releases both slots.
        """
        self.registry.gate.hold("open")
        for held in (True, False):
            if not held:
                self.registry.stall(self.layer.digest)
                self.registry.gate.release("open")
            job_id = self.copy()
            self.settle()
            self.jobs.cancel(job_id)
            self.settle()
            self.assertEqual(self.job(job_id)["state"], "cancelled")
            self.assert_idle()

    def test_cancelled_late(self) -> None:
        """
        So does one that is cancelled while the blob is sent.
        """
        self.other.uploads.stall(self.layer.digest)
        job_id = self.copy()
        self.settle()
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        self.assertEqual(len(self.other.uploads.aborted), 1)
        self.assert_idle()

    def test_slow(self) -> None:
        """
        While the blob does not arrive, no slot for uploads is held, and the row and the
        job's verdict say why; the request goes on.
        """
        self.registry.stall(self.layer.digest)
        job_id = self.copy()
        self.wait(3)
        slots = self.jobs.status()["slots"]
        self.assertEqual((slots["small_upload"]["in_use"], slots["small_download"]["in_use"]), (0, 1))
        (row,) = [row for row in self.job(job_id)["layers"] if row["digest"] == str(self.layer.digest)]
        self.assertEqual((row["state"], row["why"]), ("waiting", "waiting for the bytes of its download"))
        download = self.transfer("download", self.layer.digest)
        self.assertEqual((download["state"], download["jobs"]), ("running", [job_id]))
        self.registry.finish(self.layer.digest)
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.gets(self.layer.digest), 1)
        job = self.job(job_id)
        self.assertEqual(job["timing"]["bytes_received"], job["bytes_total"])
        self.assertEqual(job["timing"]["bound"]["whom"], HOST)
        self.assert_idle()

    def test_cancelled_while_slow(self) -> None:
        """
        A copy that is cancelled then drops the connection, too.
        """
        self.registry.stall(self.layer.digest)
        job_id = self.copy()
        self.wait(3)
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        self.assert_idle()

    def test_own_limit(self) -> None:
        """
        Where the daemon's own limit slows the blob, its upload keeps the slot.
        """
        self.jobs.change_limits({"download_rate": 2_000})
        job_id = self.copy()
        for _ in range(5):
            self.wait(1)
            self.assertEqual(self.jobs.status()["slots"]["small_upload"]["in_use"], 1)
        self.jobs.change_limits({"download_rate": 0})
        self.wait(2)
        self.assert_done(job_id)
        self.assertEqual(self.gets(self.layer.digest), 1)

    def test_no_slot(self) -> None:
        """
        With all slots of the host held, the blob waits for its turn as a download, and
        holds no slot for uploads meanwhile.
        """
        self.jobs.change_limits({"downloads_per_host": 1})
        image = self.add(sample_image(3, size=20_000, seed="more"), "more")
        layers = [layer.blob.digest for layer in image.layers]
        self.registry.stall(layers[0])
        copying = self.copy("more")
        self.wait(3)
        self.assertEqual(len(self.registry.open_bodies()), 1)
        self.assertEqual([self.gets(digest) for digest in layers], [1, 0, 0])
        self.assertEqual(self.jobs.status()["slots"]["small_upload"]["in_use"], 0)
        self.registry.finish(layers[0])
        self.wait(3)
        self.assert_done(copying)
        self.assert_copied(image, "more")
        self.assertEqual([self.gets(digest) for digest in layers], [1, 1, 1])
        self.assert_idle()

    def hold_slots(self) -> list[Digest]:
        """
        Have pulls of other small blobs hold all slots, and begin a copy behind them.

        @return: the blobs, which do not arrive.
        """
        image = self.add(sample_image(7, size=20_000, seed="held"), "held")
        held = [layer.blob.digest for layer in image.layers]
        for digest in held:
            self.registry.stall(digest)
        self.pull("held")
        self.settle()
        self.assertEqual([self.gets(digest) for digest in held], [1] * 7)
        return held

    def test_slot_soon(self) -> None:
        """
        A slot that becomes free within a second is waited for.
        """
        held = self.hold_slots()
        copying = self.copy()
        self.wait(0.5)
        self.assertEqual(self.gets(self.layer.digest), 0)
        self.registry.finish(held[0])
        self.registry.finish(held[1])
        self.settle()
        self.assert_done(copying)
        self.assertEqual(self.kinds(copying), {"upload"})
        for digest in held[2:]:
            self.registry.finish(digest)
        self.settle()
        self.assert_idle()

    def test_slot_late(self) -> None:
        """
        After a second the blob is left to a download, which shows its place in the
        queue.
        """
        held = self.hold_slots()
        copying = self.copy()
        self.wait(3)
        download = self.transfer("download", self.layer.digest)
        self.assertEqual((download["state"], download["jobs"]), ("queued", [copying]))
        self.assertIn("slot", download["why"])
        for digest in held:
            self.registry.finish(digest)
        self.wait(3)
        self.assert_done(copying)
        self.assertEqual(self.gets(self.layer.digest), 1)
        self.assert_idle()

    def test_paused_while_waiting(self) -> None:
        """
        So is one whose host is paused meanwhile.
        """
        held = self.hold_slots()
        copying = self.copy()
        self.settle()
        self.registry.fail(held[0], TooManyRequests("slow down", host=HOST, status=429, retry_after=20))
        self.wait(0.25)
        self.assertEqual(self.transfer("download", self.layer.digest)["state"], "queued")
        for digest in held[1:]:
            self.registry.finish(digest)
        self.wait(15)
        self.assertEqual(self.gets(self.layer.digest), 0)
        self.wait(10)
        self.registry.finish(held[0])
        self.wait(3)
        self.assert_done(copying)
        self.assert_idle()

    def test_cancelled_while_waiting(self) -> None:
        """
        A copy that is cancelled while it waits for a slot leaves the queue.
        """
        held = self.hold_slots()
        copying = self.copy()
        self.settle()
        self.jobs.cancel(copying)
        self.settle()
        self.assertEqual(self.jobs.status()["slots"]["small_download"]["queued"], 0)
        for digest in held:
            self.registry.finish(digest)
        self.settle()
        self.assertEqual(self.gets(self.layer.digest), 0)
        self.assert_idle()

    def test_full_disk(self) -> None:
        """
        While the disk is full, no small blob is requested, as no download begins.
        """
        self.store.free_space.ran_out()
        job_id = self.copy()
        self.settle()
        self.assertEqual(self.gets(self.layer.digest), 0)
        self.wait(10)
        self.assert_done(job_id)
        self.assertEqual(self.gets(self.layer.digest), 1)


class FailingRelayTests(RelayCase):
    """
    Sources of small blobs that fail.
    """

    def assert_replaced(self, job_id: str) -> None:
        """
        A copy got the blob by a second request, and sent only the right bytes.
        """
        self.registry.finish(self.layer.digest)
        self.wait(5)
        self.assert_done(job_id)
        self.assert_copied()
        self.assertEqual(self.gets(self.layer.digest), 2)
        uploads = [a.sent for a in self.other.uploads.attempts if a.digest == self.layer.digest and a.sent]
        self.assertEqual(uploads, [self.layer.descriptor.size])
        self.assert_idle()

    def begin(self) -> str:
        """
        Begin a copy whose blob does not arrive yet.
        """
        self.registry.stall(self.layer.digest)
        job_id = self.copy()
        self.settle()
        return job_id

    def test_breaks(self) -> None:
        """
        A response that breaks is followed by a download.
        """
        job_id = self.begin()
        self.registry.feed(self.layer.digest, 1_000)
        self.registry.fail(self.layer.digest)
        self.settle()
        self.assert_replaced(job_id)

    def test_breaks_late(self) -> None:
        """
        So is one that breaks when a download shares it already.
        """
        job_id = self.begin()
        self.wait(3)
        self.registry.fail(self.layer.digest)
        self.settle()
        self.assert_replaced(job_id)

    def test_short(self) -> None:
        """
        So is one that ends early.
        """
        job_id = self.begin()
        self.registry.feed(self.layer.digest, 1_000)
        self.registry.cut(self.layer.digest)
        self.settle()
        self.assert_replaced(job_id)

    def test_wrong(self) -> None:
        """
        So is one with other bytes, of which none is sent; the source is distrusted.
        """
        self.registry.corrupt(self.layer.digest, b"\0" * self.layer.descriptor.size)
        self.assert_replaced(self.copy())
        self.assertEqual(self.registry.distrusted, [self.layer.digest])

    def test_long(self) -> None:
        """
        So is one with more bytes.
        """
        self.registry.corrupt(self.layer.digest, self.layer.read() + b"\0")
        self.assert_replaced(self.copy())

    def test_no_connection(self) -> None:
        """
        A source that cannot be reached fails the copy, with its own words.
        """
        self.registry.gate.fail("open", ConnectionFailed("no route", host=HOST), times=99)
        job_id = self.copy()
        self.wait(60)
        self.assertEqual(self.assert_failed(job_id, "CONNECTION_FAILED"), "no route")
        self.assert_idle()

    def test_unknown(self) -> None:
        """
        So does one that lacks the blob.
        """
        self.registry.remove_blob("app", self.layer.digest)
        job_id = self.copy()
        self.wait(5)
        self.assertIn("has no blob", self.assert_failed(job_id, BlobUnknown.code))
        self.assert_idle()

    def test_pause(self) -> None:
        """
        After C{Retry-After} nothing is requested before its time, by no job.
        """
        wait = TooManyRequests("slow down", host=HOST, status=429, retry_after=40)
        self.registry.gate.fail("open", wait, self.layer.digest)
        image = self.add(sample_image(1, size=20_000, seed="other"), "other")
        first, second = self.copy(), self.copy("other")
        self.settle()
        self.wait(38)
        asked = self.gets(self.layer.digest) + self.gets(image.layers[0].blob.digest)
        self.assertLessEqual(asked, 2)
        self.assertEqual(self.gets(self.layer.digest), 1)
        self.wait(5)
        self.assert_done(first)
        self.assert_done(second)
        self.assertEqual(self.gets(self.layer.digest), 2)
        self.assert_idle()


class IsolatedRelayTests(RelayCase):
    """
    Small blobs of clients that share nothing.
    """

    sharing = "isolated"

    def setUp(self) -> None:
        """
        Give each client its view of the registry.
        """
        super().setUp()
        self.hers, self.his = (self.registries.registry(HOST, user) for user in ("ann", "bob"))

    def begin(self, who: Credentials, target: str) -> str:
        """
        Begin a copy of one client.
        """
        return self.copy(target=f"{OTHER}/{target}", credentials={HOST: who})

    def test_apart(self) -> None:
        """
        Each client's own registry has to send the blob: what another client is
        fetching is not shared.
        """
        self.hers.add(self.image, "app")
        self.his.add(self.image, "app")
        self.hers.stall(self.layer.digest)
        self.his.remove_blob("app", self.layer.digest)
        ann, bob = self.begin(ANN, "ann"), self.begin(BOB, "bob")
        self.wait(3)
        self.assert_failed(bob, BlobUnknown.code)
        self.hers.finish(self.layer.digest)
        self.settle()
        self.assert_done(ann)
        self.assertEqual(self.hers.count("blob", self.layer.digest), 1)


class RelayedBlobTests(SynchronousTestCase):
    """
    The bytes of one blob, for its upload.
    """

    data = b"the bytes"

    def setUp(self) -> None:
        """
        Make the content of a blob that is about to be fetched.
        """
        self.clock = Clock()
        self.dropped: list[object] = []
        self.fetches: list[Deferred[bytes]] = []
        self.received: list[int] = []
        self.downloads = 0
        self.growth = Growth()
        self.blob = RelayedBlob(
            Blob.of("text/plain", self.data).descriptor,
            self._fetch,
            self._download,
            self.received.append,
            clock=self.clock,
        )

    def _fetch(self) -> Deferred[bytes]:
        self.fetches.append(Deferred(self.dropped.append))
        return self.fetches[-1]

    def _download(self) -> BlobReader:
        self.downloads += 1
        return BlobReader(
            Blob.of("text/plain", self.data).descriptor, self.growth, lambda: None, clock=self.clock
        )

    def test_interface(self) -> None:
        """
        It is content, as others are.
        """
        verifyObject(IContent, self.blob)
        self.assertEqual((self.blob.size, self.fetches), (len(self.data), []))

    def test_ready(self) -> None:
        """
        Any part is ready once all bytes are here; the blob is fetched once.
        """
        waiting = self.blob.ready(0, 1), self.blob.ready(4, 100)
        self.assertEqual(len(self.fetches), 1)
        self.fetches[0].callback(self.data)
        self.assertEqual([self.successResultOf(d) for d in waiting], [1, 5])
        self.assertEqual(self.successResultOf(self.blob.ready(0, 9)), 9)
        self.assertEqual((self.received, self.clock.getDelayedCalls()), ([9], []))

    def test_read(self) -> None:
        """
        A read waits for the bytes, too, for as long as they take.
        """
        reading, other = self.blob.read(4, 3), self.blob.read(0, 1)
        other.cancel()
        self.failureResultOf(other, CancelledError)
        self.clock.advance(PATIENCE * 10)
        self.assertNoResult(reading)
        self.fetches[0].callback(self.data)
        self.assertEqual(self.successResultOf(reading), b"byt")
        self.assertEqual(self.successResultOf(self.blob.read(len(self.data), 10)), b"")

    def test_cancelled_wait(self) -> None:
        """
        Cancelling a wait leaves the request and the other waits alone.
        """
        first, second = self.blob.ready(0, 9), self.blob.ready(0, 9)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(self.dropped, [])
        self.fetches[0].callback(self.data)
        self.assertEqual(self.successResultOf(second), 9)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_late(self) -> None:
        """
        After a second the blob is left to a download, which ends the wait as it ends its
        own; the request goes on, so that the download can share it.
        """
        waiting = self.blob.ready(0, 9)
        self.clock.advance(PATIENCE)
        self.assertEqual((self.downloads, self.dropped), (1, []))
        self.clock.advance(PATIENCE)
        self.failureResultOf(waiting, Postponed)
        self.fetches[0].callback(self.data)
        self.assertEqual(self.received, [])
        path = self.mktemp()
        Path(path).write_bytes(self.data)
        self.growth.sealed(path, len(self.data))
        self.assertEqual(self.successResultOf(self.blob.ready(0, 9)), 9)
        self.assertEqual(self.successResultOf(self.blob.read(4, 9)), b"bytes")
        self.blob.rest()
        self.blob.close()
        self.assertEqual((self.downloads, len(self.fetches)), (1, 1))

    def test_closed_late(self) -> None:
        """
        Closing then drops the request as well.
        """
        waiting = self.blob.ready(0, 9)
        self.clock.advance(PATIENCE)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.blob.close()
        self.assertEqual(self.dropped, self.fetches)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closed(self) -> None:
        """
        Closing drops the request, once; what was not begun is not begun.
        """
        self.blob.close()
        self.assertEqual(self.fetches, [])
        waiting = self.blob.ready(0, 9)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        for _ in range(2):
            self.blob.close()
        self.assertEqual(self.dropped, self.fetches)
        self.blob.rest()
